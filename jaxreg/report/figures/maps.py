"""Maps of decision regions in the space of features: one trial of each setting, all on one scale.

Of every setting the first trial whose features are alive: others have no directions to draw.
"""

from collections.abc import Iterable, Mapping

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxreg.geometry import map_figure, maps
from jaxreg.geometry import over_training as snapshots
from jaxreg.geometry.maps import Space
from jaxreg.models.functional import Head
from jaxreg.report.data import Member, StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.runtime.files import read_arrays

SHOWN = 6  # settings side by side: more cannot be read
STEPS = 3  # maps of one trial over training
ROWS = 4
PLANE = "two centers"  # the one that needs least


def over_training(data: StudyData) -> Figure | None:
    """Draws one trial of each of the first settings at several steps; None where no snapshot was measured."""
    rows: dict[str, dict[str, Space]] = {}
    for row in _trials(data):
        if row.setting not in rows:
            spaces = _snapshots(data.arrays("over_training", row.study, row.trial))
            if _alive(spaces.values()):
                rows[row.setting] = spaces
    shown = {name: rows[name] for name in data.settings if name in rows}
    return map_figure.draw_rows(dict(list(shown.items())[:ROWS])) if shown else None


def figure(data: StudyData) -> Figure | None:
    """Draws one trial of each of the first settings; None where predictions or centers were not saved."""
    spaces: dict[str, Space] = {}
    for row in _trials(data):
        space = _space(data, row) if row.setting not in spaces else None
        if space is not None and _alive([space]):
            spaces[row.setting] = space
    shown = {name: spaces[name] for name in data.settings if name in spaces}
    return map_figure.draw(dict(list(shown.items())[:SHOWN])) if shown else None


def _trials(data: StudyData) -> list[Member]:
    return sorted(data.members, key=lambda member: member.seed)


def _alive(spaces: Iterable[Space]) -> bool:
    return any(not maps.absent(space, PLANE) for space in spaces)


def _snapshots(arrays: Mapping[str, np.ndarray]) -> dict[str, Space]:
    """The space at `STEPS` steps, evenly spread over the snapshots; none where fewer than two were kept."""
    steps = snapshots.steps_of(arrays)
    if len(steps) < 2:
        return {}
    places = np.unique(np.linspace(0, len(steps) - 1, STEPS).round().astype(int))
    return {f"step {steps[i]:,}": snapshots.space(arrays, steps[i]) for i in places}


def _space(data: StudyData, row: Member) -> Space | None:
    centers_KD = data.array("geometry", row.study, row.trial, "class/center")
    if centers_KD is None:
        return None
    home = data.homes[row.study, row.trial, "geometry"]
    path = home.predictions(row.trial, data.split)
    if not path.exists():
        return None
    seen, head = read_arrays(path), read_arrays(home.predictions(row.trial, "head"))
    last = Head(jnp.asarray(head["kernel"]), jnp.asarray(head["bias"]))
    return Space(seen["features"], seen["labels"], last, centers_KD)


FIGURES = {
    "maps": Maker(
        "geometry",
        figure,
        "Decision regions on planes of the space of features, of the first seed of each setting whose features are not "
        "all zero, every row on one scale: through the origin and two class centers; through three centers; along the "
        "two directions of most variance; through the origin in random directions. Colours are predicted classes, "
        "paler where the network is less sure; arrows point up the slope of the loss of the predicted class, where an "
        "attack pushes. Regions that are cones meet at the origin. Dots are examples of the plane's classes, "
        "projected. From class 10 on colours come again: numbers tell regions, markers tell examples apart.",
        told=counts.maps,
    ),
    "maps_over_training": Maker(
        "geometry",
        over_training,
        "Decision regions on the plane through the origin and the centers of classes 0 and 1 at steps of the training "
        "of one seed of each setting, drawn as above, with train images. Maps of one step have one scale, so that "
        "settings compare; each step has its own, told by its ticks. Where the bias is zero, as at step 0, regions "
        "are cones by construction.",
        told=counts.maps,
    ),
}
