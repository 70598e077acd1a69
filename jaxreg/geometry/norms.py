"""Lengths of features, and the direction that all of them share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.arithmetic import standard
from jaxreg.runtime.passes import Rows, total


def norm(features_ND: Shaped[Array, "N D"]) -> Shaped[Array, " N"]:
    """|h| of each example: [N], in the units of the features."""
    return jnp.linalg.norm(features_ND, axis=-1)


def rms(features_ND: Shaped[Array, "N D"]) -> Shaped[Array, " N"]:
    """|h| / sqrt(D) of each example: [N]. Comparable between networks of different width."""
    return norm(features_ND) / jnp.sqrt(jnp.asarray(features_ND.shape[-1], features_ND.dtype))


def weighted(features_ND: Shaped[Array, "N D"], kernel_DK: Shaped[Array, "D K"]) -> Shaped[Array, " N"]:
    """|W|_F |h| of each example: [N]. Unlike |h| it is the same for c h and W / c, which are one network."""
    return jnp.linalg.norm(kernel_DK) * norm(features_ND)


def centred(logits_NK: Shaped[Array, "N K"]) -> Shaped[Array, " N"]:
    """|z - mean z| of each example's logits: [N]. What softmax sees of their size."""
    return jnp.linalg.norm(logits_NK - logits_NK.mean(-1, keepdims=True), axis=-1)


class Moments(NamedTuple):
    """Means over examples: of |h|, of h [D], of |h|^2."""

    norm: Array
    mean_D: Array
    energy: Array


def moments(features_ND: Rows) -> Moments:
    """`Moments` of features, in the units of the features, and their square."""

    def sums(counts_B: Array, features_BD: Array) -> Moments:
        square_B = jnp.sum(features_BD**2, -1)
        return Moments(counts_B @ jnp.sqrt(square_B), counts_B @ features_BD, counts_B @ square_B)

    with jax.default_matmul_precision("highest"):
        return jax.tree.map(lambda a: a / len(features_ND), total(sums, features_ND))


@standard
def common_mode(features_ND: Rows) -> Array:
    """|mean h|^2 / mean |h|^2 in [0, 1]: the share of the second moment that all examples have in common.

    Features after a ReLU share an orthant and hence a direction; this one number moves every plain cosine between them.
    Zero features give 0.
    """
    found = moments(features_ND)
    return jnp.sum(found.mean_D**2) / jnp.where(found.energy > 0, found.energy, 1)


def check_classes(labels_N: Shaped[np.ndarray, " N"], num_classes: int) -> None:
    """Raises ValueError: if a class has no example, as it would have no mean either."""
    missing = np.flatnonzero(np.bincount(np.asarray(labels_N, int), minlength=num_classes) == 0).tolist()
    if missing:
        some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(f"class means need every class, got {len(labels_N)} train examples without class {some}")


@standard
def class_means(features_ND: Rows, labels_N: Shaped[Array, " N"], num_classes: int) -> Shaped[Array, "K D"]:
    """Mean feature of each class: [K, D]. A class without examples gets zeros."""

    def sums(counts_B: Array, features_BD: Array, labels_B: Array) -> tuple[Array, Array]:
        onehot_BK = jnp.where(labels_B[:, None] == jnp.arange(num_classes)[None], counts_B[:, None], 0)
        return onehot_BK.T @ features_BD, onehot_BK.sum(0)

    with jax.default_matmul_precision("highest"):
        sums_KD, counts_K = total(sums, features_ND, labels_N)
    return sums_KD / jnp.maximum(counts_K, 1)[:, None]
