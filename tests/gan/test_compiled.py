"""Compiled networks: the same training, few compilations, and a decision that is measured.

The networks are traced as for the compiler, but what comes of it runs as it is: that needs no C++ compiler and takes no minutes.
"""

import copy
import math
import pickle

import pytest
import torch
import yaml
from game import SETTINGS, make_data, make_state, with_changes
from small import with_settings

from ganaug.errors import GanaugError
from ganaug.gan import compiled
from ganaug.gan.compiled import LONG, settle_compile
from ganaug.gan.networks import local_means
from ganaug.gan.steps import frozen, train_step
from ganaug.gan.training import fit
from ganaug.recipe import keep_settled, load_recipe
from ganaug.settings import FitSettings

CPU, GPU = torch.device("cpu"), torch.device("cuda")
STEPS = 7  # of which three have penalties
PENALTIES = {"r2_weight": 0.1, "lecam_weight": 0.1, "consistency_weight": 0.1, "penalty_interval": 3}
GAMES = {"noise": PENALTIES | {"loss": "relativistic"}, "mixing": {"family": "mixing", "batch_size": 16}}


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Returns the list of the graphs that were compiled, which run as they are."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled, "BACKEND", backend)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield graphs
    torch._dynamo.reset()


def weights_of(state):
    networks = (state.generator, state.discriminator, state.average)
    return torch.cat([w.detach().flatten() for network in networks for w in network.parameters()])


def play(settings, steps=STEPS, state=None, dtype=torch.float32):
    images = torch.randint(0, 255, (6, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    data = make_data("both", held_out=(images, torch.tensor([0, 0, 1, 1, 0, 1])))
    state = state or make_state(settings, data=data)
    for step in range(steps):
        train_step(state, data, settings, step / steps, dtype)
    return state


@pytest.mark.parametrize("name", GAMES)
def test_a_compiled_training_is_the_same_training(name, monkeypatch):
    monkeypatch.setattr(
        compiled, "BACKEND", "aot_eager"
    )  # differentiates by itself, and only once, as the compiler does
    changes = GAMES[name]
    start = weights_of(make_state(with_changes(**changes)))
    as_written, by_compiler = (weights_of(play(with_changes(**changes, compile=value))) for value in (False, True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert (as_written - by_compiler).norm() < 0.01 * (as_written - start).norm()


def test_only_another_shape_is_compiled_for_anew(traced):
    settings, each = (
        with_changes(compile=True),
        3,
    )  # the generator; the discriminator for its own step and for the generator's
    state = play(settings)
    assert len(traced) == each
    state.batch_size //= 2
    play(settings, state=state)
    assert len(traced) == 2 * each
    play(settings, state=state)
    play(with_changes(compile=True, seed=1))  # another GAN of the run
    assert len(traced) == 2 * each


def test_weights_keep_their_names_and_copies_are_not_compiled(traced):
    state, plain = make_state(with_changes(compile=True)), make_state()
    assert list(state.discriminator.state_dict()) == list(plain.discriminator.state_dict())
    noise, labels = torch.randn(4, 4), torch.zeros(4, dtype=torch.int64)
    for generator in (copy.deepcopy(state.generator), pickle.loads(pickle.dumps(state.generator)), state.average):
        generator(noise, labels)
    assert not traced
    state.generator(noise, labels)
    assert traced


def test_detail_is_the_same_to_the_compiler():
    images = torch.rand(2, 3, 16, 16)
    found = torch.compile(local_means, backend="aot_eager")(images)
    assert torch.equal(found, local_means(images))


def test_what_was_frozen_before_stays_frozen():
    network = make_state().discriminator
    network.backbone.requires_grad_(False)
    before = [weight.requires_grad for weight in network.parameters()]
    with frozen(network):
        assert not any(weight.requires_grad for weight in network.parameters())
    assert [weight.requires_grad for weight in network.parameters()] == before and any(before)


def settle(settings, pace, pace_of_compiled, device=GPU, world=1):
    """The decision and what was measured for it."""
    measured = []

    def measure(settings):
        measured.append(settings.compile)
        found = pace_of_compiled if settings.compile else pace
        if isinstance(found, Exception):
            raise found
        return found

    return settle_compile(settings, device, world, measure), measured


def with_compile(value="auto", **changes):
    return SETTINGS.model_copy(update={"compile": value, **changes})


@pytest.fixture
def slow_compiler(monkeypatch):
    """Compiling takes 100 seconds."""
    clock = iter((0.0, 100.0))
    monkeypatch.setattr(compiled.time, "monotonic", lambda: next(clock))


@pytest.mark.parametrize(
    ("changes", "pace_of_compiled", "chosen"),
    [
        ({"budget": 3600.0}, 0.9, True),  # 360 of 3,600 seconds
        ({"budget": 3600.0}, 0.98, False),  # 72
        ({"budget": 36000.0}, 0.98, True),
        ({"steps": 3600}, 0.9, True),
        ({"steps": 3600}, 1.1, False),
        ({"steps": 3600}, math.inf, False),
    ],
)
def test_long_trainings_are_compiled_where_they_gain_more_than_it_takes(
    changes, pace_of_compiled, chosen, slow_compiler
):
    assert settle(with_compile(**changes), 1.0, pace_of_compiled) == (chosen, [False, True])


@pytest.mark.parametrize(
    ("settings", "device", "world"),
    [
        (with_compile(budget=LONG - 1.0), GPU, 1),
        (with_compile(steps=LONG - 1), GPU, 1),
        (with_compile(budget=1e6), CPU, 1),
        (with_compile(budget=1e6), GPU, 2),
        (with_compile(False, budget=1e6), GPU, 1),
    ],
)
def test_nothing_is_compiled_for_a_trial_that_cannot_pay(settings, device, world):
    decision, measured = settle(settings, 1.0, 0.1, device, world)
    assert decision is False and True not in measured


def test_what_the_memory_does_not_hold_is_not_tried():
    assert settle(with_compile(budget=3600.0), math.inf, 0.1) == (False, [False])


def test_a_compiler_that_fails_is_named_once(caplog):
    caplog.set_level("INFO", "ganaug")
    failure = RuntimeError("No working C++ compiler found\nand much more")
    assert settle(with_compile(budget=3600.0), 1.0, failure)[0] is False
    assert caplog.text.count("No working C++ compiler found") == 1
    with pytest.raises(GanaugError, match=r"fit.compile = true.*No working C\+\+ compiler found.*fit.compile=false"):
        settle(with_compile(True), 1.0, failure, CPU)


def test_other_failures_are_not_the_compilers():
    with pytest.raises(GanaugError, match=r"^another process does not answer$"):
        settle(with_compile(True), 1.0, GanaugError("another process does not answer"))


def test_a_run_keeps_what_was_settled(digits, tmp_path, traced):
    recipe = with_settings(fit={"steps": 4, "compile": True})
    run = fit(digits, tmp_path / "run", recipe=recipe)
    assert traced and yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["compile"] is True
    plain = fit(digits, tmp_path / "plain", recipe=with_settings(fit={"steps": 4}))
    assert yaml.safe_load((plain / "recipe.yaml").read_text())["fit"]["compile"] is False


@pytest.mark.parametrize("value", [True, False])
def test_what_goes_on_keeps_what_was_settled(value):
    stored = load_recipe({"fit": {"compile": value}})
    assert keep_settled(load_recipe({}), stored).fit.compile is value
    assert keep_settled(load_recipe({"fit": {"compile": not value}}), stored).fit.compile is not value


def test_a_broken_compiler_ends_a_fit_with_one_message(digits, tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise OSError("no such compiler")

    monkeypatch.setattr(compiled, "BACKEND", broken)
    with pytest.raises(GanaugError, match=r"fit\.compile = true"):
        fit(digits, tmp_path / "run", recipe=with_settings(fit={"steps": 4, "compile": True}))


@pytest.mark.parametrize("value", ["maybe", 3])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match="compile"):
        FitSettings(compile=value)
