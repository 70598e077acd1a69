"""What a table of the report is: printed on the page, and in numbers as a CSV file."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import pandas as pd

from jaxreg.report.data import StudyData


class Line(NamedTuple):
    """A line of a printed table: the setting and its colour, then the printed cells."""

    setting: str
    colour: str
    cells: list[str]


class Printed(NamedTuple):
    """A table as the page shows it: `heads` stand over the cells, the first of them over the settings."""

    name: str
    title: str
    heads: Sequence[str]
    lines: Sequence[Line]
    note: str


class Table(Protocol):
    """Any table of the report."""

    @property
    def name(self) -> str:
        """Of its CSV file, and of its place on the page."""

    @property
    def section(self) -> str:
        """Of the page."""

    def printed(self, data: StudyData) -> Printed | None:
        """Returns what the page shows; None where nothing was measured."""

    def numbers(self, data: StudyData) -> pd.DataFrame:
        """Returns the same in numbers, in the units of results.parquet."""


class LinedTable(NamedTuple):
    """A table with lines of its own."""

    name: str
    title: str
    section: str
    heads: Sequence[str]
    lines: Callable[[StudyData], list[Line]]
    numbers: Callable[[StudyData], pd.DataFrame]
    note: str

    def printed(self, data: StudyData) -> Printed | None:
        """Returns what the page shows; None without a line."""
        lines = self.lines(data)
        return Printed(self.name, self.title, self.heads, lines, self.note) if lines else None
