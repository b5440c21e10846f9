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
        assert list(values["ratio"]) == ["the example", "StudioGAN", "R3GAN"]
        assert values["images_per_second"].keys() == {*values["ratio"], "ganaug"}


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
    on_gpu, on_cpu = (
        speed.set_bars("ours", values, "cuda"),
        speed.set_bars("ours", values | {"share_of_gaps": None}, "cpu"),
    )
    assert [(bar.met, bar.bar) for bar in on_gpu] == [
        (True, ">= 0.4"),
        (False, ">= 3.0"),
        (True, ">= 3.0"),
        (False, "<= 0.05"),
    ]
    assert [(bar.met, bar.bar) for bar in on_cpu] == [(False, ">= 0.5"), (True, ">= 2.5")]
    left = {bar.name.removesuffix(" (open: needs a GPU)"): bar.bar for bar in speed.still_open()}
    assert {bar.name: bar.bar for bar in on_gpu}.items() <= left.items()


@pytest.mark.parametrize("batch", ["6", "1024", "0"])
def test_a_batch_that_the_images_do_not_give_is_refused(speed, monkeypatch, capsys, batch):
    with pytest.raises(SystemExit):
        run(speed, monkeypatch, "--batch", batch)
    assert "multiple of 4 up to 512" in capsys.readouterr().err


def test_cudnn_searches_for_the_others_alone(speed):
    flags = torch.backends.cudnn
    before = flags.benchmark
    for whose, searches in (("ganaug", False), ("R3GAN", True)):
        with speed.settled(whose):
            assert (flags.enabled, flags.benchmark, flags.deterministic) == (True, searches, False)
    assert flags.benchmark == before


LOOPS = ("the example", "StudioGAN", "R3GAN")


@pytest.mark.parametrize("whose", LOOPS)
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


class Painter(nn.Module):
    """A generator of images of one level. Notes of each call whether it learned and at which precision, and the noise."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.calls, self.noise = [], []

    def forward(self, noise, labels):
        self.calls.append((self.level.requires_grad, torch.is_autocast_enabled("cpu")))
        self.noise.append(noise)
        return self.level * torch.ones(len(noise), 1, 4, 4)


class Linear(nn.Module):
    """A discriminator whose gradient by an image is its weights. Notes the same, and the images."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.full((16,), 0.05))
        self.calls, self.images = [], []

    def forward(self, images):
        self.calls.append((self.weights.requires_grad, torch.is_autocast_enabled("cpu")))
        self.images.append(images.detach())
        return (images.flatten(1) * self.weights).sum(dim=1)


def play(speed, whose, images, steps=1):
    generator, discriminator = Painter(), Linear()
    step = speed.LOOPS[whose](generator, discriminator, images, 4, 2)
    for _ in range(steps):
        step()
    return generator, discriminator


@pytest.mark.parametrize("whose", LOOPS)
def test_players_pull_in_opposite_directions(speed, whose):
    white = torch.full((8, 1, 4, 4), 255, dtype=torch.uint8)
    generator, discriminator = play(speed, whose, white, steps=3)
    assert (discriminator.weights > 0.05).all()  # real images are whiter
    assert generator.level > 0  # and what it makes comes to be


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_who_learns_when_and_at_which_precision(speed, precision, monkeypatch):
    import loops

    monkeypatch.setattr(loops, "resolve_precision", lambda name, device: precision)
    followed = []
    monkeypatch.setattr(loops, "follow", lambda average, network, decay: followed.append((average is network, decay)))
    images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 4, 4).contiguous()
    mixed = precision == torch.bfloat16
    generator, discriminator = play(speed, "StudioGAN", images)
    assert generator.calls == [(False, mixed), (True, mixed)] and not torch.equal(*generator.noise)
    assert discriminator.calls == [(True, mixed), (True, mixed), (False, mixed)]
    generator, discriminator = play(speed, "R3GAN", images)
    assert generator.calls == [(False, mixed), (True, mixed)] and not torch.equal(*generator.noise)
    assert discriminator.calls == [(True, mixed), (True, mixed), (False, mixed), (False, mixed)]
    assert not torch.equal(discriminator.images[0], discriminator.images[2])  # other real images for the generator
    assert followed == [(False, 0.9999), (False, 0.999)]
    generator, discriminator = play(speed, "the example", images)
    assert generator.calls == [(True, False)] and discriminator.calls == [(True, False)] * 3 and len(followed) == 2


def test_r3gan_penalizes_gradients_on_real_and_generated_images_in_every_step(speed, monkeypatch):
    import loops

    images = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2):
        gradients = {}
        for gamma in (0.0, 0.5):
            monkeypatch.setattr(loops, "GAMMA", gamma)
            monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
            gradients[gamma] = play(speed, "R3GAN", images, steps)[1].weights.grad
        penalty = gradients[0.5] - gradients[0.0]  # of gamma / 2 times twice the sum of the squared weights
        torch.testing.assert_close(penalty, torch.full((16,), 2 * 0.5 * 0.05), rtol=0.01, atol=0.01)


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
