"""The geometry of the first train images at every snapshot that training kept."""

import numpy as np

from jaxreg import data
from jaxreg.geometry import over_training
from jaxreg.measured import Measured
from jaxreg.models import head as last_layer
from jaxreg.probes import geometry
from jaxreg.probes.geometry import GeometrySettings, check_train
from jaxreg.probes.probe import Probe
from jaxreg.runtime import parallel
from jaxreg.runtime.progress import Progress
from jaxreg.trained import Trained
from jaxreg.training import predictions
from jaxreg.training.checkpoint import Weights
from jaxreg.training.loop import snapshots_of
from jaxreg.training.program import Program


def measure(trained: Trained, settings: GeometrySettings) -> list[Measured]:
    """Curves of norms, cosines, cones and collapse, and the arrays of maps for the first seed of each setting."""
    program, fixed, run = trained.program, trained.fixed, trained.run
    train, count = trained.dataset.splits["train"], len(program.trials)
    train = train[: settings.snapshot_examples or len(train)]
    steps, features, heads = [], [], []
    with (
        snapshots_of(program, run) as kept,
        Progress("snapshots", len(kept.scheduled) * len(train), "examples") as seen,
    ):
        for step, weights in kept.read(Weights(trained.state.params, trained.state.stats), count):
            placed = parallel.put_trials(tuple(weights), run.mesh)
            _, found_TND = predictions.predict_split(f"step {step}", train, placed, count, fixed, run, seen)
            steps.append(step)
            features.append(found_TND)
            heads.append(last_layer(weights.params))
    if not steps:
        return [Measured([], {}) for _ in program.trials]
    kernels, biases = (np.stack(stacks, 1) for stacks in zip(*heads))
    stacked = np.stack(features, 1)
    found = over_training.measure_snapshots(stacked, train.labels, kernels, biases, mesh=run.mesh)
    measured = over_training.measured(found, steps, len(train))
    for t in _first_seeds(program):
        arrays = over_training.space_arrays(t, steps, stacked, train.labels, kernels, biases, found["center"])
        measured[t] = measured[t]._replace(arrays=arrays)
    return measured


def _first_seeds(program: Program) -> list[int]:
    """The trials of the lowest seed of each setting: one of each is enough to draw."""
    trials = program.trials
    lowest = {t.setting: t.seed for t in sorted(trials, key=lambda t: -t.seed)}
    return [i for i, t in enumerate(trials) if t.seed == lowest[t.setting]]


def check_data(settings: GeometrySettings, dataset: data.Dataset) -> None:
    """Raises ValueError if the train images that snapshots are measured on lack a class."""
    if settings.snapshots:
        check_train("over_training", "snapshot_examples", dataset, settings.snapshot_examples)


PROBE = Probe(measure, geometry.SECTION, reads=("geometry",), check_data=check_data)
