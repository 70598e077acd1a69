"""The launcher on this machine, with jobs that are shell scripts: what is started, started again, stopped and left."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import local
from jaxreg import commands
from jaxreg.runtime.workdir import Workdir, claim
from jaxreg.spec import SpecError
from processes import Pool, Slot, slots
from support.checkout import ROOT, environment
from support.odd_names import ALL_AT_ONCE
from support.shell_jobs import FINISH, made_up_jobs, shell, starts

CONFIG = ROOT / "tests" / "support" / "launched_study.py"
HERE = Slot(frozenset(os.sched_getaffinity(0)), {"SLOT": "0"})


def run(script, workdirs, at_a_time=2, retries=2):
    pool = Pool(shell(script), [HERE] * at_a_time, retries)
    return pool.run([Workdir(w) for w in workdirs]), pool


def wait_until(holds, seconds=20):
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_every_job_runs_once_and_a_second_start_runs_none(tmp_path):
    workdirs = made_up_jobs(tmp_path / ALL_AT_ONCE, 5)
    assert run(FINISH, workdirs)[0] == 0
    assert run(FINISH, workdirs)[0] == 0
    assert [starts(w) for w in workdirs] == [1] * 5


def test_no_more_than_the_slots_at_a_time(tmp_path):
    workdirs = made_up_jobs(tmp_path, 5)
    count = "mkdir ../r$$; ls -d ../r* | wc -l > most; sleep 0.2; rmdir ../r$$; "
    assert run(count + FINISH, workdirs)[0] == 0
    assert max(int((w / "most").read_text()) for w in workdirs) == 2


def test_each_job_has_its_log_and_its_slots_environment(tmp_path):
    (workdir,) = made_up_jobs(tmp_path, 1)
    run(f"echo slot $SLOT; echo trouble >&2; {FINISH}", [workdir])
    assert (workdir / "log.txt").read_text() == "slot 0\ntrouble\n"


def test_a_third_of_the_jobs_dies_once_and_nothing_is_lost(tmp_path):
    workdirs = made_up_jobs(tmp_path, 6)
    for workdir in workdirs[::3]:
        (workdir / "mortal").touch()
    die = "if [ -e mortal ]; then rm mortal; kill -9 $$; fi; "
    code, pool = run(die + FINISH, workdirs)
    assert code == 0
    assert [starts(w) for w in workdirs] == [2, 1, 1, 2, 1, 1]
    assert pool.deaths == {Workdir(workdirs[0]): 1, Workdir(workdirs[3]): 1}


def test_the_requeue_code_is_started_again_however_often(tmp_path):
    workdirs = made_up_jobs(tmp_path, 2)
    assert run(f"[ $(wc -l < starts) -lt 6 ] && exit 75; {FINISH}", workdirs, retries=0)[0] == 0
    assert [starts(w) for w in workdirs] == [6, 6]


@pytest.mark.parametrize(("code", "tries"), [(1, 3), (2, 1)])
def test_a_job_that_fails_for_good_is_named_with_its_last_words(tmp_path, capsys, code, tries):
    workdirs = made_up_jobs(tmp_path, 2)
    (workdirs[0] / "bad").touch()
    script = f"if [ -e bad ]; then echo error: no such suite; exit {code}; fi; {FINISH}"
    assert run(script, workdirs)[0] == 1
    assert [starts(w) for w in workdirs] == [tries, 1]
    assert f"000-job: failed, exit code {code}: error: no such suite" in capsys.readouterr().err


def interrupt_when(holds, *numbers):
    def act():
        wait_until(holds)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.4)

    threading.Thread(target=act, daemon=True).start()


SAVES = "trap 'echo saved > saved; exit 75' TERM; "
SAVES += f"[ -e saved ] && {{ {FINISH}; exit 0; }}; touch on; while :; do sleep 0.05; done"


def test_ctrl_c_lets_every_job_save_and_a_second_start_goes_on(tmp_path):
    workdirs = made_up_jobs(tmp_path, 3)
    interrupt_when(lambda: all((w / "on").exists() for w in workdirs[:2]), signal.SIGINT)
    assert run(SAVES, workdirs)[0] == 75
    assert [(w / "saved").exists() for w in workdirs] == [True, True, False]
    assert starts(workdirs[2]) == 0  # nothing is started after a stop
    (workdirs[2] / "saved").touch()
    assert run(SAVES, workdirs)[0] == 0
    assert [starts(w) for w in workdirs] == [2, 2, 1]


def test_a_second_ctrl_c_kills(tmp_path):
    (workdir,) = made_up_jobs(tmp_path, 1)
    interrupt_when((workdir / "on").exists, signal.SIGINT, signal.SIGINT)
    started = time.monotonic()
    assert run("trap '' TERM; touch on; for i in $(seq 200); do sleep 0.1; done", [workdir])[0] == 75
    assert time.monotonic() - started < 10


def test_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run(FINISH, made_up_jobs(tmp_path, 1))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_job_that_another_process_holds_is_waited_for(tmp_path):
    """As after a launcher that was killed: its jobs go on without it."""
    workdirs = made_up_jobs(tmp_path, 2)
    hold = f"from jaxreg.runtime.workdir import *\nheld = epath.Path({str(workdirs[0])!r})\nwith claim(held):\n"
    hold += " print('held', flush=True)\n time.sleep(1)\n (held / 'done.json').write_text('{}')"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout.readline() == "held\n"
        assert run(FINISH, workdirs)[0] == 0
    assert [starts(w) for w in workdirs] == [0, 1]


def test_a_job_that_lost_the_race_for_its_workdir_is_waited_for(tmp_path):
    (workdir,) = made_up_jobs(tmp_path, 1)
    script = "if [ $(wc -l < starts) = 1 ]; then echo error: it is in use by process 7: wait for it; exit 2; fi; "
    code, pool = run(script + FINISH, [workdir], retries=0)
    assert (code, starts(workdir), pool.deaths) == (0, 2, {})


def test_slots_share_the_cores():
    cores = os.sched_getaffinity(0)
    one, two = slots(2, 1)
    assert one.cores | two.cores <= cores
    assert len(cores) < 2 or not one.cores & two.cores
    assert all(len(slot.cores) == 1 for slot in slots(len(cores) + 3, 1))
    with pytest.raises(SpecError, match="--jobs must be at least 1, got 0"):
        slots(0, 1)


def test_slots_share_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(2, 2)] == ["4,5", "6,7"]
    with pytest.raises(SpecError, match=r"--jobs=2 of launch.devices = 3 need more than the 4 GPUs"):
        slots(2, 3)


def launcher(*words):
    config = [] if any(word.startswith("--config=") for word in words) else [f"--config={CONFIG}"]
    return [sys.executable, str(ROOT / "launch" / "local.py"), *config, *words]


def told(*words):
    how = {"capture_output": True, "text": True, "env": environment()}
    return subprocess.run(launcher(*words), **how, timeout=120, check=False)


def test_a_second_launcher_on_one_study_is_refused(tmp_path):
    (tmp_path / "jobs").mkdir()
    with claim(tmp_path / "jobs"):
        done = told(f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert f"{tmp_path}/jobs is in use by process {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("jobs/*/config.json"))


def test_a_dry_run_prints_the_jobs_and_makes_none(tmp_path):
    done = told(f"--workdir={tmp_path / 'study'}", "--dry_run", "--config.seeds=2")
    assert done.returncode == 0, done.stderr
    assert "jobs: 2 of 1 device for 4 trials" in done.stdout
    assert not (tmp_path / "study").exists()


DISTRIBUTED = [f"--config={ROOT}/configs/digits.py", "--config.execution.distributed=auto"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--jobs=2"], "--workdir is missing"),
        (["--workdir=gs://bucket/study"], "--workdir=gs://bucket/study has no locks"),
        (["--workdir={here}", *DISTRIBUTED], "execution.distributed must be empty"),
        (["--workdir=/proc/study"], "cannot write /proc/study/jobs"),
    ],
)
def test_bad_use_is_one_line(tmp_path, words, error, capsys):
    words = [word.format(here=tmp_path) for word in words]
    assert commands.launched(local.launch, launcher(*words)[1:]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert error in told
    assert not list(tmp_path.iterdir())
