"""Reliability diagrams: how often a model is right when it says that it is c sure, before and after temperature."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxreg.calibration import smece, uncertainty
from jaxreg.calibration.bins import BINS

BEFORE, AFTER, BAND = "#0072B2", "#D55E00", "#8EBEDA"  # Okabe and Ito: blue and vermilion differ in lightness too
COLUMNS = 4
REPLICATES = 200
BANDWIDTHS = 0.02, 0.05  # of the curves: below it single examples show, above it bends vanish


class Seen(NamedTuple):
    """One setting over its seeds S on the same examples N: confidence before and after temperature, and correct."""

    confidence: np.ndarray  # [S, N]
    confidence_ts: np.ndarray
    correct: np.ndarray


def reliability(settings: Mapping[str, Seen], bins: int = BINS) -> Figure:
    """Draws a diagram a setting, pooled over seeds, above the histogram of its confidences.

    Dots are bins of equal width before temperature, their area the share of examples; lines the smooth accuracy before
    (with a 95 % band over examples) and after temperature.
    """
    figure, rows, columns = layout(len(settings), 3.3, 0.8)
    axes = figure.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=[3, 1] * rows)
    _share_y(axes)
    for place, (name, seen) in enumerate(settings.items()):
        row, column = divmod(place, columns)
        upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
        _diagram(upper, seen, bins)
        _counts(lower, seen, bins)
        upper.set_title(name, fontsize=10, loc="left")
        lower.set_xlabel("confidence")
        lower.xaxis.set_tick_params(labelbottom=True)
        if column == 0:
            upper.set_ylabel("accuracy")
            lower.set_ylabel("share (%)")
    _hide(axes, len(settings), columns)
    ncols = 4 if columns == COLUMNS else 2
    figure.legend(handles=_keys(), loc="outside upper left", ncols=ncols, frameon=False, fontsize=9)
    return figure


def layout(panels: int, row_height: float, extra: float) -> tuple[Figure, int, int]:
    """Returns an empty figure for `panels` panels (heights in inches), and its rows and columns, as even as can be."""
    rows = -(-panels // COLUMNS)
    columns = -(-panels // rows)
    size = (2.25 * max(columns, 3), row_height * rows + extra)
    return Figure(figsize=size, layout="constrained"), rows, columns


def plain(axis: Axes) -> None:
    """The look of every panel: a faint grid, two spines."""
    axis.grid(color="#e4e4e4", lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _diagram(axis: Axes, seen: Seen, bins: int) -> None:
    place = np.clip(np.ceil(seen.confidence * bins).astype(int) - 1, 0, bins - 1).ravel()
    count = np.bincount(place, minlength=bins)
    full = count > 0
    mean, accuracy = (np.bincount(place, a.ravel(), bins)[full] / count[full] for a in (seen.confidence, seen.correct))
    axis.scatter(
        mean, accuracy, 6 + 150 * count[full] / count.sum(), facecolors="none", edgecolors=BEFORE, lw=0.9, zorder=2
    )
    axis.plot([0, 1], [0, 1], color="#777777", lw=0.8, zorder=1)
    for confidence, colour, line, band in (
        (seen.confidence, BEFORE, "-", True),
        (seen.confidence_ts, AFTER, "--", False),
    ):
        grid, accuracy, low, high = (array for array in smooth(confidence, seen.correct))
        if band:
            axis.fill_between(grid, low, high, color=BAND, alpha=0.45, lw=0, zorder=1)
        axis.plot(grid, accuracy, line, color=colour, lw=1.7, zorder=3)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    plain(axis)


def smooth(confidence_SN: np.ndarray, correct_SN: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns (confidence, accuracy, low, high) of the smooth diagram where there are examples: 95 % over examples.

    The bandwidth is the one of smECE, within `BANDWIDTHS`. All seeds of an example are drawn together:
    they share its label.
    """
    grid, *curves = (np.asarray(array) for array in _smooth(confidence_SN, correct_SN.astype(np.float32)))
    density, accuracy, low, high = curves
    seen = density > 1e-2 * density.max()
    return grid[seen], accuracy[seen], low[seen], high[seen]


@jax.jit
def _smooth(confidence_SN: jax.Array, correct_SN: jax.Array) -> tuple[jax.Array, ...]:
    confidence, correct = confidence_SN.ravel(), correct_SN.ravel()
    residual_G = smece.on_grid(confidence, confidence - correct)
    sigma = jnp.clip(smece.of_residuals(residual_G, jnp.float32(confidence.size))[1], *BANDWIDTHS)
    ids = jnp.arange(confidence_SN.shape[1], dtype=jnp.uint32)
    weight_NR = uncertainty.poisson_weights(uncertainty.uniforms(jax.random.key(0), ids, REPLICATES))

    def one(weight_N: jax.Array) -> jax.Array:
        return smece.curve(confidence, correct, jnp.tile(weight_N, len(confidence_SN)), sigma)[0]

    accuracy, density = smece.curve(confidence, correct, jnp.ones_like(confidence), sigma)
    low, high = jnp.percentile(jax.lax.map(one, weight_NR.T), jnp.array([2.5, 97.5]), axis=0)
    return jnp.linspace(0, 1, smece.GRID), density, accuracy, low, high


def _counts(axis: Axes, seen: Seen, bins: int) -> None:
    edges = [float(edge) for edge in np.linspace(0, 1, bins + 1)]
    share = np.full(seen.confidence.size, 100 / seen.confidence.size)
    axis.hist(seen.confidence.ravel(), edges, weights=share, color=BEFORE, alpha=0.45, lw=0)
    axis.hist(seen.confidence_ts.ravel(), edges, weights=share, histtype="step", color=AFTER, ls="--", lw=1.3)
    axis.set_ylim(bottom=0)
    plain(axis)


def _share_y(axes: np.ndarray) -> None:
    for kind in (0, 1):
        for axis in axes[kind::2].ravel()[1:]:
            axis.sharey(axes[kind, 0])
    for axis in axes[:, 1:].ravel():
        axis.yaxis.set_tick_params(labelleft=False)


def _hide(axes: np.ndarray, used: int, columns: int) -> None:
    for place in range(used, axes.shape[0] // 2 * columns):
        row, column = divmod(place, columns)
        axes[2 * row, column].remove()
        axes[2 * row + 1, column].remove()


def _keys() -> list[Any]:
    return [
        Line2D([], [], color=BEFORE, lw=1.7, label="before temperature (smooth)"),
        Patch(color=BAND, label="95 % over examples"),
        Line2D([], [], ls="", marker="o", mfc="none", mec=BEFORE, label="before (bins, area: share)"),
        Line2D([], [], color=AFTER, lw=1.7, ls="--", label="after temperature"),
    ]
