"""Maps of decision regions in the space of features: one trial of each setting, all on one scale."""

import jax.numpy as jnp
from matplotlib.figure import Figure

from jaxreg.geometry import map_figure
from jaxreg.geometry.examples import Head
from jaxreg.geometry.maps import Space
from jaxreg.predictions import read_arrays
from jaxreg.report.data import StudyData

SHOWN = 6  # settings side by side: more cannot be read
PLANES = ("two centers",)


def figure(data: StudyData) -> Figure | None:
    """Draws the first trial of each of the first settings; None where predictions or centers were not saved."""
    spaces = {}
    for row in data.trials.sort_values("seed", kind="stable").drop_duplicates("setting").itertuples():
        folder = data.homes[row.study, row.trial] / "predictions" / row.trial
        centers_KD = data.array("geometry", row.study, row.trial, "class/center")
        if centers_KD is None or len(centers_KD) < 3 or not (folder / f"{data.split}.npz").exists():
            continue
        seen, head = read_arrays(folder / f"{data.split}.npz"), read_arrays(folder / "head.npz")
        last = Head(jnp.asarray(head["kernel"]), jnp.asarray(head["bias"]))
        spaces[row.setting] = Space(seen["features"], seen["labels"], last, centers_KD)
    shown = {name: spaces[name] for name in data.settings if name in spaces}
    return map_figure.draw(dict(list(shown.items())[:SHOWN]), PLANES) if shown else None
