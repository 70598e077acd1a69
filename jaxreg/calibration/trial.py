"""What is computed from one trial's logits, as one device program over its splits, in chunks of examples.

Shapes: S splits, C chunks, B examples a chunk, V variants of the logits, R replicates. N = C * B, with padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import metrics, posthoc, temperature, uncertainty
from jaxreg.calibration.bins import Bins

Tree = Any
VARIANTS = ("", "_ts", "_vector_scaling")  # of metric names: raw logits, after temperature, after vector scaling
VALIDATION = 0  # place of the split that everything is fitted on
COLUMNS = ("correct", "confidence", "nll", "brier")


class Examples(NamedTuple):
    """What all trials share, [S, C, B] each: labels int32, mask (1 or 0) float32, what draws are keyed by uint32."""

    labels: Any  # on the host, NumPy arrays
    mask: Any
    key_ids: Any


class Found(NamedTuple):
    """Results of one variant of the logits on one split; on the host stacked [T, S, V, ...]."""

    classes: Bins  # [K, M]
    classwise: Any  # [1 + R]: ECE of the classes, replicate 0 of the data themselves
    columns: Any  # [4, C, B]: COLUMNS of each example, 0 where masked


def total(of_chunk: Callable[..., tuple[Tree, Tree]], *chunks: Array) -> tuple[Tree, Tree]:
    """Adds up the first result of `of_chunk` over the first axis of `chunks`, one at a time; stacks the second."""
    shapes = jax.eval_shape(of_chunk, *(chunk[0] for chunk in chunks))[0]
    anchor = chunks[0].ravel()[0] * 0  # inside shard_map a carry must vary over the mesh as the data do
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + anchor.astype(s.dtype), shapes)

    def step(sums: Tree, chunk: tuple[Array, ...]) -> tuple[Tree, Tree]:
        more, each = of_chunk(*chunk)
        return jax.tree.map(jnp.add, sums, more), each

    return jax.lax.scan(step, zeros, chunks)


def fit(logits_CBK: Array, labels_CB: Array, mask_CB: Array) -> tuple[temperature.Temperature, Array]:
    """Returns the temperature of one split, and the affine parameters [V, 2K] of all variants."""

    def slope(log_b: Array) -> temperature.Slope:
        return total(lambda *chunk: (temperature.slope(log_b, *chunk), None), logits_CBK, labels_CB, mask_CB)[0]

    def curve(parameters: Array) -> posthoc.Curve:
        return total(lambda *chunk: (posthoc.curve(parameters, *chunk), None), logits_CBK, labels_CB, mask_CB)[0]

    found = temperature.solve(slope, logits_CBK[0, 0, 0])
    classes = logits_CBK.shape[-1]
    scaled = posthoc.begin(1 / found.value, classes)
    return found, jnp.stack([posthoc.begin(found.value * 0 + 1, classes), scaled, posthoc.solve(curve, scaled)])


def measure_variant(parameters: Array, logits_CBK: Array, examples: Examples, group_weights: Array, bins: int) -> Found:
    """Returns the sums of a * z + b on one split, `parameters` as in `posthoc.scaled`."""

    def look(logits_BK: Array, labels_B: Array, mask_B: Array, key_ids_B: Array) -> tuple[Tree, Array]:
        scaled_BK = posthoc.scaled(parameters, logits_BK)
        each = metrics.examples(scaled_BK, labels_B)
        columns = jnp.stack([each.correct, each.confidence, each.nll, each.brier])
        groups_B = uncertainty.groups(key_ids_B)
        counts = uncertainty.in_groups(mask_B, groups_B)
        by_group = metrics.class_gaps(scaled_BK, labels_B, mask_B, groups_B, uncertainty.GROUPS, bins)
        return (metrics.class_bins(scaled_BK, labels_B, mask_B, bins), by_group, counts), columns * mask_B

    (classes, gaps_GKM, counts_G), columns_C4B = total(look, logits_CBK, *examples)
    return Found(classes, uncertainty.classwise(group_weights, gaps_GKM, counts_G), columns_C4B.swapaxes(0, 1))


def measure_trial(logits_SCBK: Array, shared: tuple[Examples, Array], *, bins: int, replicates: int) -> Tree:
    """Returns (temperature, `Found` [S, V, ...]) of one trial."""
    examples, seed = shared
    found, parameters_VP = fit(*(array[VALIDATION] for array in (logits_SCBK, *examples[:2])))
    group_weights = uncertainty.group_weights(jax.random.key(seed), replicates)

    def one(place: tuple[Array, Array]) -> Found:
        logits_CBK, own = jax.tree.map(lambda a: a[place[0]], (logits_SCBK, examples))
        return measure_variant(parameters_VP[place[1]], logits_CBK, own, group_weights, bins)

    return found, over_places(one, len(logits_SCBK), len(VARIANTS))


def over_places(one: Callable[[tuple[Array, Array]], Tree], splits: int, variants: int) -> Tree:
    """Calls `one` with every (split, variant), one after another, and stacks the results [S, V, ...]."""
    places = jnp.indices((splits, variants)).reshape(2, -1)
    flat = jax.lax.map(one, (places[0], places[1]))
    return jax.tree.map(lambda a: a.reshape(splits, variants, *a.shape[1:]), flat)
