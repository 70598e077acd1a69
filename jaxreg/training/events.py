"""The event file of a trial, for TensorBoard. Imported only where its writer is installed."""

import contextlib
import time
from collections.abc import Iterator, Mapping

from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class EventFile:
    """Values by name, a step at a time."""

    def __init__(self, writer: EventsWriter) -> None:
        self._writer = writer

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step."""
        for name, value in values.items():
            shown = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=shown))

    def flush(self) -> None:
        """Hands what was written to the file."""
        self._writer.flush()


@contextlib.contextmanager
def opened(directory: epath.Path, start: int) -> Iterator[EventFile]:
    """An event file, closed in the end; TensorBoard hides what an interrupted run wrote after step `start`.

    Written in this thread: one of its own would end at a full disk, and the training wait for it for ever.
    """
    directory.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(directory / "events"), f".{start}")
    with contextlib.closing(writer._py_recordio_writer):  # which EventsWriter leaves open where it cannot flush
        if start:
            begun = SessionLog(status=SessionLog.START)
            writer.write_event(Event(wall_time=time.time(), step=start + 1, session_log=begun))
        yield EventFile(writer)
