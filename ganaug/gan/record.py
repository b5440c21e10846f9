"""What a training leaves to look at: rows of metrics and sheets of samples, in files and, where that is wanted, on a board."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.images import Pixels, encode_png, image_grid, to_uint8
from ..runs import written_whole
from .board import Board
from .checkpoints import Logged
from .steps import TrainingData, TrainingState

SAMPLE_COLUMNS = 8


class Metrics:
    """The rows of metrics.csv, each the mean over the steps since the last; rows after a resumed step are dropped."""

    def __init__(self, path: Path, step: int, logged: Logged, board: Board) -> None:
        self.path, self.board = path, board
        self.rows: list[dict[str, float]] = []
        if path.is_file() and step > 0:
            self.rows = [
                {str(key): value for key, value in row.items()} for row in pd.read_csv(path).to_dict("records")
            ]
            self._forget_after(step)
        self.logged = logged

    def add(self, logged: dict[str, Tensor]) -> None:
        for name, value in logged.items():
            self.logged.setdefault(name, []).append(value)

    def close_row(self, state: TrainingState) -> dict[str, float]:
        means = {name: round(float(torch.stack(values).mean()), 5) for name, values in self.logged.items()}
        balance = state.balance
        row = {
            "step": state.step,
            "seconds": round(state.seconds, 1),
            **means,
            "memorized": round(balance.memorized, 4),
            "augment": round(balance.strength, 4),
            "discriminator_pace": round(balance.pace, 4),
        }
        self.rows.append(row)
        self.board.add_row("training", row)
        self.logged = {}
        return row

    def rewind(self, step: int) -> None:
        """Forgets what came after `step`."""
        self._forget_after(step)
        self.board.rewind(step)

    def _forget_after(self, step: int) -> None:
        self.rows = [row for row in self.rows if row["step"] <= step]
        self.logged = {}

    def save(self) -> None:
        self.board.flush()
        if self.rows:  # a training may be stopped before the first
            with written_whole(self.path) as temporary:
                pd.DataFrame(self.rows).to_csv(temporary, index=False)


@torch.no_grad()
def save_samples(path: Path, state: TrainingState, data: TrainingData) -> Pixels:
    """A sheet (H, W, C) of the averaged generator's images: a row for each class, the same noise at every step."""
    rng = torch.Generator().manual_seed(0)
    device = data.images.device
    rows = []
    for label in data.labels:
        noise = torch.randn(SAMPLE_COLUMNS, state.average.latent_size, generator=rng).to(device)
        rows.append(to_uint8(state.average(noise, torch.full((SAMPLE_COLUMNS,), label, device=device))).cpu().numpy())
    sheet = image_grid(np.stack(rows))
    with written_whole(path) as temporary:
        temporary.write_bytes(encode_png(sheet))
    return sheet
