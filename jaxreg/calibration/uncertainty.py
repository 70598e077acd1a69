"""Intervals of calibration metrics, by a bootstrap over examples.

Every draw is a function of (seed, replicate, example id) alone, so that order, batches and devices change nothing;
sums over batches add. All trials use the same draws, so differences between trials are paired.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration import bins as binning
from jaxreg.calibration.bins import Bins
from jaxreg.calibration.metrics import Sums
from jaxreg.checks import Arrays
from jaxreg.rng import example_keys

REPLICATES = 1000
GROUPS = 128  # of examples that are drawn together, where drawing them singly would cost too much
# P(Poisson(1) <= k), k = 0..9: beyond it less than 1e-7 is lost, the resolution of a float32 uniform.
POISSON_CDF = np.cumsum(np.exp(-1.0) / np.cumprod([1, *range(1, 10)])).astype(np.float32)


def uniforms(key: Array, ids_B: Shaped[Array, " B"], replicates: int) -> Array:
    """Returns uniform draws [B, R] in [0, 1), a function of `key`, the example's id and the replicate alone."""
    return jax.vmap(lambda one: jax.random.uniform(one, (replicates,)))(example_keys(key, ids_B))


def poisson_weights(uniform_BR: Shaped[Array, "B R"]) -> Array:
    """Returns how often each replicate holds each example: independent Poisson(1), float32 [B, R].

    References: Chamandy et al., 2012, Estimating uncertainty for massive data streams (the Poisson bootstrap).
    """
    return jnp.sum(uniform_BR[..., None] >= POISSON_CDF[None, None], -1).astype(jnp.float32)


def resample(
    weight_BR: Shaped[Array, "B R"],
    columns_B7: Shaped[Array, "B 7"],
    width_BM: Shaped[Array, "B M"],
    mass_BM: Shaped[Array, "B M"],
) -> Array:
    """Returns the sums [R, 7 + 6 M] of one batch under each column of weights, by matrix products; batches add.

    `columns_B7` are mask, correct, confidence, nll, brier and the two of `selective.influence`, zero where masked; the
    memberships are of the whole split.
    """
    binned_B2M = jnp.stack([width_BM, mass_BM], 1)
    binned_B32M = columns_B7[:, :3, None, None] * binned_B2M[:, None]
    parts = columns_B7, binned_B32M.reshape(len(columns_B7), -1)
    return jnp.concatenate([jnp.matmul(weight_BR.T, part, precision=binning.EXACT) for part in parts], -1)


def unpack(total: Arrays) -> Sums:
    """Names the sums [..., R, 7 + 6 M] of `resample`, merged over batches."""
    correct_at, confidence_at = 1, 2
    binned = total[..., 7:].reshape(*total.shape[:-1], 3, 2, -1)
    width, mass = (Bins(*(binned[..., at, kind, :] for at in (0, confidence_at, correct_at))) for kind in (0, 1))
    count, correct, confidence, nll, brier, aurc, auroc = (total[..., at] for at in range(7))
    return Sums(count, correct, confidence, nll, brier, width, mass, aurc=aurc, auroc=auroc)


def groups(key_ids_B: Shaped[Array, " B"], groups: int = GROUPS) -> Array:
    """Returns the group [B], 0 to `groups` - 1, of each example, by the hash of its id: int32."""
    return (key_ids_B % groups).astype(jnp.int32)


def group_weights(key: Array, replicates: int) -> Array:
    """Returns how often each replicate holds each group, float32 [1 + R, G]; replicate 0 holds each once."""
    uniform_GR = uniforms(jax.random.fold_in(key, GROUPS), jnp.arange(GROUPS, dtype=jnp.uint32), replicates)
    return jnp.concatenate([jnp.ones((GROUPS, 1)), poisson_weights(uniform_GR)], -1).T


def classwise(
    group_weights_RG: Shaped[Array, "R G"], gaps_GKM: Shaped[Array, "G K M"], counts_G: Shaped[Array, " G"]
) -> Array:
    """Returns the classwise ECE [R] of replicates that draw whole groups of examples instead of single ones.

    So it costs GROUPS rather than N per class and bin; random groups of equal size have the same spread of means.
    """
    gaps_RX = jnp.matmul(group_weights_RG, gaps_GKM.reshape(len(gaps_GKM), -1), precision=binning.EXACT)
    count_R = jnp.matmul(group_weights_RG, counts_G, precision=binning.EXACT)
    return jnp.sum(jnp.abs(gaps_RX), -1) / (gaps_GKM.shape[1] * count_R)


def percentiles(values_R: Shaped[Arrays, " R"]) -> np.ndarray:
    """Returns the 2.5, 50 and 97.5 % points [3, ...] of replicates on the last axis, without those that are NaN."""
    finite = np.isfinite(values_R).all()
    return (np.percentile if finite else np.nanpercentile)(values_R, [2.5, 50.0, 97.5], axis=-1)


LIMITS = {  # the smallest and the largest possible value of a metric, where they are not 0 and 1
    **dict.fromkeys(("nll", "cross_entropy", "kl"), (0.0, np.inf)),
    "brier": (0.0, 2.0),
    "confidence_gap": (-1.0, 1.0),
}


def intervals(values: Mapping[str, Arrays]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns (low, high), 95 %, of each metric from its values [..., 1 + R]; the first is that of the data."""
    return {name: interval(values_R, *LIMITS.get(name, (0.0, 1.0))) for name, values_R in values.items()}


def interval(values_R: Shaped[Arrays, "... R"], least: float = 0.0, most: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (low, high), 95 %, of a metric's values [..., 1 + R], within its limits; the first is the estimate.

    Percentiles of the replicates, moved so that their median is the estimate: resampling adds its own noise to a sum
    of absolute gaps, so its plain percentiles lie above the estimate. It tells how far the estimate scatters from one
    set of N examples to another; the estimate of such an error itself lies above that of infinitely many examples, by
    as much as the noise floor where the network is calibrated. For means (accuracy, NLL, Brier), AURC and AUROC, which
    have no such bias, it is the usual 95 % interval.
    """
    low, middle, high = percentiles(values_R[..., 1:])
    shift = values_R[..., 0] - middle
    return np.clip(low + shift, least, most), np.clip(high + shift, least, most)
