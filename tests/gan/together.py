"""Games that are played by one process or by several, and how these are started.

As a program, one of several processes: python together.py FOLDER plays all games and writes what came of them to FOLDER.
As a program of torchrun: together.py FOLDER fit ... is the command, whose second process is killed once, in its third step.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))

from game import make_data, make_state, with_changes
from hurry import hurry, pytest

from ganaug.gan import following, member, settling, training
from ganaug.gan.checkpoints import capture
from ganaug.gan.convergence import duality_gap
from ganaug.gan.ranks import joined, share_norms
from ganaug.gan.steps import train_step

STEPS, KILLED_IN = 10, 3  # more steps than the controller of the balance waits for
PENALTIES = {"r1_weight": 0.1, "r2_weight": 0.1, "lecam_weight": 0.1, "consistency_weight": 0.1, "penalty_interval": 3}
GAMES = {
    "plain": with_changes(),
    "penalties": with_changes(batch_size=16, **PENALTIES),
    "relativistic": with_changes(batch_size=24, loss="relativistic", **PENALTIES),
    "mixing": with_changes(batch_size=32, family="mixing"),
}


def play(settings, part, dtype=torch.float32):
    """What a few steps leave: everything in a checkpoint, what they told, and the duality gap."""
    images = torch.randint(0, 255, (6, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    data = make_data("both", held_out=(images, torch.tensor([0, 0, 1, 1, 0, 1])))
    state = make_state(settings, data=data)
    state.part = part
    share_norms(state.generator, part)
    told = [train_step(state, data, settings, step / STEPS, dtype) for step in range(STEPS)]
    rows = [{name: float(value) for name, value in row.items()} for row in told]
    return {"state": capture(state), "told": rows, "gap": duality_gap(state, data, settings, dtype)}


def play_together(folder, world=2):
    """{game: what came of it in each process}."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "TORCHELASTIC_RUN_ID": "test",
    }
    command = [sys.executable, __file__, str(folder)]
    started = [
        subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(world)
    ]
    assert [process.wait(timeout=240) for process in started] == [0] * world
    return {name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(world)] for name in GAMES}


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    if sys.argv[2:]:
        run_command(folder / "killed", sys.argv[2:])
        return
    with joined(lambda: "") as part:
        for name, settings in GAMES.items():
            torch.save(play(settings, part), folder / f"{name}-{part.rank}.pt")


def run_command(marker, arguments):
    from interruptions import take_four_checkpoints

    from ganaug.__main__ import run as command

    patch = pytest.MonkeyPatch()
    hurry(patch)
    patch.setattr(following, "duality_gap", member.duality_gap)  # of as many steps in all processes
    take_four_checkpoints(patch)
    for module in (settling, training):
        patch.setattr(module, "num_cores", lambda: 1)
    steps = []

    def step(*given):
        steps.append(given)
        if len(steps) == KILLED_IN and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(*given)

    patch.setattr(following, "train_step", step)
    sys.argv = ["ganaug", *arguments]
    command()


if __name__ == "__main__":
    main()
