"""How much faster two processes train a GAN than one, with the same batch, on two cores; and how near their networks stay.

    python recipes/benchmarks/ranks.py [--steps 40] [--rounds 5]

One process with one thread, one with two, and two with one each take turns, a round of steps at a time, so that other work on the
machine hits all alike; the median of the rounds' ratios counts. Processor seconds of a step, which other work hardly changes, are told
beside. The clock decides, and its bars are left open where the machine is busy.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from records import REPOSITORY, Bar, write_record

from ganaug.gan.member import build_state, network_shape
from ganaug.gan.ranks import Part, joined
from ganaug.gan.steps import TrainingData, TrainingState, train_step
from ganaug.gan.strategies import joint
from ganaug.settings import FitSettings

CASES = {"16 wide, batch 32": (16, 32), "32 wide, batch 32": (32, 32), "32 wide, batch 128": (32, 128)}
NUM_CLASSES, PER_CLASS, SIZE = 10, 50, 32
FASTER, NEAR, IDLE = 1.3, 1e-2, 0.5
NUM_EQUAL, WARM_UP = 4, 4
WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes": (2, 1)}


def make_state(width: int, batch_size: int, part: Part) -> tuple[TrainingState, TrainingData, FitSettings]:
    """Images of noise will do: what they show costs nothing."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (NUM_CLASSES * PER_CLASS, 3, SIZE, SIZE), dtype=torch.uint8, generator=rng)
    rows = tuple(torch.arange(PER_CLASS) + PER_CLASS * k for k in range(NUM_CLASSES))
    data = TrainingData(images, rows, tuple(range(NUM_CLASSES)), "none")
    settings = FitSettings(width=width, batch_size=batch_size, precision="fp32", device="cpu")
    (member,) = joint(NUM_CLASSES)
    return (
        build_state(network_shape(data, member, settings), settings, member, torch.device("cpu"), part),
        data,
        settings,
    )


def take_steps(number: int, state: TrainingState, data: TrainingData, settings: FitSettings) -> dict[str, float]:
    """Seconds of a step by the clock and by the processor."""
    begun, busy = time.monotonic(), time.process_time()
    for _ in range(number):
        train_step(state, data, settings, 1.0, torch.float32)
    return {"clock": (time.monotonic() - begun) / number, "processor": (time.process_time() - busy) / number}


def measure(width: int, batch_size: int, threads: int, steps: int) -> None:
    """In a process of its own, or two: prints what a round took, and a few weights after the first steps."""
    torch.set_num_threads(threads)
    with joined(lambda: "") as part:
        game = make_state(width, batch_size, part)
        take_steps(NUM_EQUAL, *game)
        weights = torch.cat([weight.flatten() for weight in game[0].discriminator.parameters()])[::997].tolist()
        take_steps(WARM_UP, *game)
        part.mean(torch.zeros(1))  # all begin together
        found = {"seconds": take_steps(steps, *game), "weights": weights}
        if part.rank == 0:
            print(json.dumps(found))


def start(way: str, case: str, steps: int) -> dict[str, Any]:
    (world, threads), (width, batch_size) = WAYS[way], CASES[case]
    command = [str(Path(__file__).resolve()), "--measure", str(width), str(batch_size), str(threads), str(steps)]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    place = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, *launch, *command], capture_output=True, text=True, check=True, cwd=REPOSITORY, env=place
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=int, nargs=4, metavar="N", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    load = os.getloadavg()[0]
    idle = load < IDLE
    bars, measured = [], {"load at the start": round(load, 2), "steps of a round": arguments.steps}
    for case in CASES:
        rounds = [{way: start(way, case, arguments.steps) for way in WAYS} for _ in range(arguments.rounds)]
        measured[case] = {
            way: {
                kind: [round(1000 * each[way]["seconds"][kind], 1) for each in rounds]
                for kind in ("clock", "processor")
            }
            for way in WAYS
        }
        alone, _, two = WAYS
        ratio = statistics.median(r[alone]["seconds"]["clock"] / r[two]["seconds"]["clock"] for r in rounds)
        faster = ratio >= FASTER if idle else None
        bars.append(Bar(f"{case}: steps a second, two processes against one", round(ratio, 2), f">= {FASTER}", faster))
        apart = max(abs(a - b) for a, b in zip(rounds[0][alone]["weights"], rounds[0][two]["weights"], strict=True))
        bars.append(
            Bar(f"{case}: weights apart after {NUM_EQUAL} steps, at most", round(apart, 6), f"<= {NEAR}", apart <= NEAR)
        )
    write_record("ranks", bars, measured | {"unit": "milliseconds a step"}, seeds=[0])


if __name__ == "__main__":
    main()
