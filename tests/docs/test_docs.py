"""The documentation: every block of code runs, in the order of its page, on tiny data with tiny settings; the site is built."""

import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from folders import write_image
from small import TINY

from ganaug.cli import FAILED, main
from ganaug.integrations import classifier, sampler
from ganaug.integrations.arrays import settle_recipe
from ganaug.settings import Recipe

DOCS = Path(__file__).parents[2] / "recipes" / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = DOCS.parents[1] / "README.md"  # its Python; its commands are the tutorial's
BLOCK = re.compile(r"^```(python|sh|console|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {  # what a block begins a command with, or holds: why it is not run
    "python3 -m venv": "installs packages from the network",
    "push_to_hub": "needs an account and the network",
    "dask scheduler": "needs several machines",
    "--cluster": "needs the scheduler of the block before",
}
EXPECTED_IMAGES = {
    "photos/scratch": 14,
    "photos/dent": 10,
    "heap": 6,
    "others/scratch": 5,
    "others/dent": 5,
    "new-photographs": 2,
}


def blocks_of(page):
    """(language, text) of the page's blocks that are to run."""
    found = [(match[1], match[2]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    return [(language, text) for language, text in found if not any(mark in text for mark in NOT_RUN)]


@pytest.fixture(scope="module", autouse=True)
def tiny_settings():
    """The defaults of all stages are those of a run that trains in a second; what a page sets itself counts."""
    models = {stage: Recipe.model_fields[stage].annotation for stage in TINY}
    with pytest.MonkeyPatch.context() as patch:
        for stage, model in models.items():
            for name, value in TINY[stage].items():
                patch.setattr(model.model_fields[name], "default", tuple(value) if isinstance(value, list) else value)
            model.model_rebuild(force=True)
            patch.setattr(Recipe.model_fields[stage], "default", model())
        Recipe.model_rebuild(force=True)
        for estimator in (sampler, classifier):  # in which a budget wins over a recipe's steps
            patch.setattr(estimator, "settle_recipe", in_few_steps)
        yield
    for model in (*models.values(), Recipe):
        model.model_rebuild(force=True)


def in_few_steps(recipe, steps, budget, seed):
    return settle_recipe(recipe, TINY["fit"]["steps"], None, seed)


@pytest.fixture(scope="module", autouse=True)
def nobody_browses():
    from werkzeug.serving import BaseWSGIServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseWSGIServer, "serve_forever", lambda server, *_: None)  # as if Ctrl-C were pressed at once
        patch.setattr("webbrowser.open", lambda address: True)
        yield


def write_data(root):
    """What the pages take for granted: labeled photos of several boards, unlabeled ones, another tool's images."""
    seed = 0
    for place, count in EXPECTED_IMAGES.items():
        for number in range(count):
            seed += 1
            write_image(root / place / f"board{number % 5}-{number}.png", seed, (16, 16))
    return root


@pytest.fixture(scope="module")
def after_tutorial(tmp_path_factory):
    """A folder as the tutorial's second command leaves it behind."""
    root = write_data(tmp_path_factory.mktemp("tutorial"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_commands("ganaug run photos --out result --budget 20m")
    return root


def run_commands(text):
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["ganaug"]:
            result = CliRunner().invoke(main, words[1:])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            assert result.exit_code in ((0, FAILED) if "--fail-if" in words else (0,)), f"{line}\n{result.output}"
        elif words[:3] == ["python", "-m", "webbrowser"]:
            assert Path(words[3]).is_file(), line
        else:
            assert not words, f"who runs {line!r}? Name it in NOT_RUN, with the reason."


@pytest.mark.parametrize("page", [page for page in (README, *PAGES) if blocks_of(page)], ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page, request, tmp_path, monkeypatch):
    if page.stem == "tutorial":
        write_data(tmp_path)
    else:
        shutil.copytree(request.getfixturevalue("after_tutorial"), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names, ran = {"__name__": page.stem}, 0
    for language, text in blocks_of(page):
        if language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(text, str(page), "exec"), names)
        elif language == "yaml":
            Path("recipe.yaml").write_text(text, encoding="utf-8")
        else:
            run_commands(text)
        ran += 1
    assert ran == len(blocks_of(page)) > 0  # and each of them raised nothing


def test_every_reason_not_to_run_something_is_needed():
    texts = [match[2] for page in PAGES for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    assert [mark for mark in NOT_RUN if not any(mark in text for text in texts)] == []


def test_options_named_in_the_text_exist():
    options = {
        option for command in main.commands.values() for parameter in command.params for option in parameter.opts
    }
    known = options | {"--help", "--version", "--nworkers", "--nthreads", "--nproc-per-node"}
    for page in PAGES:
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8"))) <= known, page.name


def test_settings_named_in_the_text_exist():
    for page in PAGES:
        named = re.findall(r"`(?:--set )?(data|fit|synthesize|curation|compare|report)\.(\w+)", page.read_text("utf-8"))
        for stage, key in named:
            if key not in ("json", "html", "md"):
                assert key in Recipe.model_fields[stage].annotation.model_fields, f"{page.name}: {stage}.{key}"


def test_the_site_is_built_without_a_warning(tmp_path):
    for name in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(name)
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path / "site")]
    built = subprocess.run([*command, "-d", str(tmp_path / "trees")], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    settings = (tmp_path / "site/reference/settings.html").read_text(encoding="utf-8")
    missing = [
        f"{stage}.{key}"
        for stage, field in Recipe.model_fields.items()
        for key in field.annotation.model_fields
        if f'id="confval-{stage}.{key}"' not in settings
    ]
    assert not missing
    commands = (tmp_path / "site/reference/cli.html").read_text(encoding="utf-8")
    assert all(f"ganaug {name}" in commands for name in main.commands)
    names = (tmp_path / "site/reference/api.html").read_text(encoding="utf-8")
    import ganaug

    assert all(f'id="ganaug.{name}"' in names for name in ganaug.__all__)
