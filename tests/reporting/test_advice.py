"""What the page advises its reader to do next."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_study import study_values
from page_reader import change_study, plain

from ganaug.cli import main
from ganaug.options import gather
from ganaug.recipe import load_recipe
from ganaug.reporting import report
from ganaug.reporting.advice import MOST_STEPS, Step, explain_placeholders, next_steps
from ganaug.reporting.result import Result
from ganaug.settings import VERDICTS, CompareSettings
from ganaug.study.design import settle_plan


def advised(**changes: Any) -> list[Step]:
    return next_steps(Result.model_validate(study_values(["a", "b"]) | changes))


def commands(steps: list[Step]) -> list[str]:
    return [line for step in steps for line in step.commands]


SETTINGS = {"data": {"image_size": 32, "unlabeled": None}}


def test_a_baseline_that_guesses_is_shown_more_pixels_and_looked_at() -> None:
    steps = advised(baseline_guesses=True, verdict="inconclusive", settings=SETTINGS)
    assert commands(steps) == [
        "ganaug run digits.zip --out NEW --image-size 64 --preset standard",
        "ganaug check digits.zip",
    ]
    assert "32 x 32 pixels" in steps[0].text and "smallest class has 20" in steps[1].text
    largest = advised(baseline_guesses=True, settings={"data": {"image_size": 256}})
    assert commands(largest) == ["ganaug check digits.zip"]


def test_a_demonstration_is_followed_by_evidence_whose_cost_is_shown_first() -> None:
    evidence = "ganaug compare runs/digits --out NEW --preset standard"
    assert commands(advised(preset="demo", verdict="equivalent")) == [f"{evidence} --dry-run", evidence]
    guessing = advised(preset="demo", verdict="inconclusive", baseline_guesses=True, settings=SETTINGS)
    assert commands(guessing)[-2:] == [f"{evidence} --dry-run", evidence]


@pytest.mark.parametrize("preset", ["demo", "standard"])
def test_what_had_not_converged_is_given_more_updates(preset: str) -> None:
    longest = CompareSettings().max_updates
    for chosen, option in ((longest // 8, ""), (longest, f" --set compare.max_updates={4 * longest}")):
        choice = study_values(["a", "b"])["choices"][0] | {"chosen": chosen, "converged": False}
        steps = advised(choices=[choice], preset=preset)
        assert commands(steps)[0].removesuffix(
            " --dry-run"
        ) == f"ganaug compare runs/digits --out NEW --preset {preset}{option}".replace("demo", "standard")
        assert "gain no more" in steps[0].text or "had converged" in steps[0].text


def test_an_open_verdict_is_told_how_many_images_or_repetitions_would_settle_it() -> None:
    steps = advised(verdict="inconclusive", needed={"repetitions": 11.2, "times_test_images": 3.46})
    assert "about 346 in place of 100" in steps[0].text  # 2 classes of 50
    assert commands(steps)[1] == "ganaug compare runs/digits --out NEW --preset standard --seeds 12"
    few = advised(verdict="inconclusive", needed={"repetitions": 4000.0, "times_test_images": None})
    assert "about 200 in place of 100" in few[0].text and "--seeds" not in " ".join(commands(few))
    repeated = [{"split": k % 3, "gan": 0, "draw": 0, "seed": k} for k in range(6)]
    split = advised(verdict="inconclusive", needed={"repetitions": 11.2}, repetitions=repeated)
    assert any(line.endswith("--splits 12") for line in commands(split))


def test_images_that_help_are_used() -> None:
    assert commands(advised(verdict="helps")) == [
        "ganaug export-classifier STUDY --out classifier.safetensors --arm scratch/real+synthetic",
        "ganaug synthesize runs/digits --out NEW --with-real digits.zip",
    ]


@pytest.mark.parametrize("verdict", ["hurts", "equivalent"])
def test_images_that_do_not_help_are_left_alone(verdict: str) -> None:
    steps = advised(verdict=verdict, settings=SETTINGS)
    export = "ganaug export-classifier STUDY --out classifier.safetensors --arm"
    assert commands(steps) == [
        f"{export} scratch/real",
        "ganaug run digits.zip --out NEW --image-size 32 --unlabeled IMAGES --preset standard",
    ]
    values = study_values(["a", "b"])
    better = {"arm": "discriminator/real", "baseline": "scratch/real", "verdict": "helps"}
    differences = [*values["differences"], values["differences"][1] | better]
    assert commands(advised(verdict=verdict, differences=differences))[1] == f"{export} discriminator/real"
    without = {arm: scores for arm, scores in values["arms"].items() if arm.startswith("scratch")}
    asked = advised(verdict=verdict, arms=without)
    assert commands(asked)[1].endswith("--arms scratch/real,scratch/real+synthetic,discriminator/real")


@pytest.mark.parametrize("guesses", [True, False, None])
@pytest.mark.parametrize("preset", ["demo", "standard", None])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_few_steps_and_each_of_commands_that_exist(verdict: str, preset: str | None, guesses: bool | None) -> None:
    steps = advised(verdict=verdict, preset=preset, baseline_guesses=guesses, source="my data.zip", run=None)
    assert 0 < len(steps) <= MOST_STEPS
    for line in commands(steps):
        program, name, *words = shlex.split(line)
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert program == "ganaug" and {word for word in words if word.startswith("--")} <= known
        assert "my data.zip" in words or {"RUN", "STUDY"} & set(words)


def test_what_commands_leave_open_is_named() -> None:
    assert explain_placeholders([Step("x", ("ganaug compare RUN --out NEW",)), Step("y")]) == (
        "NEW stands for a new folder, RUN for the folder of the run."
    )
    assert explain_placeholders([Step("y")]) == ""


def test_the_command_line_takes_what_is_advised_for_a_demonstration(tmp_path: Path) -> None:
    line = commands(advised(preset="demo", run=str(tmp_path / "no run")))[0]
    found = CliRunner().invoke(main, shlex.split(line)[1:])
    assert found.exit_code and "no run" in str(found.exception) + found.output and "No such option" not in found.output


def test_the_steps_stand_on_the_page_and_in_its_markdown(study: Path) -> None:
    change_study(study, lambda values: values.update(baseline_guesses=True, source="<my> data"))
    path = report(study)
    text = path.read_text(encoding="utf-8")
    box = text[text.index("What to do next") : text.index('<section id="results"')]
    assert text.index("Read with care") < text.index("What to do next")
    assert "ganaug check '<my> data'" in plain(box)
    assert "\n   ganaug check '<my> data'\n" in path.with_suffix(".md").read_text(encoding="utf-8")
    assert '<span class="label">The baseline may be guessing</span>' in text[: text.index("</header>")]


def test_a_study_that_does_not_say_whether_it_guesses_is_judged_by_its_scores() -> None:
    values = study_values(["a", "b", "c"])
    assert Result.model_validate(values).chance == pytest.approx(1 / 3) and not Result.model_validate(values).guesses
    values["arms"]["scratch/real"]["balanced_accuracy"] = [0.3, 0.35]
    assert Result.model_validate(values).guesses
    values["counts"]["test"]["c"] = 0
    assert Result.model_validate(values).chance == 0.5
    assert not Result.model_validate(values | {"baseline_guesses": False}).guesses


def test_what_is_advised_keeps_what_was_known_of_the_data() -> None:
    known = {"data": {"group_regex": r"(p\d+)", "mirror": "both", "image_size": 64, "unlabeled": "heap"}}
    steps = advised(verdict="inconclusive", preset="demo", settings=known)
    again = "ganaug run digits.zip --out NEW --group-regex '(p\\d+)' --mirror both --image-size 64 --unlabeled heap"
    assert commands(steps)[-1] == again and "groups" in steps[-1].text


def test_a_classifier_with_weights_of_its_own_is_kept() -> None:
    settings = {"compare": {"classifier": "resnet18", "classifier_weights": "my weights.pt"}}
    lines = commands(advised(verdict="inconclusive", needed={"repetitions": 7}, settings=settings))
    assert any("--classifier resnet18 --weights 'my weights.pt' --seeds 7" in line for line in lines)


def test_a_study_of_given_images_goes_on_with_them() -> None:
    given = ["ganaug fit digits.zip --out RUN", "ganaug compare RUN --out STUDY --synthetic 'smote images'"]
    helps = commands(advised(verdict="helps", reproduce=given))
    assert helps == ["ganaug export-classifier STUDY --out classifier.safetensors --arm scratch/real+synthetic"]
    open_ = commands(advised(verdict="inconclusive", needed={"repetitions": 7}, reproduce=given))
    assert "ganaug compare runs/digits --out NEW --synthetic 'smote images' --preset standard --seeds 7" in open_


@pytest.mark.parametrize("classifier", ["discriminator", "resnet18"])
@pytest.mark.parametrize("gans", [1, 2, 6])
def test_compare_takes_what_is_advised(classifier: str, gans: int) -> None:
    """As far as that depends on no run: options, arms, and how many GANs go with how many repetitions."""
    values = study_values(["a", "b"])
    values["settings"] = {"compare": {"classifier": classifier}}
    values["arms"] = {arm: scores for arm, scores in values["arms"].items() if arm.startswith("scratch")}
    values["repetitions"] = [{"split": 0, "gan": k % gans, "draw": 0, "seed": k} for k in range(6)]
    values |= {"verdict": "inconclusive", "needed": {"repetitions": 20.0}}
    lines = [line for line in commands(next_steps(Result.model_validate(values))) if line.startswith("ganaug compare")]
    assert lines
    for line in lines:
        words = [word for word in shlex.split(line)[2:] if word != "--dry-run"]
        options = main.commands["compare"].make_context("compare", words).params
        given = {name: value for name, value in options.items() if "__" in name}
        recipe = load_recipe(gather(None, options["overrides"], given))
        plan = settle_plan(recipe.compare, own_test=True, given_pool=False)
        assert plan.seeds >= 6 and ("--gans" not in line or plan.gans == 20)
