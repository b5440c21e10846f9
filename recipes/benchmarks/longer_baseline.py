"""Does a verdict stand when every arm is trained longer than the inner folds asked for? A check on under-trained baselines.

    python recipes/benchmarks/longer_baseline.py --work WORK_OF_END_TO_END [--case pcb-defects] [--updates 2000]

Repeats the study of a case that end_to_end.py has finished, with its run and its synthetic images. It takes ten minutes.
"""

import argparse
from pathlib import Path

import numpy as np
from records import Bar, write_record

from ganaug import compare
from ganaug.runs import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--case", default="pcb-defects")
    parser.add_argument("--updates", type=int, default=2000)
    arguments = parser.parse_args()
    case, longer = arguments.work / arguments.case, arguments.work / f"{arguments.case}-{arguments.updates}"
    recipe = {"compare": {"preset": "demo", "updates": arguments.updates}}
    found = [
        read_json(case / "study" / "study.json"),
        read_json(compare(case / "run", longer, synthetic=case / "synthetic", recipe=recipe).folder / "study.json"),
    ]
    measured = [
        {
            "updates": study["updates"]["chosen"],
            "verdict": study["verdict"],
            "sentence": study["sentence"],
            "arms": {arm: round(float(np.mean(s["balanced_accuracy"])), 6) for arm, s in study["arms"].items()},
        }
        for study in found
    ]
    same = found[0]["verdict"] == found[1]["verdict"]
    bar = Bar(
        f"{arguments.case}: verdict at {arguments.updates} updates", found[1]["verdict"], found[0]["verdict"], same
    )
    write_record("longer_baseline", [bar], {arguments.case: measured}, seeds=found[1]["seeds"])


if __name__ == "__main__":
    main()
