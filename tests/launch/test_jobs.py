"""A study as a directory of jobs: it grows by what is new, joins by identity, and says how far it is."""

import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from etils import epath

from jaxreg import config as configs
from jaxreg import results, study
from jaxreg.__main__ import main
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import launching
from jaxreg.jobs.record import settle
from jaxreg.report import data
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir, claim, is_claimed
from jaxreg.spec import SpecError
from support import finished_jobs
from support.checkout import ROOT
from support.odd_names import ALL_AT_ONCE
from support.small_study import small_config

SWEEP = [{}, {"optimizer.learning_rate": 0.2}]


STUDY = """
from support.small_study import small_config
from jaxreg import sweeps

def get_config():
    config = small_config()
    config.launch = {"jobs": 2}
    return config

def sweep():
    return sweeps.over("optimizer.learning_rate", 0.1, 0.2, 0.4)
"""


def prepare(directory, seeds=2, sweep=SWEEP, count=2, **changes):
    config = small_config()
    config.seeds, config.launch = seeds, {"jobs": count}
    config.update_from_flattened_dict(changes)
    plain = configs.as_plain(config)
    study = configs.resolve(plain, sweep)
    return study, launching.prepare(study, plain, sweep, epath.Path(directory), False)


def held(workdir):
    return json.loads(Path(workdir, "config.json").read_text())


def test_every_job_is_a_study_of_its_own(tmp_path):
    study, workdirs = prepare(tmp_path)
    assert [w.name[:4] for w in workdirs] == ["000-", "001-"]
    found = [t for w in workdirs for t in configs.resolve(**held(w)).trials]
    assert {(t.id, t.setting.hyperparameters) for t in found} == {
        (t.id, t.setting.hyperparameters) for t in study.trials
    }
    assert len(found) == 8


def test_a_study_in_a_folder_of_any_name_finds_its_jobs(tmp_path):
    for beside in ("w", "w[2]", ALL_AT_ONCE, "a*b", "axb"):
        _, workdirs = prepare(tmp_path / beside)
        assert jobs.workdirs(tmp_path / beside) == workdirs
        assert "2 jobs: 2 waiting" in jobs.status(tmp_path / beside)


def test_a_job_holds_only_the_settings_that_it_needs(tmp_path):
    _, workdirs = prepare(tmp_path, seeds=1)
    assert [held(w)["sweep"] for w in workdirs] == [[{}], [{"optimizer.learning_rate": 0.2}]]


def test_preparing_again_makes_no_job(tmp_path):
    _, before = prepare(tmp_path)
    _, after = prepare(tmp_path, count=7)
    assert after == before


def test_a_study_grows_by_seeds_and_settings_alone(tmp_path):
    first, before = prepare(tmp_path)
    old = {w: jobs.trials_in(w) for w in before}
    more = [*SWEEP, {"optimizer.learning_rate": 0.3}]
    grown, after = prepare(tmp_path, seeds=3, sweep=more, count=1)
    assert {w: jobs.trials_in(w) for w in before} == old
    (new,) = set(after) - set(before)
    assert set(jobs.trials_in(new)) == {t.id for t in grown.trials} - {t.id for t in first.trials}
    assert len(jobs.trials_in(new)) == 3 * 2 * 3 - 8


def test_a_plain_workdir_grows_into_jobs(tmp_path, capsys):
    plain = configs.as_plain(small_config())
    (tmp_path / "config.json").write_text(json.dumps({"config": plain, "sweep": [{}]}))
    _, workdirs = prepare(tmp_path, seeds=3, sweep=[{}], count=1)
    assert workdirs[0] == Workdir(tmp_path)
    assert sorted(t.split("-s")[1][0] for t in jobs.trials_in(workdirs[1])) == ["2", "2"]
    assert main(["jaxreg", "plan", f"--workdir={tmp_path}"]) == 0  # on its own it is still what it was
    assert "study small: 4 trials in 1 programs" in capsys.readouterr().out


def test_changed_probes_reach_every_job_and_undo_done(tmp_path):
    _, workdirs = prepare(tmp_path)
    for workdir in workdirs:
        jobs.finish(workdir, held(workdir)["config"])
    assert all(map(jobs.is_done, prepare(tmp_path)[1]))
    prepare(tmp_path, **{"probes.calibration.bootstrap": 21})
    assert {held(w)["config"]["probes"]["calibration"]["bootstrap"] for w in workdirs} == {21}
    assert not any(map(jobs.is_done, workdirs))


def test_another_study_is_refused(tmp_path):
    prepare(tmp_path)
    with pytest.raises(SpecError, match="holds the study 'small': choose another --workdir for 'large'"):
        prepare(tmp_path, study="large")


@pytest.mark.parametrize("plain", [False, True])
def test_a_study_does_not_grow_by_what_no_label_tells(tmp_path, plain):
    if plain:
        config = {"config": configs.as_plain(small_config()), "sweep": [{}]}
        (tmp_path / "config.json").write_text(json.dumps(config))
    else:
        prepare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        SpecError, match=r"another config \(optimizer.learning_rate: 0.1 -> 0.3\): restore .* sweep\(\)"
    ):
        prepare(tmp_path, **{"optimizer.learning_rate": 0.3})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    prepare(tmp_path, seeds=3, **{"dataset.data_dir": "/elsewhere"})  # where files lie changes nothing


def test_a_trial_is_called_the_same_however_it_was_asked_for():
    rates = [{"optimizer.learning_rate": rate} for rate in (0.1, 0.2)]
    alone, swept = (configs.resolve(small_config(), sweep).trials for sweep in ([{}], rates))
    assert [(t.id, t.setting.hyperparameters) for t in alone] == [(t.id, t.setting.hyperparameters) for t in swept[:4]]
    assert all('"optimizer.learning_rate": 0.2' in t.setting.hyperparameters for t in swept[4:])
    widths = configs.resolve(small_config(), [{"model.widths": (4,), "optimizer.learning_rate": 0.2}]).trials
    assert [t.overrides for t in widths] == [t.overrides for t in swept[4:]]


def test_what_was_only_planned_is_no_study_of_jobs(tmp_path):
    (tmp_path / "jobs" / "data_cache").mkdir(parents=True)  # as `plan --measure` leaves it
    assert not jobs.of_jobs(epath.Path(tmp_path))
    prepare(tmp_path)
    assert jobs.of_jobs(epath.Path(tmp_path))


def test_a_program_lets_go_of_the_one_before(tmp_path, monkeypatch):
    """And so of its trials on the devices."""
    sweep, seen = [{}, {"model.widths": (8,)}, {"model.widths": (6,)}], []

    def stage(job):
        assert not any(before() for before in seen)
        seen.append(weakref.ref(job))

    monkeypatch.setattr(study, "PER_PROGRAM", {"train": stage})
    plain = configs.as_plain(small_config())
    assert study.run("train", configs.resolve(plain, sweep), plain, sweep, epath.Path(tmp_path), Preemption()) == 0
    assert len(seen) == 3


def test_a_job_that_starts_undoes_no_change_of_its_launcher(tmp_path):
    _, (workdir, _) = prepare(tmp_path)
    read = held(workdir)
    prepare(tmp_path, **{"probes.calibration.bootstrap": 21})  # while the job starts
    settle(workdir, **read)
    assert held(workdir)["config"]["probes"]["calibration"]["bootstrap"] == 21
    jobs.finish(workdir, read["config"])
    assert not jobs.is_done(workdir)  # and so it is asked again


def test_a_report_before_any_job_is_finished_is_one_line(tmp_path, capsys):
    prepare(tmp_path)
    assert main(["jaxreg", "report", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "wait until a job is finished" in line


def test_a_directory_of_jobs_is_no_workdir(tmp_path, capsys):
    prepare(tmp_path)
    assert main(["jaxreg", "train", f"--workdir={tmp_path}"]) == 2
    assert "holds a study of jobs: go on with launch/local.py" in capsys.readouterr().err


def test_the_same_job_has_the_same_name_on_every_machine(tmp_path):
    one, other = (prepare(tmp_path / name)[1] for name in ("one", "other"))
    assert [w.name for w in one] == [w.name for w in other]


def test_plan_prints_sweep_and_jobs_and_what_is_there(tmp_path, capsys):
    prepare(tmp_path)
    (tmp_path / "study.py").write_text(STUDY)
    words = ["jaxreg", "plan", f"--config={tmp_path / 'study.py'}", f"--workdir={tmp_path}"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "sweep: 3 settings\n  optimizer.learning_rate=0.1\n" in told
    assert "jobs: 2 of 1 device for 4 trials, 8 trials have theirs already" in told
    assert "hours: unknown, as no step was measured" in told


def test_status_tells_each_jobs_state(tmp_path, capsys):
    _, (done, stopped, running, waiting) = prepare(tmp_path, count=4)
    jobs.finish(done, held(done)["config"])
    for workdir in (done, stopped, running):
        workdir.provenance.write_text("{}")
    program = finished_jobs.program_of(held(stopped))
    (stopped.checkpoints(program) / "20").mkdir(parents=True)
    with claim(running):
        assert main(["jaxreg", "status", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[:4]] == [
        [done.name, "2", "trials", "done"],
        [stopped.name, "2", "trials", "stopped"],
        [running.name, "2", "trials", "running"],
        [waiting.name, "2", "trials", "waiting"],
    ]
    assert "step 20 of 40" in lines[1]
    assert lines[4] == "4 jobs: 1 done, 1 running, 1 stopped, 1 waiting"
    assert main(["jaxreg", "status", str(tmp_path / "nowhere")]) == 2


def test_looking_at_a_lock_does_not_take_it(tmp_path):
    workdir = Workdir(tmp_path)
    assert not is_claimed(workdir)
    with claim(workdir):
        assert is_claimed(workdir)
        hold = f"from jaxreg.runtime.workdir import *\nwith claim(Workdir({str(tmp_path)!r})): pass"
        done = subprocess.run([sys.executable, "-c", hold], capture_output=True, text=True, cwd=ROOT, check=False)
        assert "is in use by process" in done.stderr
    assert not is_claimed(workdir)


def test_the_jobs_of_two_machines_join_and_equal_trials_count_once(tmp_path):
    one = finished_jobs.study(tmp_path / "one", [["a", "b"], ["c"]])
    two = finished_jobs.study(tmp_path / "two", [["c", "d"]], first=7)
    for path in sorted((two / "jobs").iterdir()):
        path.rename(one / "jobs" / path.name)
    found = data.load([one])
    assert sorted(found.trials["trial"]) == ["a", "b", "c", "d"]
    assert found.frame.groupby("trial").size().to_dict() == dict.fromkeys("abcd", 2)
    assert found.homes["made-up", "c", "calibration"].name.startswith("001")
    assert len(found.curves) == 4
    assert found.provenance["made-up"]["wall_seconds"] == {"train": 3.0}
    assert len(found.provenance["made-up"]["runs"]) == 3


def test_equal_trials_of_two_studies_stay_apart_and_of_one_study_count_once(tmp_path):
    one, two = (finished_jobs.study(tmp_path / name, [["a", "b"]]) for name in ("one", "two"))
    other = finished_jobs.study(tmp_path / "other", [["b", "c"]], name="other")
    found = data.load([one, two, other])
    assert found.frame.groupby(["study", "trial"]).size().to_dict() == {
        ("made-up", "a"): 2,
        ("made-up", "b"): 2,
        ("other", "b"): 2,
        ("other", "c"): 2,
    }
    assert found.homes["made-up", "b", "calibration"].root.is_relative_to(one)
    assert found.homes["other", "b", "calibration"].root.is_relative_to(other)
    assert len(found.curves) == 4
    assert len(found.provenance["made-up"]["runs"]) == 2
    everything = [w for study in (one, two, other) for w in jobs.workdirs(epath.Path(study))]
    assert set(results.select(everything, results.condition(["study=other"]))["trial"]) == {"b", "c"}


def test_what_a_probe_found_is_read_where_it_was_found(tmp_path):
    study = finished_jobs.study(tmp_path / "study", [["a"]])
    finished_jobs.job(study / "jobs" / "001-a", ["a"], probe="robustness")
    found = data.load([study])
    homes = {probe: found.homes["made-up", "a", probe].name for probe in ("calibration", "robustness")}
    assert homes == {"calibration": "000-a", "robustness": "001-a"}
    assert found.frame.groupby("probe").size().to_dict() == {"calibration": 2, "robustness": 2}


def test_an_unfinished_job_is_named_and_the_others_reported(tmp_path, capsys):
    study = finished_jobs.study(tmp_path / "study", [["a"], ["b"]])
    (study / "jobs" / "001-b" / "results.parquet").unlink()
    (study / "jobs" / "001-b" / "done.json").unlink()
    assert main(["jaxreg", "report", str(study)]) == 0
    told = capsys.readouterr()
    assert "1 jobs are not finished (001-b)" in told.err
    assert str(study / "report" / "index.html") in told.out


def test_results_are_filtered_by_column(tmp_path, capsys):
    study = finished_jobs.study(tmp_path / "study", [["a", "b"], ["c"]])
    assert main(["jaxreg", "results", str(study), "metric=acc*", "trial=b"]) == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.startswith("made-up,program-0,b,none,{},1,test,calibration,accuracy,0.5,10")
    assert main(["jaxreg", "results", str(study), "seed=2", "metric=e_e"]) == 2
    assert "no row has metric=e_e; metric is one of ece" in capsys.readouterr().err  # an underscore is itself
    for words, message in ((["sed=2"], "no column 'sed'"), (["seed=two"], "seed is a number, got 'two'")):
        assert main(["jaxreg", "results", str(study), *words]) == 2
        assert message in capsys.readouterr().err
    assert results.condition([]) is None


def test_a_workdir_goes_on_without_its_config_file(tmp_path, capsys):
    _, (workdir, _) = prepare(tmp_path)
    assert main(["jaxreg", "plan", f"--workdir={workdir}", "--config.execution.cpu_devices=3"]) == 0
    assert "study small: 4 trials in 1 programs" in capsys.readouterr().out
    assert main(["jaxreg", "train", f"--workdir={workdir}", "--config.sed=3"]) == 2
