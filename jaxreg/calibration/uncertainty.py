"""How far a calibration number can be trusted: bootstrap over examples, and the noise floor of a perfect model.

Every draw is a function of (seed, replicate, example id) alone, so that order, batches and devices change nothing;
sums over batches add. Replicates R use the same draws for all trials, so differences between trials are paired.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration.bins import Bins
from jaxreg.rng import example_keys

REPLICATES = 1000
# P(Poisson(1) <= k), k = 0..9: beyond it less than 1e-7 is lost, the resolution of a float32 uniform.
POISSON_CDF = np.cumsum(np.exp(-1.0) / np.cumprod([1, *range(1, 10)])).astype(np.float32)


@flax.struct.dataclass
class Resampled:
    """Sums over reweighted examples, [R] each; `bins` and `mass` (equal mass) [R, M]. `+` merges batches."""

    count: Array
    correct: Array
    confidence: Array
    nll: Array
    brier: Array
    bins: Bins
    mass: Bins

    def __add__(self, other: "Resampled") -> "Resampled":
        return jax.tree.map(jnp.add, self, other)


def uniforms(key: Array, ids_B: Array, replicates: int) -> Array:
    """Returns uniform draws [B, R] in [0, 1), a function of `key`, the example's id and the replicate alone."""
    return jax.vmap(lambda one: jax.random.uniform(one, (replicates,)))(example_keys(key, ids_B))


def poisson_weights(uniform_BR: Array) -> Array:
    """Returns how often each replicate holds each example: independent Poisson(1), float32 [B, R].

    References: Chamandy et al., 2012, Estimating uncertainty for massive data streams (the Poisson bootstrap).
    """
    return sum((uniform_BR >= edge).astype(jnp.float32) for edge in POISSON_CDF) + jnp.zeros_like(uniform_BR)


def resample(weight_BR: Array, columns_B5: Array, width_BM: Array, mass_BM: Array) -> Resampled:
    """Returns the sums of one batch under each column of weights, by one matrix product.

    `columns_B5` are mask, correct, confidence, nll, brier, zero where masked; the memberships are of the whole split.
    """
    correct_B1, confidence_B1, mask_B1 = columns_B5[:, 1:2], columns_B5[:, 2:3], columns_B5[:, :1]
    parts = [membership * one for membership in (width_BM, mass_BM) for one in (mask_B1, confidence_B1, correct_B1)]
    total = weight_BR.T @ jnp.concatenate([columns_B5, *parts], -1)
    scalars, binned = total[:, :5].T, jnp.split(total[:, 5:], 6, -1)
    return Resampled(*scalars, Bins(*binned[:3]), Bins(*binned[3:]))


def draw_floor(uniform_BR: Array, confidence_B: Array, mask_B: Array, width_BM: Array) -> Bins:
    """Returns sums [R, M] of a perfectly calibrated model: each label is right with probability its confidence."""
    width_BM = width_BM * mask_B[:, None]
    correct_RM = (uniform_BR < confidence_B[:, None]).astype(jnp.float32).T @ width_BM
    fixed = jnp.zeros_like(correct_RM)
    return Bins(fixed + jnp.sum(width_BM, 0), fixed + confidence_B @ width_BM, correct_RM)


def recentred(values_R: Array, value: Array) -> tuple[Array, Array]:
    """95 % interval: the percentiles of the replicates, moved so that their median is the estimate.

    Resampling adds its own noise to a sum of absolute gaps, so its plain percentiles lie above the estimate.
    """
    low, middle, high = jnp.nanpercentile(values_R, jnp.array([2.5, 50.0, 97.5]))
    return value + low - middle, value + high - middle


# Metrics with an interval over examples, their smallest and largest possible value, from the sums of every replicate.
INTERVALS: dict[str, tuple[Callable[[Resampled], Array], float, float]] = {
    "accuracy": (lambda sums: sums.correct / sums.count, 0.0, 1.0),
    "nll": (lambda sums: sums.nll / sums.count, 0.0, np.inf),
    "brier": (lambda sums: sums.brier / sums.count, 0.0, 2.0),
    "confidence": (lambda sums: sums.confidence / sums.count, 0.0, 1.0),
    "confidence_gap": (lambda sums: (sums.confidence - sums.correct) / sums.count, -1.0, 1.0),
    "ece": (lambda sums: binning.ece(sums.bins), 0.0, 1.0),
    "ece_debiased": (lambda sums: binning.debiased(sums.bins), 0.0, 1.0),
    "ece_adaptive": (lambda sums: binning.ece(sums.mass), 0.0, 1.0),
    "mce": (lambda sums: binning.mce(sums.bins), 0.0, 1.0),
}


def intervals(sums: Resampled, values: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
    """Returns (low, high) of every metric of `INTERVALS` around its estimate in `values`."""
    found = {}
    for name, (metric, least, most) in INTERVALS.items():
        low, high = recentred(metric(sums), values[name])
        found[name] = jnp.clip(low, least, most), jnp.clip(high, least, most)
    return found


def floor(sums: Bins) -> tuple[Array, Array, Array]:
    """Returns (mean, low, high): the ECE that a perfectly calibrated model with these confidences shows at this N.

    Low and high bound 95 % of its draws.
    """
    ece_R = binning.ece(sums)
    low, high = jnp.percentile(ece_R, jnp.array([2.5, 97.5]))
    return jnp.mean(ece_R), low, high


def inside_floor(difference: float, *floors_high: float) -> bool:
    """True where a difference between ECEs is no larger than perfect models show: it is not to be called one.

    `floors_high` are the upper ends of the floors of everything that was compared; NaN compares as inside.
    """
    return not abs(difference) > max(floors_high)
