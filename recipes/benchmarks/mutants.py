"""Would the tests notice a mistake? Changes one operator, number or condition at a time in data/, synthesis/ and study/.

python recipes/benchmarks/coverage_of_tests.py && python recipes/benchmarks/mutants.py [--number 200] [--jobs 2]
python recipes/benchmarks/mutants.py --again --seconds 1200  # survivors get all tests that run their line

The changes are cosmic-ray's. Its own runner knows one command for all of them, the whole suite, minutes for each of thousands of
changes; here a sample is drawn, and each runs the tests that run its line. Interrupted, it goes on where it was.
"""

import argparse
import ast
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import coverage
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from coverage_of_tests import DATA, FOLDER, read_tests
from records import REPOSITORY, Bar, write_record
from scipy import stats

ROOMS, LEAST = ("data", "synthesis", "study"), 0.8
SCORED = 1  # seed of the sample that counts: what survived of that of seed 0 has tests since
# The first two need arguments. The others change nothing where the values are None, small numbers or names, as they are here.
LEFT_OUT = {"core/VariableInserter", "core/VariableReplacer"} | {
    f"core/ReplaceComparisonOperator_{pair}" for pair in ("Eq_Is", "NotEq_IsNot", "Is_Eq", "IsNot_NotEq")
}
# Survivors of the sample that counts which were read and change nothing that anybody could see, by file, operator and text.
EQUIVALENT = {
    ("data/cache.py", "ReplaceTrueWithFalse", "in zip(records, splits, groups, strict=True)"): "as many, always",
    ("data/duplicates.py", "NumberReplacer", "PAIRS = 2**14"): "size of a block",
    ("data/duplicates.py", "NumberReplacer", "mirrored.reshape(4 * len(known), -1)"): "-2 is -1 to numpy",
    ("study/analysis.py", "ReplaceTrueWithFalse", "@dataclass(frozen=True)"): "nobody writes to it",
    ("study/pieces.py", "ReplaceTrueWithFalse", "@dataclass(frozen=True)"): "nobody writes to it",
    ("synthesis/curation.py", "ReplaceTrueWithFalse", "@dataclass(frozen=True)"): "nobody writes to it",
    (
        "study/statistics.py",
        "ReplaceComparisonOperator_Eq_LtE",
        'if metric == "accuracy"',
    ): "no metric's name comes before",
    (
        "study/statistics.py",
        "NumberReplacer",
        "np.triu_indices(len(values), 1)",
    ): "pairs of one differ in nothing, and all masks want that",
    (
        "synthesis/harvest.py",
        "ReplaceComparisonOperator_Eq_GtE",
        "set(curation.without) == set(FILTERS)",
    ): "no others are allowed",
    ("synthesis/memorization.py", "ReplaceTrueWithFalse", "zip(*found, strict=True)"): "as many, always",
    (
        "synthesis/memorization.py",
        "ReplaceComparisonOperator_Gt_GtE",
        "if factor > 1",
    ): "a mean of one pixel is that pixel",
    (
        "synthesis/synthesize.py",
        "ReplaceComparisonOperator_IsNot_Is",
        "with_real is not None",
    ): "tells two requests apart, either way",
    ("synthesis/synthesize.py", "ReplaceTrueWithFalse", "mkdir(parents=True, exist_ok=True)"): "the parent is there",
    ("synthesis/writing.py", "ReplaceTrueWithFalse", "mkdir(parents=True, exist_ok=True)"): "the parent is there",
}
STILLBORN = 90  # exit status
WORK = FOLDER / "mutants"
# What every test imports, before each mutant's process forks off; nothing of ganaug.
PRELOADED = ("pytest", "hypothesis", "torch", "torchvision", "pandas", "sklearn.cluster", "sklearn.metrics", "joblib")


@dataclass(frozen=True)
class Mutant:
    """A change: `occurrence` of `operator` in a file of the repository."""

    file: str
    operator: str
    occurrence: int
    line: int
    column: int


def positions_of_mutants(file: str) -> dict[tuple[int, int], list[Mutant]]:
    """All changes of a file by place, without those of annotations, which nothing runs."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    nodes = list(ast_nodes(get_ast(text)))
    annotations = list(annotated_ranges(ast.parse(text)))
    found = defaultdict(list)
    for name in operator_names():
        if name in LEFT_OUT:
            continue
        operator, occurrence = get_operator(name)(), -1
        # Two large families, each of one kind of node: what else is asked is asked two hundred times in vain.
        kind = "operator" if "Binary" in name else "comparison" if "Comparison" in name else None
        for node in nodes if kind is None else [node for node in nodes if node.type == kind]:
            for start, _ in operator.mutation_positions(node):
                occurrence += 1
                if not any(low <= start < high for low, high in annotations):
                    found[start].append(Mutant(file, name, occurrence, *start))
    return dict(found)


def annotated_ranges(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr) and part.end_lineno is not None and part.end_col_offset is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def draw_mutants(number: int, rooms: Sequence[str], seed: int) -> list[Mutant]:
    """One for each of `number` places, which are spread over the files as all places are."""
    places = {}
    for room in rooms:
        for path in sorted((REPOSITORY / "ganaug" / room).glob("*.py")):
            file = path.relative_to(REPOSITORY).as_posix()
            if found := positions_of_mutants(file):
                places[file] = found
    whole, rng = sum(map(len, places.values())), random.Random(seed)
    print(f"{whole} places, {sum(len(m) for found in places.values() for m in found.values())} mutants")
    quotas = {file: number * len(found) / whole for file, found in places.items()}
    counts = {file: int(quota) for file, quota in quotas.items()}
    for file in sorted(quotas, key=lambda file: counts[file] - quotas[file])[: number - sum(counts.values())]:
        counts[file] += 1
    chosen = [
        rng.choice(places[file][place])
        for file, count in counts.items()
        for place in rng.sample(sorted(places[file]), count)
    ]
    rng.shuffle(chosen)
    return chosen


def read_contexts(file: str) -> dict[int, set[str]]:
    """{line: tests that run it}. What a fixture ran counts for all tests of the file whose test was first to need it."""
    data = coverage.CoverageData(str(DATA))
    data.read()
    return {
        line: {name.rpartition("|")[0] + ("" if name.endswith("|run") else " +") for name in contexts if name}
        for line, contexts in data.contexts_by_lineno(str(REPOSITORY / file)).items()
    }


def choose_tests(
    mutant: Mutant, contexts: dict[int, set[str]], times: dict[str, float], most: float
) -> tuple[list[str], bool]:
    """Tests that run the mutant's line, those of its own file first, then the quickest; for a line that is run at the import, those
    of any line of the file. As many as take `most` seconds, and whether that is all of them."""
    tree = ast.parse((REPOSITORY / mutant.file).read_text(encoding="utf-8"))
    inside = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= mutant.line <= (node.end_lineno or 0)
    ]
    functions = [node for node in inside if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= mutant.line]
    if functions:
        smallest = min(inside, key=lambda node: (node.end_lineno or 0) - node.lineno)
        body = getattr(smallest, "body", None)
        end = body[0].lineno - 1 if isinstance(body, list) else smallest.end_lineno
        lines = range(smallest.lineno, max(end or 0, mutant.line) + 1)
        running: set[str] = set().union(*(contexts.get(line, set()) for line in lines))
    else:
        running = set().union(*contexts.values())
    files = {name.split("::")[0] for name in running if name.endswith(" +")}
    found = {name for name in running if name in times} | {name for name in times if name.split("::")[0] in files}
    room, module = Path(mutant.file).parts[1], Path(mutant.file).stem
    first = f"tests/{room}/test_{module}"
    order = sorted(found, key=lambda name: (not name.startswith(first), times[name]))
    chosen: list[str] = []
    seconds = 0.0
    for name in order:
        seconds += times[name]
        if chosen and seconds > most:
            return chosen, False
        chosen.append(name)
    return chosen, True


def judge(mutant: Mutant, tests: list[str], limit: float, copy: Path) -> str:
    """killed, late (killed by the time limit), stillborn (cannot be imported) or survived."""
    path = copy / mutant.file
    whole = path.read_text(encoding="utf-8")
    changed = mutate_code(whole, get_operator(mutant.operator)(), mutant.occurrence)
    assert changed is not None, mutant
    path.write_text(changed, encoding="utf-8")
    try:
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
            run_tests(mutant, tests, copy)
        deadline = time.monotonic() + limit * (1 + os.getloadavg()[0] / (os.cpu_count() or 1))  # others work here, too
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return {0: "survived", STILLBORN: "stillborn", -signal.SIGXCPU: "late"}.get(code, "killed")
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "late"
    finally:
        path.write_text(whole, encoding="utf-8")


def run_tests(mutant: Mutant, tests: list[str], copy: Path) -> None:
    """In the forked process; does not return."""
    os.setsid()
    output = os.open(copy / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(copy)
    try:
        importlib.import_module(".".join(Path(mutant.file).with_suffix("").parts))
    except BaseException:
        os._exit(STILLBORN)
    import pytest

    code = 3
    try:
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", *tests]))
    finally:
        os._exit(code)


def work_through(part: list[Mutant], place: int, times: dict[str, float], most: float) -> None:
    """One worker's mutants, in a copy of its own; appends its findings to a file of its own."""
    copy = WORK / f"copy-{place}"
    shutil.rmtree(copy, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True)
    for name in listed.stdout.decode().splitlines():
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, copy / name)
    os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    here = str(REPOSITORY)
    sys.path[:] = [str(copy), *(entry for entry in sys.path if entry and os.path.realpath(entry) != here)]
    for name in [name for name in sys.modules if name.split(".")[0] == "ganaug"]:  # of records.py
        del sys.modules[name]
    contexts: dict[str, dict[int, set[str]]] = {}
    for mutant in part:
        if mutant.file not in contexts:
            contexts[mutant.file] = read_contexts(mutant.file)
        tests, whole = choose_tests(mutant, contexts[mutant.file], times, most)
        begun = time.monotonic()
        limit = 60 + 6 * sum(times[name] for name in tests)
        found = judge(mutant, tests, limit, copy) if tests else "survived"
        seconds = round(time.monotonic() - begun, 1)
        line = (REPOSITORY / mutant.file).read_text(encoding="utf-8").splitlines()[mutant.line - 1].strip()
        finding = asdict(mutant) | {"found": found, "tests": len(tests), "all": whole, "seconds": seconds, "text": line}
        with (WORK / f"findings-{place}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(finding, ensure_ascii=False) + "\n")
    shutil.rmtree(copy)


def read_findings() -> dict[Mutant, dict[str, object]]:
    """The finding on each mutant: of several, one that a test noticed."""
    lines = [line for path in sorted(WORK.glob("findings-*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    entries = sorted(
        (json.loads(line) for line in lines), key=lambda entry: (entry["found"] != "survived", entry["tests"])
    )
    return {Mutant(*(entry[name] for name in Mutant.__annotations__)): entry for entry in entries}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=200, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=SCORED, help="of the sample")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the tests of a mutant, when nothing is changed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--room", choices=ROOMS, action="append", help="draw from these alone, and write no record")
    parser.add_argument("--again", action="store_true", help="judge anew what survived some of its tests")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    drawn, findings = draw_mutants(arguments.number, arguments.room or ROOMS, arguments.seed), read_findings()
    left = [
        each
        for each in drawn
        if each not in findings
        or (arguments.again and findings[each]["found"] == "survived" and not findings[each].get("all"))
    ]
    times, _ = read_tests()
    for name in PRELOADED:
        importlib.import_module(name)
    workers = []
    for place in range(arguments.jobs):
        if worker := os.fork():
            workers.append(worker)
        else:
            code = 1
            try:
                work_through(left[place :: arguments.jobs], place, times, arguments.seconds)
                code = 0
            finally:
                os._exit(code)
    if any(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers):
        sys.exit("A worker failed.")
    findings = read_findings()
    judged = [findings[each] for each in drawn]
    counts = Counter(str(entry["found"]) for entry in judged)
    valid = len(judged) - counts["stillborn"]
    killed = counts["killed"] + counts["late"]
    interval = stats.binomtest(killed, valid).proportion_ci(method="wilson")
    same = {
        f"{entry['file']}:{entry['line']} {entry['text']}": reason
        for entry in judged
        for (file, operator, text), reason in EQUIVALENT.items()
        if entry["found"] == "survived"
        and entry["file"] == f"ganaug/{file}"
        and entry["operator"] == f"core/{operator}"
        and text in str(entry["text"])
    }
    rooms = {
        room: dict(Counter(str(entry["found"]) for entry in judged if str(entry["file"]).split("/")[1] == room))
        for room in ROOMS
    }
    share, of_others = killed / valid, killed / (valid - len(same))
    if arguments.room:
        print(f"{killed} of {valid} noticed")
        return
    bar = f">= {LEAST}"
    bars = [
        Bar("share of all mutants that a test notices", round(share, 3), bar, share >= LEAST),
        Bar("of those that change anything, read one by one", round(of_others, 3), bar, of_others >= LEAST),
    ]
    measured = {
        "drawn": len(drawn),
        "counts": dict(counts),
        "interval": [round(interval.low, 3), round(interval.high, 3)],
        "rooms": rooms,
        "change nothing": same,
        "survivors": sorted(
            (entry for entry in judged if entry["found"] == "survived"), key=lambda each: (each["file"], each["line"])
        ),
    }
    write_record("mutants", bars, measured, seeds=[arguments.seed])


if __name__ == "__main__":
    main()
