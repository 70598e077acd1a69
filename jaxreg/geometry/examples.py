"""All per-example numbers of one trial in one pass."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration.metrics import predicted
from jaxreg.geometry import cones, cosines, margins, norms
from jaxreg.models.functional import Head
from jaxreg.runtime import passes


def measure_examples(
    splits: Mapping[str, tuple[passes.Rows, Array]], head: Head, vectors: cosines.ClassVectors
) -> dict[str, dict[str, Array]]:
    """Predictions, norms, cosines, cones and margins of every example: arrays [N] by split. Angles in radians.

    Args: splits: features [N, D] and labels [N] by name.
    """
    head, vectors = jax.tree.map(jnp.asarray, (head, vectors))
    apart_KK = margins.distances(head.kernel)
    return passes.each(lambda features_BD, labels_B: _batch(features_BD, labels_B, head, vectors, apart_KK), splits)


def _batch(
    features_ND: Array, labels_N: Array, head: Head, vectors: cosines.ClassVectors, apart_KK: Array
) -> dict[str, Array]:
    with jax.default_matmul_precision("highest"):
        predictions_N = predicted(features_ND @ head.kernel + head.bias)
    cone = cones.cone(features_ND, *head)
    return {
        "prediction": predictions_N,
        "correct": predictions_N == labels_N,
        "feature_norm": norms.norm(features_ND),
        "feature_rms": norms.rms(features_ND),
        **cosines.label_cosines(features_ND, labels_N, vectors),
        "center_angle": cosines.angle(features_ND, vectors.center[labels_N]),
        "cone_fraction": cone.final(),
        "cone_breakpoint": cone.breakpoint,
        "cone_radius": cone.radius,
        "angular_margin": margins.angular_margin(features_ND, *head, predictions_N, apart_KK),
        "label_margin": margins.angular_margin(features_ND, *head, labels_N, apart_KK),
    }
