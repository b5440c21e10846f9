"""What the tests of the stage `compare` share: settings of tiny studies, and what they leave behind."""

import numpy as np
from small import CLASS_NAMES, TINY

from ganaug.data.images import encode_png
from ganaug.runs import read_json
from ganaug.study.compare import compare

DEMO = {"compare": TINY["compare"] | {"preset": "demo"}}
SET_BY_HAND = {"compare": DEMO["compare"] | {"updates": 3}}
STANDARD = {"compare": TINY["compare"] | {"preset": "standard", "seeds": 3, "max_updates": 4}}
FREE = ("seconds", "seconds_of", "reproduce", "run", "settings")  # what may differ between two runs of the same study


def numbers_of(folder):
    return {key: value for key, value in read_json(folder / "study.json").items() if key not in FREE}


def piece_files(folder):
    return {path.name: path.read_bytes() for path in (folder / "pieces").iterdir()}


def pieces_of(folder, arm, unit="split-0-gan-0"):
    """Seed -> class probabilities of an arm's pieces in a unit; of a study without probes."""
    found = {}
    for path in (folder / "pieces").glob(f"{arm.replace('/', '-')}-{unit}-*.npz"):
        with np.load(path) as stored:
            found[int(path.stem.split("-")[-2])] = stored["probabilities"]
    return found


def assert_notes(notes, *parts):
    """These notes, in their order, and no other. Whether so few updates were enough is up to the machine's rounding."""
    notes = [note for note in notes if not note.startswith("Not converged")]
    assert len(notes) == len(parts), notes
    for note, part in zip(notes, parts, strict=True):
        assert part in note


def study_of(*arguments, **options):
    return read_json(compare(*arguments, **options).folder / "study.json")


def write_foreign(folder, class_names=CLASS_NAMES, size=20, count=2):
    """Images of another tool: no manifest, another size, in colour."""
    rng = np.random.default_rng(0)
    for name in class_names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"image{i}.png").write_bytes(
                encode_png(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
            )
    return folder
