"""Keeps discriminator and generator at the same pace: augmentation, the discriminator's rate and steps, and the push for
variety in each class follow what the discriminator tells apart."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

WINDOW = 8  # steps averaged for one decision: reading the device less often than that costs nothing
RATE = 1 / 500  # change of a strength for each step
MEMORY_RATE = 0.05  # of the moving average of what is memorized
PACE_FACTOR = 0.95  # change of the discriminator's pace for each decision
PACE_LIMITS = (0.25, 2.0)
AHEAD, BEHIND = 0.9, 0.55  # separations beyond which augmentation alone does not keep the pace
VARIETY = (0.85, 1.0)  # spread of a class's generated images, relative to real ones: full push below, none above
START = 0.3  # strength of the augmentation before anything was seen
SPREAD_RATE = 0.05  # of its moving averages


@dataclass
class Balance:
    """The controller's state: what was seen over the last decisions, and what follows from it."""

    strength: float = START  # probability with which each augmentation is applied
    pace: float = (
        1.0  # factor on the discriminator's learning rate; at its lower limit every second step is skipped, too
    )
    separation: float = 0.5  # P(D(real) > D(generated)): .5 when the discriminator cannot tell, 1 when it always can
    memorized: float = 0.5  # P(D(trained on) > D(held out)), a moving average: .5 when it cannot tell these
    variety: float = 1.0  # spread of D's features within groups of generated images, relative to real ones
    separation_sum: float | Tensor = 0.0  # of the steps since the last decision, left on the device
    variety_sum: float | Tensor = 0.0
    num_steps: int = 0

    def to_json(self) -> dict[str, float]:
        return {name: float(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, float]) -> "Balance":
        return cls(**{**values, "num_steps": int(values["num_steps"])})  # type: ignore[arg-type]

    def observe(self, separation: Tensor, variety: Tensor) -> bool:
        """Adds a step; True when it is time to decide."""
        self.separation_sum, self.variety_sum = self.separation_sum + separation, self.variety_sum + variety
        self.num_steps += 1
        return self.num_steps >= WINDOW


def decide(balance: Balance, memorized: Tensor | None, target: float, limits: tuple[float, float]) -> None:
    """A discriminator that memorizes gets stronger augmentation; one that is ahead all the same is slowed down.

    After ADA, Karras et al. (2020), section 3, https://arxiv.org/abs/2006.06676, whose r_v compares training with held-out
    images, too. Deviations: P(D(trained on) > D(held out)), which `memorized` is for this moment, needs no scale of the
    logits; `target` is its limit. And P(D(real) > D(generated)) above AHEAD is an alarm, too: nothing may be held out.
    """
    sums = torch.stack([torch.as_tensor(balance.separation_sum), torch.as_tensor(balance.variety_sum)]).tolist()
    balance.separation, balance.variety = (value / balance.num_steps for value in sums)
    balance.separation_sum, balance.variety_sum, balance.num_steps = 0.0, 0.0, 0
    if memorized is not None:
        balance.memorized += MEMORY_RATE * (float(memorized) - balance.memorized)
    change = RATE * WINDOW
    alarm = balance.separation > AHEAD or (memorized is not None and balance.memorized > target)
    balance.strength = min(limits[1], max(limits[0], balance.strength + (change if alarm else -change)))
    if balance.separation > AHEAD and balance.strength >= limits[1]:
        balance.pace = max(PACE_LIMITS[0], balance.pace * PACE_FACTOR)
    elif balance.separation < BEHIND and balance.strength <= limits[0]:
        balance.pace = min(PACE_LIMITS[1], balance.pace / PACE_FACTOR)
    else:
        balance.pace += (1 - PACE_FACTOR) * (1 - balance.pace)


def track_spreads(spreads: Tensor, real: Tensor, fake: Tensor, labels: Tensor) -> None:
    """Moves the averages (2, num_classes) of real and generated images' spread towards those (G,) of groups of one class
    each. All on the device."""
    for average, values in zip(spreads, (real, fake), strict=True):
        average.index_add_(0, labels, SPREAD_RATE * (values - average[labels]))


def variety_weights(spreads: Tensor) -> Tensor:
    """(num_classes,) in [0, 1]: how hard each class's images are pushed apart."""
    low, high = VARIETY
    ratio = spreads[1] / spreads[0].clamp_min(1e-6)
    return ((high - ratio) / (high - low)).clamp(0, 1)


def skips_discriminator(balance: Balance, step: int, penalty_interval: int) -> bool:
    """Whether the discriminator, slowed down as far as its rate allows, sits this step out; never one with a penalty."""
    return balance.pace <= PACE_LIMITS[0] and step % 2 == 1 and step % penalty_interval != 0


def describe(before: Balance, now: Balance) -> str:
    """One plain sentence for the log: who is ahead, and what has been done about it since `before`.

    >>> describe(Balance(strength=0.26), Balance(separation=0.92, strength=0.3))
    'discriminator ahead: 92 % separated; augmentation raised to .30'
    """
    if now.separation > AHEAD:
        who = "discriminator ahead"
    elif now.separation < BEHIND:
        who = "generator ahead"
    else:
        who = "in balance"
    did = [_moved("augmentation", before.strength, now.strength)]
    if abs(now.pace - 1) > 0.005:
        did.append(_moved("discriminator's pace", before.pace, now.pace))
    if now.memorized > 0.55:
        did.append(f"prefers its training images to held-out ones in {now.memorized:.0%} of pairs".replace("%", " %"))
    if now.variety < VARIETY[0]:
        did.append(f"too little variety ({now.variety:.2f} of the real)".replace("0.", "."))
    return f"{who}: {now.separation:.0%} separated; ".replace("%", " %") + "; ".join(did)


def _moved(what: str, before: float, now: float) -> str:
    verb = "raised to" if now > before + 0.005 else "lowered to" if now < before - 0.005 else "at"
    return f"{what} {verb} {now:.2f}".replace(" 0.", " .")
