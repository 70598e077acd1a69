"""Where an attack moves features: toward the origin, toward or away from the label's center, toward the rival's."""

import jax.numpy as jnp
from jax import Array

from jaxreg.geometry import cosines
from jaxreg.geometry.examples import Head


def displacement(
    clean_ND: Array, attacked_ND: Array, labels_N: Array, head: Head, centers_KD: Array
) -> dict[str, Array]:
    """Splits d = h(x_adv) - h(x) of each example into orthogonal parts and angles: arrays [N].

    Radial: along -h. Label: along the label's center less its radial part. Rival: along the center of the strongest
    other class under attack, less the parts before. Rest: what remains. The four shares of |d|^2 sum to 1, or are 0 for
    an example that did not move. `_part` is the signed length in units of features. Angles in radians.
    References: Park, Kim, Lee, arXiv:2410.03999: "toward the origin" is a radial cosine near 1.
    """
    moved_ND = attacked_ND - clean_ND
    logits_NK = attacked_ND @ head.kernel_DK + head.bias_K
    itself_NK = labels_N[:, None] == jnp.arange(logits_NK.shape[1])
    rivals_N = jnp.argmax(jnp.where(itself_NK, -jnp.inf, logits_NK), 1)
    frame = _frame(-clean_ND, centers_KD[labels_N], centers_KD[rivals_N])
    parts = {name: jnp.sum(moved_ND * axis, 1) for name, axis in zip(("radial", "label", "rival"), frame)}
    energy_N = jnp.sum(moved_ND**2, 1)
    shares = {name: part**2 / jnp.where(energy_N > 0, energy_N, 1) for name, part in parts.items()}
    shares["rest"] = jnp.maximum(jnp.where(energy_N > 0, 1, 0) - sum(shares.values()), 0)
    own_ND = centers_KD[labels_N]
    return {
        "adversarial_radial_cosine": cosines.cosine(moved_ND, -clean_ND),
        **{f"adversarial_{name}_part": part for name, part in parts.items()},
        **{f"adversarial_{name}_share": share for name, share in shares.items()},
        "adversarial_norm_change": jnp.linalg.norm(attacked_ND, axis=1) - jnp.linalg.norm(clean_ND, axis=1),
        "adversarial_turn": cosines.angle(clean_ND, attacked_ND),
        "adversarial_center_turn": cosines.angle(attacked_ND, own_ND) - cosines.angle(clean_ND, own_ND),
    }


def path(features_SND: Array, labels_N: Array, centers_KD: Array) -> tuple[Array, Array]:
    """Mean norm and mean angle to the label's center at each of S steps of an attack: the path [S], [S] of the mean."""
    norms_SN = jnp.linalg.norm(features_SND, axis=-1)
    angles_SN = cosines.angle(features_SND, centers_KD[labels_N])
    return norms_SN.mean(1), angles_SN.mean(1)


def _frame(*directions: Array) -> list[Array]:
    """Orthonormal directions [N, D] by Gram-Schmidt, in order; zero where one adds nothing to those before it."""
    frame: list[Array] = []
    for direction in directions:
        length = jnp.linalg.norm(direction, axis=1, keepdims=True)
        for _ in range(2):  # once more: in float32 one pass leaves a rest
            for axis in frame:
                direction = direction - jnp.sum(direction * axis, 1, keepdims=True) * axis
        rest = jnp.linalg.norm(direction, axis=1, keepdims=True)
        frame.append(jnp.where(rest > 1e-5 * length, direction / jnp.where(rest > 0, rest, 1), 0))
    return frame
