"""What is computed from every example's confidence and correctness alone, however they came about.

Variants of logits and maps of the confidence (isotonic regression, votes of people) go through one device program.
Shapes as in `trial.py`; the columns are those of `trial.COLUMNS`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration import selective, smece, uncertainty
from jaxreg.calibration.ranking import Ranking, rank
from jaxreg.calibration.trial import Examples, Tree, over_places, total


class Numbers(NamedTuple):
    """Results of one variant on one split; on the host stacked [T, S, V, ...]. Sums: numbers are made on the host."""

    ranked: dict[str, Any]  # smece, aurc, auroc
    resampled: Any  # [1 + R, 7 + 6 M], see `uncertainty.unpack`; replicate 0 holds the data themselves
    smece: Any  # [1 + R]
    floor: Any  # [R, M]: correct ones of a perfectly calibrated model


def measure_columns(
    columns_4CB: Array, mask_CB: Array, key_ids_CB: Array, key: Array, bins: int, replicates: int
) -> Numbers:
    """Returns the numbers of one variant on one split."""
    correct_N, confidence_N = columns_4CB[0].ravel(), columns_4CB[1].ravel()
    top = confidence_N, correct_N, mask_CB.ravel()
    order, count = rank(confidence_N, top[2]), jnp.sum(mask_CB)
    error, sigma = smece.of_residuals(smece.on_grid(confidence_N, (confidence_N - correct_N) * top[2]), count)
    ranked = {"smece": error, "aurc": selective.aurc(*top, order), "auroc": selective.auroc(*top, order)}
    influence_2N = selective.influence(*top[1:], order, ranked["aurc"], ranked["auroc"])

    def doubt(columns_8B: Array, mask_B: Array, key_ids_B: Array) -> tuple[Tree, None]:
        correct_B, confidence_B, low_B, high_B = columns_8B[0], columns_8B[1], columns_8B[6], columns_8B[7]
        uniform_BR = uncertainty.uniforms(key, key_ids_B, replicates)
        weight_BR = jnp.concatenate([jnp.ones_like(uniform_BR[:, :1]), uncertainty.poisson_weights(uniform_BR)], -1)
        width_BM = binning.equal_width(confidence_B, bins)
        mass_BM = binning.equal_mass(Ranking(low_B, high_B, low_B), count, bins)
        columns_B7 = jnp.concatenate([mask_B[None], columns_8B[:6]]).T
        residual_B = (confidence_B - correct_B) * mask_B
        return (
            uncertainty.resample(weight_BR, columns_B7, width_BM, mass_BM),
            smece.waves(weight_BR, confidence_B, residual_B),
            uncertainty.draw_floor(uniform_BR, confidence_B, mask_B, width_BM),
        ), None

    places_2N = jnp.stack([order.low, order.high]).astype(jnp.float32)
    columns_C8B = jnp.concatenate([columns_4CB, *(a.reshape(2, *mask_CB.shape) for a in (influence_2N, places_2N))])
    (resampled, wave_RW, floor), _ = total(doubt, columns_C8B.swapaxes(0, 1), mask_CB, key_ids_CB)
    return Numbers(ranked, resampled, smece.replicates(wave_RW, resampled[:, 0], sigma), floor)


def measure_trial(columns_SV4CB: Array, shared: tuple[Examples, Array], *, bins: int, replicates: int) -> Numbers:
    """Returns the `Numbers` [S, V, ...] of one trial."""
    examples, seed = shared
    key = jax.random.key(seed)

    def one(place: tuple[Array, Array]) -> Numbers:
        mask_CB, key_ids_CB = examples.mask[place[0]], examples.key_ids[place[0]]
        return measure_columns(columns_SV4CB[place[0], place[1]], mask_CB, key_ids_CB, key, bins, replicates)

    return over_places(one, *columns_SV4CB.shape[:2])
