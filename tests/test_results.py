"""The results table: one schema, refused without provenance, deterministic, and summed up as by hand."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxreg import results
from jaxreg.measured import Row
from jaxreg.setting import Setting

SETTING = ["study", "program", "trial", "regularizer", "hyperparameters", "seed"]
COLUMNS = [*SETTING, "split", "probe", "metric", "value", "n", "low", "high"]


def origin(trial="t0", regularizer="label_smoothing", hyperparameters=None, seed=0, study="digits"):
    return results.Origin(study, "program-0", trial, Setting.of(regularizer, hyperparameters or {}), seed)


def table_of(values, metric="ece", **given):
    """One trial a value, seeds 0, 1, ..."""
    tables = [
        results.rows_to_table(origin(f"t{seed}", seed=seed, **given), "calibration", [Row("test", metric, value, 10)])
        for seed, value in enumerate(values)
    ]
    return pa.concat_tables(tables)


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "provenance.json").write_text(json.dumps({"git_commit": "abc"}))
    return tmp_path


def test_columns_and_types_are_the_contract(workdir):
    rows = [Row("test", "accuracy", 0.5, 10, 0.4, 0.6), Row("test", "nll", 1.5, 10)]
    results.write(workdir / "results.parquet", results.rows_to_table(origin(seed=3), "calibration", rows))
    frame = results.read(workdir / "results.parquet")
    assert list(frame.columns) == COLUMNS
    assert frame["value"].tolist() == [0.5, 1.5]
    assert frame["low"].iloc[0] == 0.4
    assert pd.isna(frame["low"].iloc[1])
    assert frame.dtypes[["seed", "n"]].tolist() == [np.int64, np.int64]
    assert frame[["seed", "n"]].iloc[0].tolist() == [3, 10]


def test_numpy_and_jax_scalars_are_numbers(workdir):
    table = results.rows_to_table(origin(), "p", [Row("test", "x", np.float32(0.5), np.int32(7), np.float32(0.25))])
    assert table.to_pylist()[0]["value"] == 0.5
    assert table.to_pylist()[0]["n"] == 7
    assert table.to_pylist()[0]["low"] == 0.25


def test_results_without_provenance_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"provenance\.json"):
        results.write(tmp_path / "results.parquet", table_of([0.1]))
    assert not list(tmp_path.iterdir())


def test_the_file_carries_its_provenance(workdir):
    results.write(workdir / "probes" / "calibration" / "p.parquet", table_of([0.1]))
    stored = pq.read_schema(workdir / "probes" / "calibration" / "p.parquet").metadata[b"provenance"]
    assert json.loads(stored) == {"git_commit": "abc"}


def test_another_schema_is_refused(workdir):
    with pytest.raises(ValueError, match="rows_to_table"):
        results.write(workdir / "results.parquet", table_of([0.1]).drop_columns(["seed"]))


def test_a_failed_write_leaves_the_old_file_whole(workdir):
    path = workdir / "results.parquet"
    results.write(path, table_of([0.1]))
    repeated = pa.concat_tables([table_of([0.2]), table_of([0.3])])
    with pytest.raises(ValueError, match="once"):
        results.write(path, repeated)
    assert results.read(path)["value"].tolist() == [0.1]
    assert {p.name for p in workdir.iterdir()} == {"results.parquet", "provenance.json"}


def test_nan_becomes_null_and_infinity_stays(workdir):
    results.write(workdir / "results.parquet", table_of([np.nan, np.inf]))
    column = pq.read_table(workdir / "results.parquet")["value"]
    assert column.null_count == 1
    assert column.to_pylist() == [None, np.inf]


def test_gather_is_deterministic_and_in_the_order_of_probe_and_file(workdir):
    for probe in ("robustness", "calibration"):
        for program in ("program-10", "program-2"):
            table = results.rows_to_table(origin(f"{program}/t"), probe, [Row("test", probe, 1.0, 5)])
            results.write(workdir / "probes" / probe / f"{program}.parquet", table)
    first = results.gather(workdir).read_bytes()
    frame = results.read(workdir / "results.parquet")
    assert frame["probe"].tolist() == ["calibration"] * 2 + ["robustness"] * 2
    assert frame["trial"].tolist() == ["program-2/t", "program-10/t"] * 2
    assert results.gather(workdir).read_bytes() == first


def test_gather_of_no_probe_is_an_empty_table(workdir):
    assert results.read(results.gather(workdir)).empty


def test_gather_names_a_file_that_is_no_result(workdir):
    (workdir / "probes" / "geometry").mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}), workdir / "probes" / "geometry" / "p.parquet")
    with pytest.raises(ValueError, match=r"geometry/p\.parquet"):
        results.gather(workdir)


def test_summary_equals_mean_and_sd_by_hand():
    line = results.summary(table_of([1.0, 2.0, 6.0]).to_pandas()).iloc[0]
    assert line["mean"] == 3.0
    assert line["sd"] == pytest.approx(np.sqrt((4 + 1 + 9) / 2))
    assert (line["n"], line["missing"]) == (3, 0)


def test_summary_of_one_seed_has_no_sd():
    line = results.summary(table_of([1.0]).to_pandas()).iloc[0]
    assert line["mean"] == 1.0
    assert pd.isna(line["sd"])


def test_summary_counts_missing_values_and_keeps_infinity():
    missing = results.summary(table_of([1.0, np.nan, 3.0]).to_pandas()).iloc[0]
    assert (missing["mean"], missing["n"], missing["missing"]) == (2.0, 2, 1)
    endless = results.summary(table_of([1.0, np.inf]).to_pandas()).iloc[0]
    assert endless["mean"] == np.inf
    assert pd.isna(endless["sd"])


def test_two_settings_of_one_regularizer_are_two_lines():
    weak, strong = (table_of([v, v], hyperparameters={"epsilon": e}).to_pandas() for v, e in ((1.0, 0.1), (2.0, 0.3)))
    assert results.summary(pd.concat([weak, strong]))["mean"].tolist() == [1.0, 2.0]


def test_hyperparameters_are_equal_whatever_the_order_of_their_keys():
    one = origin(hyperparameters={"a": 1.0, "b": 2})
    other = origin(hyperparameters='{"b": 2, "a": 1.0}')
    texts = {results.rows_to_table(o, "p", [Row("s", "m", 0.0, 1)])["hyperparameters"][0].as_py() for o in (one, other)}
    assert texts == {'{"a": 1.0, "b": 2}'}
