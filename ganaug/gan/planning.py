"""How many steps a run with a budget takes. Several of its members may be under way: the first that can tell decides for all, in a file."""

from ..errors import GanaugError
from ..runs import RunFolder, read_json, write_json
from ..sessions import LOCK, sole
from .strategies import Member, member_steps, total_steps


def planned_steps(folder: RunFolder, member: Member) -> int | None:
    """The member's, where that is settled already."""
    total = planned_total(folder)
    return total and member_steps(member, total)


def planned_total(folder: RunFolder) -> int | None:
    """The run's. Raises `GanaugError` for a damaged plan."""
    if not folder.plan.is_file():
        return None
    steps = read_json(folder.plan, keys=("steps",))["steps"]
    if type(steps) is not int or steps < 1:
        raise GanaugError(f"{folder.plan} is damaged: it has {str(steps)[:40]!r} for steps. Delete it.")
    return steps


def settle_plan(folder: RunFolder, member: Member, steps: int) -> int:
    """The member's steps: as many as it asks for, unless another one has asked before; all others follow."""
    with sole(folder.plan.with_name(f".plan{LOCK}"), folder.root):
        if not folder.plan.is_file():
            write_json(folder.plan, {"steps": total_steps(member, steps)})
    settled = planned_steps(folder, member)
    assert settled is not None
    return settled
