"""Named suites: which attacks make up a robust accuracy."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxreg.robustness.attack import ATTACKS, Attack
from jaxreg.robustness.losses import CLASSES


class Suite(NamedTuple):
    """Attacks in order. In a `cascade` each sees only what those before it left; else each attacks every example.

    `minimal_steps`: evaluations an example in the search for its minimal radius; 0: no search.
    """

    attacks: Mapping[str, Attack]
    cascade: bool = False
    minimal_steps: int = 0


def _table(*names: str) -> dict[str, Attack]:
    return {name: ATTACKS[name] for name in names}


SUITES: dict[str, Suite] = {
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
    # Croce and Hein, 2020: APGD-CE 100, APGD-T 9 x 100, FAB-T 9 x 100, Square 5000, each on what is left.
    "autoattack": Suite(_table("apgd_ce", "apgd_t", "fab_t", "square"), cascade=True),
}


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
