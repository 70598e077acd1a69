"""What goes wrong outside of the program ends with one line and nothing lost: the same command then finishes.

A kill is shown where it strikes: `Killed` is no `Exception`, so nothing that follows it is cleaned up or caught, as
after SIGKILL. The real signal comes in the writing of results and report here, and in `test_study.py` in training,
prediction and attack.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from etils import epath

from jaxreg import results, study
from jaxreg.__main__ import main
from jaxreg.config import resolve
from jaxreg.measured import Measured, Row
from jaxreg.probes import Probe
from jaxreg.robustness.finished_calls import remembered
from jaxreg.robustness.loop import Attacked
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.training.curves import Curves
from jaxreg.training.program import programs_of
from jaxreg.training.step import Metrics
from support import checkout
from support.small_study import small_config

CONFIG = """
from support.small_study import small_config

def get_config():
    config = small_config()
    config.regularizers = (("none", {}),)
    config.dataset.augment = ()
    config.steps = 8
    config.probes.only = ("calibration",)
    return config
"""


class Killed(BaseException):
    """The process is gone."""


def accuracy(trained, spec):
    """A probe that is cheap."""
    found = trained.predictions("test")
    right = found.logits.argmax(2) == found.labels
    return [Measured([Row("test", "accuracy", float(r.mean()), len(r), 0.0, 1.0)], {"test/correct": r}) for r in right]


@pytest.fixture(scope="module", autouse=True)
def handlers():
    """What commands change of the process is put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(study, "PROBES", {"calibration": Probe(accuracy, lambda spec: spec.calibration)})


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


def do(command, config, place, *more):
    return main(["jaxreg", command, f"--config={config}", f"--workdir={place}", *more])


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A study that is trained and predicted."""
    place = tmp_path_factory.mktemp("trained") / "study"
    assert do("train", config, place) == 0
    assert do("predict", config, place) == 0
    return place


@pytest.fixture(scope="module")
def finished(trained, config, tmp_path_factory):
    """The same, measured, without a fault."""
    place = tmp_path_factory.mktemp("finished") / "study"
    shutil.copytree(trained, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "PROBES", {"calibration": Probe(accuracy, lambda spec: spec.calibration)})
        assert do("probe", config, place) == 0
    return place


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """The same, with its report."""
    place = tmp_path_factory.mktemp("reported") / "study"
    shutil.copytree(finished, place)
    assert study.report([epath.Path(place)]) == 0
    return place


def files_of(place):
    return {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def arrays(place):
    return {
        p.relative_to(place): dict(np.load(p)) for f in ("predictions", "probes") for p in (place / f).rglob("*.npz")
    }


def table(place):
    (path,) = (place / "probes").glob("*/*.parquet")
    return results.read(path)


def same(one, other):
    mine, theirs = arrays(one), arrays(other)
    assert mine.keys() == theirs.keys()
    for path in mine:
        for name in mine[path]:
            np.testing.assert_array_equal(mine[path][name], theirs[path][name])
    assert table(one).equals(table(other))
    assert not list(other.rglob("*.part"))


@contextlib.contextmanager
def killed(number):
    """Kills the process in the middle of writing its `number`-th file, where it comes that far."""
    kind, left = type(epath.Path()), [number]
    write = kind.write_bytes

    def write_bytes(self, data):
        left[0] -= 1
        if left[0] == 0:
            write(self, data[: len(data) // 2])
            raise Killed
        return write(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "write_bytes", write_bytes)
        yield left


def test_killed_in_any_write_of_the_results_a_study_ends_as_if_it_had_not_been(config, trained, finished, tmp_path):
    place = tmp_path / "study"
    for number in itertools.count(1):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(trained, place)
        with killed(number) as left, contextlib.suppress(Killed):
            do("probe", config, place)
        if left[0] > 0:
            break
        assert do("probe", config, place) == 0
        same(finished, place)
    assert number > 6  # configuration, provenance, arrays of two trials, table, marker


def disk(path, size):
    """A small disk of its own, or the reason why there is none."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.decode().strip() or 'mount failed'} (needs the right to mount)")


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "disk"
    disk(path, "64m")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(path, free):
    stat = os.statvfs(path)
    (path / "filler").write_bytes(bytes(stat.f_bavail * stat.f_frsize - free))


def refused(config, place, capsys, reason, command="probe"):
    """The command ends with code 2 and one line that holds `reason`."""
    capsys.readouterr()
    assert do(command, config, place) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    assert "cannot write" in line
    assert reason in line
    assert "start the same command again" in line


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # of those that write asynchronously
def test_a_full_disk(config, finished, small_disk, capsys):
    # Too little for the config, for a checkpoint, for predictions, for what a probe finds.
    for free in (0, 50_000, 120_000, 200_000):
        fill(small_disk, free)
        refused(config, small_disk / "study", capsys, "No space left on device")
        (small_disk / "filler").unlink()
    assert do("probe", config, small_disk / "study") == 0
    same(finished, small_disk / "study")


def test_curves_on_a_full_disk_do_not_wait_for_ever(small_disk):
    program = programs_of(resolve(small_config()))[0]

    def add_more_than_a_buffer_holds(curves):
        for step in range(500):
            curves.add(step, Metrics(*np.ones((4, len(program.trials), 2))))

    with Curves(Workdir(small_disk), program, 0) as curves:
        fill(small_disk, 0)
        with pytest.raises(OSError, match="No space left"):
            add_more_than_a_buffer_holds(curves)
        (small_disk / "filler").unlink()


def test_a_read_only_workdir(config, trained, finished, small_disk, capsys):
    place = small_disk / "study"
    shutil.copytree(trained, place)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(config, place, capsys, "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert do("probe", config, place) == 0
    same(finished, place)


def test_a_clock_that_goes_back(config, finished, tmp_path, monkeypatch):
    place, asked = tmp_path / "study", itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "is_due", lambda self: next(asked) == 3)
        assert do("train", config, place) == 75  # stopped after six of eight steps
    year, now, started = 365 * 24 * 3600, time.time, time.time()
    for path in place.rglob("*"):
        os.utime(path, (now() + year, now() + year))  # written in what is now the future
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 2 * started - now() - year)  # and the clock runs backwards
        patch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
        assert do("probe", config, place) == 0
    same(finished, place)
    (curves,) = (pd.read_parquet(path) for path in (place / "curves").glob("*.parquet"))
    assert sorted(curves["step"].unique()) == [2, 4, 6, 8]


def test_killed_while_a_finished_call_of_an_attack_is_written(tmp_path):
    shape = {name: np.full((2, 3), place) for place, name in enumerate(Attacked._fields)}
    calls = []
    call = remembered("pgd", lambda job, chunk: calls.append(job) or Attacked(**shape), tmp_path, "linf")
    with killed(1), contextlib.suppress(Killed):
        call(np.ones(3), np.zeros(2))
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]  # half of it, under a name that nobody reads
    for _ in range(2):
        found = call(np.ones(3), np.zeros(2))
        jax.tree.map(np.testing.assert_array_equal, found, Attacked(**shape))
    assert len(calls) == 2  # the one that was lost, and once again


DRIVER = """
import os, signal, sys
from etils import epath
from jaxreg.__main__ import main

kind = type(epath.Path())
write = kind.write_bytes

def write_bytes(self, data):
    if os.environ["KILLED_IN"] in self.name:
        write(self, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, data)

kind.write_bytes = write_bytes
sys.exit(main(["jaxreg", *sys.argv[1:]]))
"""


@pytest.mark.cluster
@pytest.mark.parametrize("file", ["results.parquet", "report/index.html"])
def test_sigkill_while_results_and_report_are_written(file, reported, tmp_path):
    place = tmp_path / "study"
    shutil.copytree(reported, place)
    (place / file).unlink()
    environment = checkout.environment(KILLED_IN=Path(file).name)
    words = [sys.executable, "-c", DRIVER, "report", str(place)]
    done = subprocess.run(words, env=environment, capture_output=True, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (place / file).exists()
    assert list(place.rglob(f".{Path(file).name}.part"))
    if file == "results.parquet":
        results.gather(place)
    else:
        assert study.report([epath.Path(place)]) == 0
    assert files_of(place) == files_of(reported)


@pytest.mark.parametrize("after", range(1, 4))
def test_killed_in_the_report_it_is_written_again(after, reported, tmp_path, monkeypatch):
    place = tmp_path / "study"
    shutil.copytree(reported, place)
    with killed(after) as left, contextlib.suppress(Killed):
        study.report([epath.Path(place)])
    assert left[0] == 0
    assert study.report([epath.Path(place)]) == 0
    assert files_of(place) == files_of(reported)
