"""A real study by real launchers: killed, preempted and timed out on the way, it ends equal to the bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from etils import epath

from jaxreg import results
from jaxreg.jobs import directory
from support import checkout
from support.slurm_cluster import cluster, lacking

pytestmark = pytest.mark.cluster
CONFIG = checkout.ROOT / "tests" / "support" / "launched_study.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("launched")


@pytest.fixture(scope="module")
def environment():
    return checkout.environment()


def command(script, study, *more):
    return [sys.executable, str(checkout.ROOT / "launch" / script), f"--config={CONFIG}", f"--workdir={study}", *more]


def wait_for(holds, seconds=240):
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit
        time.sleep(0.1)
    return found


def at_work(study, number):
    """The process id of a job that is training."""
    saved = list(study.glob(f"jobs/{number:03d}-*/checkpoints/*/[0-9]*"))
    return int((saved[0].parents[2] / ".lock").read_text()) if saved else None


def numbers(study):
    return results.select(directory.workdirs(epath.Path(study)))


def same_numbers(one, other):
    frames = [numbers(study) for study in (one, other)]
    assert len(frames[0]) > 100
    pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.fixture(scope="module")
def local(place, environment):
    """The study on this machine, one of its three jobs killed once."""
    words = command("local.py", place / "local", "--jobs=2")
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        os.kill(wait_for(lambda: at_work(place / "local", 0)), signal.SIGKILL)
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    return out, err


def test_a_killed_job_is_started_again_and_all_is_reported(place, local):
    out, err = local
    assert "exit code -9, starting it again" in err
    assert "label_smoothing(epsilon=0.1)  3" in out
    assert (place / "local" / "report" / "index.html").stat().st_size > 10_000
    frame = numbers(place / "local")
    assert frame["trial"].nunique() == 6
    assert set(frame["probe"]) == {"calibration"}  # the only one that the config asks for


def test_one_process_gives_the_numbers_of_jobs_side_by_side(place, local, environment):
    """All trials in one process and one program, with as many threads as a job has."""
    words = [sys.executable, "-m", "jaxreg", "study", f"--config={CONFIG}", f"--workdir={place / 'one'}"]
    told([*words, "--config.execution.cpu_devices=1"], environment | {"NPROC": "1"})
    columns = [name for name in results.SCHEMA.names if name != "program"]
    one, other = (numbers(place / name).sort_values(results.NUMBER)[columns] for name in ("one", "local"))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True), check_exact=True)


@pytest.fixture(scope="module")
def slurm(place, environment):
    """A Slurm of this machine alone; without one its tests are skipped, and say why."""
    why = lacking()
    if why:
        pytest.skip(f"no Slurm to test against: {why}")
    with cluster(place / "slurm") as variables:
        yield environment | {key: variables[key] for key in ("SLURM_CONF", "PATH")}


def told(words, environment):
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def queued(environment):
    return told(["squeue", "--array", "--noheader", "--format=%i"], environment).split()


def test_slurm_preempts_kills_and_times_out_and_the_study_is_equal(place, local, slurm):
    """A third of the array dies once, another is preempted, the last runs into its time limit."""
    study = place / "by_slurm"
    assert "3 jobs: 3 to submit" in told(command("slurm.py", study), slurm)
    assert "3 jobs: 0 to submit" in told(command("slurm.py", study), slurm)  # all are queued
    array = json.loads(next(study.glob("jobs/000-*/slurm.json")).read_text())["job"].split("_")[0]
    os.kill(wait_for(lambda: at_work(study, 1)), signal.SIGKILL)
    wait_for(lambda: at_work(study, 0))
    told(["scontrol", "requeue", f"{array}_0"], slurm)  # as a preemption does
    wait_for(lambda: at_work(study, 2))
    told(["scancel", "--signal=USR1", f"{array}_2"], slurm)  # as ahead of a time limit
    wait_for(lambda: not queued(slurm))
    assert [path.read_text() for path in study.glob("jobs/*/deaths")] == ["."]  # of the one that was killed
    assert "3 jobs: 0 to submit" in told(command("slurm.py", study), slurm)
    assert "3 jobs: 3 done" in told([sys.executable, "-m", "jaxreg", "status", str(study)], slurm)
    logs = {path: path.read_text() for path in study.glob(f"slurm/{array}_*/*.err")}
    assert sum("CANCELLED" in text and "REQUEUE" in text for text in logs.values()) == 3
    same_numbers(place / "local", study)


def test_a_cancelled_job_is_not_requeued(place, local, slurm):
    study = place / "cancelled"
    words = command("slurm.py", study, "--config.seeds=1", "--config.steps=4000")
    told(words, slurm)
    wait_for(lambda: at_work(study, 0))
    told(["scancel", "--user=root"], slurm)
    wait_for(lambda: not queued(slurm))
    time.sleep(1)
    assert not queued(slurm)
    (state,) = map(directory.state, directory.workdirs(epath.Path(study)))
    assert state.word == "stopped"
    assert "1 jobs: 1 to submit" in told(words, slurm)  # asked for again, and only then
    told(["scancel", "--user=root"], slurm)
    wait_for(lambda: not queued(slurm))
