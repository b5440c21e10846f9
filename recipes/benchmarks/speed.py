"""How fast a GAN trains: against the loop of PyTorch's DCGAN example, and against the machine's own limit.

    python recipes/benchmarks/speed.py [--device cpu|cuda] [--threads 2] [--rounds 9] [--only-open]

Same networks, same batch, same random images; the two loops take turns, and the ratio is the median over the rounds. The example's loop
is rewritten here from its description (fp32, eager, the discriminator's real and generated batches one after the other). Ours is
ganaug's `train_step` with its default settings: bf16 where the processor has it, channels_last, and all that the example lacks:
augmentation, gradient penalty, mode seeking, the average of the generator. Networks: the example's own at 64 px, ours at 32 px.

The limit: every convolution of a training step, forward and backward, is noted and run again alone, with the same shapes, layouts and
types; their time together, over the step's, is the share of a step that is arithmetic. On a GPU this counts launching them, too, so
there the gaps are measured as well: the part of a step in which no kernel runs, by torch's profiler.

Results: speed.json, or speed-cuda.json. As long as the latter is not there, the former names the GPU's bars as open, without a value;
--only-open writes these rows and measures nothing. StudioGAN's and R3GAN's loops are not here, so that bar stays open on a GPU, too.
"""

import argparse
import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from records import RESULTS, Bar, keep_open, write_record
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ganaug.devices import resolve_precision
from ganaug.gan.balance import START, Balance
from ganaug.gan.networks import Discriminator, Generator, Verdicts
from ganaug.gan.steps import TrainingData, TrainingState, train_step
from ganaug.settings import FitSettings

LATENT, CHANNELS = 100, 64  # of the example
NUM_CLASSES, NUM_IMAGES = 10, 512
SHARE_BAR = {"cpu": 0.5, "cuda": 0.4}
GAPS_BAR, OTHERS_BAR = 0.05, 3.0  # on a GPU
CONVOLUTIONS, GAPS = "convolutions alone, as a share of a step", "gaps without a kernel, as a share of a step"
Step = Callable[[], Any]


class ExampleGenerator(nn.Module):
    """The example's generator of 64 px, which has no classes: Radford et al. (2016), https://arxiv.org/abs/1511.06434"""

    def __init__(self) -> None:
        super().__init__()
        sizes = [LATENT, *(CHANNELS * k for k in (8, 4, 2, 1))]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            stride, padding = (1, 0) if number == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(True),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(CHANNELS, 3, 4, 2, 1, bias=False), nn.Tanh())
        self.latent_size = LATENT

    def forward(self, noise: Tensor, labels: Tensor | None = None, conditioning: float = 1.0) -> Tensor:
        return self.layers(noise[:, :, None, None]).float()


class ExampleDiscriminator(nn.Module):
    """The example's discriminator of 64 px -> logits (N,)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [3, *(CHANNELS * k for k in (1, 2, 4, 8))]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(after)] if number else []
            layers += [nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(sizes[-1], 1, 4, 1, 0, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).float().flatten()


class Judged(nn.Module):
    """A discriminator of logits (N,) alone, as `train_step` asks it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("spread", torch.zeros(()))

    def forward(self, images: Tensor, labels: Tensor, grouped: bool = True) -> Verdicts:
        logits = self.network(images)
        nothing = torch.zeros(len(images), NUM_CLASSES, device=images.device)
        return Verdicts(logits, 0 * logits, nothing, torch.ones(len(images), 1, device=images.device))


class Plain(nn.Module):
    """Our discriminator as the example's loop asks it: one logit for images, here of classes that do not matter."""

    def __init__(self, network: Discriminator) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images, torch.zeros(len(images), dtype=torch.int64, device=images.device)).unconditional


def example_step(generator: nn.Module, discriminator: nn.Module, images: Tensor, batch: int, latent: int) -> Step:
    """The example's loop: fp32, eager; Adam of 2e-4 and (.5, .999)."""
    players = (discriminator, generator)
    optimizers = [torch.optim.Adam(player.parameters(), lr=2e-4, betas=(0.5, 0.999)) for player in players]
    pixels = images.float() / 127.5 - 1
    labels = torch.zeros(batch, dtype=torch.int64, device=images.device)
    one, zero = torch.ones(batch, device=images.device), torch.zeros(batch, device=images.device)
    order: Iterator[Tensor] = iter(())

    def step() -> float:
        nonlocal order
        rows = next(order, None)
        if rows is None:
            order = iter(torch.randperm(len(pixels)).split(batch))
            rows = next(order)
        discriminator.zero_grad()
        on_real = F.binary_cross_entropy_with_logits(discriminator(pixels[rows]), one)
        on_real.backward()
        fake = generator(torch.randn(batch, latent, device=images.device), labels)
        on_fake = F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zero)
        on_fake.backward()
        optimizers[0].step()
        generator.zero_grad()
        fooled = F.binary_cross_entropy_with_logits(discriminator(fake), one)
        fooled.backward()
        optimizers[1].step()
        return on_real.item() + on_fake.item() + fooled.item()  # the example prints them

    return step


def our_step(generator: nn.Module, discriminator: nn.Module, images: Tensor, batch: int) -> Step:
    """ganaug's, with its defaults."""
    device = images.device
    settings = FitSettings(batch_size=batch, width=32)
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=(0.0, settings.beta2), fused=True)
        for network in (generator, discriminator)
    ]
    state = TrainingState(
        generator=generator,  # type: ignore[arg-type]
        average=copy.deepcopy(generator).requires_grad_(False).eval(),  # type: ignore[arg-type]
        discriminator=discriminator,  # type: ignore[arg-type]
        generator_optimizer=optimizers[0],
        discriminator_optimizer=optimizers[1],
        rng=torch.Generator().manual_seed(0),
        batch_size=batch,
        balance=Balance(strength=START),
        anchors=torch.zeros(2, device=device),
        spreads=torch.tensor([[1.0], [0.0]], device=device).repeat(1, NUM_CLASSES),
        steps=10**6,
    )
    rows = tuple(part for part in torch.arange(len(images)).chunk(NUM_CLASSES))
    data = TrainingData(images, rows, tuple(range(NUM_CLASSES)), "none", None)
    dtype = resolve_precision("auto", device)
    return lambda: train_step(state, data, settings, 1.0, dtype)


def networks_of(name: str) -> tuple[nn.Module, nn.Module, nn.Module, int, int, int]:
    """(generator, discriminator as the example asks it, and as ganaug does, length of the noise, side in pixels, batch)."""
    torch.manual_seed(0)
    if name == "example":
        discriminator = ExampleDiscriminator()
        return ExampleGenerator(), discriminator, Judged(discriminator), LATENT, 64, 64
    settings = FitSettings()
    ours = Discriminator(NUM_CLASSES, 32, 3, 32)
    generator = Generator(NUM_CLASSES, 32, 3, settings.latent_size, 32)
    return generator, Plain(ours), ours, settings.latent_size, 32, settings.batch_size


def seconds_of(step: Step, times: int, device: torch.device) -> float:
    """Of one step."""
    begun = time.perf_counter()
    for _ in range(times):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / times


def race(name: str, device: torch.device, rounds: int, times: int, size: int | None) -> dict[str, Any]:
    """Both loops in turns, on networks of their own; in batches of `size`, or of as many images as is usual for them."""
    steps = []
    for ours in (False, True):
        generator, plain, judged, latent, side, usual = networks_of(name)
        batch = size or usual
        images = torch.randint(0, 256, (NUM_IMAGES, 3, side, side), dtype=torch.uint8, device=device)
        generator, player = generator.to(device), (judged if ours else plain).to(device)
        step = (
            our_step(generator, player, images, batch)
            if ours
            else example_step(generator, player, images, batch, latent)
        )
        seconds_of(step, 3, device)
        steps.append(step)
    pairs = np.array([[seconds_of(step, times, device) for step in steps] for _ in range(rounds)])
    arithmetic = share_of_arithmetic(steps[1], device, rounds, times)
    gaps = share_of_gaps(kernels(steps[1], device, times)) if device.type == "cuda" else None
    return {
        "batch": batch,
        "side": side,
        "example_images_per_second": batch / float(np.median(pairs[:, 0])),
        "ganaug_images_per_second": batch / float(np.median(pairs[:, 1])),
        "ratio": float(np.median(pairs[:, 0] / pairs[:, 1])),
        "ratios": sorted((pairs[:, 0] / pairs[:, 1]).tolist()),
        **arithmetic,
        "share_of_gaps": gaps,
    }


class Noted(TorchDispatchMode):
    """Notes every convolution that runs, forward and backward, by all that decides its cost."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward):
            self.calls[(func, tuple(describe(value) for value in args))] += 1
        return func(*args, **(kwargs or {}))


def describe(value: Any) -> Any:
    """Of a tensor its shape, strides, type and device; of a list a tuple."""
    if isinstance(value, Tensor):
        return ("tensor", tuple(value.shape), value.stride(), value.dtype, value.device)
    return tuple(value) if isinstance(value, list) else value


def rebuild(value: Any) -> Any:
    if isinstance(value, tuple) and value and value[0] == "tensor":
        _, shape, strides, dtype, device = value
        return torch.empty_strided(shape, strides, dtype=dtype, device=device).normal_()
    return list(value) if isinstance(value, tuple) else value


def share_of_arithmetic(step: Step, device: torch.device, rounds: int, times: int) -> dict[str, Any]:
    """Time of the convolutions of `times` steps alone, over that of the steps, in turns."""
    with Noted() as noted:
        for _ in range(times):
            step()
    calls = [(func, [rebuild(value) for value in args], count) for (func, args), count in noted.calls.items()]

    def alone() -> None:
        with torch.no_grad():
            for func, args, count in calls:
                for _ in range(count):
                    func(*args)

    seconds_of(alone, 1, device)
    pairs = np.array([[seconds_of(alone, 1, device) / times, seconds_of(step, times, device)] for _ in range(rounds)])
    return {
        "convolutions": sum(noted.calls.values()) / times,
        "arithmetic_share": float(np.median(pairs[:, 0] / pairs[:, 1])),
        "arithmetic_shares": sorted((pairs[:, 0] / pairs[:, 1]).tolist()),
    }


def kernels(step: Step, device: torch.device, times: int) -> list[tuple[float, float]]:
    """(start, end) in microseconds of every kernel of so many steps; on a CPU, which has none, of every operator."""
    kind = device.type.upper()
    with profile(activities=[getattr(ProfilerActivity, kind)]) as seen:
        seconds_of(step, times, device)
    return [
        (event.time_range.start, event.time_range.end)
        for event in seen.events() or ()
        if event.device_type.name == kind
        and not event.is_user_annotation  # such as a whole step of an optimizer
        and not event.name.startswith(("Memcpy", "Memset"))
    ]


def share_of_gaps(intervals: Sequence[tuple[float, float]]) -> float:
    """Of the time from the first start to the last end the part in which none of the intervals, which may overlap, is under way."""
    ordered = sorted(intervals)
    begun, until = ordered[0]
    gaps = 0.0
    for start, end in ordered:
        gaps += max(0.0, start - until)
        until = max(until, end)
    return gaps / (until - begun)


def still_open(device: str) -> list[Bar]:
    """The bars of a GPU that a measurement on this device leaves open."""
    if device == "cpu" and (RESULTS / "speed-cuda.json").is_file():
        return []
    found, reason = [], "its loop is not here"
    if device == "cpu":
        reason = "needs a GPU, and its loop, which is not here"
        for networks in ("the example's networks, 64 px, cuda", "our networks, 32 px, cuda"):
            for what, bar in ((CONVOLUTIONS, f">= {SHARE_BAR['cuda']}"), (GAPS, f"<= {GAPS_BAR}")):
                found.append(Bar(f"{what}, {networks} (open: needs a GPU)", None, bar, None))
    for other in ("StudioGAN", "R3GAN"):
        found.append(Bar(f"images/s, cuda, against {other}'s loop (open: {reason})", None, f">= {OTHERS_BAR}", None))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(SHARE_BAR), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=8, help="of a turn; a multiple of the penalty's interval")
    parser.add_argument(
        "--batch", type=int, help="images, a multiple of 4; without it as many as is usual for the networks"
    )
    parser.add_argument("--only-open", action="store_true", help="measure nothing, name in speed.json what is open")
    arguments = parser.parse_args()
    if arguments.only_open:
        keep_open("speed", still_open("cpu"))
        return
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    found, bars = {}, []
    least = SHARE_BAR[device.type]
    for name in ("example", "ours"):
        found[name] = values = race(name, device, arguments.rounds, arguments.steps, arguments.batch)
        where = f"{'the example' if name == 'example' else 'our'}'s networks, {values['side']} px, {device.type}"
        where = where.replace("our's", "our")
        ratio, share = round(values["ratio"], 2), round(values["arithmetic_share"], 3)
        bars.append(Bar(f"images/s, {where}, against the example's loop", ratio, ">= 2.5", ratio >= 2.5))
        bars.append(Bar(f"{CONVOLUTIONS}, {where}", share, f">= {least}", share >= least))
        if (gaps := values["share_of_gaps"]) is not None:
            bars.append(Bar(f"{GAPS}, {where}", round(gaps, 3), f"<= {GAPS_BAR}", gaps <= GAPS_BAR))
    bars += still_open(device.type)
    write_record("speed" if device.type == "cpu" else f"speed-{device.type}", bars, found, seeds=[0])
    if device.type == "cuda":
        keep_open("speed", still_open("cpu"))  # which names them no longer


if __name__ == "__main__":
    main()
