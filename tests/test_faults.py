"""What goes wrong outside of the program ends with one line and nothing lost: the same command then finishes the study.

A kill is shown where it strikes: `Killed` is no `Exception`, so nothing that follows it is cleaned up or caught, as after
SIGKILL. `test_study.py` sends the real signal in training, prediction and attack.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from jaxreg import files, results, study, workdir
from jaxreg.__main__ import main
from jaxreg.preemption import Preemption
from jaxreg.probe import Measured, Row
from jaxreg.probes import Probe

CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from small import small_config

def get_config():
    config = small_config()
    config.regularizers = (("none", {{}}),)
    config.dataset.augment = ()
    config.steps = 8
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
def compiled(tmp_path_factory):
    """Every command compiles the same programs: once is enough."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path_factory.mktemp("compiled")), 0.1)):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(study, "PROBES", {"calibration": Probe(accuracy, lambda spec: spec.calibration)})


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG.format(tests=str(Path(__file__).parent)))
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
        with killed(number) as left:
            with contextlib.suppress(Killed):
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


def test_a_full_disk(config, finished, small_disk, capsys):
    place = small_disk / "study"
    for free in (0, 50_000, 120_000, 200_000, 400_000):
        fill(small_disk, free)
        capsys.readouterr()
        print(free, do("probe", config, place))
        print(capsys.readouterr())
        (small_disk / "filler").unlink()
