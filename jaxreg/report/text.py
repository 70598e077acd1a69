"""The tables that a study ends with in a terminal."""

import textwrap
from collections.abc import Callable

import pandas as pd

from jaxreg import results
from jaxreg.report import calibration_table, differences
from jaxreg.report.columns import Column, cells, main_columns

WIDTH = 120  # columns of a terminal
NARROWEST = 20  # of a setting's name, before it is wrapped tighter than it can be read


def table(frame: pd.DataFrame) -> str:
    """Returns the rows of results.parquet as a text table: mean ± sd over seeds of each setting, with n, 120 wide."""
    columns = main_columns(frame, _split(frame))
    return _table(frame, columns, lambda shown: note(_split(frame), shown))


def calibration(frame: pd.DataFrame) -> str:
    """Returns the same of calibration: ECE with interval and noise floor, before and after; empty without any."""
    columns = calibration_table.columns(frame, _split(frame))
    told = f"{_split(frame)} split. {calibration_table.NOTE}"
    return _table(frame, columns, lambda shown: told) if columns else ""


def _split(frame: pd.DataFrame) -> str:
    return "test" if (frame["split"] == "test").any() or frame.empty else str(frame["split"].iloc[-1])


def _table(frame: pd.DataFrame, columns: list[Column], told: Callable[[list[Column]], str]) -> str:
    columns = [column for column in columns if not column.wide]
    body = _lines(frame, columns)
    heads = ["setting", "n", *(column.title for column in columns)]
    widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    widths[0] = min(widths[0], max(NARROWEST, WIDTH - sum(widths[1:]) - gap * (len(widths) - 1)))
    lines = [text for line in [heads, *body] for text in _wrapped(line, widths, " " * gap)]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:], rule, *textwrap.wrap(told(columns), WIDTH)])


def note(split: str, columns: list[Column]) -> str:
    """Returns what the short titles of the main table mean, in one sentence for those that are shown."""
    meant = {
        "nll_ts": "T: after temperature scaling fitted on validation",
        "ece_ts": f"{differences.MARK}: ECE differs from the baseline's by less than the noise floor",
        "center_cosine": "cosine: to the class center",
    }
    robust = [c.metric.split("/") for c in columns if c.metric.startswith("robust_accuracy/")]
    told = [meant[column.metric] for column in columns if column.metric in meant]
    told += [
        f"robust: {attack if attack != 'worst' else 'worst case of all attacks'}, eps {eps}"
        for _, attack, eps in robust
    ]
    return f"{split} split, mean ± sd over n seeds" + "".join(f"; {one}" for one in told)


def _lines(frame: pd.DataFrame, columns: list[Column]) -> list[list[str]]:
    """Returns the printed cells of every setting; in the rows of several studies, the study is part of its name."""
    several = frame["study"].nunique() > 1
    trials = frame.groupby(results.SETTING, sort=False)["trial"].nunique()
    numbers = cells(frame, columns, results.SETTING)
    names = [(f"{study}: " if several else "") + results.label(*setting) for study, *setting in numbers]
    return [
        [name, str(trials[key]), *(cell.replace(" ± ", "±") for cell in numbers[key])]
        for name, key in zip(names, numbers)
    ]


def _wrapped(line: list[str], widths: list[int], gap: str) -> list[str]:
    """Returns a line of the table, its first cell broken over as many lines as it needs."""
    whole = len(line[0]) <= widths[0]
    first, *rest = [line[0]] if whole else textwrap.wrap(line[0].replace("(", " (", 1), widths[0])
    texts = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
    return [gap.join(texts), *(f"  {part}" for part in rest)]
