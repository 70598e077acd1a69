"""Maps of decision regions in the space of features: one trial of each setting, all on one scale."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxreg.geometry import map_figure
from jaxreg.geometry import over_training as snapshots
from jaxreg.geometry.examples import Head
from jaxreg.geometry.maps import Space
from jaxreg.predictions import read_arrays
from jaxreg.report.data import StudyData

SHOWN = 6  # settings side by side: more cannot be read
STEPS = 3  # maps of one trial over training
ROWS = 4


def over_training(data: StudyData) -> Figure | None:
    """Draws the first trial of each of the first settings at several steps; None where no snapshot was measured."""
    rows = {}
    for row in _first_trials(data):
        arrays = data.arrays("over_training", row.study, row.trial)
        steps = snapshots.steps_of(arrays)
        if len(steps) >= 2:
            chosen = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, STEPS).round().astype(int))]
            rows[row.setting] = {f"step {step:,}": snapshots.space(arrays, step) for step in chosen}
    shown = {name: rows[name] for name in data.settings if name in rows}
    return map_figure.draw_rows(dict(list(shown.items())[:ROWS])) if shown else None


def figure(data: StudyData) -> Figure | None:
    """Draws the first trial of each of the first settings; None where predictions or centers were not saved."""
    spaces = {}
    for row in _first_trials(data):
        centers_KD = data.array("geometry", row.study, row.trial, "class/center")
        if centers_KD is None or len(centers_KD) < 3:
            continue
        folder = data.homes[row.study, row.trial, "geometry"] / "predictions" / row.trial
        if not (folder / f"{data.split}.npz").exists():
            continue
        seen, head = read_arrays(folder / f"{data.split}.npz"), read_arrays(folder / "head.npz")
        last = Head(jnp.asarray(head["kernel"]), jnp.asarray(head["bias"]))
        spaces[row.setting] = Space(seen["features"], seen["labels"], last, centers_KD)
    shown = {name: spaces[name] for name in data.settings if name in spaces}
    return map_figure.draw(dict(list(shown.items())[:SHOWN])) if shown else None


def _first_trials(data: StudyData) -> Iterable[Any]:
    return data.trials.sort_values("seed", kind="stable").drop_duplicates("setting").itertuples()
