"""Which trainings a study consists of: what preset, settings and data decide, and that no source of chance is counted twice."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganaug.errors import GanaugError
from ganaug.settings import CompareSettings
from ganaug.study.arms import ARMS, BASELINE, CONTROL, FACTORIAL, MIXED
from ganaug.study.design import Plan, Repetition, settle_arms, settle_plan

SCRATCH = tuple(arm for arm in FACTORIAL if ARMS[arm].init == "scratch")
LABELED = tuple(arm for arm in ARMS if not ARMS[arm].unlabeled)
COORDINATES = ("split", "gan", "draw", "seed")


def plan_of(own_test=True, given_pool=False, **settings):
    return settle_plan(CompareSettings(**settings), own_test, given_pool)


def refusal(own_test=True, given_pool=False, **settings):
    with pytest.raises(GanaugError) as raised:
        plan_of(own_test, given_pool, **settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


@st.composite
def plans(draw):
    """Any plan that settings can give."""
    seeds, given_pool = draw(st.integers(2, 9)), draw(st.booleans())
    splits = 1 if given_pool else draw(st.integers(1, 5))
    gans = 1 if given_pool else draw(st.sampled_from([n for n in range(1, seeds + 1) if seeds % n == 0]))
    probe = not given_pool and draw(st.booleans())
    arms = (BASELINE, MIXED, *draw(st.sampled_from([(), ("scratch/smote",), ("discriminator/real",)])))
    return Plan("standard", arms, splits, gans, seeds, draw(st.booleans()), probe, given_pool)


def test_the_plan_of_each_preset():
    every = tuple(arm for arm in LABELED if arm != CONTROL)
    found = {preset: plan_of(preset=preset) for preset in ("demo", "standard", "thorough")}
    assert found["demo"] == Plan("demo", FACTORIAL, 1, gans=1, seeds=6, tune=False, probe=False, given_pool=False)
    assert found["standard"] == Plan("standard", FACTORIAL, 1, gans=6, seeds=6, tune=True, probe=True, given_pool=False)
    assert found["thorough"] == Plan("thorough", every, 1, gans=10, seeds=10, tune=True, probe=True, given_pool=False)
    assert CompareSettings().preset == "standard"


def test_thorough_splits_anew_only_data_without_a_test_split_of_its_own():
    resplit = plan_of(own_test=False, preset="thorough")
    assert (resplit.splits, resplit.gans, resplit.seeds) == (5, 2, 4)
    assert plan_of(own_test=True, preset="thorough").splits == 1
    assert plan_of(own_test=False, given_pool=True, preset="thorough").splits == 1
    assert plan_of(own_test=False, preset="standard").splits == plan_of(own_test=False, preset="demo").splits == 1


def test_splits_can_be_asked_for_in_any_preset():
    plan = plan_of(own_test=False, splits=3)
    assert (plan.splits, plan.gans, plan.seeds) == (3, 2, 6)
    assert plan_of(own_test=True, splits=1).splits == 1
    assert plan_of(own_test=False, preset="thorough", splits=1) == plan_of(own_test=True, preset="thorough")


def test_given_images_need_no_other_gan_and_no_probe():
    for preset in ("demo", "standard", "thorough"):
        plan = plan_of(given_pool=True, preset=preset)
        assert plan.gans == 1 and not plan.probe and plan.probes() == []
    assert plan_of(given_pool=True, gans=1).gans == 1


def test_given_images_are_one_pool_for_all_repetitions():
    for preset in ("demo", "standard", "thorough"):
        plan = plan_of(given_pool=True, preset=preset)
        assert plan.given_pool and plan.draws == 1
        assert {(r.split, r.gan, r.draw) for r in plan.repetitions()} == {(0, 0, 0)}
        assert [r.seed for r in plan.repetitions()] == list(range(plan.seeds))
        assert not plan_of(preset=preset).given_pool
    assert plan_of(given_pool=True, arms=("scratch/smote", MIXED), seeds=3).draws == 1


def test_settings_win_over_the_preset():
    plan = plan_of(preset="demo", seeds=9, gans=3, tune=True)
    assert (plan.seeds, plan.gans, plan.tune) == (9, 3, True)
    assert not plan_of(tune=False).tune
    assert plan_of(seeds=4).gans == 4  # as many as repetitions
    assert plan_of(preset="thorough", own_test=False, seeds=2).seeds == 2


def test_no_gan_is_trained_for_arms_that_use_none():
    assert plan_of(arms=("scratch/smote", "scratch/duplicated")).gans == 1
    assert plan_of(arms=("scratch/smote", "discriminator/real")).gans == 6


def test_probes_need_the_arms_of_the_first_question():
    assert not plan_of(arms=("discriminator/real", "discriminator/real+synthetic")).probe
    assert not plan_of(preset="demo").probe
    assert plan_of(arms=(MIXED,)).probe


@given(plans())
def test_repetitions_are_paired_by_nothing_but_themselves(plan):
    """Each has its own seed; those of one GAN have their own images, but for given ones; the GANs are used alike."""
    repetitions = plan.repetitions()
    assert len(repetitions) == plan.splits * plan.seeds
    assert len({r.seed for r in repetitions}) == len(repetitions)
    assert len({(r.split, r.gan, r.draw) for r in repetitions}) == (1 if plan.given_pool else len(repetitions))
    for split in range(plan.splits):
        mine = [r for r in repetitions if r.split == split]
        assert len(mine) == plan.seeds
        times = Counter(r.gan for r in mine)
        assert times == dict.fromkeys(range(plan.gans), plan.seeds // plan.gans)
    assert all(0 <= r.draw < plan.draws for r in repetitions)


@given(plans())
def test_the_blocks_of_a_pool_are_as_many_as_are_used(plan):
    used = {r.draw for r in (*plan.repetitions(), *plan.probes())}
    assert used == set(range(plan.draws))


@given(plans())
def test_probes_differ_from_their_repetition_in_one_coordinate(plan):
    probes = plan.probes()
    if not plan.probe:
        assert probes == []
        return
    assert len(probes) == 2 * plan.splits * plan.seeds
    repetitions = plan.repetitions()
    assert len({*repetitions, *probes}) == len(repetitions) + len(probes)
    for repetition, draw, seed in zip(repetitions, probes[::2], probes[1::2], strict=True):
        for probe, varied in ((draw, "draw"), (seed, "seed")):
            differing = [name for name in COORDINATES if getattr(probe, name) != getattr(repetition, name)]
            assert differing == [varied]


@given(plans())
def test_the_images_of_a_probe_are_no_repetitions(plan):
    taken, drawn = ({(r.split, r.gan, r.draw) for r in some} for some in (plan.repetitions(), plan.probes()[::2]))
    assert not taken & drawn


@given(plans())
def test_the_baseline_of_every_probe_is_trained_anyway(plan):
    """It uses no GAN, so that split and seed make it."""
    trained = {(r.split, r.seed) for r in plan.repetitions()}
    assert {(r.split, r.seed) for r in plan.probes()} <= trained


@given(plans())
def test_every_source_is_varied_by_itself_where_there_are_probes(plan):
    """Pairs that differ in the seed alone, in the draw alone, and in GAN and draw alone, as `variance_components` needs them."""
    everything = [*plan.repetitions(), *plan.probes()]
    table = np.array([[getattr(r, name) for name in COORDINATES] for r in everything])
    found = {tuple(map(bool, table[i] != table[j])) for i, j in combinations(range(len(table)), 2)}
    alone = {(False, False, False, True), (False, False, True, False)}
    assert (alone <= found) == plan.probe
    of_gan = any(not split and gan and not seed for split, gan, _, seed in found)
    assert of_gan == (plan.probe and plan.gans > 1)


def test_a_plan_by_hand():
    plan = Plan("standard", (BASELINE, MIXED), splits=1, gans=2, seeds=4, tune=True, probe=True, given_pool=False)
    assert plan.draws == 3  # two for each GAN's repetitions, one for the probes
    assert plan.repetitions() == [
        Repetition(0, 0, 0, 0),
        Repetition(0, 1, 0, 1),
        Repetition(0, 0, 1, 2),
        Repetition(0, 1, 1, 3),
    ]
    assert plan.probes() == [
        Repetition(0, 0, 2, 0),
        Repetition(0, 0, 0, 1),
        Repetition(0, 1, 2, 1),
        Repetition(0, 1, 0, 2),
        Repetition(0, 0, 2, 2),
        Repetition(0, 0, 1, 3),
        Repetition(0, 1, 2, 3),
        Repetition(0, 1, 1, 0),
    ]


def test_the_baseline_is_always_there_and_the_order_is_the_tables():
    assert settle_arms(CompareSettings(arms=("scratch/longer", "scratch/smote"))) == (
        BASELINE,
        "scratch/smote",
        "scratch/longer",
    )
    assert settle_arms(CompareSettings(arms=(CONTROL, BASELINE))) == (BASELINE, CONTROL)
    assert settle_arms(CompareSettings(arms="scratch/smote, scratch/smote")) == (BASELINE, "scratch/smote")


def test_the_usual_arms():
    assert settle_arms(CompareSettings()) == settle_arms(CompareSettings(preset="demo")) == FACTORIAL
    assert set(settle_arms(CompareSettings(preset="thorough"))) == set(LABELED) - {CONTROL}
    # a preset's arms are no addition to those that are asked for
    assert settle_arms(CompareSettings(preset="thorough", arms=(MIXED,))) == (BASELINE, MIXED)


def test_unlabeled_images_have_arms_of_their_own():
    more = tuple(arm for arm in ARMS if ARMS[arm].unlabeled)
    assert len(more) == 2
    assert set(settle_arms(CompareSettings(), unlabeled=True)) == {*FACTORIAL, *more}
    assert set(settle_arms(CompareSettings(preset="thorough"), unlabeled=True)) == set(ARMS) - {CONTROL}
    assert settle_arms(CompareSettings(arms=more[:1]), unlabeled=True) == (BASELINE, more[0])
    assert refusal(arms=more) == (
        f"compare.arms: {more[0]} needs a run that has learned from unlabeled images. Leave it out, or fit with --unlabeled."
    )


def test_another_classifier_has_no_discriminators_weights():
    assert settle_arms(CompareSettings(classifier="resnet18")) == SCRATCH
    thorough = settle_arms(CompareSettings(classifier="resnet18", preset="thorough"))
    assert thorough == tuple(arm for arm in LABELED if ARMS[arm].init == "scratch" and arm != CONTROL)
    assert (
        refusal(classifier="resnet18", arms=("discriminator/real", MIXED))
        == "compare.arms: discriminator/real starts from the discriminator's weights, which resnet18 cannot take. "
        "Leave it out, or leave out compare.classifier."
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("scratch/smotes", "did you mean scratch/smote?"),
        ("discriminator/reel", "did you mean discriminator/real?"),
        ("real+synthetic", "did you mean scratch/real+synthetic?"),
        ("smote", "did you mean scratch/smote?"),
        ("zzz", f"known: {', '.join(ARMS)}."),
    ],
)
def test_an_unknown_arm_is_refused_with_a_suggestion(name, hint):
    assert refusal(arms=(MIXED, name)) == f"compare.arms: {name!r} is not an arm: {hint}"


def test_a_single_arm_is_refused():
    message = refusal(arms=(BASELINE,))
    assert message == ("compare.arms: scratch/real is the baseline; name at least one other arm to compare with it.")


def test_splits_of_a_fixed_split_are_refused():
    said = "compare.splits = 3: the data has a test split of its own, so there is one split. Leave it out."
    assert refusal(splits=3) == refusal(splits=3, preset="thorough") == said
    assert "the synthetic images were made from one split" in refusal(own_test=False, given_pool=True, splits=3)


def test_gans_of_unequal_numbers_of_repetitions_are_refused_with_what_would_do():
    said = (
        "compare.gans = 9 must divide compare.seeds = 6, so that each GAN has as many repetitions. Set compare.seeds=9."
    )
    assert refusal(gans=9) == said
    assert plan_of(gans=9, seeds=9).gans == 9  # as the message says
    assert "must divide compare.seeds = 4" in refusal(own_test=False, preset="thorough", gans=5)
    assert refusal(gans=4).endswith("Set compare.seeds=8.") and plan_of(gans=4, seeds=8).gans == 4
    assert plan_of(gans=6).gans == 6 and plan_of(gans=3).gans == 3


def test_gans_for_given_images_are_refused():
    assert refusal(given_pool=True, gans=2) == "compare.gans = 2: with --synthetic the images are given. Leave it out."


def test_weights_without_their_model_are_refused():
    said = "compare.classifier_weights: name their model, too, for example --classifier resnet18."
    assert refusal(classifier_weights=Path("weights.safetensors")) == said
    assert plan_of(classifier="resnet18", classifier_weights=Path("weights.safetensors")).arms == SCRATCH
