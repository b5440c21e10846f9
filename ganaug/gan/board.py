"""A training's curves and samples as TensorBoard events, for who has asked for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.images import Pixels
from ..errors import GanaugError

FLUSH_SECONDS = 10  # after which TensorBoard may see what was written


class Board:
    """The events of one member in the folder `path`, from `step` on: later ones, of a process that was stopped after its last
    saved state, are purged. Writes nothing and imports nothing unless it is `wanted`."""

    def __init__(self, path: Path, step: int, wanted: bool) -> None:
        self.writer = load_writer()(str(path), purge_step=step + 1, flush_secs=FLUSH_SECONDS) if wanted else None

    def add_row(self, group: str, row: Mapping[str, float]) -> None:
        """The numbers of a row, each as the curve `group/name`, at its `step`."""
        if self.writer is not None:
            for name, value in row.items():
                if name != "step":
                    self.writer.add_scalar(f"{group}/{name}", value, int(row["step"]))

    def add_samples(self, sheet: Pixels, step: int) -> None:
        """A sheet (H, W, C)."""
        if self.writer is not None:
            self.writer.add_image("samples", sheet, step, dataformats="HWC")

    def rewind(self, step: int) -> None:
        """Purges what came after `step`, as a restart there would."""
        if self.writer is not None:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog

            start = Event(step=step + 1, session_log=SessionLog(status=SessionLog.START))
            self.writer._get_file_writer().add_event(start)

    def flush(self) -> None:
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def load_writer() -> Any:
    """torch's SummaryWriter. Raises `GanaugError` where the package that it needs is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise GanaugError(
            "fit.tensorboard needs TensorBoard: pip install 'ganaug[tensorboard]'; or leave it out."
        ) from None
    return SummaryWriter
