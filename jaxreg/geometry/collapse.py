"""Neural collapse: how far features have shrunk to one point a class, at the corners of a simplex.

References: Papyan, Han, Donoho, 2020, doi:10.1073/pnas.2015509117; effective rank: Roy and Vetterli, 2007, EUSIPCO.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxreg.geometry.chunks import total


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


def collapse(features_ND: Array, labels_N: Array, kernel_DK: Array, predictions_N: Array, means_KD: Array) -> Collapse:
    """Neural collapse of un-augmented training features around their class means [K, D] (every class present).

    M = means less their mean; S_B = M'M / K; S_W = covariance around the class means (two passes, nothing cancels).
      nc1: tr(S_W pinv(S_B)) / K, pinv over the top min(K - 1, D) eigenpairs.
      nc2_norm: standard deviation of |M_k| over its mean.   nc2_angle: mean |cos(M_i, M_j) + 1 / (K - 1)|.
      nc3: |W / |W| - M / |M||, Frobenius.   nc4: share of predictions that are not the nearest class mean.
      within_class_variance: tr S_W.   within_class_share: tr S_W / (tr S_W + tr S_B).
      effective_rank: exp of the entropy of the covariance's eigenvalues, normalised to sum one; in [1, D].
    """
    middle_D = means_KD.mean(0)
    spread_KD = means_KD - middle_D
    axes_RD, inverse_R = whitening(spread_KD)
    square_K = jnp.sum(spread_KD**2, 1)

    def sums(counts_B: Array, features_BD: Array, labels_B: Array, predictions_B: Array) -> tuple[Array, ...]:
        within_BD = features_BD - means_KD[labels_B]
        nearest_B = jnp.argmin(square_K - 2 * (features_BD - middle_D) @ spread_KD.T, 1)  # of |h - mean|^2
        whitened_B = (within_BD @ axes_RD.T) ** 2 @ inverse_R
        each = (jnp.sum(within_BD**2, 1), whitened_B, predictions_B != nearest_B)
        return tuple(jnp.sum(counts_B * one_B) for one_B in each)

    found = total(sums, features_ND, labels_N, predictions_N)
    variance, whitened, missed = (one / len(labels_N) for one in found)
    between = jnp.mean(jnp.sum(spread_KD**2, 1))
    return Collapse(
        nc1=whitened / len(means_KD),
        nc2_norm=_norm_spread(spread_KD),
        nc2_angle=_angle_spread(spread_KD),
        nc3=jnp.linalg.norm(kernel_DK.T / jnp.linalg.norm(kernel_DK) - spread_KD / jnp.linalg.norm(spread_KD)),
        nc4=missed,
        within_class_variance=variance,
        within_class_share=variance / (variance + between),
        effective_rank=effective_rank(features_ND),
    )


def whitening(spread_KD: Array) -> tuple[Array, Array]:
    """Axes [R, D] and weights [R] with sum_r weights_r (axes_r . d)^2 = d' pinv(S_B) d; its mean is tr(S_W pinv(S_B)).

    R = min(K - 1, D).
    """
    num_classes, width = spread_KD.shape
    rank = min(num_classes - 1, width)
    _, scale, axes = jnp.linalg.svd(spread_KD, full_matrices=False)
    scale, axes = scale[:rank], axes[:rank]
    kept = scale > 1e-6 * scale[0]
    return axes, jnp.where(kept, num_classes / jnp.where(kept, scale, 1) ** 2, 0)


def effective_rank(features_ND: Array) -> Array:
    """exp(H(p)), p the eigenvalues of the covariance over their sum; 1 for features on a line."""
    mean_D = features_ND.mean(0)

    def gram(counts_B: Array, features_BD: Array) -> Array:
        centred_BD = features_BD - mean_D
        return (centred_BD * counts_B[:, None]).T @ centred_BD

    values = jnp.maximum(jnp.linalg.eigvalsh(total(gram, features_ND)), 0)
    share = values / jnp.sum(values)
    return jnp.exp(-jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0)))


def _norm_spread(spread_KD: Array) -> Array:
    norms_K = jnp.linalg.norm(spread_KD, axis=1)
    return jnp.std(norms_K) / jnp.mean(norms_K)


def _angle_spread(spread_KD: Array) -> Array:
    num_classes = len(spread_KD)
    unit_KD = spread_KD / jnp.linalg.norm(spread_KD, axis=1, keepdims=True)
    off_KK = jnp.abs(unit_KD @ unit_KD.T + 1 / (num_classes - 1)) * (1 - jnp.eye(num_classes))
    return jnp.sum(off_KK) / (num_classes * (num_classes - 1))
