"""The device programs of one trial: from its logits, and from the confidence and correctness of every example.

Variants of logits and maps of the confidence (isotonic regression, votes of people) meet in the second program.
Shapes: S splits, N examples of each, with padding; V variants, R replicates. B examples are a piece.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration import bins as binning
from jaxreg.calibration import class_bins, floors, metrics, posthoc, selective, smooth_error, temperature, uncertainty
from jaxreg.calibration.bins import Bins
from jaxreg.calibration.ranking import Ranking, ascend, rank
from jaxreg.runtime import passes
from jaxreg.runtime.passes import Placed, Tree

VARIANTS = ("", "_ts", "_vector_scaling")  # of metric names: raw logits, after temperature, after vector scaling
VECTOR = VARIANTS.index("_vector_scaling")
VALIDATION = 0  # place of the split that everything is fitted on
COLUMNS = ("correct", "confidence", "nll", "brier")
CHUNK = 512  # examples of a piece at most


class SharedExamples(NamedTuple):
    """What all trials share, [S, N] each: labels int32, mask (1 or 0) float32, what draws are keyed by uint32."""

    labels: Array  # on the host NumPy arrays
    mask: Array
    key_ids: Array


class LogitResults(NamedTuple):
    """Results of one variant of the logits on one split; on the host stacked [T, S, V, ...]."""

    classes: Bins  # [K, M]
    classwise: Array  # [1 + R]: ECE of the classes, replicate 0 of the data themselves
    floor: Array  # [floors.LABELLED]: the same of a perfectly calibrated model
    columns: Array  # [4, N]: COLUMNS of each example, 0 where masked


class ColumnResults(NamedTuple):
    """Results of all variants on one split; on the host stacked [T, S, V, ...]. Sums: numbers are made on the host."""

    ranked: dict[str, Array]  # smece, aurc, auroc
    resampled: Array  # [V, 1 + R, 7 + 6 M], see `uncertainty.unpack`; replicate 0 holds the data themselves
    smece: Array  # [V, 1 + R]
    floor: Array  # [V, R, 2 M]: correct ones of a perfectly calibrated model, see `floors.binned`
    smece_floor: Array  # [V, L]: its smECE; L is `floors.WAVED` at most


def piece_size(count: int) -> int:
    """How many of `count` examples go through at a time: of as few pieces as can be, all of about one size."""
    return -(-count // -(-count // CHUNK))


def split_of(stacks: tuple[Array, Array], shared: SharedExamples, place: Array | int) -> tuple[Placed, SharedExamples]:
    """The split at `place` of one of the trials of `stacks`, which are logits [T, S * N, K] and the trial's number.

    Returns: its logits [N, K] where they lie, and what is shared of it, [N] each.
    """
    length = shared.labels.shape[1]
    return Placed(*stacks, place * length, length), SharedExamples(*(array[place] for array in shared))


def measure_scaled(
    shifted: Callable[[Array], Array],
    scales_V: Shaped[Array, " V"],
    split: tuple[Placed, SharedExamples],
    groups: int,
    bins: int,
    key: Array | None = None,
) -> tuple[Bins, Array, Array, Array]:
    """Measures V multiples, scale * shifted(z), of the logits of one split.

    Returns: the bins of every class [V, G, K, M], by group of examples; the sizes of the groups [G]; with a key labels
      drawn of a perfectly calibrated model [V, R, K, M], see `floors.draw_classes`; and COLUMNS [V, 4, N].
    """
    logits, shared = split
    variants, (count, classes) = len(scales_V), logits.shape

    def add_piece(sums: tuple[Bins, Array, Array], _: Array, *piece: Array) -> tuple[Tree, Array]:
        (by_class, counts_G, drawn_VRKM), (logits_BK, labels_B, mask_B, key_ids_B) = sums, piece
        z_BK = shifted(logits_BK)
        each, p_VBK = jax.vmap(lambda scale: metrics.of_shifted(z_BK, labels_B, scale))(scales_V)
        groups_B = uncertainty.groups(key_ids_B, groups)
        of_V = jnp.arange(variants, dtype=jnp.int32)[:, None] * groups + groups_B[None]
        labels_N, mask_N = jnp.tile(labels_B, variants), jnp.tile(mask_B, variants)
        by_class = class_bins.add(by_class, p_VBK.reshape(-1, classes), labels_N, mask_N, of_V.ravel())
        if key is not None:
            uniform_BR = uncertainty.uniforms(key, key_ids_B, floors.LABELLED)
            drawn_VRKM += jax.vmap(lambda p_BK: floors.draw_classes(uniform_BR, p_BK, mask_B, bins))(p_VBK)
        columns_V4B = jnp.stack([each.correct, each.confidence, each.nll, each.brier], 1) * mask_B[None, None]
        return (by_class, counts_G.at[groups_B].add(mask_B), drawn_VRKM), columns_V4B

    zero, drawn = passes.zero_of(logits), (variants, 0 if key is None else floors.LABELLED, classes, bins)
    begin = class_bins.empty(zero, classes, variants * groups, bins), jnp.zeros(groups) + zero, jnp.zeros(drawn) + zero
    found, columns_CV4B = passes.fold(add_piece, begin, logits, *shared, size=piece_size(count))
    by_variant = jax.tree.map(lambda a: a.reshape(variants, groups, *a.shape[1:]), found[0])
    return by_variant, *found[1:], jnp.moveaxis(columns_CV4B, 0, 2).reshape(variants, len(COLUMNS), -1)


def measure_logits(
    stacks: tuple[Array, Array], shared: tuple[SharedExamples, Array], *, bins: int, replicates: int
) -> Tree:
    """(temperature, `LogitResults` [S, V, ...]) of one trial: of logits [T, S * N, K], and which of them."""
    examples, seed = shared
    logits, own = split_of(stacks, examples, VALIDATION)
    size = piece_size(len(logits))
    found = temperature.fit(logits, own.labels, own.mask, size)
    vector = posthoc.fit_vector(logits, own.labels, own.mask, found.value, size)
    scales_V = jnp.stack([found.value * 0 + 1, 1 / found.value, found.value * 0 + 1])
    key = jax.random.key(seed)
    group_weights = uncertainty.group_weights(key, replicates)

    def one(place: tuple[Array, Array]) -> LogitResults:
        def shifted(logits_BK: Array) -> Array:
            by_vector = lambda: metrics.shifted(posthoc.scaled(vector, logits_BK))  # noqa: E731
            return jax.lax.cond(place[1] == VECTOR, by_vector, lambda: metrics.shifted(logits_BK))

        own = split_of(stacks, examples, place[0])
        scale_1 = scales_V[place[1]][None]
        by_class, counts_G, drawn, columns = measure_scaled(shifted, scale_1, own, uncertainty.GROUPS, bins, key)
        by_group = jax.tree.map(lambda a: a[0], by_class)
        classwise = uncertainty.classwise(group_weights, by_group.confidence - by_group.correct, counts_G)
        whole = class_bins.bins_of(by_group)
        floor = floors.classwise(drawn[0], whole, jnp.sum(own[1].mask))
        return LogitResults(whole, classwise, floor, columns[0])

    return found, over_places(one, len(examples.labels), len(VARIANTS))


def over_places(one: Callable[[tuple[Array, Array]], Tree], splits: int, variants: int) -> Tree:
    """Calls `one` with every (split, variant), one after another, and stacks the results [S, V, ...]."""
    places = jnp.indices((splits, variants)).reshape(2, -1)
    flat = jax.lax.map(one, (places[0], places[1]))
    return jax.tree.map(lambda a: a.reshape(splits, variants, *a.shape[1:]), flat)


def evaluate_logits(
    stacks: tuple[Array, Array], shared: SharedExamples, *, places: tuple[int, ...], bins: int
) -> dict[str, Array]:
    """Every metric [P] of one trial on the splits at `places`, before and after temperature scaling."""
    logits, fitted = split_of(stacks, shared, VALIDATION)
    found = temperature.fit(logits, fitted.labels, fitted.mask, piece_size(len(logits)))
    scales_2 = jnp.stack([found.value * 0 + 1, 1 / found.value])

    def one(place: Array) -> dict[str, Array]:
        own = split_of(stacks, shared, place)
        by_class, _, _, columns = measure_scaled(metrics.shifted, scales_2, own, 1, bins)
        return jax.lax.map(lambda both: numbers(both[0], both[1], own[1].mask, bins), (by_class, columns))

    both = jax.lax.map(one, jnp.array(places))
    named = {name + end: values[:, i] for name, values in both.items() for i, end in enumerate(VARIANTS[:2])}
    same = jnp.zeros(len(places))
    return named | {"temperature": same + found.value, "temperature_at_bracket": same + found.at_bracket}


def numbers(
    by_class: Bins, columns_4N: Shaped[Array, "4 N"], mask_N: Shaped[Array, " N"], bins: int
) -> dict[str, Array]:
    """Every metric of one variant on one split."""
    correct_N, confidence_N, *_ = columns_4N
    count, correct, confidence, nll, brier = map(jnp.sum, (mask_N, *columns_4N))
    top = confidence_N, correct_N, mask_N
    width, ascending_N = binning.bins_of(binning.equal_width(confidence_N, bins), *top), ascend(*top)
    mass, classes = binning.adaptive(ascending_N, bins), class_bins.bins_of(by_class)
    found = metrics.summary(metrics.Sums(count, correct, confidence, nll, brier, width, mass, classes))
    found["smece"] = smooth_error.smece(*top)
    return found | {name: of(*ascending_N) for name, of in (("aurc", selective.aurc), ("auroc", selective.auroc))}


def rank_columns(
    columns_4N: Shaped[Array, "4 N"], mask_N: Shaped[Array, " N"]
) -> tuple[dict[str, Array], Array, Array]:
    """What follows from the order of all examples of one variant on one split.

    Returns: smece, aurc, auroc; the bandwidth of smECE; [8, N]: COLUMNS, the two of `selective.influence`, and the two
      ends of the ranking.
    """
    correct_N, confidence_N, *_ = columns_4N
    top = confidence_N, correct_N, mask_N
    order = rank(confidence_N, mask_N)
    grid = smooth_error.on_grid(confidence_N, (confidence_N - correct_N) * mask_N)
    error, sigma = smooth_error.of_residuals(grid, jnp.sum(mask_N))
    found = {"smece": error, "aurc": selective.aurc(*top, order), "auroc": selective.auroc(*top, order)}
    influence_2N = selective.influence(correct_N, mask_N, order, found["aurc"], found["auroc"])
    places_2N = jnp.stack([order.low, order.high]).astype(jnp.float32)
    return found, sigma, jnp.concatenate([columns_4N, influence_2N, places_2N])


def measure_split(
    columns_V4N: Shaped[Array, "V 4 N"],
    mask_N: Shaped[Array, " N"],
    key_ids_N: Shaped[Array, " N"],
    key: Array,
    bins: int,
    replicates: int,
) -> ColumnResults:
    """The results of all variants on one split, which share their draws."""
    count = jnp.sum(mask_N)
    columns_V4N = columns_V4N * mask_N[None, None]  # maps of the confidence give padding a value too
    ranked, sigma_V, columns_V8N = jax.lax.map(lambda columns_4N: rank_columns(columns_4N, mask_N), columns_V4N)

    def doubt(_: Array, columns_BV8: Array, mask_B: Array, key_ids_B: Array) -> Tree:
        uniform_BR = uncertainty.uniforms(key, key_ids_B, replicates)
        weight_BR = jnp.concatenate([jnp.ones_like(uniform_BR[:, :1]), uncertainty.poisson_weights(uniform_BR)], -1)

        def one(columns_8B: Array) -> Tree:
            correct_B, confidence_B, low_B, high_B = columns_8B[0], columns_8B[1], columns_8B[6], columns_8B[7]
            width_BM = binning.equal_width(confidence_B, bins)
            mass_BM = binning.equal_mass(Ranking(low_B, high_B, low_B), count, bins)
            columns_B7 = jnp.concatenate([mask_B[None], columns_8B[:6]]).T
            residual_BR = weight_BR * ((confidence_B - correct_B) * mask_B)[:, None]
            drawn_BR = floors.draw(uniform_BR, confidence_B, mask_B)
            noise_BL = (confidence_B * mask_B)[:, None] - drawn_BR[:, : floors.WAVED]
            return (
                uncertainty.resample(weight_BR, columns_B7, width_BM, mass_BM),
                smooth_error.waves(jnp.concatenate([residual_BR, noise_BL], -1), confidence_B),
                floors.binned(drawn_BR, width_BM, mass_BM),
            )

        return jax.lax.map(one, jnp.moveaxis(columns_BV8, 0, -1))

    rows = jnp.moveaxis(columns_V8N, -1, 0), mask_N, key_ids_N
    resampled, wave_VRW, floor = passes.total(doubt, *rows, size=piece_size(len(mask_N)))
    wave_VRW, noise_VLW = jnp.split(wave_VRW, [1 + replicates], 1)
    values_VR = jax.vmap(smooth_error.replicates)(wave_VRW, resampled[..., 0], ranked["smece"], sigma_V)
    smece_floor_VL = jax.vmap(smooth_error.of_waves, (0, None))(noise_VLW, count)
    return ColumnResults(ranked, resampled, values_VR, floor, smece_floor_VL)


def measure_columns(
    columns_SV4N: Shaped[Array, "S V 4 N"], shared: tuple[SharedExamples, Array], *, bins: int, replicates: int
) -> ColumnResults:
    """`ColumnResults` [S, V, ...] of one trial, from the confidence and correctness of each example alone."""
    examples, seed = shared
    key = jax.random.key(seed)

    def one(split: tuple[Array, Array, Array]) -> ColumnResults:
        return measure_split(*split, key, bins, replicates)

    return jax.lax.map(one, (columns_SV4N, examples.mask, examples.key_ids))
