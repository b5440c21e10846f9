"""Keeps discriminator and generator at the same pace: augmentation, the discriminator's rate and steps, and the push for
variety follow what the discriminator tells apart."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

WINDOW = 8  # steps averaged for one decision: reading the device less often than that costs nothing
RATE = 1 / 500  # change of a strength for each step
PACE_FACTOR = 0.95  # change of the discriminator's pace for each decision
PACE_LIMITS = (0.25, 2.0)
AHEAD, BEHIND = 0.85, 0.55  # separations beyond which augmentation alone does not keep the pace
MEMORIZING = 0.75  # P(D(train) > D(held out)) above which the discriminator knows its images by heart


@dataclass
class Balance:
    """The controller's state: what was seen over the last decisions, and what follows from it."""

    strength: float = 0.3  # probability with which each augmentation is applied
    pace: float = (
        1.0  # factor on the discriminator's learning rate; at its lower limit every second step is skipped, too
    )
    variety_weight: float = 1.0  # factor on the weight of the mode-seeking term
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
    """The discriminator ahead: stronger augmentation, then a slower discriminator. Behind: the other way round.

    After ADA, Karras et al. (2020), section 3, https://arxiv.org/abs/2006.06676. Deviations: ADA's r_t = E[sign D(x)]
    assumes logits centred on zero, which swing by whole batches when sets are small, P(D(x) > D(G(z))) does not; and
    held-out images, where there are any, are an alarm beside it. `memorized` is P(D(trained on) > D(held out)) now.
    """
    sums = torch.stack([torch.as_tensor(balance.separation_sum), torch.as_tensor(balance.variety_sum)]).tolist()
    balance.separation, balance.variety = (value / balance.num_steps for value in sums)
    balance.separation_sum, balance.variety_sum, balance.num_steps = 0.0, 0.0, 0
    if memorized is not None:
        balance.memorized += 0.05 * (float(memorized) - balance.memorized)
    change = RATE * WINDOW
    ahead = balance.separation > target or balance.memorized > MEMORIZING
    if ahead or balance.pace >= 1:
        balance.strength = min(limits[1], max(limits[0], balance.strength + (change if ahead else -change)))
    if balance.separation > AHEAD and balance.strength >= limits[1]:
        balance.pace = max(PACE_LIMITS[0], balance.pace * PACE_FACTOR)
    elif balance.separation < BEHIND and balance.strength <= limits[0]:
        balance.pace = min(PACE_LIMITS[1], balance.pace / PACE_FACTOR)
    elif BEHIND < balance.separation < target:
        balance.pace += (1 - PACE_FACTOR) * (1 - balance.pace)
    wanted = change if balance.variety < 1 else -change
    balance.variety_weight = min(1.0, max(0.0, balance.variety_weight + wanted))


def skips_discriminator(balance: Balance, step: int) -> bool:
    """Whether the discriminator, slowed down as far as its rate allows, sits this step out."""
    return balance.pace <= PACE_LIMITS[0] and step % 2 == 1


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
    if now.pace != 1:
        did.append(_moved("discriminator's pace", before.pace, now.pace))
    if now.memorized > MEMORIZING:
        did.append(f"it knows its training images by heart ({now.memorized:.0%})".replace("%", " %"))
    if now.variety < 0.8:
        did.append(f"too little variety ({now.variety:.2f} of the real)".replace("0.", "."))
    return f"{who}: {now.separation:.0%} separated; ".replace("%", " %") + "; ".join(did)


def _moved(what: str, before: float, now: float) -> str:
    verb = "raised to" if now > before + 0.005 else "lowered to" if now < before - 0.005 else "at"
    return f"{what} {verb} {now:.2f}".replace(" 0.", " .")
