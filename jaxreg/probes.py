"""PROBES: what a study measures on the trained trials of a program. A new probe is one function and one line here."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxreg import data, parallel, predictions
from jaxreg.calibration import human
from jaxreg.calibration import probe as calibration
from jaxreg.geometry import interventions
from jaxreg.geometry import probe as geometry
from jaxreg.geometry.attacked import measure_displacement as measure_moved
from jaxreg.plan import Program
from jaxreg.predictions import SPLITS, Predictions
from jaxreg.probe import Measured
from jaxreg.progress import Progress
from jaxreg.robustness import probe as robustness
from jaxreg.spec import CalibrationSpec, GeometrySpec, ProbesSpec, RobustnessSpec
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


def measure_calibration(trained: Trained, spec: CalibrationSpec) -> list[Measured]:
    """Calibration of validation and test, before and after what validation alone can mend."""
    found = {name: trained.predictions(name) for name in ("validation", "test")}
    splits = {name: calibration.Split(p.logits, p.labels, p.ids) for name, p in found.items()}
    names, mesh = [t.id for t in trained.program.trials], trained.run.mesh
    people = human.load(spec.human_labels) if spec.human_labels else None
    return calibration.measure(splits, trials=names, replicates=spec.bootstrap, human=people, mesh=mesh)


def measure_robustness(trained: Trained, spec: RobustnessSpec) -> list[Measured]:
    """A suite of attacks on the test split, or on its first `examples`, at every radius."""
    test, scale = trained.dataset.splits["test"], np.float32(trained.dataset.scale)
    test = test[: spec.examples or len(test)]
    lift = functools.partial(parallel.per_trial, mesh=trained.run.mesh, local=trained.run.execution.local_trials)
    data = (np.asarray(test.images, np.float32) / scale, test.labels, test.key_ids)
    with _AttackProgress(trained) as progress:
        return robustness.measure(
            lift,
            trained.fixed.model.apply,
            trained.state.params,
            trained.state.stats,
            *data,
            suite_name=spec.suite,
            epsilons=spec.epsilons,
            norm=spec.norm,
            trials=len(trained.program.trials),
            progress=progress.show,
        )


class _AttackProgress(Progress):
    """Calls of attacks done, and how much they have left standing."""

    def __init__(self, trained: Trained) -> None:
        super().__init__("attack", 1, "calls")
        self._stop, self._trials = trained.run.preemption, len(trained.program.trials)

    def show(self, now: robustness.Progress) -> None:
        """Reports one finished call; lets a stop through between two."""
        self._stop.check()
        robust = now.robust / max(now.examples, 1)
        self.reach(now.done, now.calls, f"{self._trials} trials, {now.attack}, robust so far {robust:.3f}")


def measure_geometry(trained: Trained, spec: GeometrySpec) -> list[Measured]:
    """Norms, class centers, cones, margins, collapse, scaling and interventions on the features of every split."""
    found = {name: trained.predictions(name) for name in SPLITS}
    splits = {name: geometry.Split(p.features, p.labels) for name, p in found.items()}
    head, trials = predictions.load_head(trained.program, trained.run.directory), trained.program.trials
    names, settings = [t.regularizer.name for t in trials], [(t.seed, t.overrides) for t in trials]
    return geometry.measure(
        splits,
        head.kernel,
        head.bias,
        radius=spec.radius,
        smoothing_T=[dict(t.regularizer.hyperparameters).get("epsilon", 0.0) for t in trials],
        baselines=interventions.baselines(
            [t.regularizer.name for t in trials], [(t.seed, t.overrides) for t in trials]
        ),
        mesh=trained.run.mesh,
    )


def measure_displacement(trained: Trained, spec: RobustnessSpec) -> list[Measured]:
    """Where the worst attack at the middle radius moved the features."""
    radius = sorted(spec.epsilons)[len(spec.epsilons) // 2]
    folder = trained.run.directory / "probes" / "robustness"
    saved = [predictions.read_arrays(folder / f"{trial.id}.npz") for trial in trained.program.trials]
    images = np.stack([arrays[_of_radius(arrays, "adversarial/worst/", radius)] for arrays in saved])
    head, clean = predictions.load_head(trained.program, trained.run.directory), trained.predictions("test")
    attacked = predictions.own_features(trained.state, images, trained.fixed, trained.run)
    count = images.shape[1]
    pair = (clean.features[:, :count], attacked, clean.labels[:count])
    return measure_moved(*pair, head.kernel, head.bias, mesh=trained.run.mesh)


def _of_radius(arrays: Mapping[str, np.ndarray], prefix: str, radius: float) -> str:
    """The name of the array at a radius: names print it as the attack rounded it."""
    names = [name for name in arrays if name.startswith(prefix)]
    return min(names, key=lambda name: abs(float(name.removeprefix(prefix)) - radius))


class Probe(NamedTuple):
    """A measurement, and the settings that it depends on: it is repeated when they change."""

    measure: Callable[[Trained, Any], list[Measured]]
    settings: Callable[[ProbesSpec], Any]


PROBES: Mapping[str, Probe] = {
    "calibration": Probe(measure_calibration, lambda spec: spec.calibration),
    "robustness": Probe(measure_robustness, lambda spec: spec.robustness),
    "geometry": Probe(measure_geometry, lambda spec: spec.geometry),
    "displacement": Probe(measure_displacement, lambda spec: spec.robustness),
}
