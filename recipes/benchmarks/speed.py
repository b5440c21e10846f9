"""How fast a GAN trains: against the loops of others, and against the machine's own limit.

    python recipes/benchmarks/speed.py [--device cpu|cuda] [--threads 2] [--rounds 9] [--only-open]

Same networks, same batch, same random images; the loops take turns, and a ratio is the median over the rounds. The others' are
rewritten (loops.py): of PyTorch's DCGAN example (fp32, eager, the discriminator's real and generated batches one after the other), of
StudioGAN and of R3GAN. Ours is ganaug's `train_step` with its default settings: bf16 where the processor has it, channels_last, and all
that the example lacks: augmentation, gradient penalty, mode seeking, the average of the generator. Networks: the example's own at 64 px,
ours at 32 px. Images a second are real ones; every loop here updates each player once with a batch of them.

The limit: every convolution of a training step, forward and backward, is noted and run again alone, with the same shapes, layouts and
types; their time together, over the step's, is the share of a step that is arithmetic. On a GPU this counts launching them, too, so
there the gaps are measured as well: the part of a step in which no kernel runs, by torch's profiler.

Results: speed.json, or speed-cuda.json. As long as the latter is not there, the former names the GPU's bars as open, without a value;
--only-open writes these rows and measures nothing.
"""

import argparse
import copy
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from loops import LATENT, LOOPS, ExampleDiscriminator, ExampleGenerator, Step
from records import RESULTS, Bar, keep_open, write_record
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ganaug.devices import resolve_precision
from ganaug.gan.balance import START, Balance
from ganaug.gan.networks import Discriminator, Generator, Verdicts
from ganaug.gan.steps import TrainingData, TrainingState, train_step
from ganaug.settings import FitSettings

SIDES = {"example": 64, "ours": 32}  # pixels of the networks
NUM_CLASSES, NUM_IMAGES = 10, 512
SHARE_BAR = {"cpu": 0.5, "cuda": 0.4}
EXAMPLES_BAR = 2.5
GAPS_BAR, OTHERS_BAR = 0.05, 3.0  # on a GPU
OTHERS = ("StudioGAN", "R3GAN")
CONVOLUTIONS, GAPS = "convolutions alone, as a share of a step", "gaps without a kernel, as a share of a step"


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
    """Our discriminator as the others' loops ask it: one logit for images, here of classes that do not matter."""

    def __init__(self, network: Discriminator) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images, torch.zeros(len(images), dtype=torch.int64, device=images.device)).unconditional


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

    def step() -> None:
        train_step(state, data, settings, 1.0, dtype)
        if state.balance.pace < 1:  # random images are told apart, and after some 500 steps updates are skipped
            raise RuntimeError("fewer --rounds or --steps: the discriminator is slowed down by now")

    return step


def networks_of(name: str) -> tuple[nn.Module, nn.Module, nn.Module, int, int]:
    """(generator, discriminator as the others ask it, and as ganaug does, length of the noise, batch)."""
    torch.manual_seed(0)
    if name == "example":
        discriminator = ExampleDiscriminator()
        return ExampleGenerator(), discriminator, Judged(discriminator), LATENT, 64
    settings = FitSettings()
    side = SIDES[name]
    ours = Discriminator(NUM_CLASSES, side, 3, 32)
    generator = Generator(NUM_CLASSES, side, 3, settings.latent_size, 32)
    return generator, Plain(ours), ours, settings.latent_size, settings.images_per_step


def seconds_of(step: Step, times: int, device: torch.device) -> float:
    """Of one step."""
    begun = time.perf_counter()
    for _ in range(times):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / times


def race(name: str, device: torch.device, rounds: int, times: int, size: int | None) -> dict[str, Any]:
    """All loops in turns, on networks of their own; in batches of `size`, or of as many images as is usual for the networks."""
    steps: dict[str, Step] = {}
    side = SIDES[name]
    for whose in (*LOOPS, "ganaug"):
        generator, plain, judged, latent, usual = networks_of(name)
        batch = size or usual
        images = torch.randint(0, 256, (NUM_IMAGES, 3, side, side), dtype=torch.uint8, device=device)
        generator, player = generator.to(device), (judged if whose == "ganaug" else plain).to(device)
        steps[whose] = (
            our_step(generator, player, images, batch)
            if whose == "ganaug"
            else LOOPS[whose](generator, player, images, batch, latent)
        )
        with settled(whose):
            seconds_of(steps[whose], 3, device)
    taken = {whose: np.empty(rounds) for whose in steps}
    for turn in range(rounds):
        for whose, step in steps.items():
            with settled(whose):
                taken[whose][turn] = seconds_of(step, times, device)
    ours = taken["ganaug"]
    ratios = {whose: taken[whose] / ours for whose in LOOPS}
    arithmetic = share_of_arithmetic(steps["ganaug"], device, rounds, times)
    gaps = share_of_gaps(kernels(steps["ganaug"], device, times)) if device.type == "cuda" else None
    return {
        "batch": batch,
        "side": side,
        "images_per_second": {whose: batch / float(np.median(seconds)) for whose, seconds in taken.items()},
        "ratio": {whose: float(np.median(values)) for whose, values in ratios.items()},
        "ratios": {whose: sorted(values.tolist()) for whose, values in ratios.items()},
        **arithmetic,
        "share_of_gaps": gaps,
    }


def settled(whose: str) -> AbstractContextManager[None]:
    """The others let cuDNN look for its fastest algorithms, which costs repeatability; ours does not. TF32 is allowed to all."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=whose != "ganaug", deterministic=False, allow_tf32=True)


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


def named(name: str, side: int, device: str) -> str:
    return f"{'the example' + chr(39) + 's' if name == 'example' else 'our'} networks, {side} px, {device}"


def still_open() -> list[Bar]:
    """The bars of a GPU, as long as none has been measured."""
    if (RESULTS / "speed-cuda.json").is_file():
        return []
    reason, found = "(open: needs a GPU)", []
    for name, side in SIDES.items():
        where = named(name, side, "cuda")
        found += [
            Bar(f"{CONVOLUTIONS}, {where} {reason}", None, f">= {SHARE_BAR['cuda']}", None),
            Bar(f"{GAPS}, {where} {reason}", None, f"<= {GAPS_BAR}", None),
            *(
                Bar(f"images/s, {where}, against {whose}'s loop {reason}", None, f">= {OTHERS_BAR}", None)
                for whose in OTHERS
            ),
        ]
    return found


def set_bars(name: str, values: dict[str, Any], device: str) -> list[Bar]:
    """Of one pair of networks. On a CPU the loops of OTHERS are measured, too, but no bar was set for them."""
    where = named(name, values["side"], device)
    ratios = {whose: round(ratio, 2) for whose, ratio in values["ratio"].items()}
    share, least = round(values["arithmetic_share"], 3), SHARE_BAR[device]
    bars = [Bar(f"{CONVOLUTIONS}, {where}", share, f">= {least}", share >= least)]
    bars_of_loops = {"the example": EXAMPLES_BAR} if device == "cpu" else dict.fromkeys(OTHERS, OTHERS_BAR)
    bars += [
        Bar(f"images/s, {where}, against {whose}'s loop", ratios[whose], f">= {bar}", ratios[whose] >= bar)
        for whose, bar in bars_of_loops.items()
    ]
    if (gaps := values["share_of_gaps"]) is not None:
        bars.append(Bar(f"{GAPS}, {where}", round(gaps, 3), f"<= {GAPS_BAR}", gaps <= GAPS_BAR))
    return bars


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
        keep_open("speed", still_open())
        return
    if arguments.batch is not None and not (0 < arguments.batch <= NUM_IMAGES and arguments.batch % 4 == 0):
        parser.error(f"--batch is a multiple of 4 up to {NUM_IMAGES}, not {arguments.batch}")
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    found, bars = {}, []
    for name in SIDES:
        found[name] = race(name, device, arguments.rounds, arguments.steps, arguments.batch)
        bars += set_bars(name, found[name], device.type)
    if device.type == "cpu":
        write_record("speed", bars + still_open(), found, seeds=[0])
    else:
        write_record("speed-cuda", bars, found, seeds=[0])
        keep_open("speed", still_open())  # which names them no longer


if __name__ == "__main__":
    main()
