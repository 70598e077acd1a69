"""Jobs as processes of this machine: a few at a time, each on its own cores or GPUs, started again where that helps."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from jaxreg.jobs import directory
from jaxreg.runtime import BAD_USE, START_AGAIN
from jaxreg.runtime.workdir import IN_USE, Workdir, is_claimed
from jaxreg.spec import require

PAUSE = 0.1  # seconds between two looks


class Slot(NamedTuple):
    """What one of the jobs that run at a time may use."""

    cores: frozenset[int]
    environment: Mapping[str, str]


class Running(NamedTuple):
    """A job's process."""

    workdir: Workdir
    process: subprocess.Popen[bytes]
    slot: Slot
    started: float
    log: Path
    said: int  # bytes of the log that are of earlier starts


class Pool:
    """Runs `command(workdir)` for every job, one in each slot at a time.

    Exit code 75 means "start me again"; a job that died otherwise is started again `retries` times. SIGINT and SIGTERM
    are passed on as SIGTERM, and waited for; the second one kills.
    """

    def __init__(self, command: Callable[[Workdir], list[str]], slots: Sequence[Slot], retries: int) -> None:
        self.command, self.retries, self.free = command, retries, list(slots)
        self.running: list[Running] = []
        self.deaths: Counter[Workdir] = Counter()
        self.failed: list[Workdir] = []
        self.stops = 0

    def run(self, workdirs: Sequence[Workdir]) -> int:
        """Runs all that is not done: 0 if all is, 1 if a job failed for good, 75 if a stop was asked for."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        waiting = deque(workdir for workdir in workdirs if not directory.is_done(workdir))
        _say(f"{len(workdirs) - len(waiting)} of {len(workdirs)} jobs are done")
        try:
            while self.running or (waiting and not self.stops):
                self._start(waiting)
                self._pass_on_stops()
                time.sleep(PAUSE)
                waiting.extend(self._ended())
        finally:
            for one in self.running:  # only where this very loop failed
                one.process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        return 1 if self.failed else START_AGAIN if self.stops else 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _start(self, waiting: deque[Workdir]) -> None:
        for _ in range(len(waiting)):
            if not self.free or self.stops:
                return
            workdir = waiting.popleft()
            if directory.is_done(workdir):
                _say(f"{workdir.name}: done elsewhere")
            elif is_claimed(workdir):  # another launcher, or one that was killed, has it running: wait for it
                waiting.append(workdir)
            else:
                slot = self.free.pop()
                log = Path(workdir.log)
                said = log.stat().st_size if log.exists() else 0
                process = _started(self.command(workdir), log, slot)
                self.running.append(Running(workdir, process, slot, time.monotonic(), log, said))
                _say(f"{workdir.name}: started, log {log}")

    def _pass_on_stops(self) -> None:
        for one in self.running:
            if self.stops > 1:
                one.process.kill()
            elif self.stops:
                one.process.terminate()

    def _ended(self) -> list[Workdir]:
        """Frees the slots of jobs that ended; returns those to start again."""
        again = []
        for one in [r for r in self.running if r.process.poll() is not None]:
            self.running.remove(one)
            self.free.append(one.slot)
            if self._is_worth_another_start(one):
                again.append(one.workdir)
        return again

    def _is_worth_another_start(self, one: Running) -> bool:
        code, name = one.process.returncode, one.workdir.name
        if code == 0:
            _say(f"{name}: done in {time.monotonic() - one.started:.0f} s")
            return False
        if self.stops:
            _say(f"{name}: stopped, exit code {code}")
            return False
        if code == BAD_USE and IN_USE in _words(one):  # by one that a killed launcher had started: wait for it
            _say(f"{name}: {_last_line(one)}")
            return True
        self.deaths[one.workdir] += code != START_AGAIN
        if code == BAD_USE or self.deaths[one.workdir] > self.retries:
            self.failed.append(one.workdir)
            _say(f"{name}: failed, exit code {code}: {_last_line(one)}")
            return False
        _say(f"{name}: exit code {code}, starting it again")
        return True


def _started(command: list[str], log: Path, slot: Slot) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that Ctrl-C reaches the launcher alone; it inherits this thread's cores."""
    whole = os.sched_getaffinity(0)
    os.sched_setaffinity(0, slot.cores)
    try:
        with log.open("ab") as file:
            environment = {**os.environ, **slot.environment}
            return subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    finally:
        os.sched_setaffinity(0, whole)


def _words(one: Running) -> str:
    """What the log has gained since the job was started."""
    return one.log.read_bytes()[one.said :].decode(errors="replace").strip()


def _last_line(one: Running) -> str:
    return (_words(one).splitlines() or ["its log is empty"])[-1]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def slots(count: int, devices: int) -> list[Slot]:
    """`count` slots of this machine: each with its own share of the cores, and of the GPUs if there are any.

    Raises: SpecError: if there are GPUs, but not `devices` of them for each slot.
    """
    require(count > 0, f"--jobs must be at least 1, got {count}.")
    cores, gpus = sorted(os.sched_getaffinity(0)), _gpus()
    share = max(1, len(cores) // count)
    enough = not gpus or count * devices <= len(gpus)
    require(
        enough, f"--jobs={count} of launch.devices = {devices} need more than the {len(gpus)} GPUs here: lower one."
    )
    found = []
    for i in range(count):
        own = [cores[(i * share + j) % len(cores)] for j in range(share)]
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * devices : (i + 1) * devices])} if gpus else {}
        found.append(Slot(frozenset(own), visible))
    return found


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return []
    return [str(i) for i, line in enumerate(told.stdout.splitlines()) if line.startswith("GPU ")]
