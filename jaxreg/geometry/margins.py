"""How far a feature must turn, at its own length, before the prediction changes."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Shaped

from jaxreg.arithmetic import standard
from jaxreg.geometry import cosines

PARALLEL = 0.99  # of a cosine, from which on its sine has lost digits


def distances(kernel_DK: Shaped[Array, "D K"]) -> Array:
    """|w_i - w_j| of each two rows: [K, K]. From the differences themselves, so that near-equal rows do not cancel."""
    rows_KD = kernel_DK.T
    return lax.map(lambda row_D: jnp.linalg.norm(rows_KD - row_D[None], axis=1), rows_KD)


def logit_margin(logits_NK: Shaped[Array, "N K"], labels_N: Shaped[Array, " N"]) -> Shaped[Array, " N"]:
    """z_y - max_{j != y} z_j of each example: [N], below 0 on mistakes."""
    itself_NK = labels_N[:, None] == jnp.arange(logits_NK.shape[1])[None]
    own_N = jnp.take_along_axis(logits_NK, labels_N[:, None], 1)[:, 0]
    return own_N - jnp.max(jnp.where(itself_NK, -jnp.inf, logits_NK), 1)


@standard
def rival_angles(
    features_ND: Shaped[Array, "N D"],
    kernel_DK: Shaped[Array, "D K"],
    bias_K: Shaped[Array, " K"],
    classes_N: Shaped[Array, " N"],
) -> Shaped[Array, "N K"]:
    """The angle by which h must turn until each rival j draws level with the class c: [N, K] in radians.

    With v = w_c - w_j, beta = b_c - b_j, r = |h|, the two draw level where v.x = -beta; on the sphere |x| = r that is
    the circle at angle arccos(-beta / (r |v|)) around v, and h stands at arccos(v.h / (r |v|)): the angle is the
    difference. Negative where j is ahead of c. A circle that misses the sphere gives +pi (c is ahead all round) or -pi.
    The class itself, and a rival with the same row, give +-pi by the sign of beta (+pi at 0).

    To about 1e-6, and 1e-3 where h is nearly parallel to v; `angular_margin` is as sharp there.
    """
    return _angle(_turns(*_cosines(features_ND, kernel_DK, bias_K, classes_N, distances(kernel_DK))))


@standard
def angular_margin(
    features_ND: Shaped[Array, "N D"],
    kernel_DK: Shaped[Array, "D K"],
    bias_K: Shaped[Array, " K"],
    classes_N: Shaped[Array, " N"],
    distances_KK: Array | None = None,
) -> Shaped[Array, " N"]:
    """The least of `rival_angles` over the rivals: [N] in radians.

    `distances_KK`: of the rows, from `distances`, where many calls share them.

    For the predicted class it is the smallest turn that changes the prediction, exactly: the first circle met. For the
    label it is the signed margin, negative on mistakes. pi where no turn at this length changes the class.
    """
    kernel_DK, bias_K, classes_N = map(jnp.asarray, (kernel_DK, bias_K, classes_N))
    apart_KK = distances(kernel_DK) if distances_KK is None else distances_KK
    level_NK, here_NK, missed_NK = _cosines(features_ND, kernel_DK, bias_K, classes_N, apart_KK)
    itself_NK = classes_N[:, None] == jnp.arange(kernel_DK.shape[1])[None]
    turns_NK = jnp.where(itself_NK, 2.0, _turns(level_NK, here_NK, missed_NK))
    rough_N = _angle(turns_NK.min(1))

    def sharp() -> Array:
        rivals_N = jnp.argmin(turns_NK, 1)
        apart_ND = kernel_DK.T[classes_N] - kernel_DK.T[rivals_N]
        scale_N = jnp.linalg.norm(features_ND, axis=1) * jnp.linalg.norm(apart_ND, axis=1)
        level_N = (bias_K[rivals_N] - bias_K[classes_N]) / jnp.where(scale_N > 0, scale_N, 1)
        turned_N = cosines.angle(features_ND, apart_ND)
        parallel_N = (jnp.abs(jnp.cos(turned_N)) > PARALLEL) & (jnp.abs(level_N) < 1) & (scale_N > 0)
        exact_N = jnp.arctan2(jnp.sqrt((1 - level_N) * (1 + level_N)), level_N) - turned_N
        return jnp.where(parallel_N, exact_N, rough_N)

    # One difference of rows an example, and seldom needed: with many classes hardly any h is parallel to one.
    return lax.cond(jnp.max(jnp.abs(here_NK)) > PARALLEL, sharp, lambda: rough_N)


def _cosines(
    features_ND: Array, kernel_DK: Array, bias_K: Array, classes_N: Array, distances_KK: Array
) -> tuple[Array, Array, Array]:
    """Cosines to v of the circle and of h [N, K], and 2 or -2 where the circle misses the sphere, else 0."""
    with jax.default_matmul_precision("highest"):
        products_NK = features_ND @ kernel_DK
    gap_NK = jnp.take_along_axis(products_NK, classes_N[:, None], 1) - products_NK
    beta_NK = bias_K[classes_N][:, None] - bias_K[None]
    scale_NK = jnp.linalg.norm(features_ND, axis=1)[:, None] * distances_KK[classes_N]
    inverse_NK = 1 / jnp.where(scale_NK > 0, scale_NK, 1)
    level_NK, here_NK = (jnp.clip(x * inverse_NK, -1, 1) for x in (-beta_NK, gap_NK))
    missed_NK = jnp.where(jnp.abs(beta_NK) >= scale_NK, jnp.where(beta_NK >= 0, 2.0, -2.0), 0.0)
    return level_NK, here_NK, missed_NK


def _turns(level_NK: Array, here_NK: Array, missed_NK: Array) -> Array:
    """`rival_angles` on a scale of [-2, 2] that grows with the angle and takes no arc cosine: see `_angle`.

    The sine and cosine of the difference follow from the two cosines; s / (|s| + |c|) grows from -1 at -pi/2 to 1.
    """
    level_sine_NK, here_sine_NK = (jnp.sqrt((1 - x) * (1 + x)) for x in (level_NK, here_NK))
    sine_NK = level_sine_NK * here_NK - level_NK * here_sine_NK
    cosine_NK = level_NK * here_NK + level_sine_NK * here_sine_NK
    near_NK = sine_NK / (jnp.abs(sine_NK) + jnp.abs(cosine_NK))
    turn_NK = jnp.where(cosine_NK >= 0, near_NK, jnp.copysign(2, near_NK) - near_NK)
    return jnp.where(missed_NK == 0, turn_NK, missed_NK)


def _angle(turns: Array) -> Array:
    """Radians of `_turns`: exact at -2, 0 and 2, and as sharp everywhere as the sine and cosine were."""
    size = jnp.abs(turns)
    angle = jnp.arctan2(jnp.where(size <= 1, size, 2 - size), 1 - size)
    return jnp.copysign(jnp.where(size >= 2, jnp.pi, angle), turns)
