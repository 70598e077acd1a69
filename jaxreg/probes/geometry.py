"""Norms, class centers, cones, margins, collapse, scaling and interventions on the features of every split."""

import dataclasses
from typing import Any

from jaxreg import data
from jaxreg.geometry import norms
from jaxreg.geometry import probe as geometry
from jaxreg.measured import Measured
from jaxreg.probes.probe import Probe, Section
from jaxreg.regularizers import has_floor, smoothing_of
from jaxreg.spec import check_distinct, require
from jaxreg.trained import Trained
from jaxreg.training.predictions import SPLITS

SECTION = Section("geometry", "Geometry of features", "no norm or cosine was saved for each example")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometrySettings:
    """Radius of the class centers (0: each trial's mean feature norm); which train images, and which snapshots."""

    radius: float = 0.0
    train_examples: int = 0  # un-augmented train images to look at, for class means and collapse; 0 means all
    snapshots: int | tuple[int, ...] = 8  # steps to look at over training: how many, or which; 0 means none
    snapshot_examples: int = 1000  # un-augmented train images to look at there; 0 means all

    def __post_init__(self) -> None:
        for name in ("train_examples", "snapshot_examples"):
            value = getattr(self, name)
            require(value >= 0, f"probes.geometry.{name} must be 0 (all) or more, got {value}.")
        _check_snapshots(self.snapshots)
        require(self.radius >= 0, f"probes.geometry.radius must be 0 (the mean norm) or more, got {self.radius}.")


def _check_snapshots(wanted: Any) -> None:
    steps = wanted if isinstance(wanted, tuple) else (wanted,)
    name = "probes.geometry.snapshots"
    require(
        all(step >= 0 for step in steps), f"{name} must be a number of snapshots or a list of steps, got {wanted!r}."
    )
    require(wanted != 1, f"{name} must be 0 (none), 2 (the first and last step) or more, got 1.")
    check_distinct(name, steps)


def measure(trained: Trained, settings: GeometrySettings) -> list[Measured]:
    """Every number of geometry, of all splits."""
    found = {name: trained.predictions(name) for name in SPLITS}
    splits = {name: geometry.Features(p.features, p.labels, p.ids) for name, p in found.items()}
    chosen_T = [t.regularizer for t in trained.measured]
    smoothing = [smoothing_of(r.name, dict(r.hyperparameters)) or 0.0 for r in chosen_T]
    floor_known = [has_floor(r.name) for r in chosen_T]
    return geometry.measure(
        splits,
        trained.head.kernel,
        trained.head.bias,
        radius=settings.radius,
        smoothing_T=smoothing,
        floor_known_T=floor_known,
        baselines=trained.baselines,
        seeds_T=[t.seed for t in trained.measured],
        mesh=trained.run.mesh,
    )


def splits_of(dataset: data.Dataset, settings: GeometrySettings) -> dict[str, data.Split]:
    """The splits to predict: all of validation and test, and as much of train as geometry looks at."""
    train = dataset.splits["train"]
    return dict(dataset.splits) | {"train": train[: settings.train_examples or len(train)]}


def check_train(probe: str, key: str, dataset: data.Dataset, examples: int) -> None:
    """Raises ValueError if the first `examples` of train (0: all), which a probe looks at, lack a class."""
    labels = dataset.splits["train"].labels
    try:
        norms.check_classes(labels[: examples or len(labels)], len(dataset.classes))
    except ValueError as error:
        is_part = 0 < examples < len(labels)
        more = f"raise it from {examples}" if is_part else "add examples of it, or take it out of the classes"
        cure = f"{more}, or leave {probe} out of probes.only"
        raise ValueError(f"probes.geometry.{key}: {error}: {cure}.") from None


def check_data(settings: GeometrySettings, dataset: data.Dataset) -> None:
    """Raises ValueError if the train images that are looked at lack a class."""
    check_train("geometry", "train_examples", dataset, settings.train_examples)


COUNTS = {"train_examples": "train", "snapshot_examples": "train"}
PROBE = Probe(measure, SECTION, GeometrySettings, check_data=check_data, counts=COUNTS)
