"""Calibration where inputs were attacked or corrupted: is a network that is wrong still sure?"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.calibration import bins, floors, metrics, uncertainty
from jaxreg.probe import Row

METRICS = ("ece", "nll", "confidence", "confidence_gap")
DRAWS = 200  # of the noise floor


@jax.jit
def _measure(logits_MNK: Array, labels_N: Array, key_ids_N: Array, seed: Array) -> tuple[Array, Array]:
    """METRICS [M, F], and the ECE [M, R] that perfectly calibrated networks show; all M use the same draws."""
    uniform_NR = uncertainty.uniforms(jax.random.key(seed), key_ids_N, DRAWS)

    def one(logits_NK: Array) -> tuple[Array, Array]:
        sums = metrics.sums_of(logits_NK, labels_N)
        confidence_N = metrics.examples(logits_NK, labels_N).confidence
        drawn_NR = floors.draw(uniform_NR, confidence_N, jnp.ones_like(confidence_N))
        drawn_RM = jnp.matmul(drawn_NR.T, bins.equal_width(confidence_N), precision=bins.EXACT)
        found = metrics.summary(sums)
        drawn_R = bins.ece(bins.Bins(sums.bins.count, sums.bins.confidence, drawn_RM))
        return jnp.stack([found[name] for name in METRICS]), drawn_R

    return jax.lax.map(one, logits_MNK)


def rows(
    logits_TVNK: np.ndarray,
    labels_N: np.ndarray,
    key_ids_N: np.ndarray,
    prefix: str,
    names: Sequence[str],
    split: str,
    seed: int = 0,
) -> list[list[Row]]:
    """PREFIX_METRIC/NAME of each trial, for each of V kinds of input, of the raw logits.

    ECE in 15 bins, NLL in nats, mean max p, and its gap to the accuracy (above 0: over-confident); `ece_floor` is the
    ECE of a perfectly calibrated network with these confidences, mean and 95 % range, as in `calibration.floors`.
    """
    trials, kinds, count, classes = logits_TVNK.shape
    flat = np.asarray(logits_TVNK, np.float32).reshape(trials * kinds, count, classes)
    shared = np.asarray(labels_N, np.int32), np.asarray(key_ids_N, np.uint32), np.uint32(seed)
    values_MF, drawn_MR = map(np.asarray, _measure(flat, *shared))

    def of(place: int, name: str) -> list[Row]:
        found = [
            Row(split, f"{prefix}_{metric}/{name}", float(value), count)
            for metric, value in zip(METRICS, values_MF[place])
        ]
        mean, ends = floors.summary(drawn_MR[place])
        return [*found, Row(split, f"{prefix}_ece_floor/{name}", mean, count, *ends)]

    return [[row for v, name in enumerate(names) for row in of(t * kinds + v, name)] for t in range(trials)]
