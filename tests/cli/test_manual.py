"""What helps to find the right command: the manual, suggestions for mistyped names, completion by the shell."""

import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from tiny import ganaug, refused

from ganaug.cli import main
from ganaug.options import SECTIONS
from ganaug.settings import ARM_NAMES, RUN_PRESET
from ganaug.study.arms import ARMS

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


def completed(words, incomplete):
    found = BashComplete(main, {}, "ganaug", "_GANAUG_COMPLETE").get_completions(words, incomplete)
    return [item.value for item in found]


def test_the_manual_has_every_command_once_on_one_line_in_the_order_of_use():
    in_order = [name for names in SECTIONS.values() for name in names]
    assert sorted(in_order) == sorted(main.commands)
    lines = ganaug("--help").stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in main.commands]
    assert listed == in_order
    assert all(f"{title}:" in lines for title in SECTIONS)
    assert max(map(len, lines)) <= 80 and not any(line.endswith("...") for line in lines[1:])


def test_the_help_of_an_option_says_what_it_takes():
    text = ganaug("fit", "--help").stdout
    assert (
        "--steps N " in text and "--unlabeled PATH " in text and "--budget TIME " in text and "--device DEVICE" in text
    )


def test_the_manual_ends_with_a_first_session():
    session = ganaug("--help").stdout.split("A first session:\n")[1].strip().splitlines()
    assert [line.split()[:2] for line in session] == [["ganaug", name] for name in ("check", "run", "synthesize")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fti",), "did you mean fit?"),
        (("syntesise",), "did you mean synthesize?"),
        (("zzz",), "known: check, fit, synthesize"),
        (("fit", "data", "--stpes", "3"), "--steps"),
        (("fit", "data", "-n", "--set", "fit.stpes=3"), "did you mean fit.steps?"),
        (("--quite", "fit"), "--quiet"),
    ],
)
def test_a_mistyped_name_gets_a_suggestion(arguments, said):
    assert said in refused(*arguments)


@pytest.mark.parametrize("option", [("--class", "scrtach"), ("--add", "scrtach=3")])
def test_a_mistyped_class_gets_a_suggestion(shared_run, tmp_path, option):
    import json
    import shutil

    run = shutil.copytree(shared_run, tmp_path / "run")
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(json.dumps("1"), json.dumps("scratch")))
    assert "did you mean scratch?" in refused("synthesize", run, "--out", tmp_path / "made", *option)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_clicks(shell):
    script = ganaug("completion", shell).stdout
    assert script.strip() == SHELLS[shell](main, {}, "ganaug", "_GANAUG_COMPLETE").source().strip()
    assert f"_GANAUG_COMPLETE={shell}_complete" in script
    assert f"ganaug completion {shell}" in ganaug("completion", "--help").stdout


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "fi", ["fit"]),
        (["compare", "RUN", "--preset"], "st", ["standard"]),
        (["fit", "DATA", "--strategy"], "", ["joint", "per-class", "specialised"]),
        (["fit", "DATA"], "--tens", ["--tensorboard"]),
        (["compare", "RUN", "--arms"], "scratch/s", ["scratch/smote", "scratch/synthetic"]),
        (["compare", "RUN", "--arms"], "scratch/smote,scratch/s", ["scratch/smote,scratch/synthetic"]),
        (["export-classifier", "STUDY", "--arm"], "scratch/l", ["scratch/longer"]),
    ],
)
def test_what_is_completed(words, incomplete, expected):
    assert completed(words, incomplete) == expected


@pytest.mark.parametrize(
    ("command", "option", "default"),
    [
        ("run", "preset", RUN_PRESET),
        ("demo", "preset", RUN_PRESET),
        ("compare", "preset", "standard"),
        ("fit", "budget", "5m"),
    ],
)
def test_help_tells_the_default_of_the_command(command, option, default):
    (found,) = [each for each in main.commands[command].params if f"--{option}" in each.opts]
    assert found.help.endswith(f"[default: {default}]")


def test_the_command_line_knows_all_arms():
    assert tuple(ARMS) == ARM_NAMES
