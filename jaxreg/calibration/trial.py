"""What is computed from one trial's logits, as one device program over its splits, in chunks of examples.

Shapes: S splits, C chunks, B examples a chunk, V variants of the logits, R replicates. N = C * B, with padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration import class_bins, floors, metrics, posthoc, selective, smooth_error, uncertainty
from jaxreg.calibration.bins import Bins
from jaxreg.calibration.chunks import Chunks, Placed, Tree, fit_temperature, fit_vector
from jaxreg.calibration.ranking import Ascending, ascend

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
    floor: Any  # [floors.LABELLED]: the same of a perfectly calibrated model
    columns: Any  # [4, C, B]: COLUMNS of each example, 0 where masked


class Scaled(NamedTuple):
    """What one look at a split tells of V multiples of its logits."""

    classes: Bins  # [V, G, K, M], by group of examples
    counts: Array  # [G]
    drawn: Array  # [V, R, K, M]: labels of a perfectly calibrated model, see `floors.draw_classes`
    columns: Array  # [V, 4, C, B]: COLUMNS of each example, 0 where masked


def measure_scaled(
    shifted: Callable[[Array], Array],
    scales_V: Array,
    chunks: Chunks,
    groups: int,
    bins: int,
    key: Array | None = None,
) -> Scaled:
    """Returns what scale * shifted(z) tells of one split; labels are drawn (R = `floors.LABELLED`) where a key is."""
    variants, classes_ = len(scales_V), chunks.stacks.logits.shape[-1]

    def look(sums: tuple[Bins, Array, Array], place: Array) -> tuple[Tree, Array]:
        (by_class, counts_G, drawn_VRKM), (logits_BK, labels_B, mask_B, key_ids_B) = sums, chunks.read(place)
        z_BK = shifted(logits_BK)
        each, p_VBK = jax.vmap(lambda scale: metrics.of_shifted(z_BK, labels_B, scale))(scales_V)
        groups_B = uncertainty.groups(key_ids_B, groups)
        of_V = jnp.arange(variants, dtype=jnp.int32)[:, None] * groups + groups_B
        labels_N, mask_N = jnp.tile(labels_B, variants), jnp.tile(mask_B, variants)
        by_class = class_bins.add(by_class, p_VBK.reshape(-1, classes_), labels_N, mask_N, of_V.ravel())
        if key is not None:
            uniform_BR = uncertainty.uniforms(key, key_ids_B, floors.LABELLED)
            drawn_VRKM += jax.vmap(lambda p_BK: floors.draw_classes(uniform_BR, p_BK, mask_B, bins))(p_VBK)
        columns_V4B = jnp.stack([each.correct, each.confidence, each.nll, each.brier], 1) * mask_B
        return (by_class, counts_G.at[groups_B].add(mask_B), drawn_VRKM), columns_V4B

    drawn = (variants, 0 if key is None else floors.LABELLED, classes_, bins)
    empty = jnp.zeros(groups), jnp.zeros(drawn)
    nothing = jax.tree.map(lambda a: a + chunks.zero, empty)
    start = class_bins.empty(chunks.zero, classes_, variants * groups, bins), *nothing
    (by_class, counts_G, drawn_VRKM), columns_CV4B = jax.lax.scan(look, start, chunks.places)
    by_variant = jax.tree.map(lambda a: a.reshape(variants, groups, *a.shape[1:]), by_class)
    return Scaled(by_variant, counts_G, drawn_VRKM, jnp.moveaxis(columns_CV4B, 0, 2))


def measure_trial(stacks: tuple[Array, Array], shared: tuple[Examples, Array], *, bins: int, replicates: int) -> Tree:
    """Returns (temperature, `Found` [S, V, ...]) of one trial: of logits [T, S, C, B, K], and which of them."""
    (examples, seed), (_, splits, *_, count) = shared, stacks[0].shape
    fitted = Chunks(Placed(*stacks), examples, jnp.int32(VALIDATION))
    found = fit_temperature(fitted)
    vector = fit_vector(posthoc.begin(1 / found.value, count), fitted)
    scales_V = jnp.stack([found.value * 0 + 1, 1 / found.value, found.value * 0 + 1])
    key = jax.random.key(seed)
    group_weights = uncertainty.group_weights(key, replicates)

    def one(place: tuple[Array, Array]) -> Found:
        def shifted(logits_BK: Array) -> Array:
            by_vector = lambda: metrics.shifted(posthoc.scaled(vector, logits_BK))  # noqa: E731
            return jax.lax.cond(place[1] == VECTOR, by_vector, lambda: metrics.shifted(logits_BK))

        own = fitted._replace(split=place[0])
        seen = measure_scaled(shifted, scales_V[place[1]][None], own, uncertainty.GROUPS, bins, key)
        by_class = jax.tree.map(lambda a: a[0], seen.classes)
        gaps_GKM = by_class.confidence - by_class.correct
        classwise = uncertainty.classwise(group_weights, gaps_GKM, seen.counts)
        whole = class_bins.bins_of(by_class)
        floor = floors.classwise(seen.drawn[0], whole, jnp.sum(examples.mask[place[0]]))
        return Found(whole, classwise, floor, seen.columns[0])

    return found, over_places(one, splits, len(VARIANTS))


def evaluate_trial(
    stacks: tuple[Array, Array], shared: Examples, *, places: tuple[int, ...], bins: int
) -> dict[str, Array]:
    """Returns every metric [P] of one trial on the splits at `places`, before and after temperature scaling."""
    fitted = Chunks(Placed(*stacks), shared, jnp.int32(VALIDATION))
    found = fit_temperature(fitted)
    scales_2 = jnp.stack([found.value * 0 + 1, 1 / found.value])

    def one(place: Array) -> dict[str, Array]:
        seen = measure_scaled(metrics.shifted, scales_2, fitted._replace(split=place), 1, bins)
        mask_CB = shared.mask[place]
        return jax.lax.map(lambda both: numbers(both[0], both[1], mask_CB, bins), (seen.classes, seen.columns))

    both = jax.lax.map(one, jnp.array(places))
    named = {name + end: values[:, i] for name, values in both.items() for i, end in enumerate(("", "_ts"))}
    same = jnp.zeros(len(places))
    return named | {"temperature": same + found.value, "temperature_at_bracket": same + found.at_bracket}


def numbers(by_class: Bins, columns_4CB: Array, mask_CB: Array, bins: int) -> dict[str, Array]:
    """Returns every metric of one variant on one split."""
    correct_N, confidence_N, nll_N, brier_N = columns_4CB.reshape(len(COLUMNS), -1)
    mask_N = mask_CB.ravel()
    count, correct, confidence, nll, brier = map(jnp.sum, (mask_N, correct_N, confidence_N, nll_N, brier_N))
    top = confidence_N, correct_N, mask_N
    width = binning.bins_of(binning.equal_width(confidence_N, bins), *top)
    every = metrics.Sums(count, correct, confidence, nll, brier, width, class_bins.bins_of(by_class))
    return metrics.summary(every) | {"smece": smooth_error.smece(*top)} | of_order(ascend(*top), bins)


def of_order(ascending_N: Ascending, bins: int) -> dict[str, Array]:
    """Returns what one sort of the confidences of a split tells."""
    confidence_N, correct_N, mask_N, ranking = ascending_N
    return {
        "ece_adaptive": binning.ece(binning.adaptive(ascending_N, bins)),
        "aurc": selective.aurc(confidence_N, correct_N, mask_N, ranking),
        "auroc": selective.auroc(confidence_N, correct_N, mask_N, ranking),
    }


def over_places(one: Callable[[tuple[Array, Array]], Tree], splits: int, variants: int) -> Tree:
    """Calls `one` with every (split, variant), one after another, and stacks the results [S, V, ...]."""
    places = jnp.indices((splits, variants)).reshape(2, -1)
    flat = jax.lax.map(one, (places[0], places[1]))
    return jax.tree.map(lambda a: a.reshape(splits, variants, *a.shape[1:]), flat)
