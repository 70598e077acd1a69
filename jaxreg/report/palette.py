"""One look for every figure: a colour, line and marker for each setting, the same through the whole page.

Colours: Okabe and Ito's set, told apart by people with any common colour blindness, without its yellow (too pale on
white). From the ninth setting on colours come again with another line and marker, so no two settings look the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D31")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
WIDTH = 9.0  # inches: the text width of the page, and of two columns of a paper after scaling

STYLE = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "pdf.fonttype": 42,  # text stays text: editable, and accepted by publishers
}


class Look(NamedTuple):
    """How one setting is drawn."""

    colour: str
    line: str
    marker: str


def looks(settings: Sequence[str]) -> dict[str, Look]:
    """Returns the look of every setting, by its place in the list."""
    turns = [(i % len(COLOURS), i // len(COLOURS)) for i in range(len(settings))]
    return {
        setting: Look(COLOURS[colour], LINES[turn % len(LINES)], MARKERS[turn % len(MARKERS)])
        for setting, (colour, turn) in zip(settings, turns)
    }


def legend(figure: Figure, settings: Sequence[str], every: Sequence[str]) -> None:
    """Puts one legend of `settings` above all panels, in their looks among `every` setting of the page."""
    look = looks(every)
    handles = [
        Line2D([], [], color=look[s].colour, linestyle=look[s].line, marker=look[s].marker, markersize=4, label=s)
        for s in settings
    ]
    columns = min(len(handles), max(1, int(110 / (6 + max(map(len, settings))))))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)


def panels(number: int, columns: int, height: float, **axes) -> tuple[Figure, list]:
    """Returns a figure of the page's width with `number` panels in rows of `columns`, each `height` inches high."""
    columns = min(columns, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(WIDTH, rows * height + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **axes).ravel()
    for unused in grid[number:]:
        unused.set_axis_off()
    return figure, list(grid[:number])
