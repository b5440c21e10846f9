"""One contract for every strategy."""

import pytest

from ganaug.gan.strategies import STRATEGIES, generating_member, length_of, makespan, member_steps, total_steps, waves
from ganaug.settings import FitSettings

CASES = [(name, num_classes) for name in STRATEGIES for num_classes in (1, 2, 3, 7, 10, 43)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_settings_accept_it(name):
    assert FitSettings(strategy=name).strategy == name


@pytest.mark.parametrize(("name", "num_classes"), CASES)
def test_members(name, num_classes):
    members = STRATEGIES[name](num_classes)
    assert sum(member.share for member in members) == pytest.approx(1)
    names = [member.name for member in members]
    assert len(set(names)) == len(names)
    for position, member in enumerate(members):
        assert member.classes and len(member.labels) == len(member.classes)
        assert all(0 <= k < num_classes for k in member.classes)
        assert all(0 <= label < member.num_classes for label in member.labels)
        assert len(set(member.labels)) == len(member.labels)
        assert member.parent is None or member.parent in names[:position]  # trained before
    parents = {member.name: member for member in members}
    for member in members:
        if member.parent is not None:  # its weights fit, and a class keeps the label that it had
            parent = parents[member.parent]
            known = dict(zip(parent.classes, parent.labels, strict=True))
            assert member.num_classes == parent.num_classes
            assert [known[k] for k in member.classes] == list(member.labels)


@pytest.mark.parametrize(("name", "num_classes"), CASES)
def test_every_class_has_a_generating_member_and_every_leaf_generates(name, num_classes):
    members = STRATEGIES[name](num_classes)
    generating = [generating_member(members, k) for k in range(num_classes)]
    assert all(k in member.classes for k, member in enumerate(generating))
    parents = {member.parent for member in members}
    assert {member.name for member in members} - parents <= {member.name for member in generating}


def test_the_most_specialised_member_generates():
    assert [generating_member(STRATEGIES["specialised"](3), k).name for k in range(3)] == [
        "class-0",
        "class-1",
        "class-2",
    ]
    assert {generating_member(STRATEGIES["joint"](3), k).name for k in range(3)} == {"joint"}


@pytest.mark.parametrize(("name", "num_classes"), CASES)
def test_steps_and_total_are_inverse(name, num_classes):
    """What a budget settles for the first member, and the total then written down, give that member the same steps again."""
    first = STRATEGIES[name](num_classes)[0]
    for steps in (1, 2, 3, 5, 17, 100, 999, 12345):
        assert member_steps(first, total_steps(first, steps)) == steps


@pytest.mark.parametrize(("name", "num_classes"), CASES)
def test_steps_add_up_to_the_total(name, num_classes):
    members = STRATEGIES[name](num_classes)
    steps = [member_steps(member, 5000) for member in members]
    assert min(steps) >= 1
    assert sum(steps) == pytest.approx(5000, abs=len(members) / 2)


@pytest.mark.parametrize(("name", "num_classes"), CASES)
def test_waves_hold_every_member_once_after_its_parent(name, num_classes):
    members, before = STRATEGIES[name](num_classes), {None}
    for group in waves(members):
        assert {member.parent for member in group} <= before
        before |= {member.name for member in group}
    assert sum(len(group) for group in waves(members)) == len(members) == len(before) - 1
    assert length_of(members, 1) == 1
    assert length_of(members, 1000) == pytest.approx(sum(group[0].share for group in waves(members)))


def test_how_long_several_at_a_time_take():
    assert makespan([[3.0], [1.0, 1.0, 2.0]], 2) == 6.0
    assert makespan([[3.0], [1.0, 1.0, 2.0]], 1) == 7.0
    assert length_of(STRATEGIES["per-class"](3), 2) == pytest.approx(2 / 3)
    assert length_of(STRATEGIES["specialised"](4), 2) == pytest.approx(0.8)
