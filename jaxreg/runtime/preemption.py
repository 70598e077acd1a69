"""Being stopped from outside: SIGTERM, SIGUSR1 and Ctrl-C ask for a checkpoint and an exit that says "requeue me".

A signal at one process of a job stops all of them, at the same step.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from jaxreg.runtime import hosts, parallel


class Preempted(Exception):
    """The run was asked to stop; all that was finished is saved, and the same command goes on from there."""


class Preemption:
    """Remembers that a stop was asked for, until the work reaches a place where nothing is lost."""

    def __init__(self) -> None:
        self._noted = False
        self._answer = lambda: False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes over SIGTERM, SIGUSR1 (which Slurm can send ahead of a time limit) and the first Ctrl-C."""
        numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        if number == signal.SIGINT:  # who presses it again does not want to wait
            signal.signal(number, signal.default_int_handler)
            os.write(2, b"\nstopping at the next place where all is saved; Ctrl-C again stops at once.\n")

    def is_due(self) -> bool:
        """Whether a stop was asked for; among several processes, of any of them, before the call before this one.

        So the question is under way while the devices work, and nobody waits for the answer. All processes must ask
        at the same places.
        """
        if hosts.count() == 1:
            return self._noted
        answer, self._answer = self._answer, parallel.ask_all(self._noted)
        return answer()

    def check(self) -> None:
        """Raises `Preempted` if a stop is due."""
        if self.is_due():
            raise Preempted
