"""FIGURES: what a report draws, in its order; each file has its drawing, its caption and its section."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import matplotlib
import pandas as pd
from etils import epath

from jaxreg.report.data import StudyData
from jaxreg.report.figures import (
    attacked,
    calibration,
    corruptions,
    curves,
    displacement,
    gain,
    geometry,
    maps,
    mechanism,
    over_training,
    radii,
    robustness,
    scaling,
    seeds,
    within,
)
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import STYLE
from jaxreg.report.printer import Printers, uncollected

FIGURES: Mapping[str, Maker] = {
    **seeds.FIGURES,
    **calibration.FIGURES,
    **robustness.FIGURES,
    **radii.FIGURES,
    **gain.FIGURES,
    **attacked.FIGURES,
    **corruptions.FIGURES,
    **geometry.FIGURES,
    **maps.FIGURES,
    **over_training.FIGURES,
    **scaling.FIGURES,
    **displacement.FIGURES,
    **mechanism.FIGURES,
    **within.FIGURES,
    **curves.FIGURES,
}


class Drawn(NamedTuple):
    """A figure as the page shows it."""

    name: str
    section: str
    caption: str
    path: epath.Path  # of its PNG

    @property
    def png(self) -> bytes:
        """Returns the picture; it is there once `drawing` is left."""
        return self.path.read_bytes()


@contextlib.contextmanager
def drawing(data: StudyData, folder: epath.Path) -> Iterator[list[Drawn]]:
    """Draws every figure whose data are there; leaving it waits until all are saved, as PNG and PDF under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(dict(STYLE)), uncollected(), Printers(str(folder), STYLE) as printers:
        drawn, drawable = [], _drawable(data)
        for name, maker in FIGURES.items():
            figure = maker.make(drawable)
            if figure is not None:
                printers.save(figure, name)
                caption = f"{maker.caption} {maker.told(data)}"
                drawn.append(Drawn(name, maker.section, caption, folder / f"{name}.png"))
        yield drawn


def _drawable(data: StudyData) -> StudyData:
    """The same, with a `$` in the names of studies, which are folders' too, as Matplotlib prints it: no formula."""
    return dataclasses.replace(data, frame=_literal(data.frame), curves=_literal(data.curves))


def _literal(frame: pd.DataFrame) -> pd.DataFrame:
    told = [name for name in _TOLD if len(frame)]
    return frame.assign(**{name: frame[name].cat.rename_categories(_without_formula) for name in told})


def _without_formula(text: str) -> str:
    return text.replace("$", r"\$")


_TOLD = ("label", "setting")  # what figures print of a study
