"""Cosines between features and the candidates for the center of their class, and between the centers themselves."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped


class ClassVectors(NamedTuple):
    """The candidates for the center of a class, [K, D] each; `mean_D` is the mean feature of all examples.

    Without `nonnegative_center` its cosines are left out.
    """

    center: Array  # the point of least loss
    weight: Array  # the row of the last layer
    mean: Array  # the mean feature of the class on the training split
    soft_center: Array  # the point of least loss for the trial's own soft target; without smoothing the center
    mean_D: Array
    nonnegative_center: Array | None = None  # the point of least loss without negative entries, as after a ReLU


CANDIDATES = tuple(name for name in ClassVectors._fields if name != "mean_D")


def cosine(a: Array, b: Array) -> Array:
    """a.b / (|a| |b|) over the last axis, in [-1, 1]; 0 where either is zero."""
    length = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    return jnp.clip(jnp.sum(a * b, -1) / jnp.where(length > 0, length, 1), -1, 1)


def angle(a: Array, b: Array) -> Array:
    """The angle between a and b over the last axis, in [0, pi]; exact also where it is small.

    2 atan2(|a/|a| - b/|b||, |a/|a| + b/|b||): the arc cosine would lose half the digits near 0 and pi. Source: Kahan,
    2006, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", section 12.
    """
    a, b = _unit(a), _unit(b)
    return 2 * jnp.arctan2(jnp.linalg.norm(a - b, axis=-1), jnp.linalg.norm(a + b, axis=-1))


def label_cosines(
    features_ND: Shaped[Array, "N D"], labels_N: Shaped[Array, " N"], vectors: ClassVectors
) -> dict[str, Array]:
    """Cosine of each example to each center of its label, plain and centred: arrays [N] by name.

    Centred: the features lose the mean feature of the training split, the class vectors their mean over classes.
    """
    shifted_ND = features_ND - vectors.mean_D[None]
    lengths_N, shifted_N = (jnp.linalg.norm(a, axis=1) for a in (features_ND, shifted_ND))
    found = {}
    for name in CANDIDATES:
        table_KD = getattr(vectors, name)
        if table_KD is None:
            continue
        centred_KD = table_KD - table_KD.mean(0)[None]
        found[f"{name}_cosine"] = _label_cosine(features_ND, lengths_N, table_KD, labels_N)
        found[f"{name}_cosine_centred"] = _label_cosine(shifted_ND, shifted_N, centred_KD, labels_N)
    return found


def _label_cosine(features_ND: Array, lengths_N: Array, table_KD: Array, labels_N: Array) -> Array:
    """`cosine` to the row of the label, with the length of a row taken once a class and not once an example."""
    length_N = lengths_N * jnp.linalg.norm(table_KD, axis=1)[labels_N]
    products_N = jnp.sum(features_ND * table_KD[labels_N], 1)
    return jnp.clip(products_N / jnp.where(length_N > 0, length_N, 1), -1, 1)


def agreement(vectors: ClassVectors) -> dict[str, Array]:
    """Mean over classes of the cosine between each two of the three centers, plain and centred: six scalars."""
    found = {}
    for one, other in (("center", "weight"), ("center", "mean"), ("weight", "mean")):
        a, b = getattr(vectors, one), getattr(vectors, other)
        found[f"{one}_{other}_agreement"] = cosine(a, b).mean()
        found[f"{one}_{other}_agreement_centred"] = cosine(*(table - table.mean(0)[None] for table in (a, b))).mean()
    return found


def _unit(x: Array) -> Array:
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(length > 0, length, 1)
