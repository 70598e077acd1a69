"""How far a feature must turn, at its own length, before the prediction changes."""

import jax.numpy as jnp
from jax import Array


def rival_angles(features_ND: Array, kernel_DK: Array, bias_K: Array, classes_N: Array) -> Array:
    """The angle by which h must turn until each rival j draws level with the class c: [N, K] in radians.

    With v = w_c - w_j, beta = b_c - b_j, r = |h|, the two draw level where v.x = -beta; on the sphere |x| = r that is
    the circle at angle arccos(-beta / (r |v|)) around v, and h stands at arccos(v.h / (r |v|)): the angle is the
    difference. Negative where j is ahead of c. A circle that misses the sphere gives +pi (c is ahead all round) or -pi.
    The class itself, and a rival with the same row, give +-pi by the sign of beta (+pi at 0).
    """
    return _angle(_turns(features_ND, kernel_DK, bias_K, classes_N))


def angular_margin(features_ND: Array, kernel_DK: Array, bias_K: Array, classes_N: Array) -> Array:
    """The least of `rival_angles` over the rivals: [N] in radians.

    For the predicted class it is the smallest turn that changes the prediction, exactly: the first circle met. For the
    label it is the signed margin, negative on mistakes. pi where no turn at this length changes the class.
    """
    turns_NK = _turns(features_ND, kernel_DK, bias_K, classes_N)
    itself_NK = classes_N[:, None] == jnp.arange(kernel_DK.shape[1])
    return _angle(jnp.where(itself_NK, 2.0, turns_NK).min(1))


def _turns(features_ND: Array, kernel_DK: Array, bias_K: Array, classes_N: Array) -> Array:
    """`rival_angles` on a scale of [-2, 2] that grows with the angle and takes no arc cosine: see `_angle`.

    The sine and cosine of the difference follow from the two cosines; s / (|s| + |c|) grows from -1 at -pi/2 to 1.
    """
    products_NK = features_ND @ kernel_DK
    gap_NK = jnp.take_along_axis(products_NK, classes_N[:, None], 1) - products_NK
    beta_NK = bias_K[classes_N][:, None] - bias_K
    scale_NK = jnp.linalg.norm(features_ND, axis=1)[:, None] * _distances(kernel_DK)[classes_N]
    inverse_NK = 1 / jnp.where(scale_NK > 0, scale_NK, 1)
    level_NK, here_NK = (jnp.clip(x * inverse_NK, -1, 1) for x in (-beta_NK, gap_NK))
    level_sine_NK, here_sine_NK = (jnp.sqrt((1 - x) * (1 + x)) for x in (level_NK, here_NK))
    sine_NK = level_sine_NK * here_NK - level_NK * here_sine_NK
    cosine_NK = level_NK * here_NK + level_sine_NK * here_sine_NK
    near_NK = sine_NK / (jnp.abs(sine_NK) + jnp.abs(cosine_NK))
    turn_NK = jnp.where(cosine_NK >= 0, near_NK, jnp.copysign(2, near_NK) - near_NK)
    return jnp.where(jnp.abs(beta_NK) >= scale_NK, jnp.where(beta_NK >= 0, 2.0, -2.0), turn_NK)


def _angle(turns: Array) -> Array:
    """Radians of `_turns`: exact at -2, 0 and 2, and as sharp everywhere as the sine and cosine were."""
    size = jnp.abs(turns)
    angle = jnp.arctan2(jnp.where(size <= 1, size, 2 - size), 1 - size)
    return jnp.copysign(jnp.where(size >= 2, jnp.pi, angle), turns)


def _distances(kernel_DK: Array) -> Array:
    """|w_i - w_j| of each two rows, by Gram matrix of the rows less their mean: [K, K], zero on the diagonal."""
    rows_DK = kernel_DK - kernel_DK.mean(1, keepdims=True)
    gram_KK = rows_DK.T @ rows_DK
    square_K = jnp.diagonal(gram_KK)
    apart_KK = ~jnp.eye(len(square_K), dtype=bool)
    return jnp.sqrt(jnp.where(apart_KK, jnp.maximum(square_K[:, None] + square_K - 2 * gram_KK, 0), 0))
