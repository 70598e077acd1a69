"""The robust accuracy that a setting gains over its baseline at every radius, from minimal radii."""

from typing import NamedTuple

import numpy as np

from jaxreg.claims.trials import Pair
from jaxreg.statistics import Band, band, influence

POINTS = 60  # radii of a curve
WITHIN = 0.99  # of the minimal radii that are known lie at the curve's radii


class Gain(NamedTuple):
    """Radii [M] and the gain there with a band that holds for the whole curve; where it is last seen above 0."""

    radii: np.ndarray
    gain: Band
    until: float | None  # the largest radius whose band lies above 0; None where none does
    crosses: float | None  # the first radius after the largest gain at which the gain is 0 or less


def curve(pair: Pair) -> Gain:
    """The gain in the share of images whose minimal radius is larger, at radii up to nearly all that are known.

    Raises: Unmeasured: if minimal radii were not sought, or none was found.
    """
    own_SN, base_SN = (side.array("robustness", "min_eps") for side in pair)
    known = np.concatenate([own_SN, base_SN])
    known = known[np.isfinite(known) & (known > 0)]
    top = float(np.quantile(known, WITHIN)) if known.size else 1.0
    radii = np.linspace(0, top, POINTS)
    gains = [influence.mean((own_SN > radius).astype(float) - (base_SN > radius)) for radius in radii]
    found = band(gains)
    above = radii[found.low > 0]
    after = radii[(radii > radii[np.argmax(found.effect)]) & (found.effect <= 0)]
    return Gain(radii, found, float(above[-1]) if above.size else None, float(after[0]) if after.size else None)
