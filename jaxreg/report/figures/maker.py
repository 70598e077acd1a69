"""What a figure of the report is: how it is drawn, where it stands, and how to read it."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts


class Maker(NamedTuple):
    """A figure of a section: `make` returns None where its data are missing; `caption` says how to read it."""

    section: str
    make: Callable[[StudyData], Figure | None]
    caption: str
    told: counts.Told = counts.counts  # the sentence behind it, on how many trials and examples the figure stands
