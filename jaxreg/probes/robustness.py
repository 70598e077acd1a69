"""A suite of attacks on the test split at every radius, and how far to trust it."""

import dataclasses
import math
from typing import Literal

import numpy as np

from jaxreg import data
from jaxreg.checks import check_reach
from jaxreg.measured import Measured
from jaxreg.probes.probe import Probe, Section
from jaxreg.robustness import probe as robustness
from jaxreg.robustness.attacks import check as check_attack
from jaxreg.robustness.attacks import suite
from jaxreg.robustness.verdict_checks import Effort
from jaxreg.runtime.progress import Progress
from jaxreg.spec import check_choice, check_distinct, require
from jaxreg.trained import Trained

SECTION = Section("robustness", "Robustness", "no trial was attacked")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessSettings:
    """A named suite of attacks at several radii of one norm."""

    suite: str = "pgd"
    norm: Literal["linf", "l2"] = "linf"
    epsilons: tuple[float, ...] = (2 / 255, 8 / 255)
    examples: int = 1000  # of the test split, the first ones; 0 means all
    verdict: bool = True  # whether to check how far the numbers can be relied on

    def __post_init__(self) -> None:
        check_choice("probes.robustness.norm", self.norm, ("linf", "l2"))
        require(bool(self.epsilons), "probes.robustness.epsilons is empty: name at least one radius.")
        check_distinct("probes.robustness.epsilons", self.epsilons)
        for epsilon in self.epsilons:
            require(0 <= epsilon < math.inf, f"probes.robustness.epsilons must be 0 or more, got {epsilon}.")
            inside = self.norm == "l2" or epsilon <= 1
            require(inside, f"an linf radius must be in [0, 1], as the images are, got {epsilon}: 8/255, not 8?")
        require(self.examples >= 0, f"probes.robustness.examples must be 0 (all) or more, got {self.examples}.")


def measure(trained: Trained, settings: RobustnessSettings) -> list[Measured]:
    """Robust accuracy of every attack, the worst case, minimal radii, confidence under attack, and the verdict."""
    run, sources = trained.run, [i if b is None else b for i, b in enumerate(trained.baselines)]
    with _AttackProgress(trained) as progress:
        measured = robustness.measure(
            trained.fixed.model.apply,
            *trained.weights,
            *trained.examples("test", settings.examples),
            suite_name=settings.suite,
            epsilons=settings.epsilons,
            norm=settings.norm,
            trials=len(sources),
            mesh=run.mesh,
            local=run.local,
            sources=np.array(sources),
            effort=Effort() if settings.verdict else None,
            finished=run.workdir.calls("robustness"),
            progress=progress.show,
        )
    ids = trained.dataset.splits["test"].ids[: settings.examples or None]
    return [one._replace(arrays=one.arrays | {"id": ids}) for one in measured]


class _AttackProgress(Progress):
    """Calls of attacks done, and how much they have left standing."""

    def __init__(self, trained: Trained) -> None:
        super().__init__("attack", 1, "calls")
        self._stop, self._trials = trained.run.preemption, len(trained.program.trials)

    def show(self, now: robustness.SuiteProgress) -> None:
        """Reports one finished call; lets a stop through between two."""
        self._stop.check()
        robust = now.robust / max(now.examples, 1)
        left = (
            f"{now.robust} of {now.examples} examples x trials left, robust so far {robust:.3f} at the largest radius"
        )
        self.reach(now.done, now.calls, f"{self._trials} trials, {now.attack}, {left}")


def check(settings: RobustnessSettings, about: data.Description) -> None:
    """Raises ValueError for an unknown suite, an attack that cannot run on so many classes, or a radius too large."""
    try:
        check_reach(settings.epsilons, settings.norm, about.image_shape)
        for attack in suite(settings.suite, about.num_classes).attacks.values():
            check_attack(attack, settings.norm, about.num_classes)
    except ValueError as error:
        raise ValueError(f"probes.robustness: {error}") from None


PROBE = Probe(measure, SECTION, RobustnessSettings, check=check, counts={"examples": "test"})
