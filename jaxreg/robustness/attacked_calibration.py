"""Calibration where inputs were attacked or corrupted: is a network that is wrong still sure?"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg import rng
from jaxreg.calibration import bins, floors, metrics, uncertainty
from jaxreg.measured import Row
from jaxreg.names import named
from jaxreg.runtime.compiling import cheaply

METRICS = ("ece", "nll", "confidence", "confidence_gap")
DRAWS = 200  # of the noise floor, and bootstrap replicates


@cheaply
def _measure(logits_MNK: Array, labels_N: Array, key_ids_N: Array, seed: Array) -> tuple[Array, Array]:
    """METRICS [M, F, 1 + R] of the examples and of R bootstrap replicates, and the ECE [M, R] that perfectly calibrated
    networks show; all M use the same draws.
    """
    uniform_NR = uncertainty.uniforms(rng.key(seed), key_ids_N, DRAWS)
    weight_NR = jnp.concatenate([jnp.ones_like(uniform_NR[:, :1]), uncertainty.poisson_weights(uniform_NR)], 1)

    def sums(weight_NR: Array, values_NX: Array) -> Array:
        return jnp.matmul(weight_NR.T, values_NX, precision=bins.EXACT)

    def one(logits_NK: Array) -> tuple[Array, Array]:
        each, all_N = metrics.examples(logits_NK, labels_N), jnp.ones(len(labels_N))
        member_NM, gap_N = bins.equal_width(each.confidence), each.confidence - each.correct
        error_R = jnp.abs(sums(weight_NR, gap_N[:, None] * member_NM)).sum(-1)
        means_R4 = sums(weight_NR, jnp.stack([each.nll, each.confidence, gap_N, all_N], 1))
        drawn_NR = floors.draw(uniform_NR, each.confidence, all_N) - each.confidence[:, None]
        floor_R = jnp.abs(sums(drawn_NR, member_NM)).sum(-1) / len(labels_N)
        return jnp.stack([error_R, *means_R4.T[:3]]) / means_R4[None, :, 3], floor_R

    return jax.lax.map(one, logits_MNK)


def rows(
    logits_TVNK: Shaped[np.ndarray, "T V N K"],
    labels_N: Shaped[np.ndarray, " N"],
    key_ids_N: Shaped[np.ndarray, " N"],
    prefix: str,
    names: Sequence[str],
    split: str,
    seed: int = 0,
) -> list[list[Row]]:
    """PREFIX_METRIC/NAME of each trial, for each of V kinds of input, of the raw logits, with 95 % intervals.

    ECE in 15 bins, NLL in nats, mean max p, and its gap to the accuracy (above 0: over-confident); `ece_floor` is the
    ECE of a perfectly calibrated network with these confidences, mean and 95 % range, as in `calibration.floors`.
    """
    trials, kinds, count, classes = logits_TVNK.shape
    flat = np.asarray(logits_TVNK, np.float32).reshape(trials * kinds, count, classes)
    shared = np.asarray(labels_N, np.int32), np.asarray(key_ids_N, np.uint32), np.uint32(seed)
    values_MFR, drawn_MR = map(np.asarray, _measure(flat, *shared))

    def of(place: int, name: str) -> list[Row]:
        metric_rows = []
        for metric, values_R in zip(METRICS, values_MFR[place].astype(np.float64)):
            ends = map(float, uncertainty.interval(values_R, *uncertainty.LIMITS.get(metric, (0.0, 1.0))))
            metric_rows.append(Row(split, named(f"{prefix}_{metric}", name), float(values_R[0]), count, *ends))
        mean, ends_2 = floors.summary(drawn_MR[place])
        return [*metric_rows, Row(split, named(f"{prefix}_ece_floor", name), mean, count, *ends_2)]

    return [[row for v, name in enumerate(names) for row in of(t * kinds + v, name)] for t in range(trials)]
