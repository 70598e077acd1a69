"""One study on one, two and four processes: the same numbers, wherever a process was stopped or killed."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jaxreg import results
from jaxreg.__main__ import BAD_USE
from jaxreg.runtime.hosts import START_AGAIN
from support import process_job

pytestmark = pytest.mark.cluster
CONFIG = """
from support.small_study import small_config

def get_config():
    config = small_config()
    config.regularizers = (("none", {}), ("label_smoothing", {"epsilon": 0.1}))
    config.dataset.augment = ()
    config.probes.only = ("calibration",)
    config.execution.update(distributed="", heartbeat_seconds=20, dispatches_per_checkpoint=1)
    return config
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "small.py").write_text(CONFIG)
    return folder


def command(place, do, workdir, devices, *more):
    where = [f"--config={place / 'small.py'}", f"--workdir={place / workdir}"]
    return [do, *where, f"--config.execution.cpu_devices={devices}", *more]


@pytest.fixture(scope="module")
def one(place):
    """One process with four devices."""
    words = [command(place, "probe", "one", 4)]
    script = [*process_job.PROCESS, json.dumps(words), "calibration"]
    subprocess.run(
        script, env=process_job.environment(place / "compiled"), check=True, timeout=300, capture_output=True
    )
    return place / "one"


@pytest.fixture(scope="module")
def two(place):
    """Two processes with two devices each: one study whole, and one in which process 1 is killed while training."""
    whole, broken = (command(place, "probe", name, 2) for name in ("two", "killed"))
    found = process_job.Job(
        place / "job_of_two", 2, [whole, broken], process_job.environment(place / "compiled"), process_job.auto
    )
    process_job.wait_for_checkpoint(found, place / "killed" / "checkpoints")
    found.processes[1].kill()
    return found, found.wait(60)


@pytest.fixture(scope="module")
def four(place, two):
    """Four processes go on with the killed study, are stopped by a signal to one of them, and go on again.

    Then they train with two devices a trial, do not agree on a learning rate, and process 0, which holds the job
    together, is killed in a last study.
    """
    on, last = command(place, "predict", "killed", 1), command(place, "train", "last", 1)
    split = command(place, "predict", "split", 1, "--config.execution.data_devices=2")
    apart = command(place, "train", "apart", 1, "--config.optimizer.learning_rate=0.{index}1")
    reached = process_job.newest(place / "killed" / "checkpoints")
    found = process_job.Job(
        place / "job_of_four",
        4,
        [on, on, split, apart, last],
        process_job.environment(place / "compiled"),
        process_job.slurm,
    )
    process_job.wait_for_checkpoint(found, place / "killed" / "checkpoints", after=reached)
    found.processes[2].send_signal(signal.SIGUSR1)
    process_job.wait_for_checkpoint(found, place / "last" / "checkpoints")
    found.processes[0].kill()
    return found, found.wait(60)


def compare(one: Path, other: Path, same) -> None:
    paths = sorted((one / "predictions").rglob("*.npz"))
    assert len(paths) == 4 * 4  # trials; three splits and the last layer
    for path in paths:
        with np.load(path) as mine, np.load(other / path.relative_to(one)) as theirs:
            for name in mine.files:
                same(mine[name], theirs[name])


def test_two_processes_give_the_numbers_of_one_to_the_bit(one, two, place):
    job_of_two, _ = two
    assert [job_of_two.codes(i) for i in (0, 1)] == [[0], [0]], job_of_two.errors(1)
    compare(one, place / "two", np.testing.assert_array_equal)
    (mine,), (theirs,) = ((folder / "probes/calibration").glob("*.parquet") for folder in (one, place / "two"))
    assert results.read(mine).equals(results.read(theirs))


def test_one_process_writes_and_speaks_for_all(two, place):
    facts = json.loads((place / "two" / "provenance.json").read_text())
    assert (facts["process_count"], facts["device_count"], len(facts["runs"])) == (2, 4, 1)
    assert "train: 40/40 steps" in two[0].errors(0)
    assert "train:" not in two[0].errors(1)


def test_a_killed_process_ends_the_job_at_once_with_one_line(two):
    job_of_two, codes = two
    assert codes[1] == -signal.SIGKILL
    if codes[0] == -signal.SIGABRT:  # it was waiting for a checkpoint, where no collective notices: JAX ends it
        assert "another task died" in job_of_two.errors(0)
        return
    assert codes[0] == START_AGAIN
    told = [line for line in job_of_two.errors(0).splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert "process 0 of 2 lost another one" in told[0]
    assert "start the job again, with any number of processes" in told[0]


def test_four_processes_go_on_where_two_were_killed_and_end_equal_to_the_bit(one, four, place):
    job_of_four, _ = four
    for index in range(4):
        assert job_of_four.codes(index)[:4] == [START_AGAIN, 0, 0, BAD_USE], job_of_four.errors(index)
    compare(one, place / "killed", np.testing.assert_array_equal)


def test_processes_with_different_configs_are_refused_before_anything_is_written(four, place):
    for index in range(4):
        assert "process 1 has another config, sweep or version than process 0" in four[0].errors(index)
    assert not (place / "apart").exists()


def test_a_signal_to_one_process_stops_all_at_one_step(four, place):
    # Where the steps differed, the checkpoint of the last would not be whole, and the numbers would not be equal.
    for index in range(4):
        assert four[0].errors(index).count("stopped: all finished work is saved") == 1


def test_a_trial_that_spans_processes_has_its_numbers_to_rounding(one, four, place):
    def close(mine, theirs):
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
        else:
            np.testing.assert_array_equal(mine, theirs)

    compare(one, place / "split", close)


def test_without_process_0_the_others_end_too(four):
    job_of_four, codes = four
    assert codes[0] == -signal.SIGKILL
    # JAX ends a process whose coordinator is gone by itself (SIGABRT) if it notices before a collective fails.
    assert set(codes[1:]) <= {START_AGAIN, -signal.SIGABRT}
    said = ("lost another one", "another task died")
    for index in (1, 2, 3):
        assert any(words in job_of_four.errors(index) for words in said)
