"""What a task of a Slurm array does: it runs one job, hands signals on, asks to be requeued; and what is queued."""

import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

SIGNAL = "USR1"  # what Slurm sends ahead of the time limit
REQUEUE, BAD_USE = 75, 2  # start it again; the same command would fail again
PAUSE = 0.2  # seconds between two looks at the process


class Task:
    """A command that runs until it ends; on USR1 and TERM it may save first, and Slurm starts it again.

    One that dies otherwise is started again `retries` times: `deaths`, a file, counts them.
    """

    def __init__(self, command: list[str], deaths: str, retries: int) -> None:
        self.command, self.deaths, self.retries = command, deaths, retries

    def __call__(self) -> None:
        """Raises RuntimeError if the command failed; exits with 75 after a requeue."""
        process, handed_on = subprocess.Popen(self.command), [REQUEUE]

        def hand_on(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)
            handed_on.append(-number)  # how the process ends that does not listen yet

        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, hand_on)
        while process.poll() is None:  # `wait` would hold a lock that `send_signal` in a handler wants
            time.sleep(PAUSE)
        if process.returncode in handed_on or self.may_try_again(process.returncode):
            requeue()
            sys.exit(REQUEUE)
        if process.returncode:
            raise RuntimeError(f"{' '.join(self.command)} ended with exit code {process.returncode}")

    def may_try_again(self, code: int) -> bool:
        """Notes a death; whether another start may help."""
        if code in (0, BAD_USE):
            return False
        with open(self.deaths, "a") as file:  # noqa: PTH123  (every host of a job may be lost at once)
            file.write(".")
            return file.tell() <= self.retries

    def checkpoint(self) -> Any:
        """For submitit, should USR1 come before the command runs: start again as before."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def requeue() -> None:
    """Puts this very task back into the queue, unless it was cancelled or Slurm has done so already."""
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return  # one task of a job over several hosts is enough
    array, own = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # The last task of an array has the id of the whole array: by that id all of its tasks would be requeued.
    job = f"{array}_{own}" if array else os.environ["SLURM_JOB_ID"]
    told = subprocess.run(["scontrol", "show", "job", job, "--oneliner"], capture_output=True, text=True, check=False)
    if "JobState=RUNNING" in told.stdout:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)


def queue() -> set[str]:
    """The jobs of this user that Slurm has, as ARRAY_TASK or as JOB."""
    words = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
