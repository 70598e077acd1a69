"""Maps of several trials side by side, on one scale: rows are planes, columns are trials."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.patheffects
import numpy as np
import scipy.ndimage
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from jaxreg.geometry import maps

# Paul Tol's "muted" set, 2021, personal.sron.nl/~pault: told apart by colour-blind readers; classes are named as well.
COLOURS = ("#88CCEE", "#CC6677", "#DDCC77", "#332288", "#117733", "#44AA99", "#882255", "#999933", "#AA4499", "#BBBBBB")
MARKERS = "os^Dv<>Pp"  # of examples: where the colours come again, each ten classes have another one
STYLES: dict[float, LineStyleType] = {0.5: ":", 0.9: "--", 0.99: "-"}  # lines of equal confidence
ARROWS = 11  # a side
CELLS = 120  # a side
LETTERS = 31  # of a title, in a line above a map
SHOWN = 150  # examples on a map
OUTLINE = [matplotlib.patheffects.withStroke(linewidth=2.5, foreground="white")]


def draw(spaces: Mapping[str, maps.Space], planes: Sequence[str] = tuple(maps.PLANES), seed: int = 0) -> Figure:
    """Decision regions (paler where less sure), confidence 0.5, 0.9, 0.99, slopes of the loss, examples, centers.

    Every map of a row has the same scale; the origin is a cross where it is on the plane. A map that cannot be drawn is
    a word why (`maps.absent`), a row in which none can is left out.
    Raises: ValueError: for a plane that is not in `maps.PLANES`, and where no map can be drawn.
    """
    unknown = set(planes) - set(maps.PLANES)
    if unknown:
        raise ValueError(f"Unknown planes {sorted(unknown)}; known: {sorted(maps.PLANES)}.")
    planes = [name for name in planes if not all(maps.absent(space, name) for space in spaces.values())]
    if not planes:
        raise ValueError(f"no map can be drawn of {sorted(spaces)}: give features that are not all zero.")
    figure = Figure(figsize=(2.5 * len(spaces) + 0.5, 2.6 * len(planes) + 0.6), layout="constrained")
    grid = figure.subplots(len(planes), len(spaces), squeeze=False)
    for axis, title in zip(grid[0], spaces):
        axis.set_title(
            textwrap.fill(title.replace("(", " (", 1), LETTERS) if len(title) > LETTERS else title, fontsize=10
        )
    for row, name in zip(grid, planes):
        drawable = [space for space in spaces.values() if not maps.absent(space, name)]
        half_side = max(maps.extent(space, maps.PLANES[name](space, seed=seed)) for space in drawable)
        for axis, space in zip(row, spaces.values()):
            _draw_or_say(axis, space, name, half_side, seed)
        row[0].set_ylabel(name, fontsize=10)
    figure.legend(
        handles=_key(), loc="outside lower center", ncols=3 if len(spaces) < 4 else 6, frameon=False, fontsize=8
    )
    return figure


def draw_rows(rows: Mapping[str, Mapping[str, maps.Space]], plane: str = "two centers") -> Figure:
    """One plane of many spaces: rows such as one trial at several steps; every map of a column has the same scale."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(2.3 * columns + 0.4, 2.25 * len(rows) + 0.5), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for column in range(columns):
        chosen = {name: list(spaces.items())[column] for name, spaces in rows.items() if column < len(spaces)}
        spaces = [space for _, space in chosen.values() if not maps.absent(space, plane)]
        half_side = max((maps.extent(space, maps.PLANES[plane](space)) for space in spaces), default=1.0)
        for axis, name in zip(grid[:, column], rows):
            if name in chosen:
                title, space = chosen[name]
                axis.set_axis_on()
                _draw_or_say(axis, space, plane, half_side)
                axis.set_title(title if axis is grid[0, column] else "", fontsize=10)
    for axis, name in zip(grid[:, 0], rows):
        axis.set_ylabel(name, fontsize=9)
    figure.legend(handles=_key(), loc="outside lower center", ncols=6 if columns > 3 else 3, frameon=False, fontsize=8)
    return figure


def _draw_or_say(axis: Axes, space: maps.Space, plane: str, half_side: float, seed: int = 0) -> None:
    word = maps.absent(space, plane)
    if word:
        _say(axis, word)
    else:
        draw_map(axis, space, maps.PLANES[plane](space, seed=seed), half_side)


def _say(axis: Axes, word: str) -> None:
    """An empty square that says why no map stands in it."""
    axis.text(0.5, 0.5, word, ha="center", va="center", fontsize=9, color="#444444", transform=axis.transAxes)
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.grid(False)


def _key() -> list[Line2D]:
    lines = [
        Line2D([], [], color="#444444", linewidth=0.9, linestyle=style, label=f"confidence {level:g}")
        for level, style in STYLES.items()
    ]
    marks = {"center": ("*", 11, "white"), "origin": ("+", 9, "black"), "example": ("o", 4, "white")}
    return lines + [
        Line2D([], [], linestyle="", marker=m, markersize=size, color=fill, markeredgecolor="black", label=name)
        for name, (m, size, fill) in marks.items()
    ]


def draw_map(axis: Axes, space: maps.Space, plane: maps.Plane, half_side: float) -> None:
    """One map; ticks in units of features."""
    found = maps.evaluate(space, plane, half_side, CELLS)
    side = (-half_side, half_side, -half_side, half_side)
    axis.imshow(_paint(found), extent=side, origin="lower", interpolation="nearest")
    grid = found.coordinates_G
    shown = {k: v for k, v in STYLES.items() if found.confidence_GG.min() < k < found.confidence_GG.max()}
    if shown:
        look: dict[str, Any] = {"colors": "#444444", "linewidths": 0.6, "linestyles": list(shown.values())}
        axis.contour(grid, grid, found.confidence_GG, list(shown), **look)
    _arrows(axis, found)
    _examples(axis, space, plane, half_side)
    _names(axis, found)
    axis.set(xlim=side[:2], ylim=side[2:], aspect="equal")
    axis.grid(False)  # a line of the grid would look like a border of a region
    axis.tick_params(labelsize=7, length=2)
    axis.locator_params(nbins=4)


def _paint(found: maps.Map) -> np.ndarray:
    """The colour of the predicted class, mixed with white where confidence is low."""
    colours = np.array([to_rgb(colour) for colour in COLOURS])[found.prediction_GG % len(COLOURS)]
    strength = 0.12 + 0.5 * found.confidence_GG[..., None]
    return 1 - strength * (1 - colours)


def _arrows(axis: Axes, found: maps.Map) -> None:
    count = len(found.coordinates_G)
    at = np.linspace(0, count - 1, 2 * ARROWS + 1).astype(int)[1::2]
    x, y = np.meshgrid(found.coordinates_G[at], found.coordinates_G[at])
    slope = found.slope_GG2[np.ix_(at, at)]
    axis.quiver(x, y, *np.moveaxis(slope, -1, 0), color="#222222", alpha=0.45, scale=22, width=0.005, pivot="mid")


def _examples(axis: Axes, space: maps.Space, plane: maps.Plane, half_side: float) -> None:
    shown_N = np.flatnonzero(np.isin(space.labels_N, plane.classes))[:SHOWN]
    points, labels = plane.project(space.features_ND[shown_N]), space.labels_N[shown_N]
    colours = np.array([COLOURS[k % len(COLOURS)] for k in labels], object)
    for turn in np.unique(labels // len(COLOURS)):
        own = labels // len(COLOURS) == turn
        look: dict[str, Any] = {"marker": MARKERS[turn % len(MARKERS)], "edgecolors": "black", "linewidths": 0.4}
        axis.scatter(points[own, 0], points[own, 1], s=9, c=list(colours[own]), zorder=3, **look)
    if len(plane.classes) <= 3:
        for k in plane.classes:
            x, y = plane.project(space.centers_KD[k])
            axis.plot(x, y, "*", color=COLOURS[k % len(COLOURS)], markersize=13, markeredgecolor="black", zorder=4)
    if not plane.point_D.any():
        axis.plot(0, 0, "+", color="black", markersize=10, markeredgewidth=1.6, zorder=4)


def _names(axis: Axes, found: maps.Map) -> None:
    """The number of each class that holds at least 1.5 % of the map, where its region is widest."""
    grid = found.coordinates_G
    for k, count in zip(*np.unique(found.prediction_GG, return_counts=True)):
        if count >= 0.015 * found.prediction_GG.size:
            i, j = _inmost(found.prediction_GG == k)
            axis.text(grid[j], grid[i], str(k), fontsize=9, ha="center", va="center", path_effects=OUTLINE, zorder=5)


def _inmost(inside_GG: np.ndarray) -> tuple[int, int]:
    """The cell farthest from the outside of the region and of the map."""
    depth = scipy.ndimage.distance_transform_edt(np.pad(inside_GG, 1))[1:-1, 1:-1]
    i, j = np.unravel_index(depth.argmax(), depth.shape)
    return int(i), int(j)
