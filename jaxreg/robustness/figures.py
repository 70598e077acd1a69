"""Figures of robustness: curves over the radius, the worst case by attack, and minimal radii. Each returns a Figure.

Settings (a regularizer with its hyperparameters) are keys; seeds are the first axis.
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.robustness.curve import robustness_curve

# Okabe and Ito's colours, told apart by people with any common colour blindness; the yellow is too pale on white.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D31")
LINES = ("-", "--", ":", "-.")
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "pdf.fonttype": 42,
}


def curves(min_eps: Mapping[str, np.ndarray], *, norm: str = "linf", limit: float | None = None) -> Figure:
    """Robust accuracy over the radius from minimal radii [seeds, N]: the mean over seeds, and their range as a band.

    Up to `limit`: the largest radius that was searched. By default where the last setting falls below 1 %.
    """
    _check(min_eps)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        axis = figure.subplots()
        finite = np.concatenate([np.ravel(values)[np.isfinite(np.ravel(values))] for values in min_eps.values()])
        radii = np.linspace(0, np.quantile(finite, 0.99) if limit is None else limit, 400)
        for i, (setting, values) in enumerate(min_eps.items()):
            shares = np.array([_at(seed, radii) for seed in values])
            axis.plot(
                radii, shares.mean(0), color=_colour(i), linestyle=_line(i), label=f"{setting} (n = {len(values)})"
            )
            if len(values) > 1:
                axis.fill_between(radii, shares.min(0), shares.max(0), color=_colour(i), alpha=0.15, linewidth=0)
        axis.set(xlabel=f"radius ({_name(norm)})", ylabel="robust accuracy", ylim=(0, 1.02), xlim=(0, radii[-1]))
        axis.legend(title="mean and range over seeds" if any(len(v) > 1 for v in min_eps.values()) else None)
    return figure


def worst_bars(robust: Mapping[str, Mapping[str, np.ndarray]], *, eps: float, norm: str = "linf") -> Figure:
    """Robust accuracy {setting: {attack: values over seeds}} at one radius: a group an attack, seeds as dots.

    The attack called `worst` stands apart at the right.
    """
    _check(robust)
    attacks = list(dict.fromkeys(name for values in robust.values() for name in values))
    attacks.sort(key=lambda name: name == "worst")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(6.4, 1.3 * len(attacks) + 2), 3.8), layout="constrained")
        axis = figure.subplots()
        places = np.arange(len(attacks)) + 0.35 * np.array([name == "worst" for name in attacks])
        for i, (setting, values) in enumerate(robust.items()):
            _bars(axis, places, [np.asarray(values.get(name, [])) for name in attacks], i, len(robust), setting)
        axis.set_xticks(places, attacks)
        axis.tick_params(axis="x", length=0)
        axis.grid(axis="x", visible=False)
        axis.set(ylabel=f"robust accuracy at {eps:.4g} ({_name(norm)})", ylim=(0, None))
        axis.legend(ncols=min(len(robust), 4), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _bars(axis: Axes, places: np.ndarray, values: list[np.ndarray], i: int, count: int, setting: str) -> None:
    width = 0.8 / count
    for place, seeds in zip(places + (i - (count - 1) / 2) * width, values):
        if not len(seeds):
            continue
        first = place == places[0] + (i - (count - 1) / 2) * width
        axis.bar(place, seeds.mean(), 0.92 * width, color=_colour(i), alpha=0.75, label=setting if first else None)
        spots = place + width * (np.linspace(-0.25, 0.25, len(seeds)) if len(seeds) > 1 else np.zeros(1))
        axis.plot(spots, seeds, "o", color="white", markeredgecolor=_colour(i), markersize=3, markeredgewidth=0.8)


def histograms(min_eps: Mapping[str, np.ndarray], *, norm: str = "linf", bins: int = 40) -> Figure:
    """Minimal radii [seeds, N] of the correctly classified examples, all seeds together; medians as lines.

    Examples that nothing fooled are counted in the last bin.
    """
    _check(min_eps)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 1.15 * len(min_eps) + 0.9), layout="constrained")
        axes = np.ravel(figure.subplots(len(min_eps), 1, sharex=True, sharey=True, squeeze=False))
        every = np.concatenate([np.ravel(values) for values in min_eps.values()])
        edges = np.linspace(0, every[np.isfinite(every)].max() * (1 + 1e-6), bins + 1)
        for i, (axis, (setting, values)) in enumerate(zip(axes, min_eps.items())):
            positive = np.ravel(values)[np.ravel(values) > 0]
            shown = np.minimum(positive, edges[-1] * (1 - 1e-6))
            weights = np.full(len(shown), 1 / max(len(shown), 1))
            axis.hist(shown, edges, weights=weights, color=_colour(i), alpha=0.75)
            median = np.median(positive) if len(positive) else np.nan
            if np.isfinite(median):
                axis.axvline(median, color=_colour(i), linestyle="--", linewidth=1.2)
            axis.set_title(f"{setting}: median {median:.3g}", loc="left", fontsize=9)
            axis.grid(axis="x", visible=False)
        axes[-1].set_xlabel(f"minimal radius ({_name(norm)})")
        figure.supylabel("share of correct examples", fontsize=10)
    return figure


def _at(min_eps: np.ndarray, radii: np.ndarray) -> np.ndarray:
    steps, shares = robustness_curve(min_eps)
    return shares[np.searchsorted(steps, radii, side="right") - 1]


def _check(data: Mapping[str, object]) -> None:
    if not data:
        raise ValueError("a figure of robustness needs at least one setting, got none.")


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _line(i: int) -> str:
    return LINES[i // len(COLOURS) % len(LINES)]


def _name(norm: str) -> str:
    return {"linf": "$\\ell_\\infty$", "l2": "$\\ell_2$"}.get(norm, norm)
