"""Training curves: one table a program for the report, TensorBoard events a trial for the impatient."""

import contextlib
import importlib.util
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from etils import epath

from jaxreg.runtime import hosts
from jaxreg.runtime.files import write_whole
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import TrialSpec
from jaxreg.training.program import Program
from jaxreg.training.step import Metrics

METRICS = tuple(Metrics.__dataclass_fields__)


class Curves:
    """The curves of a program: a row a trial and dispatch, each a mean over its steps; process 0 writes. A context."""

    def __init__(self, workdir: Workdir, program: Program, start: int) -> None:
        """Goes on after step `start`; whatever an interrupted run wrote beyond it is dropped."""
        self.path, self.trials = workdir.curve(program.id), program.trials
        self._frames = [frame[frame.step <= start] for frame in [read(self.path)] if start > 0 and frame is not None]
        with contextlib.ExitStack() as opened:
            self._writers = [opened.enter_context(one) for one in self._events(workdir, start)]
            self._open = opened.pop_all()  # all of them, or none

    def _events(self, workdir: Workdir, start: int) -> list[Any]:
        """An event file a trial; none where TensorBoard's writer is not installed, for the table has all of it."""
        if not hosts.is_first() or importlib.util.find_spec("tensorboardX") is None:
            return []
        from jaxreg.training import events

        return [events.opened(workdir.events(trial.id), start) for trial in self.trials]

    def add(self, step: int, metrics: Metrics) -> None:
        """Adds the metrics [T, S] of the steps that end with `step`."""
        means = {name: np.asarray(getattr(metrics, name), np.float64).mean(1) for name in METRICS}
        self._frames.append(_frame(self.trials, step, means))
        for i, writer in enumerate(self._writers):
            writer.add(step, {f"train/{name}": mean[i] for name, mean in means.items()})

    def save(self) -> None:
        """Writes the table and flushes the events."""
        if self._frames:
            write_whole(self.path, pd.concat(self._frames, ignore_index=True).to_parquet(index=False))
        for writer in self._writers:
            writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the event files; the table is as it was saved last."""
        self._open.close()


def read(path: epath.Path) -> pd.DataFrame | None:
    """The table of one program, None where there is none yet."""
    return pd.read_parquet(path) if path.exists() else None


def _frame(trials: Sequence[TrialSpec], step: int, means: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [t.id for t in trials],
            "regularizer": [t.regularizer.name for t in trials],
            "hyperparameters": [t.setting.hyperparameters for t in trials],
            "seed": [t.seed for t in trials],
            "step": step,
            **means,
        }
    )
