"""A trained program as probes see it: its trials on the mesh, what is saved of them, and the data they saw."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg import data
from jaxreg.models import Head
from jaxreg.runtime import parallel
from jaxreg.runtime.files import read_arrays
from jaxreg.setting import baselines
from jaxreg.spec import TrialSpec
from jaxreg.training import predictions
from jaxreg.training.predictions import Predictions
from jaxreg.training.program import Program, Run
from jaxreg.training.step import Fixed, TrainState


class Examples(NamedTuple):
    """Images [N, H, W, C], float32 in [0, 1], with labels [N] and the ids [N] of their random numbers."""

    images: np.ndarray
    labels: np.ndarray
    key_ids: np.ndarray


class Trained(NamedTuple):
    """A trained program: its trials as stacks on the mesh, their saved predictions, and the data they saw."""

    program: Program
    dataset: data.Dataset
    fixed: Fixed
    state: TrainState
    run: Run

    @property
    def failed(self) -> np.ndarray:
        """Which trials froze: bool [T]."""
        return parallel.fetch(self.state.failed, len(self.program.trials)) >= 0

    @property
    def measured(self) -> list[TrialSpec]:
        """The trials to measure, [T]: a healthy one stands in for a frozen one, whose numbers may be anything."""
        healthy = int(np.argmin(self.failed))
        return [self.program.trials[healthy if froze else i] for i, froze in enumerate(self.failed)]

    @property
    def weights(self) -> tuple[Any, Any]:
        """Parameters and statistics of `measured`, stacks on the mesh."""
        both, trials = (self.state.params, self.state.stats), self.program.trials
        if not self.failed.any():
            return both
        index = np.array([trials.index(trial) for trial in self.measured])
        return parallel.put_trials(jax.tree.map(lambda a: a[index], parallel.fetch(both)), self.run.mesh)

    def examples(self, split: str, count: int = 0) -> Examples:
        """The first `count` examples of a split, 0 for all: images as networks take them, labels, ids."""
        own = self.dataset.splits[split]
        own = own[: count or len(own)]
        return Examples(np.asarray(own.images, np.float32) / np.float32(self.dataset.scale), own.labels, own.key_ids)

    def predictions(self, split: str) -> Predictions:
        """The saved logits and features of one split, stacked [T, N, ...]."""
        return predictions.load(self.measured, self.run.workdir, split)

    @property
    def head(self) -> Head:
        """The last layers, stacked [T, ...]."""
        return predictions.load_head(self.measured, self.run.workdir)

    def arrays(self, probe: str) -> list[dict[str, np.ndarray]]:
        """What an earlier probe saved of every trial."""
        return [read_arrays(self.run.workdir.arrays(probe, trial.id)) for trial in self.measured]

    @property
    def baselines(self) -> list[int | None]:
        """For each trial the place of its baseline at the same seed; None where that froze, and where there is none."""
        trials, failed = self.program.trials, self.failed
        found = baselines([t.setting for t in trials], [t.seed for t in trials])
        return [None if base is None or failed[base] else base for base in found]
