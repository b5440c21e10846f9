"""The arms of a study. Two arms differ in nothing but what their names say."""

from dataclasses import dataclass
from typing import Literal

Init = Literal["scratch", "discriminator"]


@dataclass(frozen=True)
class Arm:
    """One way to train the classifier."""

    init: Init  # where the backbone's weights come from
    synthetic: bool  # whether synthetic images stand beside the real ones


ARMS: dict[str, Arm] = {
    "scratch/real": Arm("scratch", synthetic=False),
    "scratch/real+synthetic": Arm("scratch", synthetic=True),
    "discriminator/real": Arm("discriminator", synthetic=False),
    "discriminator/real+synthetic": Arm("discriminator", synthetic=True),
}

BASELINE = "scratch/real"

# (arm, baseline): the first is the question that the verdict answers, decided before any result is seen
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("scratch/real+synthetic", "scratch/real"),
    ("discriminator/real", "scratch/real"),
    ("discriminator/real+synthetic", "discriminator/real"),
    ("discriminator/real+synthetic", "scratch/real"),
)
