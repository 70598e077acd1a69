"""All per-example numbers of one trial and split in one pass, in chunks: memory does not grow with the examples."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg.geometry import cones, cosines, margins, norms

CHUNK = 4096  # examples in flight


class Head(NamedTuple):
    """The last layer: logits = h @ kernel_DK + bias_K."""

    kernel_DK: Array
    bias_K: Array


def measure_examples(
    features_ND: Array, labels_N: Array, head: Head, vectors: cosines.ClassVectors
) -> dict[str, Array]:
    """Norms, cosines, cones, margins of every example: arrays [N]. Angles in radians."""

    def one(example: tuple[Array, Array]) -> dict[str, Array]:
        return jax.tree.map(lambda a: a[0], _batch(example[0][None], example[1][None], head, vectors))

    if len(labels_N) <= CHUNK:
        return _batch(features_ND, labels_N, head, vectors)
    return lax.map(one, (features_ND, labels_N), batch_size=CHUNK)


def _batch(features_ND: Array, labels_N: Array, head: Head, vectors: cosines.ClassVectors) -> dict[str, Array]:
    predictions_N = jnp.argmax(features_ND @ head.kernel_DK + head.bias_K, 1)
    cone = cones.cone(features_ND, *head)
    both_2N = jnp.stack([predictions_N, labels_N.astype(predictions_N.dtype)])
    margin_2N = jax.vmap(lambda classes_N: margins.angular_margin(features_ND, *head, classes_N))(both_2N)
    return {
        "correct": predictions_N == labels_N,
        "feature_norm": norms.norm(features_ND),
        "feature_rms": norms.rms(features_ND),
        **cosines.label_cosines(features_ND, labels_N, vectors),
        "center_angle": cosines.angle(features_ND, vectors.center[labels_N]),
        "cone_fraction": cone.final(),
        "cone_breakpoint": cone.breakpoint,
        "cone_radius": cone.radius,
        "angular_margin": margin_2N[0],
        "label_margin": margin_2N[1],
    }
