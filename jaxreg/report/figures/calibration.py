"""Confidence against accuracy: reliability diagrams, histograms of confidence, and ECE against accuracy."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.figure import Figure

from jaxreg.calibration import figures
from jaxreg.calibration.figures import Points, Seen
from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks
from jaxreg.report.tables import differences


def _seen(data: StudyData) -> dict[str, Seen]:
    """What every setting said, before and after temperature, of the examples that all its trials have in common."""
    names = ("confidence", "confidence_ts", "correct")
    found = data.by_setting("calibration", *(f"{data.split}/{name}" for name in names))
    return {name: Seen(*(np.stack(arrays) for arrays in zip(*trials))) for name, trials in found.items()}


def _draw(draw: Callable[[Mapping[str, Seen]], Figure], data: StudyData) -> Figure | None:
    settings = _seen(data)
    return draw(settings) if settings else None


def reliability(data: StudyData) -> Figure | None:
    """Draws a reliability diagram a setting, pooled over seeds; None where no confidences were saved."""
    return _draw(figures.reliability, data)


def histograms(data: StudyData) -> Figure | None:
    """Draws how many right and wrong predictions have which confidence; None where no confidences were saved."""
    return _draw(figures.histograms, data)


def ece_against_accuracy(data: StudyData) -> Figure | None:
    """Draws every trial by its accuracy and ECE, before and after temperature; None where one was not measured."""
    names = {"accuracy": "value", "ece": "value", "ece_ts": "value", "ece_floor": "high", "ece_floor_ts": "high"}
    columns = {name: data.values(name).set_index(["setting", "trial"])[end] for name, end in names.items()}
    look, points, noise = looks(data), {}, differences.noisy(data, ["ece", "ece_ts"])
    for setting in data.settings:
        own = [column.loc[setting] if setting in column.index else column.iloc[:0] for column in columns.values()]
        trials = sorted(set.intersection(*(set(values.index) for values in own)))
        if trials:
            marks = ((setting, metric) in noise for metric in ("ece", "ece_ts"))
            points[setting] = Points(*(values.loc[trials].to_numpy() for values in own), *marks)
    colours = {name: one.colour for name, one in look.items()}
    return figures.ece_against_accuracy(points, colours) if points else None
