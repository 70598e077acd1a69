"""The tables that a study ends with in a terminal."""

import textwrap

import pandas as pd

from jaxreg import results
from jaxreg.report.tables.columns import Column, SettingTable, cells
from jaxreg.setting import Setting

WIDTH = 120  # columns of a terminal
NARROWEST = 20  # of a setting's name, before it is wrapped tighter than it can be read


def printed(table: SettingTable, frame: pd.DataFrame) -> str:
    """Returns a table of the rows of results.parquet as text, 120 wide; empty without a column to show."""
    split = "test" if (frame["split"] == "test").any() or frame.empty else str(frame["split"].iloc[-1])
    columns = [column for column in table.columns(frame, split) if not column.wide]
    return _table(frame, columns, table.note(split, columns)) if columns else ""


def _table(frame: pd.DataFrame, columns: list[Column], note: str) -> str:
    body = _lines(frame, columns)
    heads = ["setting", "n", *(column.title for column in columns)]
    widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    widths[0] = min(widths[0], max(NARROWEST, WIDTH - sum(widths[1:]) - gap * (len(widths) - 1)))
    lines = [text for line in [heads, *body] for text in _wrapped(line, widths, " " * gap)]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:], rule, *textwrap.wrap(note, WIDTH)])


def _lines(frame: pd.DataFrame, columns: list[Column]) -> list[list[str]]:
    """Returns the printed cells of every setting; in the rows of several studies, the study is part of its name."""
    several = frame["study"].nunique() > 1
    trials = frame.groupby(results.SETTING, sort=False)["trial"].nunique()
    numbers = cells(frame, columns, results.SETTING)
    names = [(f"{study}: " if several else "") + Setting(*own).label for study, *own in numbers]
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
