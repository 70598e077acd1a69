"""Noise of the same size as a perturbation: what an image that was moved by chance does to its feature."""

import functools

import jax
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg import rng
from jaxreg.robustness.balls import Norm, random_point, uniform


@functools.partial(jax.jit, static_argnames=("norm",))
def _directions(seed: Array, key_ids_N: Array, images_NHWC: Array, norm: Norm) -> Array:
    """Random signs (linf) or uniform directions (l2), a function of the seed and each example's id."""
    keys_N = rng.example_keys(rng.key_of(seed, rng.Stream.INPUT_NOISE), key_ids_N)
    if norm == "linf":
        return jax.numpy.where(uniform(keys_N, images_NHWC) < 0, -1.0, 1.0)
    return random_point(keys_N, images_NHWC, True, norm)


def with_noise(
    images_NHWC: Shaped[np.ndarray, "N H W C"],
    size_N: Shaped[np.ndarray, " N"],
    key_ids_N: Shaped[np.ndarray, " N"],
    seed: int,
    norm: Norm,
) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] with random noise whose Euclidean norm is `size_N` after the cut to [0, 1].

    x + clip(s u, -x, 1 - x), u a direction and s such that the norm of what is added is as asked for. Under linf u has
    random signs, as large everywhere as a perturbation at the edge of its ball; under l2 it is uniform.
    Returns: the images, float32, and whether the cut left room enough, bool [N]: the others have all that there is.
    """
    seed_, ids_N = np.uint32(seed), np.asarray(key_ids_N, np.uint32)
    u_NHWC = np.asarray(_directions(seed_, ids_N, np.asarray(images_NHWC, np.float32), norm), np.float64)
    room_NHWC = np.where(u_NHWC > 0, 1.0 - images_NHWC, images_NHWC)
    count = len(images_NHWC)
    length_NP, room_NP = (np.abs(a).reshape(count, -1) for a in (u_NHWC, room_NHWC))
    scale_N, enough_N = _scales(length_NP, room_NP, np.asarray(size_N, np.float64))
    with np.errstate(invalid="ignore"):  # endless times 0
        added_NP = np.fmin(scale_N[:, None] * length_NP, room_NP)
    moved_NHWC = images_NHWC + np.sign(u_NHWC) * added_NP.reshape(u_NHWC.shape)
    return np.clip(moved_NHWC, 0, 1).astype(np.float32), enough_N


def _scales(length_NP: np.ndarray, room_NP: np.ndarray, size_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The s with |min(s length, room)| = size of each row, inf where none is, and where there is one.

    Entries are full one after another, in the order of room / length: between two of them the norm's square is that of
    the full ones plus s^2 times that of the lengths of the others.
    """
    full_NP = room_NP / np.maximum(length_NP, 1e-30)
    order_NP = np.argsort(full_NP, 1)
    full_NP, length_NP, room_NP = (np.take_along_axis(a, order_NP, 1) for a in (full_NP, length_NP, room_NP))
    begin = [(0, 0), (1, 0)]
    held_NP = np.pad(np.cumsum(room_NP**2, 1), begin)
    left_NP = np.pad(np.cumsum(length_NP[:, ::-1] ** 2, 1), begin)[:, ::-1]
    square_N = size_N**2
    reached_NP = held_NP[:, :-1] + full_NP**2 * left_NP[:, :-1]  # when the entry is full, and all before it
    place_N1 = np.sum(reached_NP < square_N[:, None], 1, keepdims=True)
    enough_N = place_N1[:, 0] < length_NP.shape[1]
    held_N, left_N = (np.take_along_axis(a, place_N1, 1)[:, 0] for a in (held_NP, left_NP))
    scale_N = np.sqrt(np.maximum(square_N - held_N, 0) / np.where(enough_N & (left_N > 0), left_N, 1))
    return np.where(enough_N, scale_N, np.inf), enough_N
