"""Keeps discriminator and generator at the same pace: the augmentation's strength follows how well the one tells the other."""

from dataclasses import dataclass

from torch import Tensor

WINDOW = 8  # steps averaged for one decision: reading the device less often than that costs nothing
RATE = 1 / 500  # change of the strength for each step


@dataclass
class Balance:
    """The controller's state. `strength` is the probability with which each augmentation is applied."""

    strength: float = 0.3
    separation_sum: float | Tensor = 0.0  # left on the device until the decision
    num_steps: int = 0


def adapt(balance: Balance, separation: Tensor, target: float, limits: tuple[float, float]) -> None:
    """Moves the strength by RATE for each step, up while the discriminator separates more than `target`, else down.

    After ADA, Karras et al. (2020), section 3, https://arxiv.org/abs/2006.06676. Deviation: ADA's r_t = E[sign D(x)] assumes
    logits centred on zero, which swing by whole batches when sets are small; P(D(x) > D(G(z))) does not.
    """
    balance.separation_sum = balance.separation_sum + separation
    balance.num_steps += 1
    if balance.num_steps < WINDOW:
        return
    direction = 1 if float(balance.separation_sum) / WINDOW > target else -1
    balance.strength = min(limits[1], max(limits[0], balance.strength + direction * RATE * WINDOW))
    balance.separation_sum, balance.num_steps = 0.0, 0


def describe(separation: float, strength: float) -> str:
    """One plain sentence for the log: who is ahead, and how strong the augmentation is.

    >>> describe(0.92, 0.3)
    'discriminator ahead: 92 % separated; augmentation .30'
    """
    who = "discriminator ahead" if separation > 0.85 else "generator ahead" if separation < 0.55 else "in balance"
    return f"{who}: {separation:.0%} separated; augmentation {strength:.2f}".replace("%", " %").replace("0.", ".")
