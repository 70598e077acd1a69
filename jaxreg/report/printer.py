"""Figures become PNG and PDF in processes of their own, while the first one makes the next figure, and the tables.

Matplotlib draws in one thread. A process reads pickled figures from its standard input, so it ends when that closes,
however the first process ends. Nothing else of the package is imported: with JAX a process would start in 2.5 seconds
instead of 0.5.
"""

import contextlib
import gc
import io
import itertools
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO

import matplotlib
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 110
HOW: Mapping[str, Mapping[str, Any]] = {
    "png": {"dpi": DPI},
    "pdf": {"metadata": {"CreationDate": None}},  # the same study gives the same file
}


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


class Printers:
    """Saves figures as FOLDER/NAME.png and FOLDER/NAME.pdf, in turn by each of two; leaving it waits for the last one.

    Raises: RuntimeError: with what a process said, if it failed.
    """

    def __init__(self, folder: str, style: Mapping[str, Any]) -> None:
        self._opened = contextlib.ExitStack()
        self._turns = itertools.cycle([self._opened.enter_context(Printer(folder, style)) for _ in range(2)])

    def __enter__(self) -> "Printers":
        return self

    def save(self, figure: Figure, name: str) -> None:
        """Hands over one figure as it is now."""
        next(self._turns).save(figure, name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)


class Printer:
    """One process that saves figures; leaving it waits for the last one."""

    def __init__(self, folder: str, style: Mapping[str, Any]) -> None:
        words = [sys.executable, "-m", "jaxreg.report.printer"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self._sender = ThreadPoolExecutor(1)  # a pipe holds less than a figure: who writes waits for the figure before
        self._send((folder, dict(style)))

    def __enter__(self) -> "Printer":
        return self

    def save(self, figure: Figure, name: str) -> None:
        """Hands over one figure as it is now."""
        self._send((name, figure))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.shutdown()
        _, said = self._process.communicate()
        if self._process.returncode and kind is None:
            raise RuntimeError(f"printing figures failed: {said.decode().strip()}")

    def _send(self, message: Any) -> None:
        self._sender.submit(self._write, pickle.dumps(message))

    def _write(self, pickled: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `__exit__` tells why
            self._process.stdin.write(pickled)
            self._process.stdin.flush()


def serve(messages: BinaryIO) -> None:
    """Prints the figures that arrive, until there are no more."""
    folder, style = pickle.load(messages)
    with matplotlib.rc_context(style), uncollected():
        while True:
            try:
                name, figure = pickle.load(messages)
            except EOFError:
                return
            settle(figure)
            for kind, how in HOW.items():
                printed = io.BytesIO()
                figure.savefig(printed, format=kind, **how)
                (epath.Path(folder) / f"{name}.{kind}").write_bytes(printed.getvalue())


def settle(figure: Figure) -> None:
    """Lays `figure` out for its PNG and its PDF, which else do so each for itself, in half of the time of drawing."""
    engine = figure.get_layout_engine()
    if engine is not None:
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure)
        engine.execute(figure)
        figure.set_layout_engine(None)  # "none" would leave a stand-in, for which every printer draws twice


if __name__ == "__main__":
    serve(sys.stdin.buffer)
