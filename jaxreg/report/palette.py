"""One look for every figure: a colour, line and marker for each setting, the same through the whole page.

Colours: Okabe and Ito's set, told apart by people with any common colour blindness, with its yellow (too pale on white)
replaced. Where colours come again, in a second study or from the ninth setting on, line and marker differ.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.typing import LineStyleType
from pandas.api.typing import SeriesGroupBy

from jaxreg.report.data import StudyData

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D31")
LINES: tuple[LineStyleType, ...] = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
HATCHES = ("", "///", "...", "xxx")
WIDTH = 9.0  # inches: the text width of the page
LEGEND_LETTERS = 125  # that fit beside one another at this width
LEGEND_LINE = 0.2  # inches

STYLE: Mapping[Any, Any] = {
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
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "pdf.fonttype": 42,  # text stays text: editable, and accepted by publishers
}


class Look(NamedTuple):
    """How one setting is drawn."""

    colour: str
    line: LineStyleType
    marker: str
    hatch: str


def looks(data: StudyData) -> dict[str, Look]:
    """Returns the look of every setting: a regularizer has one colour, in several studies with different lines."""
    return looks_of(data.frame.drop_duplicates("setting").set_index("setting").loc[data.settings])


def looks_of(names: pd.DataFrame) -> dict[str, Look]:
    """Returns the same of settings by name, with their label and study."""
    labels, studies = list(names["label"].unique()), list(names["study"].unique())
    found = {}
    for setting, label, study in zip(names.index, names["label"], names["study"]):
        round_, colour = divmod(labels.index(label), len(COLOURS))
        turn = (round_ * len(studies) + studies.index(study)) % len(LINES)
        found[setting] = Look(COLOURS[colour], LINES[turn], MARKERS[turn], HATCHES[turn])
    return found


def canvas(height: float, look: Mapping[str, Look], only: Collection[str] | None = None) -> Figure:
    """Returns a figure `height` inches high below a legend of the settings (`only` those named) over all panels."""
    shown = {setting: one for setting, one in look.items() if only is None or setting in only}
    columns = _legend_columns(list(shown))
    figure = Figure(figsize=(WIDTH, height + LEGEND_LINE * -(-len(shown) // columns)), layout="constrained")
    handles = [
        Line2D([], [], color=one.colour, linestyle=one.line, marker=one.marker, markersize=4, label=setting)
        for setting, one in shown.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def grid(figure: Figure, number: int, columns: int, sharex: bool = False, sharey: bool = False) -> list[Axes]:
    """Returns `number` panels of `figure` in rows of `columns`."""
    columns = min(columns, number)
    every = figure.subplots(-(-number // columns), columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for unused in every[number:]:
        unused.set_axis_off()
    return list(every[:number])


def band(axis: Axes, lines: "SeriesGroupBy[Any, Any]", look: Look, *, scale: float = 1, marker: int = 0) -> None:
    """Draws the mean of each group against its key, in a band from the least to the greatest, all times `scale`.

    `marker`: size of the setting's marker at each mean; 0: none.
    """
    mean, low, high = scale * lines.mean(), scale * lines.min(), scale * lines.max()
    shape = look.marker if marker else ""
    axis.plot(mean.index, mean, linestyle=look.line, color=look.colour, marker=shape, markersize=marker)
    axis.fill_between(mean.index, low, high, color=look.colour, alpha=0.15, linewidth=0)


def logarithmic(axis: Axes) -> None:
    """Makes the y axis logarithmic, with plain numbers at 1, 2 and 5."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def _legend_columns(settings: list[str]) -> int:
    if sum(len(name) + 6 for name in settings) <= LEGEND_LETTERS:
        return len(settings)
    return max(1, LEGEND_LETTERS // (6 + max(map(len, settings))))
