"""Accuracy as a smooth curve of confidence: a reliability diagram without bins, with its band over examples."""

import numpy as np
import scipy.sparse
from scipy.ndimage import gaussian_filter1d

REPLICATES = 200
GRID = 257  # points of the curves
BANDWIDTH = 0.04  # of the curves: below it single examples show, above it bends vanish
LEAST = 10.0  # predictions under the kernel, for a curve to be drawn


def smooth(confidence_SN: np.ndarray, correct_SN: np.ndarray, replicates: int = REPLICATES) -> tuple[np.ndarray, ...]:
    """Returns (confidence, accuracy, low, high) of the diagram without bins: 95 % over examples, by a bootstrap.

    Means under a Gaussian of width `BANDWIDTH` that is reflected at 0 and 1, where it weighs `LEAST` predictions. All
    seeds of an example are drawn together: they share its label. Without replicates, low and high are the accuracy.
    """
    examples = confidence_SN.shape[1]
    draws_NR = np.random.default_rng(0).poisson(1.0, (examples, replicates))
    weight_NR = np.concatenate([np.ones((examples, 1)), draws_NR], -1, dtype=np.float32, casting="same_kind")
    sums_2GR = np.zeros((2, GRID, 1 + replicates))
    for confidence_N, correct_N in zip(confidence_SN, correct_SN):  # the weights of all seeds at once would be too many
        share_GN = _shares(confidence_N)
        sums_2GR += share_GN @ weight_NR, (share_GN * correct_N[None]) @ weight_NR
    under_GR, hits_GR = map(_under_kernel, sums_2GR)
    accuracy_GR = hits_GR / np.maximum(under_GR, 1e-12)
    low, high = np.percentile(accuracy_GR[:, 1:] if replicates else accuracy_GR, [2.5, 97.5], axis=-1)
    seen = under_GR[:, 0] >= min(LEAST, under_GR[:, 0].max())
    return tuple(values[seen] for values in (np.linspace(0, 1, GRID), accuracy_GR[:, 0], low, high))


def broken(grid: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """The same with a NaN in every gap of the grid: no line is drawn where too few predictions were seen."""
    gaps = np.flatnonzero(np.diff(grid) > 1.5 / (GRID - 1)) + 1
    return [np.insert(one, gaps, np.nan) for one in (grid, *values)]


def _shares(confidence_N: np.ndarray) -> scipy.sparse.csr_array:
    """Each confidence shared out between the two points [G] of a grid on [0, 1] around it."""
    place_N = confidence_N.astype(np.float64) * (GRID - 1)
    left_N = np.minimum(place_N.astype(int), GRID - 2)
    right_N, each = place_N - left_N, np.arange(len(place_N))
    places = np.concatenate([left_N, left_N + 1]), np.tile(each, 2)
    return scipy.sparse.csr_array((np.concatenate([1 - right_N, right_N]), places), (GRID, len(place_N)))


def _under_kernel(weight_GR: np.ndarray) -> np.ndarray:
    """How much weight a Gaussian around each point averages: its mean times its width, 2 sqrt(pi) bandwidths."""
    ends = np.r_[2.0, np.ones(GRID - 2), 2.0][:, None]  # a mirror shows what is on its edge once
    width = BANDWIDTH * (GRID - 1)
    return gaussian_filter1d(weight_GR * ends, width, axis=0, mode="mirror") * 2 * np.sqrt(np.pi) * width
