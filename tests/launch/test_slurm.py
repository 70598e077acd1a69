"""What the Slurm launcher would submit, where there is no Slurm."""

import contextlib
import os
import subprocess
import sys

import pytest

import slurm
import slurm_task
from jaxreg import commands
from support.checkout import ROOT

EXPECTED = ("partition=gpu", "gpus-per-node=1", "requeue", "time=60", "job-name=digits-sweep", "signal=USR1@90")


def told(tmp_path, *words):
    script, config = ROOT / "launch" / "slurm.py", f"--config={ROOT}/configs/digits.py:sweep"
    command = [sys.executable, script, config, f"--workdir={tmp_path / 'study'}", "--dry_run", *words]
    environment = {**os.environ, "PATH": str(tmp_path)}  # no srun, sbatch or squeue, whatever is installed here
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_a_dry_run_prints_script_and_jobs_and_makes_none(tmp_path):
    done = told(tmp_path, "--config.launch.slurm.partition=gpu", "--config.launch.slurm.gpus_per_node=1")
    assert done.returncode == 0, done.stderr
    for line in EXPECTED:
        assert f"#SBATCH --{line}\n" in done.stdout
    assert "--account" not in done.stdout  # empty: left to Slurm
    assert "export SUBMITIT_PREEMPT_SIGNAL=USR1" in done.stdout
    assert "jobs: 4 of 1 device for 90 trials" in done.stdout
    assert not (tmp_path / "study").exists()


def test_an_option_that_submitit_does_not_know_is_one_line(tmp_path):
    done = told(tmp_path, "--config.launch.slurm.memory=4")
    error = "error: launch.slurm: Unavailable parameter(s): ['memory']: name options as submitit does.\n"
    assert (done.returncode, done.stderr) == (2, error)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--config.seeds=0", "config.seeds must be at least 1"),
        ("--workdir=gs://bucket/study", "--workdir=gs://bucket/study has no locks"),
        ("--workdir=runs/100%t", "must have no % and no line break"),
    ],
)
def test_bad_use_is_one_line(tmp_path, words, error, capsys):
    config = f"--config={ROOT}/configs/digits.py:sweep"
    assert (
        commands.launched(slurm.launch, ["slurm.py", config, f"--workdir={tmp_path / 'study'}", "--dry_run", words])
        == 2
    )
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert error in told


@pytest.mark.parametrize(("code", "starts"), [(137, 3), (1, 3), (2, 1), (0, 1)])
def test_a_task_that_died_is_put_back_a_few_times(tmp_path, monkeypatch, code, starts):
    requeued = []
    monkeypatch.setattr(slurm_task, "requeue", lambda: requeued.append(1))
    monkeypatch.setattr(slurm_task, "PAUSE", 0.01)
    monkeypatch.setattr(slurm_task.signal, "signal", lambda number, handler: None)
    task = slurm_task.Task(["sh", "-c", f"exit {code}"], str(tmp_path / "deaths"), 2)
    for start in range(1, starts):
        with pytest.raises(SystemExit, match="75"):
            task()
        assert len(requeued) == start
    with pytest.raises(RuntimeError, match=f"exit code {code}") if code else contextlib.nullcontext():
        task()
    assert len(requeued) == starts - 1
