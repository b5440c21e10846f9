"""What every arm is given: on faked outcomes of the inner folds; folds; scores against scikit-learn."""

import doctest
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, log_loss

from ganaug import GanaugError, load_recipe
from ganaug.classify.training import Mixing
from ganaug.study import search
from ganaug.study.arms import BASELINE, FACTORIAL, MIXED
from ganaug.study.material import Sources
from ganaug.study.pieces import Outcome, make_piece
from ganaug.study.record import updates_tried
from ganaug.study.search import (
    Score,
    base_mixing,
    base_training,
    best_of,
    choose,
    has_converged,
    inner_folds,
    is_better,
    judged_arms,
    lengths,
    mixing_candidates,
    score,
    training_candidates,
)

NUM_IMAGES, NUM_FOLDS = 200, 2
FOLDS = ("fold-0", "fold-1")
RECIPE = load_recipe()


class FakeSources(Sources):
    """Two folds of images of two classes; nothing is read."""

    def truth(self, unit):
        return np.arange(NUM_IMAGES // NUM_FOLDS) % 2


def fake_sources(**settings):
    recipe = load_recipe({"compare": settings})
    return FakeSources(Path(), {}, {}, None, recipe, {})


def probabilities_of(margin, seed=0):
    """(n, 2) of the fold's images: the larger the margin, the more are right, and the surer."""
    rng = np.random.default_rng(seed)
    truth = np.arange(NUM_IMAGES // NUM_FOLDS) % 2
    logit = margin + rng.normal(size=len(truth))
    right = 1 / (1 + np.exp(-logit))
    return np.where(truth[:, None] == [0, 1], right[:, None], 1 - right[:, None]).astype(np.float32)


def chosen_by(margin_of, arms=FACTORIAL, longest=6400, **settings):
    """The choice where a piece's margin is `margin_of(piece)`, and all pieces that were asked for. A single arm is not tuned."""
    asked, tune = {}, len(arms) > 1

    def train(step, pieces):
        asked.update({piece.name: piece for piece in pieces})
        return {
            piece.name: Outcome(probabilities_of(margin_of(piece), piece.seed), np.empty((0, 3))) for piece in pieces
        }

    return choose(arms, tune, FOLDS, fake_sources(**settings), longest, train), list(asked.values())


def flat(piece):
    return 1.0


def test_lengths():
    assert doctest.testmod(search).attempted > 0
    assert doctest.testmod(search).failed == 0
    for longest in range(2, 5000, 37):
        found = lengths(longest)
        assert found[-1] == longest and len(found) >= 2
        assert all(after // 2 == before for before, after in pairwise(found))
        assert found[0] < 2 * search.LEAST_UPDATES


def test_where_nothing_matters_the_defaults_win_and_the_first_number_of_updates():
    choice, asked = chosen_by(flat)
    assert choice.updates == 1600 and all(choice.converged.values()) and set(choice.converged) == set(FACTORIAL)
    assert set(choice.trainings.values()) == {replace(base_training(RECIPE.compare), updates=1600)}
    assert choice.mixing == base_mixing(RECIPE) and choice.worth_mixing is False
    assert {piece.training.updates for piece in asked} == {800, 1600}


def test_the_baseline_alone_is_not_tuned_but_gets_enough_updates():
    choice, asked = chosen_by(lambda piece: piece.training.updates / 2000, arms=[BASELINE])
    assert choice.updates == 6400 and choice.converged == {BASELINE: False}
    assert {piece.arm for piece in asked} == {BASELINE} and choice.worth_mixing is None
    assert {replace(piece.training, updates=1) for piece in asked} == {
        replace(base_training(RECIPE.compare), updates=1)
    }
    assert [candidate.setting["updates"] for candidate in choice.candidates] == [800, 1600, 3200, 6400]
    assert [candidate.chosen for candidate in choice.candidates] == [False, False, False, True]


def test_updates_are_doubled_for_the_arms_that_still_gain():
    def margin(piece):
        return min(piece.training.updates, 1600 if piece.arm == MIXED else 800) / 800

    choice, asked = chosen_by(margin)
    assert choice.updates == 3200 and all(choice.converged.values())
    assert {piece.arm for piece in asked if piece.training.updates == 1600} == set(FACTORIAL)
    assert {piece.arm for piece in asked if piece.training.updates == 3200} == {MIXED}
    choice, _ = chosen_by(lambda piece: min(piece.training.updates, 800) / 800)
    assert choice.updates == 1600


def test_what_still_gains_at_the_end_is_named():
    choice, _ = chosen_by(lambda piece: piece.training.updates / 400 if piece.arm == MIXED else 1.0, longest=800)
    assert choice.updates == 800
    assert choice.converged == {arm: arm != MIXED for arm in FACTORIAL}
    assert choice.to_json()["converged"] is False


def test_what_learned_nothing_has_not_converged():
    choice, _ = chosen_by(lambda piece: -3.0, arms=[BASELINE])
    assert choice.converged == {BASELINE: False}


def test_updates_set_by_hand_are_kept():
    choice, asked = chosen_by(flat, updates=77)
    assert choice.updates == 77 and choice.converged == {} and choice.to_json()["converged"] is None
    assert {piece.training.updates for piece in asked} == {77}
    choice, asked = chosen_by(flat, arms=[BASELINE], updates=77)
    assert asked == [] and choice.trainings[BASELINE].updates == 77


@pytest.mark.parametrize("number", range(4))
def test_each_arm_gets_the_training_that_is_best_for_it(number):
    scratch, options = (
        training_candidates(base_training(RECIPE.compare), init) for init in ("scratch", "discriminator")
    )

    def margin(piece):
        mine = replace(options[number], updates=piece.training.updates)
        return 2.0 if piece.arm == "discriminator/real" and piece.training == mine else 1.0

    choice, asked = chosen_by(margin)
    for arm, training in choice.trainings.items():
        best = options[number if arm == "discriminator/real" else 0]
        assert replace(training, updates=1) == replace(best, updates=1)
    tried = {
        arm: {replace(p.training, updates=1) for p in asked if p.arm == arm and p.mixing in (None, base_mixing(RECIPE))}
        for arm in FACTORIAL
    }
    for arm, found in tried.items():
        expected = scratch if arm.startswith("scratch") else options
        assert found == {replace(option, updates=1) for option in expected} and len(found) == 4
    assert {option.backbone_rate for option in scratch} == {1.0} and options[3].backbone_rate < 1


@pytest.mark.parametrize("number", range(6))
def test_the_mixing_that_is_best_is_chosen_and_is_worth_it(number):
    mixes = mixing_candidates(base_mixing(RECIPE))
    choice, _ = chosen_by(lambda piece: 2.0 if piece.mixing == mixes[number] else 1.0)
    assert choice.mixing == mixes[number] and choice.worth_mixing is True


def test_none_wins_where_synthetic_images_hurt_or_do_nothing():
    choice, _ = chosen_by(lambda piece: 0.5 if piece.mixing else 1.0)
    assert choice.worth_mixing is False and choice.mixing == base_mixing(RECIPE)


def test_none_is_judged_with_the_training_that_suits_it_better():
    """That of the mixed arm, or the baseline's own: else a search would count for the synthetic images."""
    options = training_candidates(base_training(RECIPE.compare), "scratch")

    def margin(piece, best):
        return 2.0 if replace(piece.training, updates=1) == replace(options[best[piece.arm]], updates=1) else 1.0

    arms = (BASELINE, MIXED)
    same, _ = chosen_by(lambda piece: margin(piece, {BASELINE: 1, MIXED: 1}), arms=arms)
    assert same.trainings[MIXED].strength == 1.6 and same.worth_mixing is False
    other, _ = chosen_by(lambda piece: margin(piece, {BASELINE: 2, MIXED: 1}), arms=arms)
    assert other.trainings[BASELINE] != other.trainings[MIXED] and other.worth_mixing is False


def test_the_truncation_and_settings_of_the_user_are_the_default():
    recipe = load_recipe({"compare": {"synthetic_ratio": 1.0, "weight_decay": 0.5}, "synthesize": {"truncation": 0.8}})
    assert base_mixing(recipe).ratio == 1.0 and base_mixing(recipe).truncation == 0.8
    assert search.truncations(recipe) == (0.8, 0.7 * 0.8)
    candidates = training_candidates(base_training(recipe.compare), "scratch")
    assert candidates[0].weight_decay == 0.5 and max(c.weight_decay for c in candidates) <= 1
    assert len(set(candidates)) == 4 and len(set(mixing_candidates(base_mixing(recipe)))) == 6
    for field in ("strength", "learning_rate", "weight_decay", "label_smoothing", "cutmix"):
        assert len({getattr(candidate, field) for candidate in candidates}) > 1


def test_the_mixings_that_are_tried():
    base = Mixing(ratio=0.5, weight=0.4, real_only_share=0.6, truncation=0.8)
    assert mixing_candidates(base) == (
        base,
        replace(base, ratio=0.25),
        replace(base, ratio=1.0, weight=0.8),
        replace(base, weight=0.8),
        replace(base, truncation=0.7 * 0.8),
        replace(base, real_only_share=1.0),
    )
    assert mixing_candidates(replace(base, weight=0.7))[3].weight == 1.0


def test_the_updates_that_were_tried_are_those_of_the_baseline():
    choice, _ = chosen_by(flat)
    assert {candidate.step for candidate in choice.candidates} > {"updates"}
    tried = [candidate for candidate in choice.candidates if (candidate.step, candidate.arm) == ("updates", BASELINE)]
    assert updates_tried(choice) == [
        {"updates": each.setting["updates"], "balanced_accuracy": each.balanced_accuracy, "log_loss": each.log_loss}
        for each in tried
    ]
    assert 0 < len(tried) < sum(candidate.step == "updates" for candidate in choice.candidates)


def test_synthetic_images_are_seen_beside_the_real_ones():
    training, mixing = replace(base_training(RECIPE.compare), updates=100), replace(base_mixing(RECIPE), ratio=0.5)
    seen = [make_piece(arm, "split-0", "gan-0", 0, 0, training, mixing).num_images for arm in (BASELINE, MIXED)]
    assert seen == [100, 150]


def test_which_arms_are_judged():
    arms = (*FACTORIAL, "scratch/smote", "scratch/oversampled", "scratch/longer", "scratch/other-seeds")
    assert judged_arms(arms, tune=False, with_gans=True) == [BASELINE]
    assert judged_arms(arms, tune=True, with_gans=True) == [*FACTORIAL, "scratch/smote", "scratch/oversampled"]
    assert judged_arms(arms, tune=True, with_gans=False) == [BASELINE, "scratch/oversampled"]
    choice, _ = chosen_by(flat, arms=[BASELINE])
    assert {choice.training_of(arm) for arm in arms} == {choice.trainings[BASELINE]}


def test_the_baseline_is_tuned_where_it_is_judged_alone():
    options = training_candidates(base_training(RECIPE.compare), "scratch")
    asked = {}

    def train(step, pieces):
        asked.update({piece.name: piece for piece in pieces})
        margins = {
            p.name: 2.0 if p.training == replace(options[1], updates=p.training.updates) else 1.0 for p in pieces
        }
        return {p.name: Outcome(probabilities_of(margins[p.name], p.seed), np.empty((0, 3))) for p in pieces}

    choice = choose([BASELINE], True, FOLDS, fake_sources(), 800, train)
    assert choice.trainings[BASELINE] == replace(options[1], updates=800) and choice.worth_mixing is None
    assert len({replace(piece.training, updates=1) for piece in asked.values()}) == 4


def test_scores_are_those_of_scikit_learn_at_the_best_temperature():
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 3, 60), rng.integers(0, 3, 50)]
    logits = [3 * (np.eye(3)[labels] + 0.7 * rng.normal(size=(len(labels), 3))) for labels in truth]
    found = score(truth, [softmax(part, axis=1).astype(np.float32) for part in logits])
    labels, every = np.concatenate(truth), np.concatenate(logits)
    weights = 1 / np.bincount(labels)[labels]
    assert found.accuracy == pytest.approx(balanced_accuracy_score(labels, every.argmax(axis=1)))
    losses = [
        log_loss(labels, softmax(every / temperature, axis=1), sample_weight=weights)
        for temperature in np.exp(np.linspace(-3, 3, 601))
    ]
    assert found.loss == pytest.approx(min(losses), abs=1e-3)


def test_the_temperature_takes_confidence_out_of_the_score():
    truth = [np.arange(100) % 2]
    sure, unsure = probabilities_of(1.0), probabilities_of(1.0)
    logits = np.log(unsure / (1 - unsure))
    unsure = (1 / (1 + np.exp(-logits / 4))).astype(np.float32)
    assert score(truth, [unsure]).loss == pytest.approx(score(truth, [sure]).loss, rel=1e-3)


def made_score(losses, hits=None):
    losses = np.asarray(losses, float)
    return Score(losses, np.ones(len(losses)) if hits is None else hits, np.full(len(losses), 1 / len(losses)), 2)


def test_better_is_more_than_a_standard_error():
    noise = np.random.default_rng(0).normal(size=400)
    noise = (noise - noise.mean()) / noise.std()  # standard error .05
    base = made_score(np.ones(400))
    assert is_better(made_score(1 - 0.051 + noise), base) and not is_better(made_score(1 - 0.049 + noise), base)
    assert best_of([base, made_score(1 - 0.001 + noise), made_score(1 + noise)]) == 1
    assert best_of([base, base]) == 0
    assert not is_better(base, base)


def test_a_training_has_converged_unless_it_gains_what_counts_however_unsure():
    half = made_score(np.ones(400))
    assert not has_converged(half, made_score(np.full(400, 0.94)))  # 6 % less, without doubt
    assert has_converged(half, made_score(np.full(400, 0.96)))
    tiny = made_score(np.full(400, 0.1))  # of which a tenth is less than what counts in nats
    assert has_converged(tiny, made_score(np.full(400, 0.0901))) and not has_converged(
        tiny, made_score(np.full(400, 0.0899))
    )
    noise = np.random.default_rng(0).normal(size=400)
    noise = 4 * (noise - noise.mean()) / noise.std()  # standard error .2
    assert has_converged(half, made_score(0.96 + noise)) and not has_converged(half, made_score(0.94 + noise))
    hits = np.arange(400) % 10 > 0
    more = hits.copy()
    more[:30:10] = True  # three of four hundred
    assert not has_converged(made_score(np.ones(400), hits * 1.0), made_score(np.ones(400), more * 1.0))
    more[20] = False  # two: half a point
    assert has_converged(made_score(np.ones(400), hits * 1.0), made_score(np.ones(400), more * 1.0))


LABELS = np.arange(60) % 2


def test_folds_cover_every_image_once_and_keep_groups_and_classes():
    groups = [str(i // 4) for i in range(60)]
    folds = inner_folds(LABELS, groups, 3)
    assert len(folds) == 3
    assert sorted(np.concatenate([judged for _, judged in folds])) == list(range(60))
    for rows, judged in folds:
        assert set(rows) | set(judged) == set(range(60)) and not set(rows) & set(judged)
        assert not {groups[i] for i in rows} & {groups[i] for i in judged}
        assert set(LABELS[rows]) == set(LABELS[judged]) == {0, 1}


def test_few_images_make_fewer_folds_and_too_few_none():
    assert len(inner_folds(np.array([0, 0, 1, 1]), list("abcd"), 5)) == 2
    with pytest.raises(GanaugError, match=r"--set compare\.updates"):
        inner_folds(np.array([0, 0, 1]), ["a", "a", "b"], 3)
    with pytest.raises(GanaugError, match=r"--set compare\.updates"):  # every group is some class's only one
        inner_folds(np.array([0, 0, 1, 2]), ["a", "b", "a", "b"], 3)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=4, max_size=40),
    st.integers(2, 5),
)
def test_every_class_of_a_fold_is_trained_on(members, num_folds):
    """So that a GAN without the fold can make all classes."""
    labels = np.array([label for label, _ in members])
    groups = [str(group) for _, group in members]
    try:
        folds = inner_folds(labels, groups, num_folds)
    except GanaugError:
        return
    for rows, judged in folds:
        assert set(labels[rows]) == set(labels) and len(judged)
        assert not set(rows) & set(judged) and len(rows) + len(judged) == len(labels)
        assert not {groups[i] for i in rows} & {groups[i] for i in judged}
