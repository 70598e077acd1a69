"""Calibration of validation and test, before and after what validation alone can mend."""

import dataclasses

from etils import epath

from jaxreg import data
from jaxreg.calibration import human
from jaxreg.calibration import probe as calibration
from jaxreg.checks import check_apart
from jaxreg.measured import Measured
from jaxreg.probes.probe import Probe, Section
from jaxreg.spec import require
from jaxreg.trained import Trained

SPLITS = ("validation", "test")
SECTION = Section("accuracy", "Accuracy and calibration", "no accuracy, calibration metric or confidence was saved")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """Resamples of the bootstrap intervals and of the noise floor, and soft labels of people."""

    bootstrap: int = 200
    human_labels: str = ""  # a .npz of counts aligned by id

    def __post_init__(self) -> None:
        enough = self.bootstrap >= 2
        require(enough, f"probes.calibration.bootstrap must be 2 or more resamples, got {self.bootstrap}.")


def measure(trained: Trained, settings: CalibrationSettings) -> list[Measured]:
    """Every metric of calibration, with its interval and noise floor."""
    found = {name: trained.predictions(name) for name in SPLITS}
    splits = {name: calibration.Logits(p.logits, p.labels, p.ids) for name, p in found.items()}
    names, mesh = [t.id for t in trained.program.trials], trained.run.mesh
    people = human.load(settings.human_labels) if settings.human_labels else None
    return calibration.measure(splits, trials=names, replicates=settings.bootstrap, human=people, mesh=mesh)


def check(settings: CalibrationSettings, about: data.Description) -> None:
    """Raises ValueError for a file of human labels that is not there, or has other classes than the dataset."""
    path = settings.human_labels
    if not path:
        return
    if not epath.Path(path).exists():
        raise ValueError(f"probes.calibration.human_labels: there is no file {path}.")
    counted = len(next(iter(human.load(path).values())))
    if counted != about.num_classes:
        told = f"{path} has counts of {counted} classes, the dataset {about.num_classes}"
        raise ValueError(f"probes.calibration.human_labels: {told}: use the same classes.")


def check_data(settings: CalibrationSettings, dataset: data.Dataset) -> None:
    """Raises ValueError where validation and test share examples, or people saw a part of a split."""
    splits = {name: dataset.splits[name] for name in SPLITS}
    check_apart({name: (split.ids, split.labels) for name, split in splits.items()})
    if settings.human_labels:
        human.check_ids(human.load(settings.human_labels), {name: split.ids for name, split in splits.items()})


PROBE = Probe(measure, SECTION, CalibrationSettings, check=check, check_data=check_data)
