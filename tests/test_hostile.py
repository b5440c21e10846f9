"""Damaged images and traps, a few of those that recipes/benchmarks/hostile.py makes."""

import os
import sys
from pathlib import Path

import pytest
from tiny import ganaug

BENCHMARKS = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def benchmarks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield
    for name in ("hostile", "image_mutants", "traps", "trapped_weights", "records"):
        sys.modules.pop(name, None)


def test_damaged_images_are_named_and_do_no_harm(tmp_path):
    import json

    from hostile import UNUSABLE, read_one_by_one, write_folders

    folder = next(write_folders(tmp_path, 300))
    alone = read_one_by_one(folder)
    unusable = {name for name, (_, reason) in alone["files"].items() if reason is not None}
    assert max(seconds for seconds, _ in alone["files"].values()) < 5
    assert 100 < len(unusable) < 250 and alone["disputed"] == []
    result = ganaug("check", "--json", folder, code=1)
    problems = [problem for problem in json.loads(result.stdout)["problems"] if problem["kind"] in UNUSABLE]
    named = [name for problem in problems for name in problem["files"]]
    assert len(named) == len(unusable)
    assert all(any(name.startswith(each) for name in named) for each in unusable)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each trap is sprung in a process of its own")
def test_traps_are_refused(tmp_path):
    pytest.importorskip("huggingface_hub")
    from hostile import measure_traps

    found = measure_traps(tmp_path, 60)
    assert found["traps"] == 60 and len(found["kinds"]) > 8
    assert (found["outside"], found["executed"], found["no clear line"]) == ([], [], {})
