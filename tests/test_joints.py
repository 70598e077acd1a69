"""Where parts of a study meet: jobs, results, conditions, tables and figures, each fault planted there once."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jaxreg import conditions, results, study
from jaxreg import config as configs
from jaxreg.jobs import directory as jobs
from jaxreg.jobs.record import settle
from jaxreg.probes import displacement
from jaxreg.report import data, figures
from jaxreg.report.tables import interventions
from jaxreg.runtime.files import write_json
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import SpecError
from support import measured_study
from support.small_study import small_config


@pytest.mark.parametrize(
    ("epsilons", "middle"),
    [((0.1, 0.02, 0.05), 0.05), ((0.05, 0.1), 0.1), ((0.0, 0.02, 0.05), 0.05), ((0.0, 0.1), 0.1), ((0.0,), 0.0)],
)
def test_the_middle_radius(epsilons, middle):
    assert displacement._middle_radius(epsilons) == middle


CHANGES = {"regularizers": [["none", {}]], "seeds": 3, "batch_size": 17, "steps": 7, "study": "other"}


@pytest.mark.parametrize("key", CHANGES)
def test_any_other_training_is_refused(tmp_path, key):
    config = configs.as_plain(small_config())
    settle(Workdir(tmp_path), config, [{}])
    assert config[key] != CHANGES[key]
    with pytest.raises(SpecError, match="holds another study") as told:
        settle(Workdir(tmp_path), config | {key: CHANGES[key]}, [{}])
    assert f"config.{key}" in str(told.value)
    with pytest.raises(SpecError, match=r"holds another study .*sweep"):
        settle(Workdir(tmp_path), config, [{"optimizer.learning_rate": 0.2}])


def test_a_job_is_done_only_when_all_its_stages_ran(tmp_path, monkeypatch):
    config = configs.as_plain(small_config())
    spec, workdir = configs.resolve(config, [{}]), Workdir(tmp_path / "job")
    given = (spec, config | {"trials": [t.id for t in spec.trials]}, [{}], workdir, Preemption())

    def fails(work):
        raise RuntimeError("a probe fails")

    for command in ("train", "predict", "probe"):
        monkeypatch.setattr(study, "PER_PROGRAM", {command: lambda work: None})
        assert study.run(command, *given) == 0
        assert not jobs.is_done(workdir)
    monkeypatch.setattr(study, "PER_PROGRAM", {"train": lambda work: None, "probe": fails})
    with pytest.raises(RuntimeError, match="a probe fails"):
        study.run("study", *given)
    assert not jobs.is_done(workdir)
    monkeypatch.setattr(study, "PER_PROGRAM", {"train": lambda work: None})
    assert study.run("study", *given) == 0
    assert jobs.is_done(workdir)


def with_validation(workdir):
    """Writes beside every number, array and prediction of test another one of validation."""
    for path in workdir.glob("probes/*/program-0.parquet"):
        rows = pd.read_parquet(path)
        alone = rows["metric"].str.match(r"scaled_|tempered_|adversarial_path_|\w+_best_scale$")  # of test alone
        more = rows[(rows["split"] == "test") & ~alone].assign(split="validation")
        more[["value", "low", "high"]] *= 0.7
        both = pd.concat([more, rows], ignore_index=True)
        results.write(path, pa.Table.from_pandas(both, schema=results.SCHEMA, preserve_index=False))
    for path in workdir.glob("probes/*/*.npz"):
        own = dict(np.load(path))
        twins = {
            n.replace("test/", "validation/"): a[::-1][: len(a) // 2] for n, a in own.items() if n.startswith("test/")
        }
        np.savez(path, **own, **twins)
    for path in workdir.glob("predictions/*/test.npz"):
        np.savez(
            path.with_name("validation.npz"),
            **{name: array[: len(array) // 2] for name, array in np.load(path).items()},
        )
    results.gather(workdir)


@pytest.mark.slow
def test_figures_show_nothing_of_validation_that_test_has(tmp_path):
    pictures = []
    for name in ("plain", "both"):
        workdir = measured_study.write(tmp_path / name / "digits", seeds=2)
        if name == "both":
            with_validation(workdir)
        with figures.drawing(data.load([workdir]), Workdir(tmp_path / name).root / "figures") as drawn:
            pass
        pictures.append({one.name: (one.caption, one.png) for one in drawn})
    assert list(pictures[0]) == list(pictures[1])
    assert [name for name in pictures[0] if pictures[0][name] != pictures[1][name]] == []


def test_interventions_are_paired_by_seed(tmp_path):
    workdir = measured_study.write(tmp_path / "digits", seeds=3, arrays=False, curves=False)
    found = data.load([workdir])
    frame, mixup = found.frame, found.frame["regularizer"] == "mixup"
    base, own, changed = [10.0, 11.0, 12.0], [5.0, 7.0, 4.0], [9.0, 8.0, 6.0]
    for metric, whom, values in (
        ("label_margin", frame["regularizer"] == "none", base),
        ("label_margin", mixup, own),
        ("norm_swap_margin", mixup, changed),
    ):
        for seed, value in enumerate(values):
            frame.loc[(frame["metric"] == metric) & whom & (frame["seed"] == seed), "value"] = value
    told = dataclasses.replace(found, frame=frame)
    table = interventions.numbers(told).set_index(["setting", "change", "metric"])
    row = table.loc["mixup(alpha=1)", "its mean norm", "margin"]
    np.testing.assert_allclose(row[["baseline", "changed", "own"]].astype(float), [11, 23 / 3, 16 / 3])
    shares = [(b - c) / (b - o) for b, c, o in zip(base, changed, own)]
    np.testing.assert_allclose(row[["least", "greatest"]].astype(float), [min(shares), max(shares)])
    (line,) = [
        one.cells
        for one in interventions.lines(told)
        if one.setting.startswith("mixup") and one.cells[:2] == ["its mean norm", "margin"]
    ]
    assert line[-2:] == ["59% [20%, 75%]", "3"]


def test_conditions_are_those_of_their_own_probe(tmp_path):
    workdir = measured_study.write(tmp_path / "digits", seeds=1, arrays=False, curves=False)
    given = {
        probe: {"device": probe, "dtype": f"type of {probe}", "precision": f"precision of {probe}"}
        for probe in measured_study.PROBES
    }
    for probe, own in given.items():
        write_json(Workdir(workdir).marker(probe, "program-0"), {"settings": [], "conditions": own})
    conditions.gather(Workdir(workdir))
    table = conditions.read([Workdir(workdir)])
    told = {probe: dict(zip(own["condition"], own["value"])) for probe, own in table.groupby("probe")}
    assert told == given


@pytest.mark.slow
def test_each_program_is_told_with_its_own_dtype_and_precision(tmp_path):
    config = small_config()
    config.seeds, config.steps, config.probes.only = 1, 4, ("calibration",)
    config.model.dtype = "float32"
    plain, sweep = configs.as_plain(config), [{}, {"model.dtype": "bfloat16"}]
    with jax.default_matmul_precision("highest"):
        assert study.run("study", configs.resolve(plain, sweep), plain, sweep, tmp_path / "study", Preemption()) == 0
    table = conditions.read([Workdir(tmp_path / "study")])
    frame = results.read(tmp_path / "study" / "results.parquet")
    half = frame["hyperparameters"].str.contains("bfloat16").groupby(frame["trial"]).first()
    dtype = table[table["condition"] == "dtype"].set_index("trial")["value"]
    assert dtype.to_dict() == {trial: "bfloat16" if of else "float32" for trial, of in half.items()}
    assert set(dtype) == {"bfloat16", "float32"}
    assert set(table.loc[table["condition"] == "precision", "value"]) == {"highest"}
