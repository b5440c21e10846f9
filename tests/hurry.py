"""A training of a few steps has nearly as many checkpoints, which tests measure on less than usual, here or in a process
of their own. The functions themselves are as they were: whoever imports them tests what users get."""

from pathlib import Path

import pytest

from ganaug.gan import convergence, forecast, judge, member, selftraining, symmetry, training, validation
from ganaug.synthesis import referees

PROGRAM = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import hurry; hurry.hurry(hurry.pytest.MonkeyPatch());"
    "from ganaug.cli import main; main()"
)


def with_other(function, module, **numbers):
    """The function, with other constants of its module while it runs."""

    def call(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in numbers.items():
                patch.setattr(module, name, value)
            return function(*arguments)

    return call


def hurry(patch):
    for stage in (training, forecast, symmetry, referees):
        patch.setattr(stage, "train_judge", with_other(judge.train_judge, judge, NUM_UPDATES=2))
    patch.setattr(training, "self_train", with_other(selftraining.self_train, selftraining, NUM_UPDATES=2))
    patch.setattr(member, "duality_gap", with_other(convergence.duality_gap, convergence, RIVAL_STEPS=1, NUM_JUDGED=1))
    patch.setattr(member, "validate", with_other(validation.validate, validation, IMAGES_PER_CLASS=4))
