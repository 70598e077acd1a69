"""What is computed from every example's confidence and correctness alone, however they came about.

Variants of logits and maps of the confidence (isotonic regression, votes of people) go through one device program.
Shapes as in `trial.py`; the columns are those of `trial.COLUMNS`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration import floors, selective, smooth_error, uncertainty
from jaxreg.calibration.chunks import Tree, total
from jaxreg.calibration.ranking import Ranking, rank
from jaxreg.calibration.trial import Examples


class Numbers(NamedTuple):
    """Results of all variants on one split; on the host stacked [T, S, V, ...]. Sums: numbers are made on the host."""

    ranked: dict[str, Any]  # smece, aurc, auroc
    resampled: Any  # [V, 1 + R, 7 + 6 M], see `uncertainty.unpack`; replicate 0 holds the data themselves
    smece: Any  # [V, 1 + R]
    floor: Any  # [V, R, 2 M]: correct ones of a perfectly calibrated model, see `floors.binned`
    smece_floor: Any  # [V, L]: its smECE; L is `floors.WAVED` at most


class Ranked(NamedTuple):
    """What is known of one variant once all its examples are ranked."""

    numbers: dict[str, Array]
    sigma: Array  # bandwidth of smECE
    columns: Array  # [C, 8, B]: those of `trial.COLUMNS`, two of `selective.influence`, the two ends of the ranking


def rank_columns(columns_4CB: Array, mask_CB: Array) -> Ranked:
    """Returns what the order of all examples tells of one variant on one split."""
    correct_N, confidence_N = columns_4CB[0].ravel(), columns_4CB[1].ravel()
    top = confidence_N, correct_N, mask_CB.ravel()
    order = rank(confidence_N, top[2])
    grid = smooth_error.on_grid(confidence_N, (confidence_N - correct_N) * top[2])
    error, sigma = smooth_error.of_residuals(grid, jnp.sum(mask_CB))
    numbers = {"smece": error, "aurc": selective.aurc(*top, order), "auroc": selective.auroc(*top, order)}
    influence_2N = selective.influence(*top[1:], order, numbers["aurc"], numbers["auroc"])
    places_2N = jnp.stack([order.low, order.high]).astype(jnp.float32)
    parts = columns_4CB, *(a.reshape(2, *mask_CB.shape) for a in (influence_2N, places_2N))
    return Ranked(numbers, sigma, jnp.concatenate(parts).swapaxes(0, 1))


def measure_columns(
    columns_V4CB: Array, mask_CB: Array, key_ids_CB: Array, key: Array, bins: int, replicates: int
) -> Numbers:
    """Returns the numbers of all variants on one split, which share their draws."""
    count = jnp.sum(mask_CB)
    columns_V4CB = columns_V4CB * mask_CB  # maps of the confidence give padding a value too
    ranked, sigma_V, columns_VC8B = jax.lax.map(lambda columns: rank_columns(columns, mask_CB), columns_V4CB)

    def doubt(columns_V8B: Array, mask_B: Array, key_ids_B: Array) -> tuple[Tree, None]:
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

        return jax.lax.map(one, columns_V8B), None

    (resampled, wave_VRW, floor), _ = total(doubt, columns_VC8B.swapaxes(0, 1), mask_CB, key_ids_CB)
    wave_VRW, noise_VLW = jnp.split(wave_VRW, [1 + replicates], 1)
    values_VR = jax.vmap(smooth_error.replicates)(wave_VRW, resampled[..., 0], ranked["smece"], sigma_V)
    smece_floor_VL = jax.vmap(smooth_error.of_waves, (0, None))(noise_VLW, count)
    return Numbers(ranked, resampled, values_VR, floor, smece_floor_VL)


def measure_trial(columns_SV4CB: Array, shared: tuple[Examples, Array], *, bins: int, replicates: int) -> Numbers:
    """Returns the `Numbers` [S, V, ...] of one trial."""
    examples, seed = shared
    key = jax.random.key(seed)

    def one(split: tuple[Array, Array, Array]) -> Numbers:
        return measure_columns(*split, key, bins, replicates)

    return jax.lax.map(one, (columns_SV4CB, examples.mask, examples.key_ids))
