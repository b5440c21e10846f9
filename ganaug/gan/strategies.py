"""How the classes are shared out among GANs. A strategy is a function from the number of classes to the members to train."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import GanaugError, suggest

TRUNK_SHARE = 0.6  # of the training, for the trunk of `specialised`


@dataclass(frozen=True)
class Member:
    """One GAN of a run."""

    name: str  # of its folder
    classes: tuple[int, ...]  # the data's classes that it is trained on
    num_classes: int  # that its networks tell apart
    labels: tuple[int, ...]  # the networks' label of each of `classes`
    share: float  # of the run's training steps
    parent: str | None = None  # the member whose networks it starts from

    def label_of(self, class_index: int) -> int:
        """The networks' label of one of the member's classes."""
        return self.labels[self.classes.index(class_index)]


def joint(num_classes: int) -> tuple[Member, ...]:
    """One conditional GAN over all classes."""
    everything = tuple(range(num_classes))
    return (Member("joint", everything, num_classes, everything, 1.0),)


def per_class(num_classes: int) -> tuple[Member, ...]:
    """One GAN for each class, which shares nothing with the others."""
    return tuple(Member(f"class-{k}", (k,), 1, (0,), 1 / num_classes) for k in range(num_classes))


def specialised(num_classes: int) -> tuple[Member, ...]:
    """A joint trunk, of which each class gets a copy trained on it alone, the first layers of the discriminator frozen:
    FreezeD, Mo et al. (2020), https://arxiv.org/abs/2002.10964"""
    everything = tuple(range(num_classes))
    share = (1 - TRUNK_SHARE) / num_classes
    trunk = Member("joint", everything, num_classes, everything, TRUNK_SHARE)
    return (trunk, *(Member(f"class-{k}", (k,), num_classes, (k,), share, parent="joint") for k in everything))


STRATEGIES: dict[str, Callable[[int], tuple[Member, ...]]] = {
    "joint": joint,
    "per-class": per_class,
    "specialised": specialised,
}


def members_of(strategy: str, num_classes: int) -> tuple[Member, ...]:
    """The members of a run of that strategy, in the order of their training. Raises `GanaugError` for one that there is not."""
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise GanaugError(
            f"the run's strategy {str(strategy)[:40]!r} is not known: {suggest(str(strategy), STRATEGIES)}"
        )
    return STRATEGIES[strategy](num_classes)


def waves(members: Sequence[Member]) -> list[tuple[Member, ...]]:
    """The members in groups, in the order of their training: those of a group need nothing but members of earlier ones."""
    found: list[tuple[Member, ...]] = []
    done: set[str | None] = {None}
    while ready := tuple(member for member in members if member.parent in done and member.name not in done):
        found.append(ready)
        done |= {member.name for member in ready}
    return found


def makespan(groups: Sequence[Sequence[float]], jobs: int) -> float:
    """How long the whole takes, `jobs` at a time, where the members of each group (of `waves`) take so long."""
    whole = 0.0
    for durations in groups:
        ends = [0.0] * jobs
        for duration in durations:
            heapq.heapreplace(ends, ends[0] + duration)
        whole += max(ends)
    return whole


def length_of(members: Sequence[Member], jobs: int) -> float:
    """How long the run takes, `jobs` members at a time, relative to one after another: up to 1."""
    return round(makespan([[member.share for member in group] for group in waves(members)], jobs), 9)


def member_steps(member: Member, total_steps: int) -> int:
    """The member's steps of a run of `total_steps`."""
    return max(1, round(member.share * total_steps))


def total_steps(member: Member, steps: int) -> int:
    """Steps of the run in which the member has so many: inverts `member_steps`."""
    total = round(steps / member.share)
    return next(candidate for candidate in (total, total + 1, total - 1) if member_steps(member, candidate) == steps)


def generating_member(members: tuple[Member, ...], class_index: int) -> Member:
    """The member that makes images of a class: the one most specialised to it, of equals the one trained last."""
    return min((m for m in reversed(members) if class_index in m.classes), key=lambda m: len(m.classes))
