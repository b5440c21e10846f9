"""What torch.compile does for a training step: its pace against the same step as it is written, and how long compiling takes.

    python recipes/benchmarks/compiled.py [--device cpu|cuda] [--threads 1] [--rounds 7]

ganaug's `train_step` with its default settings, penalties as they come, batches of 32, on random images of 32 px; on a GPU of 64 px, too.
The two take turns; the ratio is the median over the rounds, by the processor time of this process on a CPU, which other work disturbs
little, and by the clock on a GPU. Compiling is measured without the caches that an earlier time has left: the first steps of each kind,
less what they take afterwards. What a training of how many minutes would gain follows from both.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from records import Bar, keep_open, write_record

from ganaug.gan.member import build_state
from ganaug.gan.steps import TrainingData, train_step
from ganaug.gan.strategies import joint
from ganaug.settings import FitSettings

NUM_CLASSES, NUM_IMAGES, TIMES = 10, 512, 8  # a turn has one gradient penalty
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
WAYS = {
    "cpu": [(32, width, precision) for width in (16, 32) for precision in DTYPES],
    "cuda": [(side, width, "bf16") for side in (32, 64) for width in (32, 128)],
}  # image size, width, precision
Step = Callable[[], Any]


def step_of(side: int, width: int, precision: str, compiled: bool, device: torch.device) -> Step:
    settings = FitSettings(width=width, compile=compiled)
    rows = tuple(torch.arange(NUM_IMAGES).chunk(NUM_CLASSES))
    pixels = torch.randint(
        0, 256, (NUM_IMAGES, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    data = TrainingData(
        pixels.to(device),
        rows,
        tuple(range(NUM_CLASSES)),
        "none",
        (pixels[:64].to(device), torch.arange(64) % NUM_CLASSES),
    )
    shape = {
        "family": "noise",
        "class_counts": [len(part) for part in rows],
        "image_size": side,
        "channels": 3,
        "mirror": "none",
        "operations": list(settings.augment),
        "latent_size": settings.latent_size,
        "width": width,
    }
    state = build_state(shape, settings, joint(NUM_CLASSES)[0], device)
    return lambda: train_step(state, data, settings, min(1.0, 1e-3 * state.step), DTYPES[precision])


def seconds_of(step: Step, device: torch.device) -> tuple[float, float]:
    """Of one step of TIMES: what decides (see above), and by the clock."""
    used, begun = time.process_time(), time.perf_counter()
    for _ in range(TIMES):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    by_clock = (time.perf_counter() - begun) / TIMES
    return ((time.process_time() - used) / TIMES if device.type == "cpu" else by_clock), by_clock


def race(side: int, width: int, precision: str, device: torch.device, rounds: int) -> dict[str, Any]:
    torch._dynamo.reset()
    steps = [step_of(side, width, precision, compiled, device) for compiled in (False, True)]
    firsts = [seconds_of(step, device)[1] * TIMES for step in steps]
    pairs = np.array([[seconds_of(step, device) for step in steps] for _ in range(rounds)])  # (rounds, 2, 2)
    as_written, compiled = np.median(pairs[:, :, 0], axis=0)
    ratios = pairs[:, 1, 0] / pairs[:, 0, 0]
    return {
        "side": side,
        "width": width,
        "precision": precision,
        "as_written_ms": 1000 * as_written,
        "compiled_ms": 1000 * compiled,
        "ratio": float(np.median(ratios)),
        "ratios": sorted(ratios.tolist()),
        "compile_seconds": firsts[1] - TIMES * float(np.median(pairs[:, 1, 1])),
    }


def minutes_to_pay(values: dict[str, Any]) -> float | None:
    """Of a training after which compiling has paid; None if it never does."""
    saved = 1 - values["ratio"]
    return values["compile_seconds"] / saved / 60 if saved > 0 else None


def name_of(side: int, width: int, precision: str, device: str) -> str:
    return f"time of a compiled step over the same as it is written, {side} px, {width} wide, {precision}, {device}"


def still_open() -> list[Bar]:
    """What a GPU has to show."""
    return [Bar(f"{name_of(*way, 'cuda')} (open: needs a GPU)", None, "< 1", None) for way in WAYS["cuda"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch._inductor.config.force_disable_caches = True
    device = torch.device(arguments.device)
    found, bars = [], []
    for side, width, precision in WAYS[device.type]:
        values = race(side, width, precision, device, arguments.rounds)
        values["pays_after_minutes"] = minutes_to_pay(values)
        found.append(values)
        ratio = round(values["ratio"], 2)
        name = name_of(side, width, precision, device.type)
        bars.append(Bar(name, ratio, "< 1", ratio < 1))
        print(f"{name}: {ratio}, {values['compile_seconds']:.0f} s of compiling", flush=True)
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    measured = {"device": device_name, "threads": arguments.threads, "ways": found}
    if device.type == "cuda":
        write_record("compiled-cuda", bars, measured, seeds=[0])
        keep_open("compiled", [])  # which names them no longer
    else:
        write_record("compiled", bars + still_open(), measured, seeds=[0])


if __name__ == "__main__":
    main()
