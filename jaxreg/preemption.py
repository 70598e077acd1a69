"""Being stopped from outside: SIGTERM and SIGUSR1 ask for a checkpoint and an exit that says "requeue me"."""

import signal
from types import FrameType

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: a scheduler may start the same command again


class Preempted(Exception):
    """The run was asked to stop; all that was finished is saved, and the same command goes on from there."""


class Preemption:
    """Remembers that a stop was asked for, until the work reaches a place where nothing is lost."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """Takes over SIGTERM, and SIGUSR1 (which Slurm can send ahead of a time limit)."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def check(self) -> None:
        """Raises `Preempted` if a stop was asked for."""
        if self.requested:
            raise Preempted
