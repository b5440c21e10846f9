"""Where and how a benchmark keeps what it measured: recipes/benchmarks/results/NAME.json."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganaug.runs import describe_commit, describe_versions

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
REPOSITORY = HERE.parents[1]


@dataclass(frozen=True)
class Bar:
    """One figure against its bar; `met` is None where it could not be measured here."""

    name: str
    value: float | str | None
    bar: str
    met: bool | None


def describe_machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(pages / 2**30, 1)}


def write_record(name: str, bars: Sequence[Bar], measured: Any, seeds: Sequence[int]) -> Path:
    """Writes results/NAME.json and prints the bars."""
    record = {
        "machine": describe_machine(),
        "versions": describe_versions(),
        "commit": describe_commit(REPOSITORY),
        "seeds": list(seeds),
        "bars": [asdict(bar) for bar in bars],
        "measured": measured,
    }
    return _keep(name, record, bars)


def keep_open(name: str, bars: Sequence[Bar]) -> Path:
    """Puts bars that could not be measured into results/NAME.json, in place of those that were open there. What was measured stays."""
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    record["bars"] = [bar for bar in record["bars"] if bar["met"] is not None] + [asdict(bar) for bar in bars]
    return _keep(name, record, bars)


def _keep(name: str, record: dict[str, Any], told: Sequence[Bar]) -> Path:
    path = RESULTS / f"{name}.json"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for bar in told:
        print(
            f"{'met' if bar.met else 'open' if bar.met is None else 'NOT MET':8} {bar.name}: {bar.value} (bar {bar.bar})"
        )
    print(path)
    return path
