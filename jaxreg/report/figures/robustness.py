"""Robust accuracy by attack and radius: bars for a few radii, curves for many."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.names import MetricName, radius_told, rows_of
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import Look, band, canvas, grid, looks
from jaxreg.report.tables.main import headline_robust

MANY = 4  # radii of one attack from which a curve says more than bars
BARS = 44  # beside one another in one row


def robust_rows(data: StudyData) -> pd.DataFrame:
    """Returns the rows robust_accuracy/ATTACK/EPS of the report's split with the columns `attack` and `eps` (float)."""
    rows = data.frame[(data.frame["split"] == data.split) & np.isfinite(data.frame["value"])]
    found = rows_of(rows, "robust_accuracy", "attack", "eps")
    return found.assign(eps=found["eps"].astype(float))


def bars(data: StudyData) -> Figure | None:
    """Draws clean accuracy and robust accuracy by attack and radius, seeds as dots; None where nothing was attacked.

    Of an attack with many radii in a study, only the one of the main table.
    """
    attacked = _attacked(data)
    if attacked.empty:
        return None
    clean = data.values("accuracy")
    groups = {"clean": clean} if len(clean) else {}
    for (attack, eps), rows in attacked.groupby(["attack", "eps"], sort=False):
        groups[f"{str(attack).replace('_', chr(10), 1)}\n{radius_told(float(str(eps)))}"] = rows
    look = looks(data)
    lines = -(-len(groups) // max(2, BARS // len(look)))
    each = -(-len(groups) // lines)
    chunks = [dict(list(groups.items())[i : i + each]) for i in range(0, len(groups), each)]
    figure = canvas(2.9 * len(chunks), look)
    for axis, chunk in zip(grid(figure, len(chunks), 1), chunks):
        _groups(axis, chunk, look, min(each, len(groups)))
    return figure


def curves(data: StudyData) -> Figure | None:
    """Draws robust accuracy against the radius, one panel an attack; None where no attack has many radii."""
    rows, look = robust_rows(data), looks(data)
    radii = rows.groupby("attack", sort=False)["eps"].nunique()
    attacks = list(radii[radii >= MANY].index)
    if not attacks:
        return None
    figure = canvas(2.9 * -(-len(attacks) // 3), look)
    axes = grid(figure, len(attacks), 3, sharey=True)
    for axis, attack in zip(axes, attacks):
        for setting, one in look.items():
            lines = rows[(rows["attack"] == attack) & (rows["setting"] == setting)].groupby("eps")["value"]
            band(axis, lines, one, scale=100, marker=3)
        axis.set(title=attack, xlabel="eps", ylim=(0, 100))
    axes[0].set_ylabel("accuracy %")
    return figure


def _attacked(data: StudyData) -> pd.DataFrame:
    """The rows to draw as bars, ordered by attack as in the results, then by radius."""
    rows = robust_rows(data)
    rows = rows[rows["eps"] > 0].assign(order=lambda frame: pd.factorize(frame["attack"])[0])
    kept = []
    for (study, _), part in rows.groupby(["study", "attack"], sort=False):
        if part["eps"].nunique() >= MANY:
            first = headline_robust(data.frame[data.frame["study"] == study], data.split) or ""
            part = part[part["eps"] == float(MetricName.parse(first).of[1])]
        kept.append(part)
    return pd.concat([rows.iloc[:0], *kept]).sort_values(["order", "eps"], kind="stable")


def _groups(axis: Axes, groups: dict[str, pd.DataFrame], look: dict[str, Look], room: int) -> None:
    width = 0.84 / len(look)
    for i, (setting, one) in enumerate(look.items()):
        for place, rows in enumerate(groups.values()):
            value = 100 * rows.loc[rows["setting"] == setting, "value"].to_numpy()
            _bar(axis, place - 0.42 + (i + 0.5) * width, width, value, one)
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set(ylabel="accuracy %", ylim=(0, 100), xlim=(-0.5, room - 0.5))
    axis.grid(False, axis="x")


def _bar(axis: Axes, center: float, width: float, value: np.ndarray, look: Look) -> None:
    if len(value):
        axis.bar(center, value.mean(), 0.92 * width, color=look.colour, alpha=0.55, hatch=look.hatch, ec="white", lw=0)
        spread = center + 0.5 * width * ((np.arange(len(value)) + 0.5) / len(value) - 0.5)
        axis.plot(spread, value, "o", color=look.colour, markersize=2.8, mew=0.4, mec="white")


FIGURES = {
    "robust_bars": Maker(
        "robustness",
        bars,
        "Accuracy without attack and under each attack at radius eps (input range [0, 1]): bars are means, dots "
        "are seeds. An example counts as robust only if it is right and no step of the attack fools it; 'worst' "
        "takes the worst of all attacks for each example.",
        told=counts.parts(clean="accuracy$", under_attack="robust_accuracy/"),
    ),
    "robust_curves": Maker(
        "robustness",
        curves,
        "Robust accuracy against the radius of the attack: mean over seeds, in a band from the lowest to the "
        "highest seed. A curve that does not fall to 0 at a large radius is a sign of a failing attack, not of "
        "robustness.",
        told=counts.over("robust_accuracy/"),
    ),
}
