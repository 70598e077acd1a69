"""What is computed from one trial's logits, as one device program over its splits, in chunks of examples.

Shapes: S splits, C chunks, B examples a chunk, V variants of the logits, R replicates. N = C * B, with padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration import classes, metrics, posthoc, temperature, uncertainty
from jaxreg.calibration.bins import Bins

Tree = Any
VARIANTS = ("", "_ts", "_vector_scaling")  # of metric names: raw logits, after temperature, after vector scaling
VECTOR = VARIANTS.index("_vector_scaling")
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


def fit_temperature(logits_CBK: Array, labels_CB: Array, mask_CB: Array) -> temperature.Temperature:
    """Returns the temperature of one split: of its first chunk, and from there of all of them in two or three looks."""

    def search(begin: Array, *chunks: Array) -> temperature.Temperature:
        def look(log_b: Array) -> temperature.Slope:
            return total(lambda *chunk: (temperature.slope(log_b, *chunk), None), *chunks)[0]

        return temperature.solve(look, begin)

    every = logits_CBK, labels_CB, mask_CB
    first = search(mask_CB[0, 0] * 0, *(chunks[:1] for chunks in every))
    found = search(jnp.where(first.at_bracket > 0, 0.0, -jnp.log(first.value)), *every)

    def differ() -> Array:
        return total(lambda *chunk: (temperature.differ(*chunk).astype(jnp.int32), None), logits_CBK, mask_CB)[0] > 0

    return temperature.where_it_matters(found, differ)


def fit_vector(anchor: Array, logits_CBK: Array, labels_CB: Array, mask_CB: Array) -> Array:
    """Returns the parameters [2K] of vector scaling on one split, searched from `anchor`."""

    def curve(parameters: Array) -> posthoc.Curve:
        return total(lambda *chunk: (posthoc.curve(parameters, *chunk), None), logits_CBK, labels_CB, mask_CB)[0]

    return posthoc.solve(curve, anchor)


def measure_scaled(
    shifted: Callable[[Array], Array], scales_V: Array, logits_CBK: Array, examples: Examples, groups: int, bins: int
) -> tuple[Bins, Array, Array]:
    """Returns sums by class [V, G, K, M], counts of groups [G] and COLUMNS [V, 4, C, B] of scale * shifted(z)."""
    variants = len(scales_V)

    def look(sums: tuple[Bins, Array], chunk: tuple[Array, ...]) -> tuple[tuple[Bins, Array], Array]:
        logits_BK, labels_B, mask_B, key_ids_B = chunk
        z_BK = shifted(logits_BK)
        each, p_VBK = jax.vmap(lambda scale: metrics.of_shifted(z_BK, labels_B, scale))(scales_V)
        groups_B = uncertainty.groups(key_ids_B, groups)
        of_V = jnp.arange(variants, dtype=jnp.int32)[:, None] * groups + groups_B
        labels_N, mask_N = jnp.tile(labels_B, variants), jnp.tile(mask_B, variants)
        by_class = classes.add(sums[0], p_VBK.reshape(-1, p_VBK.shape[-1]), labels_N, mask_N, of_V.ravel())
        columns_V4B = jnp.stack([each.correct, each.confidence, each.nll, each.brier], 1) * mask_B
        return (by_class, sums[1].at[groups_B].add(mask_B)), columns_V4B

    nothing = classes.empty(logits_CBK[0], variants * groups, bins), jnp.zeros(groups) + logits_CBK[0, 0, 0] * 0
    (by_class, counts_G), columns_CV4B = jax.lax.scan(look, nothing, (logits_CBK, *examples))
    by_variant = jax.tree.map(lambda a: a.reshape(variants, groups, *a.shape[1:]), by_class)
    return by_variant, counts_G, jnp.moveaxis(columns_CV4B, 0, 2)


def measure_trial(logits_SCBK: Array, shared: tuple[Examples, Array], *, bins: int, replicates: int) -> Tree:
    """Returns (temperature, `Found` [S, V, ...]) of one trial."""
    examples, seed = shared
    fitted = [array[VALIDATION] for array in (logits_SCBK, *examples[:2])]
    found = fit_temperature(*fitted)
    vector = fit_vector(posthoc.begin(1 / found.value, logits_SCBK.shape[-1]), *fitted)
    scales_V = jnp.stack([found.value * 0 + 1, 1 / found.value, found.value * 0 + 1])
    group_weights = uncertainty.group_weights(jax.random.key(seed), replicates)

    def one(place: tuple[Array, Array]) -> Found:
        def shifted(logits_BK: Array) -> Array:
            by_vector = lambda: metrics.shifted(posthoc.scaled(vector, logits_BK))  # noqa: E731
            return jax.lax.cond(place[1] == VECTOR, by_vector, lambda: metrics.shifted(logits_BK))

        logits_CBK, own = jax.tree.map(lambda a: a[place[0]], (logits_SCBK, examples))
        seen = measure_scaled(shifted, scales_V[place[1]][None], logits_CBK, own, uncertainty.GROUPS, bins)
        by_class, counts_G, columns_4CB = jax.tree.map(lambda a: a[0], seen[0]), seen[1], seen[2][0]
        gaps_GKM = by_class.confidence - by_class.correct
        classwise = uncertainty.classwise(group_weights, gaps_GKM, counts_G)
        return Found(classes.bins_of(by_class), classwise, columns_4CB)

    return found, over_places(one, len(logits_SCBK), len(VARIANTS))


def evaluate_trial(logits_SCBK: Array, shared: Examples, *, places: tuple[int, ...], bins: int) -> dict[str, Array]:
    """Returns every metric [P] of one trial on the splits at `places`, before and after temperature scaling."""
    found = fit_temperature(*(array[VALIDATION] for array in (logits_SCBK, *shared[:2])))

    scales_2 = jnp.stack([found.value * 0 + 1, 1 / found.value])

    def one(place: Array) -> dict[str, Array]:
        logits_CBK, own = jax.tree.map(lambda a: a[place], (logits_SCBK, shared))
        by_class, _, columns_24CB = measure_scaled(metrics.shifted, scales_2, logits_CBK, own, 1, bins)
        return jax.lax.map(lambda both: numbers(both[0], both[1], own.mask, bins), (by_class, columns_24CB))

    both = jax.lax.map(one, jnp.array(places))
    named = {name + end: values[:, i] for name, values in both.items() for i, end in enumerate(("", "_ts"))}
    same = jnp.zeros(len(places))
    return named | {"temperature": same + found.value, "temperature_at_bracket": same + found.at_bracket}


def numbers(by_class: Bins, columns_4CB: Array, mask_CB: Array, bins: int) -> dict[str, Array]:
    """Returns every metric of one variant on one split."""
    correct_N, confidence_N, nll_N, brier_N = columns_4CB.reshape(len(COLUMNS), -1)
    mask_N = mask_CB.ravel()
    count, correct, confidence, nll, brier = map(jnp.sum, (mask_N, correct_N, confidence_N, nll_N, brier_N))
    top = binning.bins_of(binning.equal_width(confidence_N, bins), confidence_N, correct_N, mask_N)
    every = metrics.Sums(count, correct, confidence, nll, brier, top, classes.bins_of(by_class))
    adaptive = binning.adaptive(confidence_N, correct_N, mask_N, bins)
    return metrics.summary(every) | {"ece_adaptive": binning.ece(adaptive)}


def over_places(one: Callable[[tuple[Array, Array]], Tree], splits: int, variants: int) -> Tree:
    """Calls `one` with every (split, variant), one after another, and stacks the results [S, V, ...]."""
    places = jnp.indices((splits, variants)).reshape(2, -1)
    flat = jax.lax.map(one, (places[0], places[1]))
    return jax.tree.map(lambda a: a.reshape(splits, variants, *a.shape[1:]), flat)
