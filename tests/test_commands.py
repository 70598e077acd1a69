"""Commands as people use them: stopped by Ctrl-C, read by `head`, in odd environments, on half a study."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxreg import commands, data
from jaxreg.__main__ import main
from jaxreg.config import as_plain, resolve
from jaxreg.jobs import record
from jaxreg.runtime import parallel
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.progress import Progress
from jaxreg.spec import SpecError
from jaxreg.training.program import programs_of
from support import checkout, finished_jobs, measured_study
from support.small_study import small_config

CONFIG = """
from support.small_study import small_config

def get_config():
    config = small_config()
    config.regularizers = (("none", {}),)
    config.dataset.augment = ()
    config.steps = 4
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "four.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A study of four steps, stopped by Ctrl-C in training, then trained: what each said."""
    place = tmp_path_factory.mktemp("trained") / "study"
    words = ["jaxreg", "train", f"--config={config}", f"--workdir={place}"]
    advance, presses = Progress.advance, [signal.SIGINT]

    def pressed(self, count, note=""):
        if presses:
            signal.raise_signal(presses.pop())
        advance(self, count, note)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "advance", pressed)
        stopped = main(words)
    return place, (stopped, main(words))


def one_line(capsys, *parts):
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert all(part in error for part in parts), error


def test_after_ctrl_c_in_training_the_same_command_goes_on(trained):
    _, codes = trained
    assert codes == (75, 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["advance", "reach"])  # how predictions and attacks tell how far they are
def test_after_ctrl_c_in_predictions_or_attacks_the_same_command_goes_on(
    config, trained, tmp_path, monkeypatch, method
):
    place, presses = tmp_path / "study", [signal.SIGINT]
    shutil.copytree(trained[0], place)
    words = ["jaxreg", "probe", f"--config={config}", f"--workdir={place}"]
    whole = getattr(Progress, method)

    def pressed(self, *told):
        if presses:
            signal.raise_signal(presses.pop())
        whole(self, *told)

    monkeypatch.setattr(Progress, method, pressed)
    assert main(words) == 75
    assert not presses
    assert not list((place / "probes" / "displacement").glob("*.json"))  # the last probe
    assert main(words) == 0
    assert list((place / "probes" / "displacement").glob("*.json"))


def test_a_second_ctrl_c_stops_at_once():
    preemption = Preemption()
    before = signal.getsignal(signal.SIGINT)
    with preemption.listening():
        signal.raise_signal(signal.SIGINT)
        assert preemption.is_due()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_who_stops_a_command_or_its_output_gets_no_trace(raised, code, monkeypatch, capsys):
    def run(argv):
        raise raised

    monkeypatch.setattr(commands, "run", run)
    assert main(["jaxreg", "plan"]) == code
    if raised is KeyboardInterrupt:
        one_line(capsys, "the same command goes on")
        assert commands.launched(run, []) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_pipe_is_quiet(config):
    words = [sys.executable, "-m", "jaxreg", "plan", f"--config={config}"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": checkout.environment()}
    with subprocess.Popen(words, **how) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_report_after_train_alone_in_an_odd_environment(trained):
    """MPLBACKEND of a notebook that is not installed, and a terminal without UTF-8."""
    place, _ = trained
    odd = {"MPLBACKEND": "module://no_such_notebook.backend", "PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}
    words = [sys.executable, "-m", "jaxreg", "report", str(place)]
    done = subprocess.run(words, env=checkout.environment(**odd), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((place / "report" / "figures").iterdir())  # of the training curves


@pytest.mark.parametrize("raised", [RuntimeError("Unable to initialize backend 'cuda'"), AssertionError()])
def test_a_backend_that_is_not_there(raised, monkeypatch):
    def devices():
        raise raised

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(SpecError, match=r"JAX_PLATFORMS=cuda names a backend that is not there.*: unset it"):
        parallel.found_devices()


def test_a_workdir_below_a_file(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["jaxreg", "train", f"--config={config}", f"--workdir={tmp_path / 'file' / 'study'}"]) == 2
    one_line(capsys, "cannot write", "Not a directory")


def arrays(folder, classes=3, named=()):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, count in {"train": 60, "test": 30}.items():
        images = rng.integers(0, 256, (count, 8, 8)).astype(np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(count) % classes)
    if named:
        (folder / "classes.txt").write_text("\n".join(named))
    return f"arrays:{folder}"


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path, caplog):
    name = arrays(tmp_path / "data")
    (tmp_path / "file").write_text("")
    found, plain = data.load(name, cache_dir=str(tmp_path / "file" / "cache")), data.load(name)
    for split in plain.splits:
        np.testing.assert_array_equal(found.splits[split].images, plain.splits[split].images)


def test_plan_finds_a_class_without_examples(config, tmp_path, capsys):
    name = arrays(tmp_path / "data", named=("fox", "hare", "owl", "bear"))
    words = [f"--config.dataset.name={name}", "--config.dataset.validation=6", "--config.batch_size=8"]
    assert main(["jaxreg", "plan", f"--config={config}", *words]) == 2
    one_line(capsys, "train examples without class 3", "add examples of it, or take it out of the classes")


def test_a_dataset_may_have_a_long_path():
    plain = as_plain(small_config())
    plain["dataset"]["name"] = f"arrays:/{'a' * 268}"
    (program,) = programs_of(resolve(plain))
    assert len(f"{program.id}.parquet") < 255  # as the name of a file


def test_plan_tells_layers_and_what_is_fewer_than_asked(config, capsys):
    words = ["--config.model.widths=16", "--config.probes.robustness.examples=100000"]
    assert main(["jaxreg", "plan", f"--config={config}", *words]) == 0
    told = capsys.readouterr().out
    assert "layers 2: 3x3 1->16, 16->10; 346 parameters" in told
    assert "note: probes.robustness.examples=100000: test of digits has 500 examples, so these are all." in told


def test_plan_tells_snapshots_that_training_does_not_reach(config, capsys):
    assert main(["jaxreg", "plan", f"--config={config}", "--config.probes.geometry.snapshots=(0,2,900)"]) == 0
    assert "note: probes.geometry.snapshots names [900]: training ends with step" in capsys.readouterr().out


def test_results_of_a_misspelt_metric_name_its_neighbours(tmp_path, capsys):
    study = measured_study.write(tmp_path / "study", seeds=1, arrays=False)
    assert main(["jaxreg", "results", str(study), "metric=acuracy"]) == 2
    one_line(capsys, "no row has metric=acuracy; metric is one of accuracy")
    assert main(["jaxreg", "results", str(study), "seed=7"]) == 2
    one_line(capsys, "no row has seed=7; seed is one of 0")
    assert main(["jaxreg", "results", str(study), "metric=accuracy", "split=validation"]) == 2
    one_line(capsys, "no row fits all of metric=accuracy split=validation")


def test_a_report_of_two_says_which_numbers_count_and_where_it_lies(tmp_path, capsys):
    first = finished_jobs.study(tmp_path / "A", [["a", "b"]])
    second = finished_jobs.study(tmp_path / "B", [["b", "c"]])
    assert main(["jaxreg", "report", str(first), str(second)]) == 0
    error = capsys.readouterr().err
    assert f"note: 1 of 2 trials of {second} are in {first} too, whose numbers count" in error
    assert f"note: {first / 'report'} shows all 2; `python -m jaxreg report {first}` makes that of it alone" in error


def test_a_report_of_other_examples_of_one_name_is_refused(tmp_path, capsys):
    first, second = (finished_jobs.study(tmp_path / name, [[name]]) for name in "ab")
    for study, content in ((first, "1"), (second, "2")):
        for workdir in (study / "jobs").iterdir():
            (workdir / "data.json").write_text(json.dumps({"digits": {"train": "0", "test": content}}))
    assert main(["jaxreg", "report", str(first), str(second)]) == 2
    one_line(capsys, "hold other examples of digits: split ['test'] differs")


def test_a_commit_of_another_project_is_not_ours(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("no git here")
    installed = tmp_path / "project" / "site-packages" / "jaxreg"
    installed.mkdir(parents=True)
    (installed / "record.py").write_text("")
    name = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a"}
    monkeypatch.setattr(record, "__file__", str(installed / "record.py"))

    def git(*words):
        subprocess.run(["git", *words], cwd=tmp_path / "project", env={**os.environ, **name}, check=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=theirs")
    assert record._git("rev-parse", "HEAD") is None
    git("add", "--force", ".")
    git("commit", "--quiet", "--message=ours")
    assert len(record._git("rev-parse", "HEAD")) == 40
