"""Several processes that train one GAN, as torchrun starts them: who takes which part of a batch, and what they tell each other.

All draw the whole batch from the same random numbers, so that the data's order does not depend on how many they are; each computes
its groups of it. Gradients are averaged by hand after they are there, and not by DistributedDataParallel: the generator's
come from autograd.grad, which its hooks do not see, and one step runs the discriminator on four batches for two updates. Statistics
of batches are those of the whole batch. A process alone is a world of one, in which every function returns what it is given.

The first process leads: it alone reads and writes files, says lines, measures and decides; the others do what they are told
(following.py).
"""

import atexit
import io
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import GanaugError
from ..progress import LOGGER
from .networks import SPREAD_GROUP

# For a process that neither answers nor ends: the others wait while the first prepares the data.
PATIENCE = timedelta(minutes=30)


class Lost(GanaugError):
    """Another process does not answer any more."""


@dataclass(frozen=True)
class Part:
    """What of every batch is this process's: whole groups of SPREAD_GROUP images, every `world`-th of them from the `rank`-th on."""

    rank: int = 0
    world: int = 1

    def of(self, batch: Tensor) -> Tensor:
        """Its rows of a batch (N, ...)."""
        if self.world == 1:
            return batch
        groups = batch.reshape(-1, SPREAD_GROUP, *batch.shape[1:])
        return groups[self.rank :: self.world].flatten(0, 1)

    def size_of_whole(self, part: Tensor) -> int:
        """Rows of the batch of which `part` (n, ...) holds this process's."""
        return len(part) * self.world

    def find(self, rows: Tensor) -> tuple[Tensor | slice, Tensor]:
        """Of rows (n,) of a batch those that are its own, as an index into them, and where they lie in its part."""
        if self.world == 1:
            return slice(None), rows
        group = rows // SPREAD_GROUP
        mine = group % self.world == self.rank
        return mine, (group // self.world * SPREAD_GROUP + rows % SPREAD_GROUP)[mine]

    def whole(self, values: Tensor) -> Tensor:
        """Values (k, n) of its part -> (k, N) of the batch, alike in all processes."""
        if self.world == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.world)]
        with _listening():
            dist.all_gather(parts, values)
        return torch.stack([part.view(len(part), -1, SPREAD_GROUP) for part in parts], dim=2).flatten(1)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes."""
        if self.world == 1:
            return values
        values = values.clone()
        with _listening():
            dist.all_reduce(values)
        return values / self.world

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each by its mean over all processes, in one exchange."""
        if self.world == 1:
            return
        means = self.mean(torch.cat([tensor.flatten().float() for tensor in tensors]))
        for tensor, mean in zip(tensors, torch.split(means, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def tell(self, order: Any) -> None:
        """The first process's word to the others, who `hear` it: tensors, which arrive on the CPU, numbers, texts, types of tensors, and
        tuples, lists and dicts of these."""
        if self.world > 1:
            content = io.BytesIO()
            torch.save(order, content)
            data = torch.frombuffer(content.getbuffer(), dtype=torch.uint8)
            with _listening():
                dist.broadcast(torch.tensor([len(data)]), 0)
                dist.broadcast(data, 0)

    def hear(self) -> Any:
        """What the first process tells. Nothing in it is run as code."""
        size = torch.zeros(1, dtype=torch.int64)
        with _listening():
            dist.broadcast(size, 0)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, 0)
        return torch.load(io.BytesIO(data.numpy().tobytes()), map_location="cpu", weights_only=True)

    def device(self, name: str) -> str:
        """The device of this process, where the settings name one for all. Raises `GanaugError` where they name one GPU for several."""
        if self.world == 1 or name == "cpu" or not torch.cuda.is_available():
            return name
        if name not in ("auto", "cuda"):
            raise GanaugError(
                f"fit.device is {name}, but each of {self.world} processes needs a GPU of its own. Leave it auto, or give cpu."
            )
        return f"cuda:{_environment('LOCAL_RANK')}"

    def is_on_one_machine(self) -> bool:
        """Whether each of the processes can read the others' files."""
        return self.world == 1 or _environment("LOCAL_WORLD_SIZE") == self.world

    def cores(self, of_machine: int) -> int:
        """How many of the machine's cores are this process's, where others of the world run there, too."""
        return of_machine if self.world == 1 else max(1, of_machine // _environment("LOCAL_WORLD_SIZE"))


ALONE = Part()
_current: ContextVar[Part] = ContextVar("part", default=ALONE)


def current() -> Part:
    """This process's part in the training that it has `joined`; alone where it has joined none."""
    return _current.get()


@contextmanager
def planned() -> Iterator[Part]:
    """In the block, `current` is the part that this process would have once it had `joined`. Nothing is exchanged."""
    part = _launched_part()
    token = _current.set(part)
    try:
        yield part
    finally:
        _current.reset(token)


def leads() -> bool:
    """Whether this process is the first of its world, or alone."""
    return not _is_launched() or _environment("RANK") == 0


def restarted() -> bool:
    """Whether torchrun has started this process in place of one that failed."""
    return _is_launched() and _environment("TORCHELASTIC_RESTART_COUNT") > 0


def _is_launched() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched() and _environment("WORLD_SIZE") > 1


def _launched_part() -> Part:
    return Part(_environment("RANK"), _environment("WORLD_SIZE")) if _is_launched() else ALONE


def _environment(name: str) -> int:
    return int(os.environ.get(name, 0))


@contextmanager
def joined(how_to_go_on: Callable[[], str]) -> Iterator[Part]:
    """In the block, the processes that torchrun has started train together. When one of them fails, so do all, of which one alone
    says why: the one that failed or, where that was killed, whichever notices first, with a `GanaugError` that ends in
    `how_to_go_on()`. The others exit."""
    if not _is_launched():
        yield ALONE
        return
    from torch.distributed.distributed_c10d import PrefixStore  # which not every build of torch has
    from torch.distributed.rendezvous import rendezvous

    part = _launched_part()
    store: Any = None
    with ExitStack() as stack:
        stack.callback(LOGGER.setLevel, LOGGER.level)
        if part.rank > 0:
            LOGGER.setLevel(logging.ERROR)
        _leave_signals_to_the_first(part, stack)
        stack.callback(_current.reset, _current.set(part))
        try:
            with _listening():
                common = next(rendezvous("env://", timeout=PATIENCE))[0]  # torchrun's, which outlives what is restarted
                store = PrefixStore(f"ganaug/{_environment('TORCHELASTIC_RESTART_COUNT')}", common)
                nccl = torch.cuda.is_available() and dist.is_nccl_available()
                backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
                dist.init_process_group(backend, store=store, rank=part.rank, world_size=part.world, timeout=PATIENCE)
            stack.callback(dist.destroy_process_group)
            yield part
        except BaseException as error:
            first = _is_first_to_fail(store)
            if not isinstance(error, Lost):
                raise
            stack.pop_all()  # this process ends, and the SIGTERM that torchrun sends now must not come before its last line
            atexit.register(os._exit, 2)  # threads of the backend may still wait for the lost process
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if not first:
                raise SystemExit(2) from None
            raise Lost(
                f"{error} What was saved is kept; go on, in as many processes as you like, with: {how_to_go_on()}"
            ) from None


def _is_first_to_fail(store: Any) -> bool:
    with suppress(RuntimeError):
        if store is not None:
            return bool(store.add("failed", 1) == 1)
    return True


@contextmanager
def _listening() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # whatever the backend calls it
        if "out of memory" in str(error):
            raise
        raise Lost("another process of this training was killed, has failed or does not answer.") from None


def _leave_signals_to_the_first(part: Part, stack: ExitStack) -> None:
    """torchrun sends SIGTERM to all when one has failed or somebody wants them to end. The first process answers, and the others end
    with it."""
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int, frame: object) -> None:
        raise Lost("the training was ended by SIGTERM, as torchrun does when one of its processes fails.")

    answers: dict[int, Any] = {signal.SIGTERM: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN}
    if part.rank == 0:
        answers = {signal.SIGTERM: end} if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else {}
    for number, answer in answers.items():
        stack.callback(signal.signal, number, signal.signal(number, answer))


def share_norms(network: nn.Module, part: Part) -> None:
    """Has the network's batch norms see the whole batch, whose parts are in several processes."""
    if part.world == 1:
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, SharedNorm(child.num_features, part))


class SharedNorm(nn.BatchNorm2d):
    """Batch normalization without gain and bias, by the statistics of the whole batch. `nn.SyncBatchNorm` is for GPUs alone."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, part: Part) -> None:
        super().__init__(channels, affine=False)
        self.part = part

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        normalize: Callable[..., tuple[Tensor, Tensor, Tensor]] = _Normalized.apply
        out, mean, variance = normalize(features, self.running_mean, self.part, self.eps)
        count = self.part.size_of_whole(features) * features.shape[2] * features.shape[3]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.0)
            self.num_batches_tracked += 1
        return out


class _Normalized(torch.autograd.Function):
    """(x - mean) / std, where mean and variance, and so their gradients, are those of all processes' images, as many in each."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, near: Tensor, part: Part, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """`near` (C,), anything near the mean and alike in all processes, keeps the difference of squares exact."""
        variance, mean = torch.var_mean(features.float(), dim=(0, 2, 3), correction=0)
        shift = mean - near
        shift, square = part.mean(torch.stack([shift, variance + shift.square()]))
        mean, variance = near + shift, (square - shift.square()).clamp_min(0)
        out = F.batch_norm(features, mean, variance, eps=eps)
        ctx.save_for_backward(out, (variance + eps).rsqrt())
        ctx.part = part
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None, None]:
        out, scale = ctx.saved_tensors
        along = (gradient.float() * out.float()).mean(dim=(0, 2, 3))
        means = ctx.part.mean(torch.stack([gradient.float().mean(dim=(0, 2, 3)), along]))
        offset, along, scale = (value[:, None, None] for value in (*means, scale))
        return (scale * (gradient - offset - out * along)).to(gradient.dtype), None, None, None
