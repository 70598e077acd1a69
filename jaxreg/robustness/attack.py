"""The table of attacks: what tells one from another, and which settings cannot run."""

from collections.abc import Callable
from typing import NamedTuple

from jaxreg.robustness import fab, gradient, minimal, noise, square, strongest
from jaxreg.robustness.balls import NORMS, Norm
from jaxreg.robustness.losses import check_classes, number_of
from jaxreg.robustness.method import Method, Settings


class Attack(NamedTuple):
    """What tells one attack from another. `step_size` is in units of the radius; 0 `targets` means untargeted."""

    method: str
    loss: str = "ce"
    steps: int = 20
    step_size: float = 0.125
    random_start: bool = True
    restarts: int = 1
    targets: int = 0
    adaptive: bool = False  # APGD


_APGD = Attack("gradient", loss="ce", steps=100, step_size=2.0, adaptive=True)
ATTACKS: dict[str, Attack] = {
    "fgsm": Attack("gradient", steps=1, step_size=1.0, random_start=False),
    "bim": Attack("gradient", steps=10, step_size=0.1, random_start=False),
    "pgd_ce": Attack("gradient", loss="ce"),
    "pgd_margin": Attack("gradient", loss="margin"),
    "pgd_dlr": Attack("gradient", loss="dlr"),
    "apgd_ce": _APGD,
    "apgd_dlr": _APGD._replace(loss="dlr"),
    "apgd_t": _APGD._replace(loss="targeted_dlr", targets=9),
    "fab_t": Attack("fab", steps=100, random_start=False, targets=9),
    "square": Attack("square", loss="margin", steps=5000),
    "noise": Attack("noise", steps=20),
    "minimal": Attack("minimal", loss="margin", steps=100, random_start=False),
}
METHODS: dict[str, Callable[[Norm], Method]] = {
    "gradient": gradient.method,
    "fab": fab.method,
    "square": square.method,
    "noise": noise.method,
    "minimal": minimal.method,
    "strongest": strongest.method,  # of no attack in the table: it says nothing about which examples are robust
}


def check(attack: Attack, norm: str, classes: int) -> None:
    """Raises ValueError for settings that cannot run."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}.")
    if attack.steps < 1:
        raise ValueError(f"steps must be at least 1, got {attack.steps}.")
    if attack.restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {attack.restarts}.")
    if attack.step_size <= 0:
        raise ValueError(f"step_size must be above 0 radii, got {attack.step_size}.")
    if not 0 <= attack.targets < classes:
        raise ValueError(f"targets must be in [0, {classes}) for {classes} classes, got {attack.targets}.")
    number_of(attack.loss)
    check_classes(attack.loss, classes)
    aims = attack.method == "fab" or attack.loss.startswith("targeted")
    if aims and not attack.targets:
        what = "method 'fab'" if attack.method == "fab" else f"loss {attack.loss!r}"
        raise ValueError(f"the {what} needs targets, got 0: set targets to 1 or more (at most {classes - 1}).")


def settings_of(attack: Attack) -> Settings:
    """The numbers of an attack that are traced."""
    sizes = float(attack.step_size), float(attack.random_start), float(attack.adaptive)
    return Settings(number_of(attack.loss), attack.steps, *sizes)


def passes_of(attack: Attack) -> int:
    """Restarts times targets."""
    return attack.restarts * max(attack.targets, 1)


def evaluations_of(attack: Attack) -> int:
    """Points an attack looks at in one pass: its start and one after each step."""
    return attack.steps + 1


def named(attack: Attack | str) -> Attack:
    """An attack by its name in the table.

    Raises: ValueError: for an unknown name.
    """
    if isinstance(attack, Attack):
        return attack
    if attack not in ATTACKS:
        raise ValueError(f"Unknown attack {attack!r}; known: {sorted(ATTACKS)}.")
    return ATTACKS[attack]
