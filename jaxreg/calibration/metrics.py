"""Metrics of logits against labels as sums that add over masked batches; division happens once, at the end.

`summary` uses operators alone, so it takes JAX arrays under jit as well as NumPy arrays on the host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration import bins as binning
from jaxreg.calibration import class_bins
from jaxreg.calibration.bins import BINS, Bins

FARTHEST = 1e16  # of two logits


class Scores(NamedTuple):
    """What one example adds, [N] each: float32, except the predicted class (int32)."""

    confidence: Array
    prediction: Array
    correct: Array
    nll: Array
    brier: Array


@flax.struct.dataclass
class Sums:
    """Sums over examples: scalars, or [..., R] of replicates; bins [..., M] of the top label. None: not summed."""

    count: Any  # JAX or NumPy arrays
    correct: Any
    confidence: Any
    nll: Any
    brier: Any
    width: Bins  # of equal width
    mass: Bins | None = None  # of equal mass
    classes: Bins | None = None  # [K, M]: every class against its label
    aurc: Any = None  # of the values of `selective.influence`
    auroc: Any = None

    def __add__(self, other: "Sums") -> "Sums":
        return jax.tree.map(jnp.add, self, other)


def shifted(logits_NK: Shaped[Array, "N K"]) -> Array:
    """Returns float32 logits less the largest of their row: at most 0, and 0 at the predicted class.

    Differences beyond `FARTHEST` count as `FARTHEST`, so that their squares still add up in float32.
    """
    z_NK = logits_NK.astype(jnp.float32)
    return jnp.maximum(z_NK - jnp.max(z_NK, -1, keepdims=True), -FARTHEST)


def examples(logits_NK: Shaped[Array, "N K"], labels_N: Shaped[Array, " N"]) -> Scores:
    """Returns the per-example quantities of logits [N, K] (any float; computed in float32) and labels [N].

    Brier is sum_k (p_k - y_k)^2, in [0, 2]; NLL is in nats. Among equal largest logits the first class is predicted.
    """
    return of_shifted(shifted(logits_NK), labels_N)[0]


def predicted(logits_NK: Shaped[Array, "N K"]) -> Array:
    """The class of the largest logit [N], int32, the first of equal ones: an argmax, ten times faster on a CPU."""
    return _first(logits_NK >= jnp.max(logits_NK, -1, keepdims=True))


def _first(where_NK: Array) -> Array:
    classes = where_NK.shape[-1]
    return jnp.min(jnp.where(where_NK, jnp.arange(classes, dtype=jnp.int32), classes - 1), -1)


def of_shifted(
    z_NK: Shaped[Array, "N K"], labels_N: Shaped[Array, " N"], scale: Array | float = 1.0
) -> tuple[Scores, Array]:
    """Returns the same of scale * z, z from `shifted`, and the probabilities [N, K].

    The class is predicted from z itself: multiplied by a small scale, nearly equal logits may round to the same.
    """
    exp_NK, class_1K = jnp.exp(scale * z_NK), jnp.arange(z_NK.shape[-1], dtype=jnp.int32)[None]
    sum_N, z_label_N = jnp.sum(exp_NK, -1), jnp.take_along_axis(z_NK, labels_N[:, None], -1)[:, 0]
    prediction_N = _first(z_NK >= 0)
    wrong_NK = jnp.where(class_1K == labels_N[:, None], 0.0, exp_NK)
    p_others_N = jnp.sum(wrong_NK, -1) / sum_N  # 1 - p of the label, without cancellation
    brier_N = jnp.sum(wrong_NK**2, -1) / sum_N**2 + p_others_N**2
    correct_N = (prediction_N == labels_N).astype(jnp.float32)
    each = Scores(1 / sum_N, prediction_N, correct_N, jnp.log(sum_N) - scale * z_label_N, brier_N)
    return each, exp_NK / sum_N[:, None]


def sums_of(
    logits_NK: Shaped[Array, "N K"], labels_N: Shaped[Array, " N"], mask_N: Array | None = None, bins: int = BINS
) -> Sums:
    """Returns the sums of one masked batch: `mask_N` is 1 for an example and 0 for padding (default: no padding)."""
    mask_N = jnp.ones(labels_N.shape, jnp.float32) if mask_N is None else mask_N.astype(jnp.float32)
    kept_NK = jnp.where(mask_N[:, None] > 0, logits_NK, 0)  # padding may hold anything
    each, p_NK = of_shifted(shifted(kept_NK), labels_N)
    seen = class_bins.add(
        class_bins.empty(p_NK[0, 0] * 0, p_NK.shape[-1], 1, bins), p_NK, labels_N, mask_N, jnp.zeros_like(labels_N)
    )
    top = binning.bins_of(binning.equal_width(each.confidence, bins), each.confidence, each.correct, mask_N)
    return Sums(
        count=jnp.sum(mask_N),
        correct=jnp.sum(each.correct * mask_N),
        confidence=jnp.sum(each.confidence * mask_N),
        nll=jnp.sum(each.nll * mask_N),
        brier=jnp.sum(each.brier * mask_N),
        width=top,
        classes=class_bins.bins_of(seen),
    )


def brier_reliability(sums: Sums, classes: Bins) -> Array:
    """Sum over classes and bins of n/N (mean p - mean y)^2: the part of Brier that calibration can remove."""
    return (classes.count * binning.gaps(classes) ** 2).sum() / sums.count


def brier_resolution(sums: Sums, classes: Bins) -> Array:
    """Sum over classes and bins of n/N (mean y in the bin - mean y)^2: how far forecasts separate the classes."""
    base_K1 = classes.correct.sum(-1, keepdims=True) / sums.count
    rate_KM = classes.correct / (classes.count + (classes.count == 0))
    return (classes.count * (rate_KM - base_K1) ** 2).sum() / sums.count


def brier_uncertainty(sums: Sums, classes: Bins) -> Array:
    """Sum over classes of mean y (1 - mean y): the Brier score of always forecasting the class frequencies."""
    base_K = classes.correct.sum(-1) / sums.count
    return (base_K * (1 - base_K)).sum()


def brier_within(sums: Sums, classes: Bins) -> Array:
    """What binning hides: Brier - (reliability - resolution + uncertainty), variation of forecasts within a bin.

    References: Murphy, 1973; Stephenson, Coelho and Jolliffe, 2008, Weather and Forecasting 23, 752-757.
    """
    reliability, resolution = brier_reliability(sums, classes), brier_resolution(sums, classes)
    return sums.brier / sums.count - (reliability - resolution + brier_uncertainty(sums, classes))


MEANS: dict[str, Callable[[Sums], Any]] = {
    "accuracy": lambda sums: sums.correct / sums.count,
    "nll": lambda sums: sums.nll / sums.count,
    "brier": lambda sums: sums.brier / sums.count,
    "confidence": lambda sums: sums.confidence / sums.count,
    "confidence_gap": lambda sums: (sums.confidence - sums.correct) / sums.count,
}
OF_CLASSES: dict[str, Callable[[Sums, Bins], Any]] = {
    "brier_reliability": brier_reliability,
    "brier_resolution": brier_resolution,
    "brier_uncertainty": brier_uncertainty,
    "brier_within": brier_within,
    "ece_classwise": lambda sums, classes: binning.ece(classes).mean(),
}


def summary(sums: Sums) -> dict[str, Any]:
    """Every metric of what was summed, from the merged sums of all examples: scalars, or [..., R] of replicates."""
    found = {name: metric(sums) for name, metric in MEANS.items()} | binning.errors(sums.width, sums.mass)
    if sums.classes is not None:
        found |= {name: metric(sums, sums.classes) for name, metric in OF_CLASSES.items()}
    ranked = {"aurc": sums.aurc, "auroc": sums.auroc}
    return found | {name: total / sums.count for name, total in ranked.items() if total is not None}
