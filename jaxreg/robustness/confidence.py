"""Calibration where inputs were attacked or corrupted: is a network that is wrong still sure?"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.calibration import metrics
from jaxreg.probe import Row

METRICS = ("ece", "nll", "confidence", "confidence_gap")


@jax.jit
def _measure(logits_MNK: Array, labels_N: Array) -> Array:
    def one(logits_NK: Array) -> list[Array]:
        found = metrics.summary(metrics.sums_of(logits_NK, labels_N))
        return [found[name] for name in METRICS]

    return jnp.stack(jax.lax.map(one, logits_MNK), axis=1)


def rows(
    logits_TVNK: np.ndarray, labels_N: np.ndarray, prefix: str, names: Sequence[str], split: str
) -> list[list[Row]]:
    """PREFIX_METRIC/NAME of each trial, for each of V kinds of input, of the raw logits.

    ECE in 15 bins, NLL in nats, mean max p, and its gap to the accuracy (above 0: over-confident).
    """
    trials, kinds, count, classes = logits_TVNK.shape
    flat = np.asarray(logits_TVNK, np.float32).reshape(trials * kinds, count, classes)
    values_TVF = np.asarray(_measure(flat, np.asarray(labels_N, np.int32))).reshape(trials, kinds, len(METRICS))
    return [
        [
            Row(split, f"{prefix}_{metric}/{name}", float(values_VF[v, f]), count)
            for v, name in enumerate(names)
            for f, metric in enumerate(METRICS)
        ]
        for values_VF in values_TVF
    ]
