"""PROBES: what a study measures on the trained trials of a program. A new probe is one function and one line here."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxreg import data, predictions
from jaxreg.geometry import probe as geometry_probe
from jaxreg.plan import Program
from jaxreg.predictions import SPLITS, Predictions
from jaxreg.probe import Measured
from jaxreg.spec import GeometrySpec
from jaxreg.train import Run
from jaxreg.train_step import Fixed, TrainState


class Trained(NamedTuple):
    """A trained program: its trials as stacks on the mesh, their saved predictions, and the data they saw."""

    program: Program
    dataset: data.Dataset
    fixed: Fixed
    state: TrainState
    run: Run

    def predictions(self, split: str) -> Predictions:
        """The saved logits and features of one split, stacked [T, N, ...]."""
        return predictions.load(self.program, self.run.directory, split)


def measure_geometry(trained: Trained, spec: GeometrySpec) -> list[Measured]:
    """Norms, class centers, cones, margins and collapse of the features of every split."""
    found = {name: trained.predictions(name) for name in SPLITS}
    splits = {name: geometry_probe.Split(p.features, p.labels) for name, p in found.items()}
    head = predictions.load_head(trained.program, trained.run.directory)
    return geometry_probe.measure(splits, head.kernel, head.bias, radius=spec.radius, mesh=trained.run.mesh)


PROBES: Mapping[str, Callable[[Trained, Any], list[Measured]]] = {
    "geometry": measure_geometry,
}
