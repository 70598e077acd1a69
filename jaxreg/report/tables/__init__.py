"""TABLES: what a report prints, section by section; all of them, and more, as CSV files."""

import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa
from etils import epath
from pyarrow import csv

from jaxreg.calibration import floors
from jaxreg.claims.summary import FILES
from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks
from jaxreg.report.tables import calibration, differences, geometry, interventions, verdicts
from jaxreg.report.tables.columns import cells
from jaxreg.report.tables.main import MAIN
from jaxreg.report.tables.table import Line, Printed, Table

SETTINGS = (MAIN, *calibration.TABLES, *geometry.TABLES)
TABLES: tuple[Table, ...] = (*SETTINGS, verdicts.TABLE, interventions.TABLE)


def trial_lines(data: StudyData) -> list[Line]:
    """Returns one line a trial: its name, its seed, and the numbers of the main table."""
    look = looks(data)
    found = cells(data.frame, MAIN.columns(data.frame, data.split), ["study", "trial"])
    return [
        Line(row.setting, look[row.setting].colour, [row.trial, str(row.seed), *found[row.study, row.trial]])
        for row in data.members
    ]


def printed(data: StudyData) -> dict[str, list[Printed]]:
    """Returns by section the tables to show below the main one."""
    found: dict[str, list[Printed]] = {}
    for table in TABLES[1:]:
        one = table.printed(data)
        found.setdefault(table.section, []).extend([one] if one else [])
    return found


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


def save(data: StudyData, folder: epath.Path) -> list[str]:
    """Writes `TABLES`, differences, summary, trials and conditions as CSV; returns the names of the files.

    The files of the claims, which `claims.save` has written before, are named too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = {column.metric for table in SETTINGS for column in table.columns(data.frame, data.split)}
    marked = shown | {name for name in data.frame["metric"].unique() if _has_marks(name)}
    tables = {table.name: table.numbers(data) for table in TABLES}
    tables |= {"conditions": data.conditions}
    tables = {name: table for name, table in tables.items() if len(table)}
    tables |= {"summary": data.summary, "trials": wide(data)}
    tables |= {"differences": differences.paired(data.frame, data.split, marked)}
    tables |= {"failed": pd.DataFrame(data.failed)} if data.failed else {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), buffer)  # ten times as fast as pandas
        (folder / f"{name}.csv").write_bytes(buffer.getvalue())
    return [f"{name}.csv" for name in tables] + [name for name in FILES if (folder / name).exists()]


def _has_marks(metric: str) -> bool:
    """Whether some table or figure tells that its difference is noise; of many kinds of corruption only the mean."""
    return bool(floors.floor_of(metric)) and not re.match(r"attacked_ece/worst/|corruption_ece/(?!mean$)", metric)
