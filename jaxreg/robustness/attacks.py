"""The table of attacks: what tells one from another, and which settings cannot run."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxreg.checks import check_count
from jaxreg.robustness import control_methods, fab, gradient, minimal, square
from jaxreg.robustness.balls import NORMS, Norm
from jaxreg.robustness.losses import CLASSES, check_classes, number_of
from jaxreg.robustness.method import AttackNumbers, Method


class Attack(NamedTuple):
    """What tells one attack from another. `step_size` is in units of the radius; 0 `targets` means untargeted.

    `reach`, in a cascade over trials: an example whose nearest known adversary lies beyond `reach` radii is left out.
    """

    method: str
    loss: str = "ce"
    steps: int = 20
    step_size: float = 0.125
    random_start: bool = True
    restarts: int = 1
    targets: int = 0
    adaptive: bool = False  # APGD
    highest: bool = False  # no attack, but what it is measured by: the point of the highest loss, fooled or not
    reach: float = math.inf


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
    "noise": control_methods.noise,
    "minimal": minimal.method,
}


def check(attack: Attack, norm: str, classes: int) -> None:
    """Raises ValueError for settings that cannot run."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}.")
    for name, least in {"steps": 1, "restarts": 1, "targets": 0}.items():
        check_count(name, getattr(attack, name), least)
    if attack.method not in METHODS:
        raise ValueError(f"Unknown method {attack.method!r}; known: {sorted(METHODS)}.")
    if not 0 < attack.step_size < math.inf:
        raise ValueError(f"step_size must be above 0 radii and finite, got {attack.step_size}.")
    if not 0 <= attack.targets < classes:
        raise ValueError(f"targets must be in [0, {classes}) for {classes} classes, got {attack.targets}.")
    if attack.highest and attack.method != "gradient":
        raise ValueError(f"highest needs method 'gradient', got {attack.method!r}.")
    if not attack.reach > 1:
        raise ValueError(f"reach must be above 1 radius, got {attack.reach}: set it to inf to leave nothing out.")
    number_of(attack.loss)
    check_classes(attack.loss, classes)
    aims = attack.method == "fab" or attack.loss.startswith("targeted")
    if aims and not attack.targets:
        what = "method 'fab'" if attack.method == "fab" else f"loss {attack.loss!r}"
        raise ValueError(f"the {what} needs targets, got 0: set targets to 1 or more (at most {classes - 1}).")


def passes_of(attack: Attack) -> int:
    """Restarts times targets."""
    return attack.restarts * max(attack.targets, 1)


def numbers_of(attack: Attack, early_exit: bool = True) -> AttackNumbers:
    """The numbers of an attack that are traced."""
    sizes = float(attack.step_size), float(attack.random_start), float(attack.adaptive)
    counts = int(attack.targets), int(passes_of(attack))
    return AttackNumbers(number_of(attack.loss), int(attack.steps), *sizes, *counts, early_exit, highest=attack.highest)


def named(attack: Attack | str) -> Attack:
    """An attack by its name in the table.

    Raises: ValueError: for an unknown name.
    """
    if isinstance(attack, Attack):
        return attack
    if attack not in ATTACKS:
        raise ValueError(f"Unknown attack {attack!r}; known: {sorted(ATTACKS)}.")
    return ATTACKS[attack]


class Suite(NamedTuple):
    """Attacks in order. In a `cascade` each sees only what those before it left; else each attacks every example.

    So the mask of an attack in a cascade is of all attacks up to it: what it alone would leave standing is not known.
    `minimal_steps`: evaluations an example in a last search for its minimal radius; 0: none.
    """

    attacks: Mapping[str, Attack]
    cascade: bool = False
    minimal_steps: int = 0

    @property
    def searches(self) -> bool:
        """Whether it yields minimal radii: by a last search, or because some attack is one."""
        return bool(self.minimal_steps) or any(attack.method == "minimal" for attack in self.attacks.values())


def _table(*names: str) -> dict[str, Attack]:
    return {name: ATTACKS[name] for name in names}


_MARGIN = _APGD._replace(loss="margin")
_TARGETED = _APGD._replace(loss="targeted_margin", targets=9)
SUITES: dict[str, Suite] = {
    # Of the paper, https://arxiv.org/abs/2410.03999: PGD-7 with steps of 0.2/255 at radius 0.4/255.
    "paper": Suite({"pgd_ce": ATTACKS["pgd_ce"]._replace(steps=7, step_size=0.5)}),
    "pgd": Suite(_table("fgsm", "pgd_ce")),
    "quick": Suite(
        {
            "pgd_ce": ATTACKS["pgd_ce"],
            "pgd_margin": ATTACKS["pgd_margin"]._replace(steps=10, step_size=0.25),
            "apgd_ce": ATTACKS["apgd_ce"]._replace(steps=20),
            "apgd_t": ATTACKS["apgd_t"]._replace(steps=10, targets=3),
        },
        minimal_steps=30,
    ),
    # A search tells how far each example is from being fooled; restarts and targets go to those that are near.
    "strong": Suite(
        {
            "pgd_ce": ATTACKS["pgd_ce"],
            "minimal": ATTACKS["minimal"]._replace(steps=30),
            "minimal_t": ATTACKS["minimal"]._replace(loss="targeted_margin", steps=20, targets=3),
            "apgd_margin": _MARGIN._replace(steps=30, restarts=10, reach=1.3),
            "apgd_margin_t": _TARGETED._replace(steps=30, restarts=3, reach=1.2),
            "minimal_last": ATTACKS["minimal"]._replace(steps=20),
        },
        cascade=True,
    ),
    # Croce and Hein, 2020: APGD-CE 100, APGD-T 9 x 100, FAB-T 9 x 100, Square 5000, each on what is left.
    "autoattack": Suite(_table("apgd_ce", "apgd_t", "fab_t", "square"), cascade=True),
}

# Against which suites are measured (benchmarks/strength.py): far too slow for a study.
EXHAUSTIVE = Suite(
    {"apgd_margin": _MARGIN._replace(restarts=20), "apgd_margin_t": _TARGETED._replace(restarts=5)}, cascade=True
)


def suite(name: str, classes: int) -> Suite:
    """A suite by name, fitted to the number of classes.

    At most `classes` - 1 targets are tried; a loss that needs more classes than there are gives way to the margin.

    Raises: ValueError: for an unknown name.
    """
    if name not in SUITES:
        raise ValueError(f"Unknown suite {name!r}; known: {sorted(SUITES)}.")
    chosen = SUITES[name]
    return chosen._replace(attacks={key: fitted(attack, classes) for key, attack in chosen.attacks.items()})


def fitted(attack: Attack, classes: int) -> Attack:
    """The attack with no more targets, and no other loss, than so many classes allow."""
    loss = attack.loss if classes >= CLASSES.get(attack.loss, 2) else "margin"
    targets = 0 if loss != attack.loss else min(attack.targets, classes - 1)
    return attack._replace(loss=loss, targets=targets)
