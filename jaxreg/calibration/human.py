"""Soft human labels: how confidence agrees with the votes of people."""

import io
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from etils import epath
from jaxtyping import Shaped
from scipy.special import log_softmax

from jaxreg.calibration import bins as binning
from jaxreg.calibration import uncertainty
from jaxreg.calibration.bins import ERRORS, Bins
from jaxreg.data.dataset import key_ids

CHUNK = 1000  # examples whose votes are drawn at a time
Votes = Mapping[Any, np.ndarray]  # [K] by id: counts, or distributions, which count as one vote


class Asked(NamedTuple):
    """Of the examples of a split: how many people named a class [N], and draws [N, R] in [0, 1) for the floor."""

    counts: np.ndarray
    uniform: np.ndarray


def load(path: str | os.PathLike[str]) -> dict[Any, np.ndarray]:
    """Reads a `.npz` of `id` [N] and `counts` [N, K] (votes of people): a table id -> counts, float64 [K].

    `path` may be anywhere that `epath` reads. Raises: ValueError: on no `.npz`, missing arrays, other shapes, doubled
    ids, or counts that are no votes.
    """
    try:
        file = np.load(io.BytesIO(epath.Path(path).read_bytes()))
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npz ({error}): human labels need the arrays 'id' and 'counts'.") from None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} is no .npz but one array: human labels need the arrays 'id' and 'counts'.")
    with file:
        if not {"id", "counts"} <= set(file.files):
            raise ValueError(f"{path} holds {sorted(file.files)}: human labels need the arrays 'id' and 'counts'.")
        try:
            ids, counts = file["id"], file["counts"].astype(np.float64)
        except ValueError as error:
            raise ValueError(f"{path}: 'id' and 'counts' must be arrays of numbers or texts ({error}).") from None
    if counts.ndim != 2 or ids.shape != counts.shape[:1]:
        raise ValueError(f"{path} holds id {ids.shape} and counts {counts.shape}: expected [N] and [N, K].")
    if len(ids) == 0:
        raise ValueError(f"{path} holds no example: human labels need at least one.")
    if len(np.unique(ids)) != len(ids):
        raise ValueError(
            f"{path} holds {len(ids)} ids but only {len(np.unique(ids))} different ones: remove the copies."
        )
    _check_counts(f"{path}, ", ids, counts)
    return dict(zip(ids.tolist(), counts))


def _check_counts(place: str, ids_N: np.ndarray, counts_NK: np.ndarray) -> None:
    wrong = np.flatnonzero(~(np.isfinite(counts_NK).all(1) & (counts_NK >= 0).all(1) & (counts_NK.sum(1) > 0)))
    if len(wrong):
        got = counts_NK[wrong[0]]
        raise ValueError(f"{place}id {ids_N[wrong[0]]}: counts must be finite, >= 0 and not all 0, got {got}.")


def check_ids(table: Votes, ids: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless people saw all examples of one split at least (`ids` [N] by name), and no mere part."""
    seen = {name: sum(one in table for one in np.asarray(own).tolist()) for name, own in ids.items()}
    for name, count in seen.items():
        if 0 < count < len(ids[name]):
            first = next(one for one in np.asarray(ids[name]).tolist() if one not in table)
            raise ValueError(
                f"human labels know {count} of {len(ids[name])} examples of {name}, not {first!r}: give all or none."
            )
    if not any(seen.values()):
        known, own = next(iter(table)), np.asarray(list(ids.values())[-1]).tolist()[0]
        raise ValueError(
            f"human labels match no example of {' or '.join(ids)}: their ids are like {known!r}, those of the dataset "
            f"like {own!r}: write the dataset's ids into the file."
        )


def aligned(table: Votes, ids_N: Shaped[np.ndarray, " N"], classes: int) -> np.ndarray:
    """Returns the votes [N, K] of `ids_N`, in their order.

    Raises: ValueError: naming the first id without human labels, or with what are none; or another number of classes.
    """
    missing = [one for one in ids_N.tolist() if one not in table]
    if missing:
        raise ValueError(
            f"example {missing[0]} has no human labels ({len(missing)} of {len(ids_N)}): give all or none."
        )
    found = np.stack([np.asarray(table[one], np.float64) for one in ids_N.tolist()])
    _check_counts("human labels, ", ids_N, found)
    if found.shape[1] != classes:
        raise ValueError(f"human labels have {found.shape[1]} classes, the logits {classes}: use the same classes.")
    return found


def agreement(logits_NK: Shaped[np.ndarray, "N K"], human_NK: Shaped[np.ndarray, "N K"]) -> dict[str, np.ndarray]:
    """Returns per-example [N]: cross_entropy against people (nats), kl, confidence of the top label, and its vote.

    cross_entropy = -sum_k h_k log p_k; kl is that minus the entropy of h, >= 0; vote is h at the predicted class, the
    soft counterpart of being correct: binned against confidence it gives the ECE against people.

    References: Peterson et al., 2019, https://arxiv.org/abs/1908.07086.
    """
    log_p_NK = log_softmax(np.asarray(logits_NK, np.float64), axis=-1)
    cross_N = -np.sum(human_NK * log_p_NK, -1)
    entropy_N = -np.sum(human_NK * np.log(np.where(human_NK > 0, human_NK, 1.0)), -1)
    vote_N = np.take_along_axis(human_NK, np.argmax(logits_NK, -1)[:, None], -1)[:, 0]
    confidence_N = np.exp(log_p_NK.max(-1))
    return {"cross_entropy": cross_N, "kl": cross_N - entropy_N, "confidence": confidence_N, "vote": vote_N}


def has_votes(table: Votes, ids_N: Shaped[np.ndarray, " N"]) -> bool:
    """Whether people saw any of these examples: then they must have seen all."""
    return any(one in table for one in ids_N.tolist())


def asked(table: Votes, ids: Mapping[str, np.ndarray], replicates: int, seed: int) -> dict[str, Asked]:
    """What the noise floor needs of every split that people saw. Raises ValueError: as `check_ids`."""
    check_ids(table, ids)
    return {name: _asked(table, own, replicates, seed) for name, own in ids.items() if has_votes(table, own)}


def _asked(table: Votes, ids_N: np.ndarray, replicates: int, seed: int) -> Asked:
    """An example has as many votes as its counts sum to, one at least."""
    counts_N = np.maximum(np.round([np.sum(table[one]) for one in ids_N.tolist()]), 1).astype(int)
    draws = uncertainty.uniforms(jax.random.key(seed), jnp.asarray(key_ids(ids_N)), replicates)
    return Asked(counts_N, np.asarray(draws))


def noise(confidence_N: Shaped[np.ndarray, " N"], given: Asked, bins: int) -> dict[str, np.ndarray]:
    """Returns the errors [R], by name, where each person names the predicted class with probability its confidence."""
    order = np.argsort(binning.place_on_host(confidence_N, bins), kind="stable")
    confidence_N, given = confidence_N[order].astype(np.float64), Asked(*(array[order] for array in given))
    share_NR = np.concatenate(
        [
            _shares(confidence_N[at : at + CHUNK], *(array[at : at + CHUNK] for array in given))
            for at in range(0, len(order), CHUNK)
        ]
    )
    _, first, count_M = np.unique(binning.place_on_host(confidence_N, bins), return_index=True, return_counts=True)
    sums_M = np.add.reduceat(confidence_N, first)
    drawn = Bins(count_M, sums_M, np.add.reduceat(share_NR, first).T)
    return {name: of for name, of in binning.errors(drawn).items() if ERRORS[name].votes}


def _shares(confidence_N: np.ndarray, counts_N: np.ndarray, uniform_NR: np.ndarray) -> np.ndarray:
    """Binomial(counts, confidence) / counts by inversion: the number of votes whose chance to be exceeded is passed."""
    votes = np.arange(counts_N.max())
    until_NV = np.asarray(scipy.stats.binom.cdf(votes, counts_N[:, None], confidence_N[:, None]))
    drawn_NR = [np.searchsorted(until_V, own_R, side="right") for until_V, own_R in zip(until_NV, uniform_NR)]
    return np.minimum(drawn_NR, counts_N[:, None]) / counts_N[:, None]
