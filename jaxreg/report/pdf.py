"""PDFs beside PNGs: a second process prints each figure as PDF while the first one draws it as PNG and makes the next.

Matplotlib draws in one thread. The process reads pickled figures from its standard input, so it ends when that closes,
however the first process ends.
"""

import contextlib
import gc
import io
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, BinaryIO

import matplotlib
from etils import epath
from matplotlib.figure import Figure


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Puts off garbage collection: it walks every object of every figure again and again, a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Printer:
    """Saves figures as FOLDER/NAME.pdf; leaving it waits for the last one.

    Raises: RuntimeError: with what the process said, if it failed.
    """

    def __init__(self, folder: str, style: Mapping[str, Any]) -> None:
        words = [sys.executable, "-m", "jaxreg.report.pdf"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self._send((folder, dict(style)))

    def __enter__(self) -> "Printer":
        return self

    def save(self, figure: Figure, name: str) -> None:
        """Hands over one figure as it is now."""
        self._send((name, figure))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _, said = self._process.communicate()
        if self._process.returncode and kind is None:
            raise RuntimeError(f"printing figures as PDF failed: {said.decode().strip()}")

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:  # it has ended: `__exit__` tells why
            pass


def serve(messages: BinaryIO) -> None:
    """Prints the figures that arrive, until there are no more."""
    folder, style = pickle.load(messages)
    with matplotlib.rc_context(style), uncollected():
        while True:
            try:
                name, figure = pickle.load(messages)
            except EOFError:
                return
            pdf = io.BytesIO()
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})  # the same study gives the same file
            (epath.Path(folder) / f"{name}.pdf").write_bytes(pdf.getvalue())


if __name__ == "__main__":
    serve(sys.stdin.buffer)
