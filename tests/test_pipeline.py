"""`run` and `demo`: all stages in order, again and again, interrupted, without a network, and whether they do their work."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from hurry import PROGRAM
from tiny import RUN, UNFILTERED, ganaug, python, refused, stamps, write_few_digits

from ganaug import GanaugError
from ganaug.data import cache
from ganaug.data.cache import load
from ganaug.data.images import decode
from ganaug.data.manifest import read_manifest
from ganaug.gan import training
from ganaug.pipeline import claim_folder, write_digits
from ganaug.recipe import dump_recipe, load_recipe
from ganaug.runs import read_json
from ganaug.settings import VERDICTS
from ganaug.synthesis import sample

# Long enough to be interrupted, with a checkpoint after every fourth step.
LONG = (*RUN, "--set", "fit.steps=60", "--set", "compare.updates=60")
LONG = (*LONG, "--set", "fit.log_interval=4", "--set", "fit.checkpoint_interval=0.001s")


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    return write_few_digits(tmp_path_factory.mktemp("pipeline") / "few")


@pytest.fixture(scope="session")
def finished(few):
    ganaug("run", few, "--out", few.with_name("finished"), *LONG)
    return few.with_name("finished")


# again, and after an interruption


def test_run_leaves_every_result(finished):
    assert read_json(finished / "run/run.json")["complete"]
    assert len(read_manifest(finished / "synthetic")) == 12
    assert read_json(finished / "study/study.json")["verdict"] in VERDICTS
    assert (finished / "report.html").stat().st_size > 10_000 and (finished / "report.md").is_file()


def test_a_dry_run_tells_what_all_stages_would_do_and_writes_nothing(few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = ganaug("run", few, *RUN, "--dry-run").stdout
    assert "36 in 3 classes, 16 x 16 px" in text and "estimate: 6 steps" in text
    assert "its images    12 that pass the tests" in text
    assert "the study     demo: 4 arms in 2 repetitions; once there is a GAN" in text
    text = ganaug("run", few, *RUN, "-n", "--preset", "standard", "--set", "compare.inner_folds=3").stdout
    assert "standard: 4 arms in 2 repetitions, 4 more GANs of up to" in text  # one, and three for inner folds
    assert not list(tmp_path.iterdir())
    assert "run needs --out" in refused("run", few)
    (tmp_path / "one").mkdir()
    shutil.copytree(few / "train/0", tmp_path / "one/0")
    assert "one class alone" in refused("run", tmp_path / "one", "--dry-run")


def test_the_budget_of_a_dry_run_is_that_of_the_run(few):
    text = ganaug("run", few, "--budget", "10m", "--set", "fit.threads=1", "--set", "fit.width=8", "--dry-run").stdout
    assert "classifiers within about 5m" in text and "budget: 210.0" in text


def test_run_again_trains_and_draws_nothing(few, finished):
    before = stamps(finished)
    ganaug("run", few, "--out", finished, *LONG)
    changed = {name for name, stamp in stamps(finished).items() if before.get(name) != stamp}
    assert changed <= {"report.html", "report.md"}


def test_only_the_stage_that_is_missing_is_repeated(few, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    arms = read_json(out / "study/study.json")["arms"]
    shutil.rmtree(out / "study")
    before = stamps(out)
    ganaug("run", few, "--out", out, *LONG)
    after = stamps(out)
    assert {name for name in before if after[name] != before[name]} <= {"report.html", "report.md"}
    assert read_json(out / "study/study.json")["arms"] == arms


@pytest.mark.parametrize(("stored", "asked", "same"), [(32, "auto", True), (64, "auto", False), (32, 64, False)])
def test_a_folder_of_a_version_whose_batches_were_a_number_is_gone_on_with(tmp_path, stored, asked, same):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(load_recipe({"fit": {"batch_size": stored}})))
    with nullcontext() if same else pytest.raises(GanaugError, match="begun with other settings"):
        claim_folder(tmp_path, load_recipe({"fit": {"batch_size": asked}}))


def test_other_settings_and_other_folders_are_refused(few, finished):
    assert "begun with other settings" in refused("run", few, "--out", finished, *LONG, "--set", "fit.steps=61")
    assert "not made by ganaug run" in refused("run", few, "--out", few.parent, *LONG)


def interrupt(arguments, pattern, out, number):
    """Starts the command, sends it a signal once a file of that pattern is there; returns what the process left."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not any(out.glob(pattern)):
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate()
        return process.returncode, errors


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_run_goes_on_and_ends_alike(few, finished, tmp_path):
    """Killed while the GAN trains, then stopped by Ctrl-C during the study, then repeated to the end."""
    arguments = ("run", few, "--out", tmp_path / "out", *LONG)
    out = tmp_path / "out"
    code, _ = interrupt(arguments, "run/members/joint/state.pt", out, signal.SIGKILL)
    assert code == -signal.SIGKILL and not (out / "synthetic").exists()
    code, errors = interrupt(arguments, "study/pieces/*.npz", out, signal.SIGINT)
    assert code == 128 + signal.SIGINT and "Traceback" not in errors and not (out / "study/study.json").exists()
    kept = stamps(out / "run") | stamps(out / "study/pieces")
    ganaug(*arguments)
    assert kept.items() <= (stamps(out / "run") | stamps(out / "study/pieces")).items()
    for name in ("run/members/joint/generator.safetensors", "synthetic/2/synthetic-000003.png"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert read_json(out / "study/study.json")["arms"] == read_json(finished / "study/study.json")["arms"]
    assert not list(out.rglob(".*")), "temporary files are left"


# without a network

GUARD = """
import os, pathlib, socket
folder = pathlib.Path(os.environ["GUARD_FOLDER"])
(folder / f"guarded-{os.getpid()}").touch()
def refuse(*arguments, **options):
    (folder / f"tried-{os.getpid()}").write_text(repr(arguments))
    raise OSError("the network was asked for")
os.fsync = lambda file: None  # nearly two thousand files: nothing that is tested here
allowed = socket.socket.connect
def connect(self, address):
    return allowed(self, address) if self.family == getattr(socket, "AF_UNIX", None) else refuse(address)
socket.socket.connect = socket.socket.connect_ex = connect
socket.getaddrinfo = socket.gethostbyname = refuse
"""


@pytest.fixture
def guarded(tmp_path):
    """The environment of processes that note, in the folder, that they are watched, and any use of the network."""
    folder = tmp_path / "guard"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(GUARD)
    kept = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    return kept | {"PYTHONPATH": str(folder), "GUARD_FOLDER": str(folder)}


def test_the_guard_notices(guarded, tmp_path):
    python("import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')", env=guarded)
    assert list((tmp_path / "guard").glob("tried-*"))


def test_demo_with_workers_needs_no_network(guarded, tmp_path):
    out = tmp_path / "demo"
    arguments = ("demo", "--out", out, *RUN, "--set", "compare.jobs=2")
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=guarded)
    assert result.returncode == 0, result.stderr
    assert not [path.read_text() for path in (tmp_path / "guard").glob("tried-*")]
    assert len(list((tmp_path / "guard").glob("guarded-*"))) > 2  # the workers as well
    assert "no effect" in result.stdout.lower() or "synthetic images" in result.stdout.lower()
    assert sum(read_json(out / "study/study.json")["counts"]["train"].values()) == 200
    assert (out / "report.html").is_file()


def test_the_digits_are_the_same_at_every_call(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    first, second = write_digits(tmp_path / "a"), write_digits(tmp_path / "b")
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png")) for folder in (first, second)]
    assert names[0] == names[1] and len(names[0]) == 1797
    before = stamps(first)
    write_digits(first)
    assert stamps(first) == before


# whether the work is done: a stage broken on purpose must be noticed


LEARN = ("--steps", "80", "--set", "fit.width=16", "--set", "fit.batch_size=32", "--set", "fit.learning_rate=0.001")
LEARN = (*LEARN, "--set", "fit.threads=1", "--set", "fit.precision=fp32", "--set", "data.mirror=none")
LEARN = (*LEARN, *UNFILTERED)  # the generator is what is looked at


@pytest.fixture(scope="session")
def ten_digits(tmp_path_factory):
    return write_few_digits(tmp_path_factory.mktemp("quality") / "ten", classes=10, train=20, test=2)


@pytest.fixture(scope="session")
def learned(ten_digits):
    ganaug("fit", ten_digits, "--out", ten_digits.with_name("run"), *LEARN)
    return ten_digits.with_name("run")


def assert_images_are_good(run, made):
    """Each class looks most like its own class's mean real image, and its images differ about as much as real ones.

    A good training gives agreements of .69 and more (chance: .10) and spreads of 1.0 to 1.2, over seeds and settings.
    """
    real, labels = load(run / "data").subset("train")
    table = read_manifest(made)
    images = np.stack([decode((made / file).read_bytes()).pixels[:, :, 0] for file in table["file"]])
    classes = table["class"].to_numpy().astype(int)
    unit = [directions(group) for group in (images, np.stack([real[labels == k].mean(axis=0) for k in range(10)]))]
    agreement = float(((unit[0] @ unit[1].T).argmax(axis=1) == classes).mean())
    spread = [images[classes == k].std(axis=0).mean() / real[labels == k].std(axis=0).mean() for k in range(10)]
    assert agreement > 0.45, f"only {agreement:.2f} of the images look like their class"
    assert min(spread) > 0.6 and max(spread) < 1.8, f"the images of a class differ {spread} times as much as real ones"


def directions(images):
    """(N, ...) -> (N, D) of mean 0 and length 1: the dot product of two is their correlation."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)


def make_images(run, folder):
    ganaug("synthesize", run, "--out", folder, "--per-class", "20")
    return folder


def test_the_images_are_good(learned, tmp_path):
    assert_images_are_good(learned, make_images(learned, tmp_path / "made"))


def test_one_image_for_all_seeds_would_be_noticed(learned, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "noise_of", lambda seeds, size, truncation: torch.full((len(seeds), size), 0.5))
    with pytest.raises(AssertionError, match="differ"):
        assert_images_are_good(learned, make_images(learned, tmp_path / "made"))


def test_shuffled_labels_would_be_noticed(ten_digits, tmp_path, monkeypatch):
    def shuffled(*arguments):
        data = right(*arguments)
        order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(0))
        object.__setattr__(data, "images", data.images[order])
        return data

    right = training.training_data
    monkeypatch.setattr(training, "training_data", shuffled)
    ganaug("fit", ten_digits, "--out", tmp_path / "run", *LEARN)
    with pytest.raises(AssertionError, match="look like their class"):
        assert_images_are_good(tmp_path / "run", make_images(tmp_path / "run", tmp_path / "made"))


def test_a_lack_of_training_would_be_noticed(ten_digits, tmp_path):
    ganaug("fit", ten_digits, "--out", tmp_path / "run", *LEARN, "--steps", "1")
    with pytest.raises(AssertionError):
        assert_images_are_good(tmp_path / "run", make_images(tmp_path / "run", tmp_path / "made"))


def assert_nothing_leaks(run):
    """No image, nor a copy of one, stands on both sides of the split, and both sides have every class."""
    index = pd.read_csv(run / "data/index.csv", dtype=str)
    sides = [index[index["split"] == split] for split in ("train", "test")]
    assert all(set(side["class"]) == set(index["class"]) for side in sides)
    assert not set(sides[0]["sha256"]) & set(sides[1]["sha256"]), "a test image was trained on"


def test_a_leaking_split_would_be_noticed(few, tmp_path, monkeypatch):
    data = shutil.copytree(few / "train", tmp_path / "data")
    for path in list(data.rglob("*.png")):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    short = ("--steps", "1", "--set", "fit.width=4")
    ganaug("fit", data, "--out", tmp_path / "right", *short)
    assert_nothing_leaks(tmp_path / "right")
    monkeypatch.setattr(cache, "join_groups", lambda keys, groups: np.arange(len(keys)))
    ganaug("fit", data, "--out", tmp_path / "wrong", *short)
    with pytest.raises(AssertionError, match="trained on"):
        assert_nothing_leaks(tmp_path / "wrong")
