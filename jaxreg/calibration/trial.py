"""Everything measured about one trial, as one device program over its splits, in chunks of examples.

Shapes: S splits, C chunks, B examples a chunk, V variants of the logits, R replicates. N = C * B, with padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration import metrics, posthoc, selective, smece, temperature, uncertainty

Tree = Any
VARIANTS = (
    "",
    "_ts",
    "_vector_scaling",
)  # suffixes of metric names: raw logits, after temperature, after vector scaling
UNCERTAIN = 2  # the first variants have intervals and floors
VALIDATION = 0  # place of the split that everything is fitted on

# Metrics that need all examples in order, from confidence, correct and mask [N].
RANKED: dict[str, Callable[[Array, Array, Array], Array]] = {
    "smece": smece.smece,
    "aurc": selective.aurc,
    "auroc": selective.auroc,
}


class Examples(NamedTuple):
    """What all trials share, [S, C, B] each: labels int32, mask (1 or 0) float32, what draws are keyed by uint32."""

    labels: Array | np.ndarray
    mask: Array | np.ndarray
    key_ids: Array | np.ndarray


class Columns(NamedTuple):
    """Per-example results [C, B], 0 where masked, and the ranks of each confidence; on the host, NumPy arrays."""

    correct: Any
    confidence: Any
    nll: Any
    brier: Any
    low: Any
    high: Any


def total(of_chunk: Callable[..., Tree], *chunks: Array) -> Tree:
    """Adds up `of_chunk` over the first axis of `chunks`, one chunk in memory at a time."""
    shapes = jax.eval_shape(of_chunk, *(chunk[0] for chunk in chunks))
    anchor = chunks[0].ravel()[0] * 0  # inside shard_map a carry must vary over the mesh as the data do
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + anchor.astype(s.dtype), shapes)
    return jax.lax.scan(lambda sums, chunk: (jax.tree.map(jnp.add, sums, of_chunk(*chunk)), None), zeros, chunks)[0]


def fit(logits_CBK: Array, labels_CB: Array, mask_CB: Array) -> tuple[temperature.Temperature, Array]:
    """Returns the temperature of one split, and the affine parameters [V, 2K] of all variants."""

    def slope(log_b: Array) -> temperature.Slope:
        return total(lambda *chunk: temperature.slope(log_b, *chunk), logits_CBK, labels_CB, mask_CB)

    def curve(parameters: Array) -> posthoc.Curve:
        return total(lambda *chunk: posthoc.curve(parameters, *chunk), logits_CBK, labels_CB, mask_CB)

    found = temperature.solve(slope, jnp.sum(mask_CB) + logits_CBK[0, 0, 0] * 0)
    classes = logits_CBK.shape[-1]
    scaled = posthoc.begin(1 / found.value, classes)
    return found, jnp.stack([posthoc.begin(found.value / found.value, classes), scaled, posthoc.solve(curve, scaled)])


def measure_variant(
    parameters: Array, logits_CBK: Array, labels_CB: Array, mask_CB: Array, bins: int
) -> tuple[dict[str, Array], Columns]:
    """Returns every metric of a * z + b on one split, and its per-example columns."""

    def one_chunk(logits_BK: Array, labels_B: Array, mask_B: Array) -> metrics.Sums:
        return metrics.sums_of(posthoc.scaled(parameters, logits_BK), labels_B, mask_B, bins)

    def columns(chunk: tuple[Array, ...]) -> tuple[Array, ...]:
        logits_BK, labels_B, mask_B = chunk
        each = metrics.examples(posthoc.scaled(parameters, logits_BK), labels_B)
        return tuple(x_B * mask_B for x_B in (each.correct, each.confidence, each.nll, each.brier))

    chunks = (logits_CBK, labels_CB, mask_CB)
    sums = total(one_chunk, *chunks)
    correct, confidence, nll, brier = jax.lax.map(columns, chunks)
    ranked = confidence.ravel(), correct.ravel(), mask_CB.ravel()
    low_N, high_N = binning.ranks(ranked[0], ranked[2])
    mass_NM = binning.equal_mass(low_N, high_N, sums.count, bins)
    found = metrics.summary(sums) | {name: metric(*ranked) for name, metric in RANKED.items()}
    found["ece_adaptive"] = binning.ece(binning.bins_of(mass_NM, *ranked))
    found["mce_count"] = binning.mce_count(sums.bins)
    places = (low_N.reshape(mask_CB.shape), high_N.reshape(mask_CB.shape))
    return found, Columns(correct, confidence, nll, brier, *places)


def doubt(
    values: dict[str, Array],
    columns: Columns,
    mask_CB: Array,
    key_ids_CB: Array,
    key: Array,
    bins: int,
    replicates: int,
) -> dict[str, tuple[Array, ...]]:
    """Returns (low, high) of every metric that has an interval, and (mean, low, high) of the noise floor of ECE."""
    count = jnp.sum(mask_CB)

    def one_chunk(columns: Columns, mask_B: Array, key_ids_B: Array) -> tuple[uncertainty.Resampled, binning.Bins]:
        uniform_BR = uncertainty.uniforms(key, key_ids_B, replicates)
        width_BM = binning.equal_width(columns.confidence, bins)
        mass_BM = binning.equal_mass(columns.low, columns.high, count, bins)
        columns_B5 = jnp.stack([mask_B, columns.correct, columns.confidence, columns.nll, columns.brier], -1)
        drawn = uncertainty.draw_floor(uniform_BR, columns.confidence, mask_B, width_BM)
        return uncertainty.resample(uncertainty.poisson_weights(uniform_BR), columns_B5, width_BM, mass_BM), drawn

    resampled, drawn = total(lambda *chunk: one_chunk(Columns(*chunk[:6]), *chunk[6:]), *columns, mask_CB, key_ids_CB)
    return uncertainty.intervals(resampled, values) | {"ece_floor": uncertainty.floor(drawn)}


def measure_trial(logits_SCBK: Array, shared: tuple[Examples, Array], *, bins: int, replicates: int) -> Tree:
    """Returns temperature, metrics, columns, intervals of one trial; metrics [S, V], intervals [S, UNCERTAIN]."""
    examples, seed = shared
    chunks = (logits_SCBK, examples.labels, examples.mask)
    found, parameters_VP = fit(*(array[VALIDATION] for array in chunks))
    key = jax.random.key(seed)

    def one_split(split: tuple[Array, ...]) -> Tree:
        *arrays, key_ids_CB = split

        def intervals(variant: tuple[dict[str, Array], Columns]) -> Tree:
            return doubt(*variant, arrays[2], key_ids_CB, key, bins, replicates)

        values, columns = jax.lax.map(lambda p: measure_variant(p, *arrays, bins), parameters_VP)
        first = jax.tree.map(lambda a: a[:UNCERTAIN], (values, columns))
        return values, columns, jax.lax.map(intervals, first)

    values, columns, uncertain = jax.lax.map(one_split, (*chunks, examples.key_ids))
    return {"temperature": found, "values": values, "columns": columns, "intervals": uncertain}
