"""Everything that geometry says of one trial, as one function to compile."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration.metrics import predicted
from jaxreg.geometry import centers, collapse, cosines, norms, scaling
from jaxreg.geometry.examples import measure_examples
from jaxreg.models.functional import Head
from jaxreg.runtime.passes import Placed, Rows, total

Tree = Any


def measure_placed(stacks: tuple[Tree, Array], shared: tuple[Mapping[str, Array], Array]) -> Tree:
    """`measure_trial` of one of the trials whose stacks are given; its features are read where they lie."""
    (features, *rest), trial = stacks
    head, smoothing = jax.tree.map(lambda a: a[trial], rest)
    return measure_trial(({name: Placed(a, trial) for name, a in features.items()}, head, smoothing), shared)


def measure_trial(trial: tuple[Mapping[str, Rows], Head, Array], shared: tuple[Mapping[str, Array], Array]) -> Tree:
    """Numbers of one trial from its features by split, its last layer and its label smoothing.

    Returns: "examples" (by split, arrays [N]), "common_mode" (by split), "collapse", "centers", "scaling" (scalars,
    arrays over `scaling.SCALES`), "vectors" (the class vectors), "regime" (how far training went), "no_bias".
    """
    (features, head, smoothing), (labels, radius) = trial, shared
    with jax.default_matmul_precision("highest"):
        train = features["train"]
        means_KD = norms.class_means(train, labels["train"], head.bias.shape[0])
        moments = norms.moments(train)
        radius = jnp.where(radius > 0, radius, moments.norm)
        solved = centers.three_minimal_loss_points(*head, radius, smoothing)
        free_KD, inside_KD, soft_KD = (one.points for one in solved)
        vectors = cosines.ClassVectors(free_KD, head.kernel.T, means_KD, soft_KD, moments.mean_D, inside_KD)
        examples = measure_examples({name: (features[name], labels[name]) for name in features}, head, vectors)
        of_train = (train, labels["train"], head.kernel, examples["train"]["prediction"], means_KD)
        return {
            "examples": examples,
            "common_mode": {name: norms.common_mode(features[name]) for name in features},
            "collapse": collapse.collapse(*of_train)._asdict(),
            "centers": _about_centers(head, radius, solved, vectors),
            "scaling": _scaling(features, labels, head),
            "vectors": vectors._asdict(),
            "regime": _regime(train, labels["train"], head, smoothing),
            "no_bias": jnp.ptp(head.bias) == 0,
        }


def _about_centers(head: Head, radius: Array, solved: centers.Three, vectors: cosines.ClassVectors) -> Tree:
    """How exact the centers are, how they relate to rows and means, to other radii and to the positive orthant."""
    free = solved.free.points
    far = centers.max_margin_directions(head.kernel)
    return {
        "center_radius": radius,
        "center_residual": jnp.max(solved.free.residual),
        "center_residual_nonnegative": jnp.max(solved.nonnegative.residual),
        "center_residual_soft": jnp.max(solved.soft.residual),
        "center_residual_far": jnp.max(far.residual),
        "center_far_agreement": _mean_where(far.points.any(1), cosines.cosine(free, far.points)),
        "center_nonnegative_agreement": cosines.cosine(free, solved.nonnegative.points).mean(),
        "center_soft_agreement": cosines.cosine(free, solved.soft.points).mean(),
        "soft_center_norm": norms.norm(solved.soft.points).mean(),
        **cosines.agreement(vectors),
    }


def _mean_where(counted_K: Array, values_K: Array) -> Array:
    """Over the classes that some direction lets win; nan for none."""
    return jnp.sum(jnp.where(counted_K, values_K, 0)) / jnp.sum(counted_K)


def _regime(features_ND: Rows, labels_N: Array, head: Head, smoothing: Array) -> dict[str, Array]:
    """Accuracy and NLL on un-augmented train images; the loss, CE to the smoothed label, and its floor, the entropy.

    loss = -sum_k t_k log p_k, loss_floor = -sum_k t_k log t_k, t = (1 - smoothing) y + smoothing / K; nats.
    """

    def sums(counts_B: Array, features_BD: Array, labels_B: Array) -> tuple[Array, Array, Array]:
        log_p_BK = jax.nn.log_softmax(features_BD @ head.kernel + head.bias)
        nll_B = -jnp.take_along_axis(log_p_BK, labels_B[:, None], 1)[:, 0]
        right_B = predicted(log_p_BK) == labels_B
        return jnp.sum(counts_B * right_B), jnp.sum(counts_B * nll_B), -jnp.sum(counts_B * log_p_BK.mean(1))

    right, nll, uniform = (one / len(labels_N) for one in total(sums, features_ND, labels_N))
    target_K = centers.soft_targets(head.bias.shape[0], smoothing)[0]
    floor = jnp.sum(jax.scipy.special.entr(target_K))
    loss = (1 - smoothing) * nll + smoothing * uniform
    return {"train_accuracy": right, "train_nll": nll, "train_loss": loss, "train_loss_floor": floor}


def _scaling(features: Mapping[str, Rows], labels: Mapping[str, Array], head: Head) -> dict[str, Array]:
    """Calibration of s h on test, and the best s against 1/T, both fitted on validation."""
    if not {"validation", "test"} <= set(features):
        return {}
    fit, report = ((features[name], labels[name]) for name in ("validation", "test"))
    return scaling.measure(fit, report, head)
