"""The device program of one trial: what is measured of each example (`EXAMPLES`), and of the trial (`SCALARS`)."""

from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration.metrics import predicted
from jaxreg.geometry import centers, collapse, cones, cosines, margins, norms, scaling
from jaxreg.models.functional import Head
from jaxreg.runtime import passes
from jaxreg.runtime.passes import Placed, Rows, Tree, total

KEPT = "train"  # the split that class means and collapse come from


class ExamplePiece(NamedTuple):
    """B examples of a trial, and what is known of them: what a number of each is computed from."""

    features: Array  # [B, D]
    labels: Array
    logits: Array  # [B, K]
    predictions: Array
    head: Head
    vectors: cosines.ClassVectors
    distances: Array  # [K, K] of the rows of the last layer
    cone: cones.Cone
    cosines: dict[str, Array]


class PerExample(NamedTuple):
    """A number of each example [B], and the rows that are made of it: see `rows.OF_EXAMPLES`."""

    of: Callable[[ExamplePiece], Array]
    rows: Literal["mean", "share", "quantiles", "none"] = "mean"


def _near(name: str) -> Callable[[ExamplePiece], Array]:
    return lambda piece: piece.cosines[name]


def _shrinkable(piece: ExamplePiece, times: float) -> Array:
    return cones.shrinkable(piece.features, piece.head.kernel, times * piece.head.bias)


def _margin(piece: ExamplePiece, classes_B: Array) -> Array:
    return margins.angular_margin(piece.features, *piece.head, classes_B, piece.distances)


# Arrays and rows of every split follow from this table. Angles in radians.
EXAMPLES: dict[str, PerExample] = {
    "feature_norm": PerExample(lambda piece: norms.norm(piece.features)),
    "feature_rms": PerExample(lambda piece: norms.rms(piece.features)),
    "weighted_norm": PerExample(lambda piece: norms.weighted(piece.features, piece.head.kernel)),
    "logit_norm": PerExample(lambda piece: norms.centred(piece.logits)),
    "logit_margin": PerExample(lambda piece: margins.logit_margin(piece.logits, piece.labels)),
    **{f"{name}_cosine": PerExample(_near(f"{name}_cosine")) for name in cosines.CANDIDATES},
    **{f"{name}_cosine_centred": PerExample(_near(f"{name}_cosine_centred")) for name in cosines.CANDIDATES},
    "center_angle": PerExample(lambda piece: cosines.angle(piece.features, piece.vectors.center[piece.labels])),
    "angular_margin": PerExample(lambda piece: _margin(piece, piece.predictions)),
    "label_margin": PerExample(lambda piece: _margin(piece, piece.labels)),
    "cone_fraction": PerExample(lambda piece: piece.cone.final(), "share"),
    "cone_breakpoint": PerExample(lambda piece: piece.cone.breakpoint, "quantiles"),
    "cone_radius": PerExample(lambda piece: piece.cone.radius, "quantiles"),
    "t_star": PerExample(lambda piece: _shrinkable(piece, 1.0), "quantiles"),
    "t_star_bias10": PerExample(lambda piece: _shrinkable(piece, cones.MORE_BIAS), "quantiles"),
    "prediction": PerExample(lambda piece: piece.predictions, "none"),
    "correct": PerExample(lambda piece: piece.predictions == piece.labels, "none"),
}


def measure_examples(
    splits: Mapping[str, tuple[Rows, Array]],
    head: Head,
    vectors: cosines.ClassVectors,
    names: Collection[str] | None = None,
) -> dict[str, dict[str, Array]]:
    """Numbers of every example, by default all of `EXAMPLES`: arrays [N] by split.

    Args: splits: features [N, D] and labels [N] by name.
    """
    head, vectors = jax.tree.map(jnp.asarray, (head, vectors))
    apart_KK = margins.distances(head.kernel)

    def of_piece(features_BD: Array, labels_B: Array) -> dict[str, Array]:
        with jax.default_matmul_precision("highest"):
            logits_BK = head.logits(features_BD)
        predictions_B = predicted(logits_BK)
        near = cosines.label_cosines(features_BD, labels_B, vectors)
        cone = cones.cone(features_BD, *head)
        piece = ExamplePiece(features_BD, labels_B, logits_BK, predictions_B, head, vectors, apart_KK, cone, near)
        return {name: number.of(piece) for name, number in EXAMPLES.items() if names is None or name in names}

    return passes.each(of_piece, splits)


class SolvedTrial(NamedTuple):
    """What is known of a trial once its centers are solved: what a number of the trial is computed from."""

    features: Rows  # of `KEPT`, [N, D]
    labels: Array
    predictions: Array
    head: Head
    smoothing: Array
    radius: Array
    solved: centers.TrialCenters
    vectors: cosines.ClassVectors


def _collapse(trial: SolvedTrial) -> dict[str, Array]:
    return collapse.collapse(
        trial.features, trial.labels, trial.head.kernel, trial.predictions, trial.vectors.mean
    )._asdict()


def _centers(trial: SolvedTrial) -> dict[str, Array]:
    """How exact the centers are, how they relate to rows and means, to other radii and to the positive orthant."""
    free, inside, soft = trial.solved
    far = centers.max_margin_directions(trial.head.kernel)
    return {
        "center_radius": trial.radius,
        "center_residual": jnp.max(free.residual),
        "center_residual_nonnegative": jnp.max(inside.residual),
        "center_residual_soft": jnp.max(soft.residual),
        "center_residual_far": jnp.max(far.residual),
        "center_far_agreement": _mean_where(far.points.any(1), cosines.cosine(free.points, far.points)),
        "center_nonnegative_agreement": cosines.cosine(free.points, inside.points).mean(),
        "center_soft_agreement": cosines.cosine(free.points, soft.points).mean(),
        "soft_center_norm": norms.norm(soft.points).mean(),
        **cosines.agreement(trial.vectors),
    }


def _mean_where(counted_K: Array, values_K: Array) -> Array:
    """Over the classes that some direction lets win; nan for none."""
    return jnp.sum(jnp.where(counted_K, values_K, 0)) / jnp.sum(counted_K)


def _cone_by_construction(trial: SolvedTrial) -> dict[str, Array]:
    return {"cone_by_construction": jnp.ptp(trial.head.bias) == 0}


def _regime(trial: SolvedTrial) -> dict[str, Array]:
    """Accuracy and NLL on un-augmented train images; the loss, CE to the smoothed label, and its floor, the entropy.

    loss = -sum_k t_k log p_k, loss_floor = -sum_k t_k log t_k, t = (1 - smoothing) y + smoothing / K; nats.
    """

    def sums(counts_B: Array, features_BD: Array, labels_B: Array) -> tuple[Array, Array, Array]:
        log_p_BK = jax.nn.log_softmax(trial.head.logits(features_BD))
        nll_B = -jnp.take_along_axis(log_p_BK, labels_B[:, None], 1)[:, 0]
        right_B = predicted(log_p_BK) == labels_B
        return jnp.sum(counts_B * right_B), jnp.sum(counts_B * nll_B), -jnp.sum(counts_B * log_p_BK.mean(1))

    right, nll, uniform = (one / len(trial.labels) for one in total(sums, trial.features, trial.labels))
    target_K = centers.soft_targets(trial.head.bias.shape[0], trial.smoothing)[0]
    floor = jnp.sum(jax.scipy.special.entr(target_K))
    loss = (1 - trial.smoothing) * nll + trial.smoothing * uniform
    return {"train_accuracy": right, "train_nll": nll, "train_loss": loss, "train_loss_floor": floor}


# Scalars of a trial by name, each a row of `KEPT`.
SCALARS: tuple[Callable[[SolvedTrial], dict[str, Array]], ...] = (_collapse, _centers, _cone_by_construction, _regime)


def measure_placed(stacks: tuple[Tree, Array], shared: tuple[Mapping[str, Array], Array]) -> Tree:
    """`measure_trial` of one of the trials whose stacks are given; its features are read where they lie."""
    (features, *rest), trial = stacks
    head, smoothing = jax.tree.map(lambda a: a[trial], rest)
    return measure_trial(({name: Placed(a, trial) for name, a in features.items()}, head, smoothing), shared)


def measure_trial(trial: tuple[Mapping[str, Rows], Head, Array], shared: tuple[Mapping[str, Array], Array]) -> Tree:
    """Numbers of one trial from its features by split, its last layer and its label smoothing.

    Returns: "examples" (by split, arrays [N]), "common_mode" (by split), "scalars" (of each of `SCALARS`), "scaling"
    (scalars, and arrays over `scaling.SCALES`), "vectors" (the class vectors).
    """
    (features, head, smoothing), (labels, radius) = trial, shared
    with jax.default_matmul_precision("highest"):
        means_KD = norms.class_means(features[KEPT], labels[KEPT], head.bias.shape[0])
        moments = norms.moments(features[KEPT])
        radius = jnp.where(radius > 0, radius, moments.norm)
        solved = centers.three_minimal_loss_points(*head, radius, smoothing)
        free_KD, inside_KD, soft_KD = (one.points for one in solved)
        vectors = cosines.ClassVectors(free_KD, head.kernel.T, means_KD, soft_KD, moments.mean_D, inside_KD)
        examples = measure_examples({name: (features[name], labels[name]) for name in features}, head, vectors)
        of_kept = features[KEPT], labels[KEPT], examples[KEPT]["prediction"]
        known = SolvedTrial(*of_kept, head, smoothing, radius, solved, vectors)
        return {
            "examples": examples,
            "common_mode": {name: norms.common_mode(features[name]) for name in features},
            "scalars": [of(known) for of in SCALARS],
            "scaling": _scaling(features, labels, head),
            "vectors": vectors._asdict(),
        }


def _scaling(features: Mapping[str, Rows], labels: Mapping[str, Array], head: Head) -> dict[str, Array]:
    """Calibration of s h on test, and the best s against 1/T, both fitted on validation."""
    if not {"validation", "test"} <= set(features):
        return {}
    fit, report = ((features[name], labels[name]) for name in ("validation", "test"))
    return scaling.measure(fit, report, head)
