"""The whole road by the command line: interrupted at any moment and repeated, it ends where it would have ended."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxreg import results
from jaxreg.__main__ import main
from jaxreg.report.tables import calibration
from support import checkout
from support.odd_names import ALL_AT_ONCE

CONFIG = """
from support.small_study import small_config as get_config
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / ALL_AT_ONCE
    folder.mkdir()
    (folder / "small.py").write_text(CONFIG)
    return folder


def command(place, workdir, *more, do="study"):
    words = [do, f"--config={place / 'small.py'}", f"--workdir={place / workdir}", *more]
    return [sys.executable, "-m", "jaxreg", *words]


ENVIRONMENT = checkout.environment()
del ENVIRONMENT["XLA_FLAGS"]  # those of the tests: a study is compiled as a user's


def finish(place, workdir, *more, code=0, do="study"):
    words = [word.replace(f"--workdir={place}/", "--workdir=") for word in command(place, workdir, *more, do=do)]
    how = {"capture_output": True, "text": True, "env": ENVIRONMENT, "cwd": place}  # a relative workdir
    done = subprocess.run(words, **how, timeout=400, check=False)
    assert done.returncode == code, done.stderr
    return done


def stop_when(place, workdir, text, number, *more):
    """Starts the study and sends it a signal once a line of its progress holds `text`; returns the exit code."""
    words = command(place, workdir, *more)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        for line in process.stderr:
            if text in line:
                process.send_signal(number)
                break
        process.stderr.read()
    return process.returncode


@pytest.fixture(scope="module")
def whole(place):
    """An uninterrupted study."""
    return finish(place, "whole")


@pytest.fixture(scope="module")
def interrupted(place, whole):
    """The same study, killed in training, asked to stop in training, killed after predicting and between two calls of
    the attack, then finished.
    """
    wait = "--config.execution.steps_per_dispatch=2"
    killed = stop_when(place, "interrupted", "train:", signal.SIGKILL, wait)
    asked = stop_when(place, "interrupted", "train:", signal.SIGTERM, wait)
    late = stop_when(place, "interrupted", "predict:", signal.SIGKILL, wait)
    attacked = stop_when(place, "interrupted", "attack:", signal.SIGKILL, wait)
    assert list((place / "interrupted/probes/robustness/finished").glob("*.npz"))
    assert not list((place / "interrupted/probes/robustness").glob("*.json"))  # the marker of a finished probe
    finish(place, "interrupted", wait)
    return killed, asked, late, attacked


def test_the_table_and_the_report_are_there(place, whole):
    assert "mixup+label_smoothing" in whole.stdout
    report = Path(whole.stdout.strip().splitlines()[-1].removeprefix("report: "))
    assert report == place / "whole" / "report" / "index.html"
    assert report.stat().st_size > 10_000
    assert (place / "whole" / "provenance.json").exists()
    frame = results.read(place / "whole" / "results.parquet")
    needed = {
        "accuracy",
        "nll",
        "brier",
        "ece",
        "ece_ts",
        "temperature",
        "feature_norm",
        "feature_rms",
        "center_cosine",
    }
    needed |= {f"robust_accuracy/{a}/{e}" for a in ("fgsm", "pgd_ce", "worst") for e in ("0.05", "0.1")}
    counts = frame[frame["split"] == "test"].groupby("metric")["seed"].nunique()
    assert {metric: counts.get(metric) for metric in needed} == dict.fromkeys(needed, 2)
    assert (frame["study"] == "small").all()


def test_what_every_probe_ran_with_is_saved_beside_the_results(place, whole):
    table = pd.read_parquet(place / "whole" / "conditions.parquet")
    trials = set(results.read(place / "whole" / "results.parquet")["trial"])
    told = table.set_index(["probe", "condition"])["value"].to_dict()
    assert told["robustness", "suite"] == "pgd"
    assert told["displacement", "epsilons"] == "[0.05, 0.1]"  # of what it reads
    assert told["geometry", "train_examples"] == "600"
    assert {value for (_, name), value in told.items() if name == "dtype"} == {"float32"}
    assert {value for (_, name), value in told.items() if name == "precision"} == {"highest"}
    assert all(set(own["trial"]) == trials for _, own in table.groupby(["probe", "condition"]))


def test_saved_predictions_say_what_the_results_say(place, whole):
    frame = results.read(place / "whole" / "results.parquet")
    rows = frame[(frame["split"] == "test") & (frame["metric"] == "accuracy")]
    assert len(rows) == 4
    for row in rows.itertuples():
        with np.load(place / "whole" / "predictions" / row.trial / "test.npz") as saved:
            assert row.value == pytest.approx((saved["logits"].argmax(1) == saved["labels"]).mean())
            assert len(set(saved["ids"].tolist())) == 500
            head = np.load(place / "whole" / "predictions" / row.trial / "head.npz")
            logits = saved["features"] @ head["kernel"] + head["bias"]
            np.testing.assert_allclose(logits, saved["logits"], rtol=1e-3, atol=1e-3)


@pytest.mark.cluster
def test_an_interrupted_study_ends_equal_to_the_bit(place, interrupted):
    killed, asked, late, attacked = interrupted
    assert (killed, late, attacked) == (-signal.SIGKILL,) * 3
    assert asked == 75  # "requeue me"
    whole, again = (results.read(place / name / "results.parquet") for name in ("whole", "interrupted"))
    pd.testing.assert_frame_equal(whole, again, check_exact=True)
    for path in sorted((place / "whole" / "predictions").rglob("*.npz")):
        twin = place / "interrupted" / path.relative_to(place / "whole")
        with np.load(path) as one, np.load(twin) as other:
            for name in one.files:
                np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.cluster
def test_its_curves_have_every_step_once(place, interrupted):
    (path,) = (place / "interrupted" / "curves").glob("*.parquet")
    curves = pd.read_parquet(path)
    assert not curves.duplicated(["trial", "step"]).any()
    assert sorted(curves["step"].unique()) == list(range(2, 42, 2))
    (twin,) = (place / "whole" / "curves").glob("*.parquet")
    pd.testing.assert_frame_equal(curves, pd.read_parquet(twin), check_exact=True)


def test_doing_it_again_does_nothing_again(place, whole):
    def written():
        folders = ("predictions", "checkpoints", "probes", "curves")
        return {p: p.stat().st_mtime_ns for f in folders for p in (place / "whole" / f).rglob("*") if p.is_file()}

    before = written()
    again = finish(place, "whole")
    assert written() == before
    assert again.stdout == whole.stdout


def test_what_lies_in_a_folder_of_any_name_is_found_again(place, whole, caplog):
    """Weights from the checkpoints, files by name, rows by the command that a name with `=` could be a filter of."""
    again = place / "lr=0.1 [2]"
    shutil.copytree(place / "whole", again)
    shutil.rmtree(again / "predictions")
    assert main(command(place, again.name, do="predict")[2:]) == 0
    assert "broken" not in caplog.text
    for path in sorted((place / "whole" / "predictions").rglob("*.npz")):
        with np.load(path) as one, np.load(again / path.relative_to(place / "whole")) as other:
            np.testing.assert_allclose(one[one.files[0]], other[one.files[0]], rtol=1e-3, atol=1e-3)


def test_rows_of_a_folder_that_looks_like_a_filter(place, whole, capsys, monkeypatch):
    monkeypatch.chdir(place)
    shutil.copytree(place / "whole", place / "rate=0.1")
    for words in (["rate=0.1"], ["./rate=0.1"], [str(place / "rate=0.1")], ["--workdir=rate=0.1"]):
        assert main(["jaxreg", "results", *words, "metric=accuracy", "split=test"]) == 0
        assert capsys.readouterr().out.count(",accuracy,") == 4


def test_a_table_is_not_replaced_by_an_empty_one(place, whole, capsys):
    lost = place / "lost"
    shutil.copytree(place / "whole", lost)
    before = results.read(lost / "results.parquet")
    for path in (lost / "probes").rglob("*.parquet"):
        path.unlink()
    assert main(["jaxreg", "report", str(lost)]) == 2
    told = capsys.readouterr().err
    assert "start the same study again" in told
    assert told.count("\n") == 1
    pd.testing.assert_frame_equal(results.read(lost / "results.parquet"), before)
    finish(place, "lost")  # the cure
    assert len(results.read(lost / "results.parquet")) == len(before)


def test_another_number_of_devices_gives_the_numbers_to_rounding(place, whole):
    finish(place, "one_device", "--config.execution.cpu_devices=1", do="train")
    finish(place, "one_device", "--config.execution.cpu_devices=3", do="predict")  # 4 trials padded to 6
    for path in sorted((place / "whole" / "predictions").rglob("test.npz")):
        with np.load(path) as one, np.load(place / "one_device" / path.relative_to(place / "whole")) as other:
            np.testing.assert_allclose(one["logits"], other["logits"], rtol=1e-2, atol=1e-2)


def test_adversarial_examples_are_exported_with_their_ids(place, whole, capsys):
    assert main(["jaxreg", "export", f"--workdir={place / 'whole'}"]) == 0
    written = capsys.readouterr().out.splitlines()
    assert len(written) == 4 * 2  # trials, radii
    for path in written:
        with (
            np.load(path) as found,
            np.load(place / "whole/predictions" / Path(path).parent.name / "test.npz") as clean,
        ):
            assert found["adversarial"].shape == (100, 8, 8, 1)
            np.testing.assert_array_equal(found["ids"], clean["ids"][:100])
            np.testing.assert_array_equal(found["labels"], clean["labels"][:100])
            assert float(found["eps"]) in np.float32((0.05, 0.1))  # to the bit: what the attack was given
            assert f"worst-{float(found['eps']):.4g}.npz" == Path(path).name
    assert main(["jaxreg", "export", f"--workdir={place}"]) == 2
    assert "holds no results" in capsys.readouterr().err


def test_votes_of_people_are_an_option_of_the_config(place, whole):
    """A finished study, asked for human labels later: it measures calibration again and trains nothing."""
    shutil.copytree(place / "whole", place / "voted")
    (path,) = sorted((place / "voted" / "predictions").glob("*/test.npz"))[:1]
    with np.load(path) as saved:
        ids, votes = saved["ids"], 9 * np.eye(10, dtype=int)[saved["labels"]]
    turned = np.random.default_rng(0).permutation(len(ids))
    np.savez(place / "votes.npz", id=ids[turned], counts=votes[turned])  # another order: aligned by id
    asked = f"--config.probes.calibration.human_labels={place / 'votes.npz'}"
    assert main(command(place, "voted", asked, do="probe")[2:]) == 0
    results.gather(place / "voted")
    frame = results.read(place / "voted" / "results.parquet").set_index(["trial", "split", "metric"]).sort_index()
    for trial in frame.index.get_level_values("trial").unique():
        here = frame.loc[trial, "test"]
        for human, label in (("cross_entropy_human", "nll"), ("ece_human", "ece"), ("ece_human_ts", "ece_ts")):
            assert here.loc[human, "value"] == pytest.approx(here.loc[label, "value"], abs=1e-4)  # people agree
            assert here.loc[human, "low"] <= here.loc[human, "value"] <= here.loc[human, "high"]
        assert not {"ece_human"} & set(frame.loc[trial, "validation"].index)  # nobody voted on these
    shown = calibration.TABLES[0].columns(results.read(place / "voted" / "results.parquet"), "test")
    assert {"ECE human", "CE human T"} <= {column.title for column in shown}


def test_another_config_is_refused_with_its_difference(place, whole, capsys):
    words = command(place, "whole", "--config.optimizer.learning_rate=0.2")[2:]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "holds another study (config.optimizer.learning_rate: 0.1 -> 0.2)" in error
    assert error.count("\n") == 1


def test_a_second_process_is_refused(place, whole, capsys):
    import fcntl

    with (place / "whole" / ".lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(command(place, "whole")[2:]) == 2
        assert "is in use by process" in capsys.readouterr().err


def test_trials_that_diverge_are_named_and_left_out(place, whole):
    one_probe = "\ndef get_config():\n    c = small_config()\n    c.probes.only = ('calibration',)\n    return c\n"
    text = (place / "small.py").read_text().replace(" as get_config", "") + one_probe + "\ndef sweep():\n"
    (place / "half.py").write_text(
        text + "    yield from ({'optimizer.learning_rate': rate} for rate in (0.2, 1e30))\n"
    )
    words = [f"--config={place / 'half.py'}", f"--workdir={place / 'half'}", "--config.seeds=1"]
    words = [sys.executable, "-m", "jaxreg", "study", *words]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    named = [line for line in done.stderr.splitlines() if "not finite at step" in line]
    assert len(named) == 2
    assert "2 frozen" in done.stderr
    frame = results.read(place / "half" / "results.parquet")
    assert frame["trial"].nunique() == 2
    assert frame["hyperparameters"].str.contains('"optimizer.learning_rate": 0.2').all()
    page = (place / "half" / "report" / "index.html").read_text()
    assert all(line.split()[1].rstrip(":") in page for line in named)


def test_provenance_tells_code_versions_devices_and_times(place, whole):
    facts = json.loads((place / "whole" / "provenance.json").read_text())
    assert len(facts["git_commit"] or "") in (0, 40)
    assert facts["versions"]["jax"].count(".") >= 2
    assert facts["device_count"] == 2
    assert "study --config=" in facts["command"]
    assert {"train", "predict", "probe/robustness", "report"} <= set(facts["wall_seconds"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["studdy"], "Unknown command 'studdy'"),
        (["study", "--workdir=w"], "--config is missing"),
        (["study", "--config=no_such_file.py", "--workdir=w"], "there is no config file no_such_file.py"),
        (["study", "--config={config}"], "--workdir is missing"),
        (["plan", "--config={config}", "--config.sed=3"], "sed"),
        (["plan", "--config={config}", "--config.seeds=0"], "config.seeds must be at least 1, got 0"),
        (["plan", "--config={config}", "--config.dataset.name=imagewoof"], "imagewoof"),
        (["plan", "--config={config}", "seeds=3"], "takes no argument 'seeds=3'"),
        (["report"], "report needs a workdir"),
        (["report", "nowhere"], "nowhere holds no study"),
        (["results", "nowhere/lr=0.1"], "nowhere/lr=0.1 holds no results"),
        (["results", "w", "metrik=ece"], "w holds no results"),
        (["study", "--config={config}", "--workdir=a\\b"], "without backslashes"),
        (["study", "--config={config}", "--workdir=\udcff"], "must be UTF-8"),
        (["study", "--config={config}", "--workdir=w", "--config.probes.robustness.suite=pdg"], "Unknown suite 'pdg'"),
        (
            ["study", "--config={config}", "--workdir=w", "--config.probes.calibration.human_labels=nowhere.npz"],
            "there is no file nowhere.npz",
        ),
        (
            ["study", "--config={config}", "--workdir=w", "--config.execution.data_devices=3"],
            "must divide the",
        ),
    ],
)
def test_bad_use_is_one_line_and_exit_code_2(place, words, message, capsys):
    words = [word.format(config=place / "small.py") for word in words]
    assert main(["jaxreg", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_plan_says_what_would_run(place, capsys):
    assert main(["jaxreg", "plan", f"--config={place / 'small.py'}", "--config.seeds=3"]) == 0
    told = capsys.readouterr().out
    assert "study small: 6 trials in 1 programs" in told
    assert "40 steps each" in told
    assert "memory a device: state" in told
    assert "3 x mixup+label_smoothing(alpha=0.5, epsilon=0.1)" in told


def test_help_is_quick_and_complete():
    done = subprocess.run([sys.executable, "-m", "jaxreg", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("study", "plan", "train", "predict", "probe", "report", "export"))
