"""Losses that attacks ascend: one value per example from raw logits, summed (never averaged) before the gradient.

A mean would make an example's gradient, and so its adversary, depend on the size of the batch it travels in.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

# In this order: the place is the traced number that chooses the loss, so that losses share one program (`chosen`).
LOSSES = ("ce", "margin", "dlr", "targeted_ce", "targeted_margin", "targeted_dlr")
CLASSES = {"dlr": 3, "targeted_dlr": 4}  # the fewest a loss needs (the others: 2)
SMALL = 1e-12


def fooled(logits_BK: Shaped[Array, "B K"], labels_B: Shaped[Array, " B"]) -> Array:
    """Whether the prediction is wrong: [B]. Logits that are not finite count as wrong."""
    return (jnp.argmax(logits_BK, axis=1) != labels_B) | ~jnp.all(jnp.isfinite(logits_BK), axis=1)


def pick(logits_BK: Shaped[Array, "B K"], classes_B: Shaped[Array, " B"]) -> Array:
    """z_c for one class c per example: [B]. A masked sum: as exact as a gather, and far less to compile."""
    return jnp.sum(jnp.where(is_class(logits_BK, classes_B), logits_BK, 0), axis=1)


def is_class(logits_BK: Shaped[Array, "B K"], classes_B: Shaped[Array, " B"]) -> Array:
    """One-hot rows as booleans: [B, K]."""
    return jnp.arange(logits_BK.shape[1], dtype=classes_B.dtype)[None] == classes_B[:, None]


def best_other(logits_BK: Shaped[Array, "B K"], labels_B: Shaped[Array, " B"]) -> Array:
    """max over i != y of z_i: [B]."""
    return jnp.max(jnp.where(is_class(logits_BK, labels_B), -jnp.inf, logits_BK), axis=1)


def largest(logits_BK: Shaped[Array, "B K"], count: int) -> list[Array]:
    """The `count` largest logits, ties counted apart: `count` arrays [B], by repeated maxima (a sort is slower)."""
    values, rest_BK = [], logits_BK
    for _ in range(count):
        top_B = jnp.argmax(rest_BK, axis=1)
        values.append(pick(logits_BK, top_B))
        rest_BK = jnp.where(is_class(logits_BK, top_B), -jnp.inf, rest_BK)
    return values


def cross_entropy(logits_BK: Shaped[Array, "B K"], labels_B: Shaped[Array, " B"]) -> Array:
    """log sum_k exp(z_k) - z_y: [B]. Flat (gradient exactly 0) where float32 saturates."""
    return jax.nn.logsumexp(logits_BK, axis=1) - pick(logits_BK, labels_B)


def margin(logits_BK: Shaped[Array, "B K"], labels_B: Shaped[Array, " B"]) -> Array:
    """max over i != y of z_i, minus z_y: [B], positive exactly when the example is misclassified.

    References: Carlini and Wagner, 2017, https://arxiv.org/abs/1608.04644.
    """
    return best_other(logits_BK, labels_B) - pick(logits_BK, labels_B)


def number_of(name: str) -> int:
    """The place of a loss in the table.

    Raises: ValueError: for an unknown name.
    """
    if name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}; known: {sorted(LOSSES)}.")
    return LOSSES.index(name)


def check_classes(name: str, classes: int) -> None:
    """Raises ValueError where a loss is not defined for so few classes."""
    if classes < CLASSES.get(name, 2):
        least = CLASSES.get(name, 2)
        raise ValueError(f"the loss {name!r} needs at least {least} classes, got {classes}: use 'margin' or 'ce'.")


def chosen(
    number: Array, logits_BK: Shaped[Array, "B K"], labels_B: Shaped[Array, " B"], targets_B: Shaped[Array, " B"]
) -> Array:
    """The loss at place `number` (traced) of LOSSES: [B], of logits z with label y and target t.

    ce               log sum_k exp(z_k) - z_y
    margin           max over i != y of z_i, minus z_y
    dlr              margin / (z_(1) - z_(3) + 1e-12), z_(i) the i-th largest: blind to scale and shift
    targeted_ce      z_t - log sum_k exp(z_k)
    targeted_margin  z_t - z_y
    targeted_dlr     (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12)

    The parts are computed once and combined: one small program instead of a branch for each loss. With too few classes
    for a DLR its place holds the margin.

    References: Croce and Hein, 2020, https://arxiv.org/abs/2003.01690, equations 6 and 7.
    """
    classes = logits_BK.shape[1]
    label_B, target_B = pick(logits_BK, labels_B), pick(logits_BK, targets_B)
    log_sum_B = jax.nn.logsumexp(logits_BK, axis=1)
    tops = largest(logits_BK, min(4, classes))
    gain_B, targeted_gain_B = best_other(logits_BK, labels_B) - label_B, target_B - label_B
    third_B, fourth_B = tops[min(2, classes - 1)], tops[min(3, classes - 1)]
    is_dlr, is_targeted = number == number_of("dlr"), number == number_of("targeted_dlr")
    # A span of 1 where no DLR is asked for: the gradient of what is not chosen must stay finite.
    span_B = jnp.where(is_dlr & (classes >= 3), tops[0] - third_B + SMALL, 1)
    span_B = jnp.where(is_targeted & (classes >= 4), tops[0] - (third_B + fourth_B) / 2 + SMALL, span_B)
    values = {
        "ce": log_sum_B - label_B,
        "margin": gain_B,
        "dlr": gain_B / span_B,
        "targeted_ce": target_B - log_sum_B,
        "targeted_margin": targeted_gain_B,
        "targeted_dlr": (targeted_gain_B if classes >= 4 else gain_B) / span_B,
    }
    return jnp.sum(jnp.stack([jnp.where(number == number_of(name), value, 0) for name, value in values.items()]), 0)
