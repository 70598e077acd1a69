"""Training curves: one table a program for the report, TensorBoard events a trial for the impatient."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import pandas as pd
from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

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
        written = self.trials if hosts.is_first() else ()
        with contextlib.ExitStack() as opened:
            self._writers = [opened.enter_context(_writer(workdir.events(t.id), start)) for t in written]
            self._open = opened.pop_all()  # all of them, or none

    def add(self, step: int, metrics: Metrics) -> None:
        """Adds the metrics [T, S] of the steps that end with `step`."""
        means = {name: np.asarray(getattr(metrics, name), np.float64).mean(1) for name in METRICS}
        self._frames.append(_frame(self.trials, step, means))
        for i, writer in enumerate(self._writers):
            for name in METRICS:
                writer.write_event(_event(step, f"train/{name}", means[name][i]))

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


@contextlib.contextmanager
def _writer(directory: epath.Path, start: int) -> Iterator[EventsWriter]:
    """An event file, closed in the end; TensorBoard hides what an interrupted run wrote after step `start`.

    Written in this thread: one of its own would end at a full disk, and the training wait for it for ever.
    """
    directory.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(directory / "events"), f".{start}")
    with contextlib.closing(writer._py_recordio_writer):  # which EventsWriter leaves open where it cannot flush
        if start:
            begun = SessionLog(status=SessionLog.START)
            writer.write_event(Event(wall_time=time.time(), step=start + 1, session_log=begun))
        yield writer


def _event(step: int, name: str, value: float) -> Event:
    shown = Summary(value=[Summary.Value(tag=name, simple_value=value)])
    return Event(wall_time=time.time(), step=step, summary=shown)


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
