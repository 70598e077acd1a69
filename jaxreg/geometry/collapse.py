"""Neural collapse: how far features have shrunk to one point a class, at the corners of a simplex.

References: Papyan, Han, Donoho, 2020, doi:10.1073/pnas.2015509117; effective rank: Roy and Vetterli, 2007, EUSIPCO.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.geometry.svd import spectrum, thin_svd
from jaxreg.runtime.passes import Rows, total

ROUNDING = 3e-6  # of the length of a mean in float32: class means that differ by less do not differ


class Collapse(NamedTuple):
    """All zero at full collapse but the last three. See `collapse` for each."""

    nc1: Array
    nc2_norm: Array
    nc2_angle: Array
    nc3: Array
    nc4: Array
    within_class_variance: Array
    within_class_share: Array
    effective_rank: Array


def collapse(
    features_ND: Rows,
    labels_N: Shaped[Array, " N"],
    kernel_DK: Shaped[Array, "D K"],
    predictions_N: Shaped[Array, " N"],
    means_KD: Shaped[Array, "K D"],
) -> Collapse:
    """Neural collapse of un-augmented training features around their class means [K, D] (every class present).

    M = means less their mean; S_B = M'M / K; S_W = covariance around the class means (two passes, nothing cancels).
      nc1: tr(S_W pinv(S_B)) / K, pinv over the top min(K - 1, D) eigenpairs.
      nc2_norm: standard deviation of |M_k| over its mean.   nc2_angle: mean |cos(M_i, M_j) + 1 / (K - 1)|.
      nc3: |W / |W| - M / |M||, Frobenius.   nc4: share of predictions that are not the nearest class mean.
      within_class_variance: tr S_W.   within_class_share: tr S_W / (tr S_W + tr S_B).
      effective_rank: exp of the entropy of the covariance's eigenvalues, normalised to sum one; in [1, D].
    nan: nc1 to nc4 where the class means differ by rounding alone, nc3 also where W is zero, share and rank where all
    features are equal.
    """
    with jax.default_matmul_precision("highest"):
        means_KD = jnp.asarray(means_KD)
        middle_D = means_KD.mean(0)
        spread_KD = means_KD - middle_D[None]
        square_K = jnp.sum(spread_KD**2, 1)
        within_DD, missed, share_K = _around(features_ND, labels_N, predictions_N, means_KD)
        axes_RD, inverse_R = whitening(spread_KD)
        variance, between = jnp.trace(within_DD), jnp.mean(square_K)
        floor = ROUNDING**2 * jnp.sum(middle_D**2)
        apart, vary = between > floor, variance + between > floor
        length = jnp.linalg.norm(kernel_DK)
        rows_KD = kernel_DK.T / jnp.where(length > 0, length, jnp.nan)
        found = Collapse(
            nc1=jnp.sum((axes_RD @ within_DD * axes_RD).sum(1) * inverse_R) / len(means_KD),
            nc2_norm=_norm_spread(spread_KD),
            nc2_angle=_angle_spread(spread_KD),
            nc3=jnp.linalg.norm(rows_KD - spread_KD / jnp.linalg.norm(spread_KD)),
            nc4=missed,
            within_class_variance=variance,
            within_class_share=variance / (variance + between),
            effective_rank=effective_rank(within_DD + _covariance(means_KD, share_K)),
        )
    needs = Collapse(apart, apart, apart, apart, apart, jnp.asarray(True), vary, vary)
    return jax.tree.map(lambda needed, value: jnp.where(needed, value, jnp.nan), needs, found)


def _around(features_ND: Rows, labels_N: Array, predictions_N: Array, means_KD: Array) -> tuple[Array, ...]:
    """S_W [D, D], the share of predictions that are not the nearest class mean, and the share of each class [K]."""
    middle_D = means_KD.mean(0)
    spread_KD = means_KD - middle_D[None]
    square_K = jnp.sum(spread_KD**2, 1)

    def sums(counts_B: Array, features_BD: Array, labels_B: Array, predictions_B: Array) -> tuple[Array, ...]:
        within_BD = features_BD - means_KD[labels_B]
        nearest_B = jnp.argmin(square_K[None] - 2 * (features_BD - middle_D[None]) @ spread_KD.T, 1)  # of |h - mean|^2
        onehot_BK = jnp.where(labels_B[:, None] == jnp.arange(len(means_KD))[None], counts_B[:, None], 0)
        scatter_DD = (within_BD * counts_B[:, None]).T @ within_BD
        return scatter_DD, jnp.sum(counts_B * (predictions_B != nearest_B)), onehot_BK.sum(0)

    return tuple(one / len(labels_N) for one in total(sums, features_ND, labels_N, predictions_N))


def whitening(spread_KD: Shaped[Array, "K D"]) -> tuple[Array, Array]:
    """Axes [R, D] and weights [R] with sum_r weights_r (axes_r . d)^2 = d' pinv(S_B) d; its mean is tr(S_W pinv(S_B)).

    R = min(K - 1, D).
    """
    num_classes, width = spread_KD.shape
    rank = min(num_classes - 1, width)
    _, scale, axes = thin_svd(spread_KD)
    scale, axes = scale[:rank], axes[:rank]
    kept = scale > 1e-6 * scale[0]
    return axes, jnp.where(kept, num_classes / jnp.where(kept, scale, 1) ** 2, 0)


def effective_rank(covariance_DD: Shaped[Array, "D D"]) -> Array:
    """exp(H(p)), p the eigenvalues of the covariance over their sum; 1 for features on a line."""
    values = jnp.maximum(spectrum(covariance_DD), 0)
    share = values / jnp.sum(values)
    return jnp.exp(-jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0)))


def _covariance(means_KD: Array, share_K: Array) -> Array:
    """Of the class means, each counted as often as it has examples: with S_W it adds up to that of the features."""
    apart_KD = means_KD - (share_K @ means_KD)[None]
    return (apart_KD * share_K[:, None]).T @ apart_KD


def _norm_spread(spread_KD: Array) -> Array:
    norms_K = jnp.linalg.norm(spread_KD, axis=1)
    return jnp.std(norms_K) / jnp.mean(norms_K)


def _angle_spread(spread_KD: Array) -> Array:
    num_classes = len(spread_KD)
    unit_KD = spread_KD / jnp.linalg.norm(spread_KD, axis=1, keepdims=True)
    off_KK = jnp.abs(unit_KD @ unit_KD.T + 1 / (num_classes - 1)) * (1 - jnp.eye(num_classes))
    return jnp.sum(off_KK) / (num_classes * (num_classes - 1))
