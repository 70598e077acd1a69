"""Blurs, zooms and warps of one image [H, W, C]: what corruptions are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jax import Array
from jaxtyping import Shaped


def disk(radius: float, alias: float) -> np.ndarray:
    """A disk of a radius in pixels, sum 1, smoothed by a 3 x 3 Gaussian of width `alias`."""
    line = np.arange(-8, 9)
    shape = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float64)
    weights = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    smooth = scipy.ndimage.correlate(
        shape / shape.sum(), np.outer(weights, weights) / weights.sum() ** 2, mode="mirror"
    )
    return smooth[4:-4, 4:-4]  # beyond 4 pixels there is nothing up to radius 2.9


def filtered(x_HWC: Shaped[Array, "H W C"], kernel: np.ndarray) -> Array:
    """Correlation with a kernel of odd sides, channel by channel; borders mirrored without repeating the edge.

    Raises: ValueError: if the image is smaller than the kernel reaches.
    """
    reach = kernel.shape[0] // 2
    if min(x_HWC.shape[:2]) <= reach:
        raise ValueError(f"a blur of reach {reach} needs images above {reach} pixels, got {x_HWC.shape[:2]}.")
    padded = jnp.pad(x_HWC, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    h, w, _ = x_HWC.shape
    offsets = [(i, j) for i in range(2 * reach + 1) for j in range(2 * reach + 1) if kernel[i, j]]
    return sum((float(kernel[i, j]) * padded[i : i + h, j : j + w] for i, j in offsets), jnp.zeros_like(x_HWC))


@functools.cache
def zooms(side: int, largest: float) -> np.ndarray:
    """Zooms about the middle by 1, 1.01, ... to `largest`: crop, enlarge linearly, trim: matrices [F, side, side]."""
    matrices = []
    for factor in np.arange(1, largest, 0.01):
        kept = int(np.ceil(side / factor))
        first = (side - kept) // 2
        grown = scipy.ndimage.zoom(np.eye(kept), (factor, 1), order=1)
        trim = (len(grown) - side) // 2
        whole = np.zeros((side, side))
        whole[:, first : first + kept] = grown[trim : trim + side]
        matrices.append(whole)
    return np.array(matrices, np.float32)


@functools.cache
def boxes(side: int, small: int) -> np.ndarray:
    """Shrinking to `small` pixels and back by box filters: a matrix [side, side]; pixels count by their middles."""

    def resize(source: int, target: int) -> np.ndarray:
        scale = source / target
        width = max(scale, 1.0)
        middles, pixels = (np.arange(target) + 0.5) * scale, np.arange(source) + 0.5
        distance = (pixels - middles[:, None]) / width
        weights = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
        return weights / weights.sum(1, keepdims=True)

    return (resize(small, side) @ resize(side, small)).astype(np.float32)


def plasma(key: Array, side: int, decay: float) -> Array:
    """A fractal landscape in [0, 1] by the diamond-square algorithm on a torus; `side` a power of two: [side, side]."""
    draws = jax.random.uniform(key, (side.bit_length(), 3, side, side), jnp.float32, -1, 1)
    land, step, wobble, turn = jnp.zeros((side, side), jnp.float32), side, jnp.float32(100), 0
    while step >= 2:
        half, cells = step // 2, side // step
        rough = wobble**2 * draws[turn, :, :cells, :cells]
        corner = land[::step, ::step]
        across = corner + jnp.roll(corner, -1, 0)
        middle = (across + jnp.roll(across, -1, 1)) / 4 + rough[0]
        top = (middle + jnp.roll(middle, 1, 0) + corner + jnp.roll(corner, -1, 1)) / 4 + rough[1]
        left = (middle + jnp.roll(middle, 1, 1) + corner + jnp.roll(corner, -1, 0)) / 4 + rough[2]
        land = land.at[half::step, half::step].set(middle)
        land = land.at[::step, half::step].set(top).at[half::step, ::step].set(left)
        step, wobble, turn = half, wobble / decay, turn + 1
    land = land - land.min()
    return land / jnp.maximum(land.max(), 1e-12)


def sampled(
    x_HWC: Shaped[Array, "H W C"], rows_HW: Shaped[Array, "H W"], columns_HW: Shaped[Array, "H W"], mode: str
) -> Array:
    """The image at fractional places, linearly interpolated; `mode` of the borders as in `jax.scipy.ndimage`."""
    at = lambda x_HW: jax.scipy.ndimage.map_coordinates(x_HW, [rows_HW, columns_HW], order=1, mode=mode)  # noqa: E731
    return jax.vmap(at, in_axes=2, out_axes=2)(x_HWC)


def affine(key: Array, x_HWC: Shaped[Array, "H W C"], reach: float) -> Array:
    """Moves three points about the middle by up to `reach` pixels, and the plane with them; borders mirrored."""
    h, w, _ = x_HWC.shape
    middle, arm = jnp.array([h // 2, w // 2], jnp.float32), min(h, w) // 3
    offsets = jnp.array([[arm, arm], [arm, -arm], [-arm, -arm]], jnp.float32)
    before = middle[None] + offsets  # (column, row), as drawn by the original
    after = before + jax.random.uniform(key, (3, 2), jnp.float32, -reach, reach)
    ones = jnp.ones((3, 1), jnp.float32)
    back = jnp.linalg.solve(jnp.concatenate([after, ones], 1), before)  # [after, 1] @ back = before
    rows, columns = jnp.meshgrid(jnp.arange(h, dtype=jnp.float32), jnp.arange(w, dtype=jnp.float32), indexing="ij")
    source_columns, source_rows = (columns * back[0, i] + rows * back[1, i] + back[2, i] for i in (0, 1))
    return sampled(x_HWC, source_rows, source_columns, "mirror")


@functools.cache
def smoothing(side: int, sd: float) -> np.ndarray:
    """A Gaussian of standard deviation `sd` pixels, cut at three of them, borders reflected: a matrix [side, side]."""
    if sd == 0:
        return np.eye(side, dtype=np.float32)
    return scipy.ndimage.gaussian_filter1d(np.eye(side), sd, axis=0, mode="reflect", truncate=3).astype(np.float32)


def displaced(key: Array, x_HWC: Shaped[Array, "H W C"], strength: float, sd: float) -> Array:
    """Moves every pixel by smoothed uniform noise times `strength` pixels; borders reflected."""
    h, w, _ = x_HWC.shape
    down, across = smoothing(h, sd), smoothing(w, sd)
    draw = jax.random.uniform(key, (2, h, w), jnp.float32, -1, 1)
    move = strength * jnp.einsum("ij,djk,lk->dil", down, draw, across, precision="highest")
    rows, columns = jnp.meshgrid(jnp.arange(h, dtype=jnp.float32), jnp.arange(w, dtype=jnp.float32), indexing="ij")
    return sampled(x_HWC, rows + move[0], columns + move[1], "reflect")
