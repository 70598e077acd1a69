"""Everything measured about one trial, as one device program over its splits, in chunks of examples.

Shapes: S splits, C chunks, B examples a chunk, V variants of the logits, R replicates. N = C * B, with padding.
The program returns sums; numbers are made of them on the host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration import metrics, posthoc, selective, smece, temperature, uncertainty
from jaxreg.calibration.ranking import Ranking, rank

Tree = Any
VARIANTS = (
    "",
    "_ts",
    "_vector_scaling",
)  # suffixes of metric names: raw logits, after temperature, after vector scaling
VALIDATION = 0  # place of the split that everything is fitted on
COLUMNS = ("correct", "confidence", "nll", "brier")


class Examples(NamedTuple):
    """What all trials share, [S, C, B] each: labels int32, mask (1 or 0) float32, what draws are keyed by uint32."""

    labels: Any  # on the host, NumPy arrays
    mask: Any
    key_ids: Any


class Found(NamedTuple):
    """Results of one variant of the logits on one split; on the host stacked [T, S, V, ...]."""

    classes: binning.Bins  # [K, M]
    columns: Any  # [4, C, B]: COLUMNS of each example, 0 where masked
    ranked: dict[str, Any]  # smece, aurc, auroc
    resampled: Any  # [1 + R, 5 + 6 M], see `uncertainty.unpack`; replicate 0 holds the data themselves
    floor: Any  # [R, M]: correct ones of a perfectly calibrated model


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


def measure_variant(
    parameters: Array, logits_CBK: Array, examples: Examples, key: Array, bins: int, replicates: int
) -> Found:
    """Returns the sums of a * z + b on one split, `parameters` as in `posthoc.scaled`."""
    labels_CB, mask_CB, key_ids_CB = examples

    def look(logits_BK: Array, labels_B: Array, mask_B: Array) -> tuple[binning.Bins, Array]:
        scaled_BK = posthoc.scaled(parameters, logits_BK)
        each = metrics.examples(scaled_BK, labels_B)
        columns = jnp.stack([each.correct, each.confidence, each.nll, each.brier])
        return metrics.class_bins(scaled_BK, labels_B, mask_B, bins), columns * mask_B

    def doubt(columns_4B: Array, mask_B: Array, low_B: Array, high_B: Array, key_ids_B: Array) -> tuple[Tree, None]:
        uniform_BR = uncertainty.uniforms(key, key_ids_B, replicates)
        weight_BR = jnp.concatenate([jnp.ones_like(uniform_BR[:, :1]), uncertainty.poisson_weights(uniform_BR)], -1)
        width_BM = binning.equal_width(columns_4B[1], bins)
        mass_BM = binning.equal_mass(Ranking(low_B, high_B, low_B), jnp.sum(mask_CB), bins)
        columns_B5 = jnp.concatenate([mask_B[None], columns_4B]).T
        drawn = uncertainty.draw_floor(uniform_BR, columns_4B[1], mask_B, width_BM)
        return (uncertainty.resample(weight_BR, columns_B5, width_BM, mass_BM), drawn), None

    classes, columns_C4B = total(look, logits_CBK, labels_CB, mask_CB)
    correct_N, confidence_N = (columns_C4B[:, at].ravel() for at in (0, 1))
    top = confidence_N, correct_N, mask_CB.ravel()
    order = rank(confidence_N, top[2])
    ranked = {"smece": smece.smece(*top), "aurc": selective.aurc(*top, order), "auroc": selective.auroc(*top, order)}
    low_CB, high_CB = (place_N.reshape(mask_CB.shape) for place_N in order[:2])
    resampled, floor = total(doubt, columns_C4B, mask_CB, low_CB, high_CB, key_ids_CB)[0]
    return Found(classes, columns_C4B, ranked, resampled, floor)


def measure_trial(logits_SCBK: Array, shared: tuple[Examples, Array], *, bins: int, replicates: int) -> Tree:
    """Returns (temperature, `Found` [S, V, ...]) of one trial."""
    examples, seed = shared
    found, parameters_VP = fit(*(array[VALIDATION] for array in (logits_SCBK, *examples[:2])))
    key = jax.random.key(seed)

    def one(place: tuple[Array, Array]) -> Found:
        logits_CBK, own = jax.tree.map(lambda a: a[place[0]], (logits_SCBK, examples))
        return measure_variant(parameters_VP[place[1]], logits_CBK, own, key, bins, replicates)

    splits, variants = len(logits_SCBK), len(VARIANTS)
    places = jnp.indices((splits, variants)).reshape(2, -1)
    flat = jax.lax.map(one, (places[0], places[1]))
    return found, jax.tree.map(lambda a: a.reshape(splits, variants, *a.shape[1:]), flat)
