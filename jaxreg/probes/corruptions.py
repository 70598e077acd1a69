"""Accuracy and calibration on corrupted test images, by family and severity."""

import dataclasses

from jaxreg import data
from jaxreg.measured import Measured
from jaxreg.probes import robustness
from jaxreg.probes.probe import Probe
from jaxreg.robustness import corruptions
from jaxreg.spec import check_distinct, require
from jaxreg.trained import Trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorruptionSettings:
    """Families of CIFAR-C on the first `examples` of test (0: all); off without any family."""

    families: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    examples: int = 0

    def __post_init__(self) -> None:
        inside = all(1 <= severity <= 5 for severity in self.severities) and bool(self.severities)
        require(inside, f"probes.corruptions.severities must be whole numbers from 1 to 5, got {self.severities}.")
        check_distinct("probes.corruptions.severities", self.severities)
        check_distinct("probes.corruptions.families", self.families)
        require(self.examples >= 0, f"probes.corruptions.examples must be 0 (all) or more, got {self.examples}.")


def measure(trained: Trained, settings: CorruptionSettings) -> list[Measured]:
    """Accuracy on corrupted test images, by family and severity."""
    if not settings.families:
        return []
    return corruptions.measure(
        trained.fixed.model.apply,
        *trained.weights,
        *trained.examples("test", settings.examples),
        names=settings.families,
        severities=settings.severities,
        trials=len(trained.program.trials),
        mesh=trained.run.mesh,
        local=trained.run.local,
    )


def check(settings: CorruptionSettings, about: data.Description) -> None:
    """Raises ValueError for an unknown family."""
    unknown = sorted(set(settings.families) - set(corruptions.CORRUPTIONS))
    if unknown:
        raise ValueError(f"Unknown probes.corruptions.families {unknown}; known: {sorted(corruptions.CORRUPTIONS)}.")


PROBE = Probe(measure, robustness.SECTION, CorruptionSettings, check=check, counts={"examples": "test"})
