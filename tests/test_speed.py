"""The benchmark of a training step, at a small size, the loops of others beside ours, and what it says of a GPU where there is none."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture
def speed(monkeypatch, tmp_path):
    """recipes/benchmarks/speed.py, which keeps its results elsewhere."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import records
    import speed

    for module in (records, speed):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    yield speed
    for name in ("speed", "loops", "records"):
        del sys.modules[name]


def run(speed, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
    speed.main()
    return json.loads((speed.RESULTS / "speed.json").read_text(encoding="utf-8"))


def test_it_measures_on_a_cpu_and_leaves_the_bars_of_a_gpu_open(speed, monkeypatch):
    record = run(speed, monkeypatch, "--threads", "1", "--rounds", "1", "--steps", "1", "--batch", "4")
    measured = [bar for bar in record["bars"] if bar["met"] is not None]
    left = [bar for bar in record["bars"] if bar["met"] is None]
    assert len(measured) == 4 and all(bar["value"] > 0 and " cpu" in bar["name"] for bar in measured)
    assert [bar["bar"] for bar in left] == [">= 0.4", "<= 0.05", ">= 3.0", ">= 3.0"] * 2
    assert all(bar["value"] is None and "cuda" in bar["name"] and "needs a GPU" in bar["name"] for bar in left)
    for values in record["measured"].values():
        assert values["batch"] == 4 and values["arithmetic_share"] > 0
        assert list(values["ratio"]) == ["the example", "StudioGAN", "R3GAN"] and min(values["ratio"].values()) > 0


def test_open_bars_are_put_in_without_changing_what_was_measured(speed, monkeypatch):
    kept = json.loads((BENCHMARKS / "results/speed.json").read_text(encoding="utf-8"))
    done = [bar for bar in kept["bars"] if bar["met"] is not None]
    before = kept | {"bars": [{"name": "of old", "value": None, "bar": "", "met": None}, *done]}
    (speed.RESULTS / "speed.json").write_text(json.dumps(before), encoding="utf-8")
    after = run(speed, monkeypatch, "--only-open")
    assert after == kept | {"bars": [*done, *after["bars"][len(done) :]]} and len(after["bars"]) == len(done) + 8
    assert run(speed, monkeypatch, "--only-open") == after
    (speed.RESULTS / "speed-cuda.json").touch()  # once a GPU has been measured, nothing is open here
    assert run(speed, monkeypatch, "--only-open")["bars"] == done


def test_a_gpus_bars_are_judged(speed):
    values = {"side": 32, "arithmetic_share": 0.45, "share_of_gaps": 0.06}
    values["ratio"] = {"the example": 2.6, "StudioGAN": 2.9, "R3GAN": 3.1}
    assert [bar.met for bar in speed.set_bars("ours", values, "cuda")] == [True, True, False, False, True]
    on_cpu = speed.set_bars("ours", values | {"share_of_gaps": None}, "cpu")
    assert [(bar.met, bar.bar) for bar in on_cpu] == [(True, ">= 2.5"), (False, ">= 0.5")]


@pytest.mark.parametrize("whose", ["the example", "StudioGAN", "R3GAN"])
@pytest.mark.parametrize("name", ["example", "ours"])
def test_the_loops_of_others_train_both_players(speed, whose, name):
    generator, plain, _, latent, _ = speed.networks_of(name)
    images = torch.randint(0, 256, (8, 3, speed.SIDES[name], speed.SIDES[name]), dtype=torch.uint8)
    before = [[weight.detach().clone() for weight in player.parameters()] for player in (generator, plain)]
    step = speed.LOOPS[whose](generator, plain, images, 4, latent)
    for _ in range(2):
        step()
    for player, weights in zip((generator, plain), before, strict=True):
        after = list(player.parameters())
        moved = [not torch.equal(new, old) for new, old in zip(after, weights, strict=True)]
        assert sum(moved) > len(moved) / 2 and all(torch.isfinite(weight).all() for weight in after)


class Nothing(nn.Module):
    """A generator of black images."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, noise, labels):
        return self.level * torch.ones(len(noise), 1, 4, 4)


class Linear(nn.Module):
    """A discriminator whose gradient by an image is its weights."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(-1, 1, 16))

    def forward(self, images):
        return (images.flatten(1) * self.weights).sum(dim=1)


def test_r3gan_penalizes_gradients_on_real_and_generated_images_in_every_step(speed, monkeypatch):
    import loops

    gradients = {}
    for gamma in (0.0, 0.5):
        monkeypatch.setattr(loops, "GAMMA", gamma)
        generator, discriminator = Nothing(), Linear()
        images = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        loops.r3gan_step(generator, discriminator, images, 4, 2)()
        gradients[gamma] = discriminator.weights.grad
    penalty = gradients[0.5] - gradients[0.0]  # of gamma / 2 times twice the sum of the squared weights
    torch.testing.assert_close(penalty, 2 * 0.5 * torch.linspace(-1, 1, 16), rtol=0.01, atol=0.01)


def test_an_average_follows_weights_and_takes_over_the_rest(speed):
    import loops

    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(5.0)
    loops.follow(average, network, 0.75)
    assert average.weight.tolist() == [1.5, 1.5] and average.running_mean.tolist() == [5.0, 5.0]


def test_images_of_a_loader_come_round_again(speed):
    import loops

    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    found = loops.loaded(images, 4)
    first, second, third = (next(found) for _ in range(3))
    assert first.flatten().tolist() == pytest.approx([number / 127.5 - 1 for number in range(4)])
    assert not torch.equal(first, second) and torch.equal(first, third)
    drawn = loops.batches_of(images, 4)
    rows = torch.cat([next(drawn) for _ in range(2)]).flatten().tolist()
    assert len(set(rows)) == 8


@pytest.mark.parametrize(
    ("intervals", "share"),
    [
        ([(10, 20)], 0.0),
        ([(0, 10), (15, 20)], 0.25),
        ([(15, 20), (0, 10)], 0.25),
        ([(0, 100), (10, 20), (30, 40)], 0.0),  # of another stream, inside
        ([(0, 6), (4, 8), (9, 10), (10, 12), (16, 20)], 0.25),
    ],
)
def test_gaps_are_where_nothing_runs(speed, intervals, share):
    assert speed.share_of_gaps(intervals) == pytest.approx(share)


def test_kernels_are_noted_with_their_times(speed):
    weights = torch.rand(64, 64)
    found = speed.kernels(lambda: weights @ weights, torch.device("cpu"), times=5)
    assert len(found) >= 5 and all(start <= end for start, end in found)
    assert 0 <= speed.share_of_gaps(found) < 1
