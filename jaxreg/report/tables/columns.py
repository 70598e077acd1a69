"""A table of settings: columns of metrics, told once for the terminal, the page and the CSV files."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from jaxreg import results
from jaxreg.calibration import floors
from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks
from jaxreg.report.tables import differences
from jaxreg.report.tables.table import Line, Printed


class Spread(NamedTuple):
    """A metric over a group of trials: mean, sd and count, the means of the ends of its interval, the largest value."""

    mean: float
    sd: float
    n: int
    low: float
    high: float
    most: float


class Doubt(NamedTuple):
    """What puts a mark behind a number: a metric that is above its limit in some trial."""

    metric: str
    limit: float
    mark: str
    split: str | None = None  # None: that of the column


class Column(NamedTuple):
    """A metric as a column: `scale` turns the stored number into the printed one, with `digits` after the point."""

    metric: str
    title: str
    digits: int
    scale: float = 1.0
    split: str | None = None  # None: the split that the report speaks of
    wide: bool = False  # left out of the terminal's table
    form: str = "{mean} ± {sd}"  # what is printed of a `Spread`
    kind: str = "f"  # "e": as powers of ten
    doubt: Doubt | None = None
    absent: str = "–"  # what stands for no number
    words: Mapping[str, str] = {}  # printed instead of some numbers

    def text(self, number: Spread) -> str:
        """Returns the number as printed; without an sd or an interval only its mean."""
        if pd.isna(number.mean):
            return self.absent
        lacks = any(f"{{{name}}}" in self.form and pd.isna(getattr(number, name)) for name in ("sd", "low", "high"))
        shown = {name: f"{value * self.scale:z.{self.digits}{self.kind}}" for name, value in number._asdict().items()}
        text = ("{mean}" if lacks else self.form).format(**shown)
        return self.words.get(text, text)


class SettingTable(NamedTuple):
    """A table with a line a setting and a column a metric: on the page, as a CSV file, maybe in the terminal."""

    name: str  # of its CSV file, and of its place on the page
    title: str
    section: str
    every: Callable[[pd.DataFrame, str], Sequence[Column]]  # rows, split -> its columns, measured or not
    note: Callable[[str, Sequence[Column]], str]  # split, shown columns -> how to read it

    def columns(self, frame: pd.DataFrame, split: str) -> list[Column]:
        """Returns the columns that `frame` has numbers for, each with its split."""
        return located(self.every(frame, split), frame, split)

    def lines(self, data: StudyData) -> tuple[list[Column], list[Line]]:
        """Returns the columns, and one line a setting: n, then its cells."""
        columns, look, trials = self.columns(data.frame, data.split), looks(data), data.trials.groupby("setting").size()
        keys = data.frame.drop_duplicates("setting").set_index("setting")[results.SETTING]
        found = cells(data.frame, columns, results.SETTING)
        return columns, [
            Line(name, look[name].colour, [str(trials[name]), *found[tuple(map(str, keys.loc[name]))]])
            for name in data.settings
        ]

    def printed(self, data: StudyData) -> Printed | None:
        """Returns what the page shows; None without a column to show."""
        columns, lines = self.lines(data)
        heads = ["setting", "n", *(column.title for column in columns)]
        return Printed(self.name, self.title, heads, lines, self.note(data.split, columns)) if columns else None

    def numbers(self, data: StudyData) -> pd.DataFrame:
        """Returns the table in numbers: one line a setting and metric, in the units of results.parquet."""
        keys = {(column.split, column.metric) for column in self.columns(data.frame, data.split)}
        lines = data.summary
        return lines[[key in keys for key in zip(lines["split"], lines["metric"])]]


def cells(frame: pd.DataFrame, columns: Sequence[Column], by: list[str]) -> dict[tuple[str, ...], list[str]]:
    """Returns the printed numbers of each group of trials; a column that lacks some of them tells its own n.

    In groups that are settings (`results.SETTING`), an error that differs from the baseline's by noise carries a mark;
    so does a number of which there is a `Doubt`.
    """
    doubts = {doubt for column in columns if (doubt := column.doubt)}
    shown = {column.metric for column in columns} | {doubt.metric for doubt in doubts}
    once = frame[frame["metric"].isin(shown)].drop_duplicates(["study", "trial", "split", "metric"])
    groups = once.groupby([*by, "split", "metric"], sort=False)
    table = groups["value"].agg(["mean", "std", "count"]).join(groups[["low", "high"]].mean())
    table = table.assign(most=groups["value"].max())
    numbers = {key: Spread(*rest) for key, *rest in table.itertuples(name=None)}
    trials = frame.drop_duplicates(["study", "trial"]).groupby(by, sort=False).size()
    sizes = {key if isinstance(key, tuple) else (key,): count for key, count in trials.items()}
    asked: dict[str, list[str]] = {}
    for column in columns:
        if column.metric in floors.FLOORS and column.split:
            asked.setdefault(column.split, []).append(column.metric)
    noise = {key for split, metrics in asked.items() for key in differences.noise(frame, split, metrics)}

    def mark(key: tuple[str, ...], column: Column) -> str:
        if column.doubt is None:
            return differences.MARK if (*key, column.metric) in noise else ""
        worst = numbers.get((*key, column.doubt.split or column.split, column.doubt.metric))
        return column.doubt.mark if worst is not None and worst.most > column.doubt.limit else ""

    def cell(key: tuple[str, ...], column: Column) -> str:
        number = numbers.get((*key, column.split, column.metric))
        return _cell(column, number, sizes[key]) + mark(key, column)

    return {key: [cell(key, column) for column in columns] for key in sizes}


def _cell(column: Column, number: Spread | None, trials: int) -> str:
    if number is None:
        return column.absent
    return column.text(number) + (f" (n={number.n})" if 0 < number.n < trials else "")


def located(columns: Sequence[Column], frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns that `frame` has numbers for, on the report's split where it has, else on another."""
    splits = {column.metric: frame.loc[frame["metric"] == column.metric, "split"].unique() for column in columns}
    return [
        c._replace(split=split if split in splits[c.metric] else str(splits[c.metric][0]))
        for c in columns
        if len(splits[c.metric])
    ]
