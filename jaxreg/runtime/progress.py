"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from jaxreg.runtime import hosts

QUIET_SECONDS = 5.0  # between two plain lines


class Progress:
    """Counts `unit`s of one stage up to `total`; process 0 shows it. A context: leaving it closes the bar."""

    def __init__(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        self.stage, self.total, self.unit, self.done = stage, total, unit, done
        self._started, self._said, self._first = time.monotonic(), 0.0, done
        self._bar = None
        self._shown = hosts.is_first()
        if self._shown and sys.stderr.isatty():
            layout = (
                "{desc:8} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}]{postfix}"
            )
            self._bar = tqdm(desc=stage, total=total, unit=unit, initial=done, bar_format=layout, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int, note: str = "") -> None:
        """`count` more units are done; `note` is shown beside them."""
        self.done += count
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self._shown and (time.monotonic() - self._said > QUIET_SECONDS or self.done >= self.total):
            self._said = time.monotonic()
            print(
                f"{self.stage}: {self.done}/{self.total} {self.unit}, {self._left()}{note}", file=sys.stderr, flush=True
            )

    def reach(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are done, where the total is only known on the way."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total
        self.advance(done - self.done, note)

    def _left(self) -> str:
        spent = time.monotonic() - self._started
        if self.done >= self.total:
            return f"took {spent:.0f} s, "
        return f"{spent / max(self.done - self._first, 1) * (self.total - self.done):.0f} s left, "
