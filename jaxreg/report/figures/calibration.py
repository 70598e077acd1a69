"""Confidence against accuracy: reliability diagrams, histograms of confidence, and ECE against accuracy."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.figure import Figure

from jaxreg.calibration import figures
from jaxreg.calibration.figures import Points, Seen
from jaxreg.report.data import StudyData
from jaxreg.report.figures.maker import Maker
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
            sides = (values.loc[trials].to_numpy() for values in own)
            points[setting] = Points._make((*sides, *((setting, metric) in noise for metric in ("ece", "ece_ts"))))
    colours = {name: one.colour for name, one in look.items()}
    return figures.ece_against_accuracy(points, colours) if points else None


FIGURES = {
    "reliability": Maker(
        "accuracy",
        reliability,
        "Reliability diagrams, seeds pooled. Circles: accuracy in 15 equal-width bins of confidence, their area the "
        "share of examples. Lines: the same without bins, before temperature scaling with its 95 % band over examples, "
        "and after it. On the diagonal confidence is deserved, below it the network is over-confident, above it "
        "under-confident. Below: the share of the predictions of all seeds together that have which confidence, before "
        "(filled, with their number) and after (dashed).",
    ),
    "confidence": Maker(
        "accuracy",
        histograms,
        "How many right and how many wrong predictions have which confidence, before temperature scaling, seeds "
        "pooled; the scale is logarithmic from one prediction upwards.",
    ),
    "ece_accuracy": Maker(
        "accuracy",
        ece_against_accuracy,
        "ECE against accuracy, before and after temperature scaling: small marks are seeds, large ones the mean of "
        "their setting. Dashes: the upper end of the 95 % range of the ECE that a perfectly calibrated network with "
        "the confidences of this setting shows at this n; open marks: the difference to the baseline lies inside it.",
    ),
}
