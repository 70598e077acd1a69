"""What a stage says: rows, printed and written to its file as soon as they are known, and how much time it has left."""

import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Options(NamedTuple):
    """What all stages share: sizes, folder, the dataset by the name that jaxreg knows it by, and what it is."""

    tiny: bool
    out: pathlib.Path
    dataset: str
    images: str


class Report:
    """The rows of one stage, in `path`."""

    def __init__(self, path: pathlib.Path, deadline: float) -> None:
        self._path, self._deadline, self._started = path, deadline, time.monotonic()
        self.rows: list[dict[str, Any]] = []

    def row(self, **values: Any) -> None:
        """Prints a row and writes all rows: the file is whole at any time."""
        self.rows.append({name: shortened(value) for name, value in values.items()})
        print(json.dumps({"stage": self._path.stem, **self.rows[-1]}), flush=True)
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(self.rows, indent=1))
        os.replace(partial, self._path)  # noqa: PTH105  (says that the old file goes)

    def left(self) -> float:
        """Seconds that the stage has left."""
        return self._deadline - time.monotonic()

    def spent(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    def fits(self, seconds: float, **what: Any) -> bool:
        """Whether so many seconds are left; a row says what is left out where they are not."""
        if seconds <= self.left():
            return True
        self.row(**what, left_out=f"takes about {seconds:.0f} s, {self.left():.0f} s are left")
        return False

    def compare(self, peer: Callable[[], dict[str, Any]], **what: Any) -> None:
        """A row of another package: its numbers, or in one line why it has none."""
        try:
            self.row(**what, **peer())
        except ImportError as error:
            self.row(**what, left_out=f"not installed: {error.name or error}")
        except Exception as error:  # of a package that is not ours: its failure must not end the stage
            self.row(**what, left_out=f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}")


def shortened(value: Any) -> Any:
    """Numbers with four digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


class Timed(NamedTuple):
    """Seconds of the first run, with compilation, and the median of the others."""

    first: float
    seconds: float


def timed(run: Callable[[], Any], repeats: int = 3) -> Timed:
    """Times `run`, which must wait for what it computes."""
    times = []
    for _ in range(1 + repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return Timed(times[0], statistics.median(times[1:]))
