"""The tables of a report: as CSV files, and as the rows that the page prints."""

import io
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from etils import epath
from pyarrow import csv

from jaxreg import results
from jaxreg.calibration import floors
from jaxreg.report import calibration_table, differences, geometry_table, interventions, verdicts
from jaxreg.report.columns import Column, cells, main_columns
from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks

CLAIMS = ("claims.csv", "claims.json", "claims.txt")  # a row a test; each claim with its tests; in words


class Line(NamedTuple):
    """A line of a printed table: the setting and its colour, then the printed cells."""

    setting: str
    colour: str
    cells: list[str]


def main_lines(data: StudyData) -> tuple[list[Column], list[Line]]:
    """Returns the columns of the main table, and one line a setting: n, then mean ± sd over its seeds."""
    columns = main_columns(data.frame, data.split)
    return columns, _lines(data, columns)


def calibration_lines(data: StudyData) -> tuple[list[Column], list[Line]]:
    """Returns the same of the table of calibration."""
    columns = calibration_table.columns(data.frame, data.split)
    return columns, _lines(data, columns)


def error_lines(data: StudyData) -> tuple[list[Column], list[Line]]:
    """Returns the same of the table of the other calibration errors."""
    columns = calibration_table.errors(data.frame, data.split)
    return columns, _lines(data, columns)


def geometry_lines(data: StudyData) -> list[tuple[geometry_table.Table, list[Column], list[Line]]]:
    """Returns every table of geometry that has a column, with the same of each."""
    shown = [(table, geometry_table.columns(table, data)) for table in geometry_table.TABLES]
    return [
        (table, columns, _lines(data, columns, geometry_table.texts(data, columns)))
        for table, columns in shown
        if columns
    ]


def _lines(
    data: StudyData, columns: list[Column], numbers: Mapping[tuple[str, ...], list[str]] | None = None
) -> list[Line]:
    look, trials = looks(data), data.trials.groupby("setting").size()
    keys = data.frame.drop_duplicates("setting").set_index("setting")[results.SETTING]
    numbers = cells(data.frame, columns, results.SETTING) if numbers is None else numbers
    return [
        Line(name, look[name].colour, [str(trials[name]), *numbers[tuple(keys.loc[name])]]) for name in data.settings
    ]


def trial_lines(data: StudyData) -> list[Line]:
    """Returns one line a trial: its name, its seed, and the numbers of the main table."""
    columns, look = main_columns(data.frame, data.split), looks(data)
    numbers = cells(data.frame, columns, ["study", "trial"])
    return [
        Line(row.setting, look[row.setting].colour, [row.trial, str(row.seed), *numbers[row.study, row.trial]])
        for row in data.trials.itertuples()
    ]


def wide(data: StudyData) -> pd.DataFrame:
    """Returns one line a trial and one column a split and metric, `split/metric`."""
    index = ["study", "program", "trial", "regularizer", "hyperparameters", "seed"]
    texts = dict.fromkeys(index[:-1], str)  # categories would come in another order than texts
    keys = data.frame[index].drop_duplicates(["study", "trial"]).astype(texts).reset_index(drop=True)
    line = data.frame.groupby(["study", "trial"], sort=False).ngroup().to_numpy()
    column = data.frame.groupby(["split", "metric"], sort=False).ngroup().to_numpy()
    pairs = data.frame[["split", "metric"]].drop_duplicates().itertuples(index=False, name=None)
    names = [f"{split}/{metric}" for split, metric in pairs]
    values = np.full((len(keys), len(names)), np.nan)
    values[line[::-1], column[::-1]] = data.frame["value"].to_numpy()[::-1]  # of several probes the first one's
    return keys.join(pd.DataFrame(values, columns=names)).sort_values(index, ignore_index=True)


def main(data: StudyData) -> pd.DataFrame:
    """Returns the main table in numbers: one line a setting and metric, in the units of results.parquet."""
    keys = {(column.split, column.metric) for column in main_columns(data.frame, data.split)}
    lines = data.summary
    return lines[[key in keys for key in zip(lines["split"], lines["metric"])]]


def calibration(data: StudyData) -> pd.DataFrame:
    """Returns every calibration metric of every setting: mean and sd over seeds, means of the ends of its interval."""
    frame = data.frame[data.frame["probe"] == "calibration"].drop_duplicates(results.NUMBER)
    ends = frame.groupby([*results.SETTING, "split", "metric"], sort=False)[["low", "high"]].mean().reset_index()
    lines = data.summary[data.summary["probe"] == "calibration"]
    return lines.merge(ends, how="left", validate="1:1")


def save(data: StudyData, folder: epath.Path) -> list[str]:
    """Writes main, calibration, differences, summary, trials.csv, and what else was measured; returns the names.

    The files of the claims, which `claims.save` has written before, are named too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"main": main(data), "calibration": calibration(data), "summary": data.summary}
    makers = main_columns, calibration_table.columns, calibration_table.errors
    shown = {column.metric for columns in makers for column in columns(data.frame, data.split)}
    shown |= {name for name in data.frame["metric"].unique() if _has_marks(name)}
    tables |= {"differences": differences.paired(data.frame, data.split, shown), "trials": wide(data)}
    intervened = interventions.numbers(data)
    tables |= {} if intervened.empty else {"interventions": intervened}
    found = {table.name: geometry_table.numbers(table, data) for table in geometry_table.TABLES}
    tables |= {name: table for name, table in found.items() if len(table)}
    judged = verdicts.table(data)
    tables |= {} if judged.empty else {"verdicts": judged}
    tables |= {"failed": pd.DataFrame(data.failed)} if data.failed else {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), buffer)  # ten times as fast as pandas
        (folder / f"{name}.csv").write_bytes(buffer.getvalue())
    return [f"{name}.csv" for name in tables] + [name for name in CLAIMS if (folder / name).exists()]


def flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested values as (dotted name, text) pairs, for a table of two columns."""
    pairs: list[tuple[str, str]] = []
    for name, value in nested.items():
        inner = isinstance(value, Mapping)
        pairs += flat(value, f"{prefix}{name}.") if inner else [(f"{prefix}{name}", _text(value))]
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, float) and np.isfinite(value):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _has_marks(metric: str) -> bool:
    """Whether some table or figure tells that its difference is noise; of many kinds of corruption only the mean."""
    return bool(floors.floor_of(metric)) and not re.match(r"attacked_ece/worst/|corruption_ece/(?!mean$)", metric)
