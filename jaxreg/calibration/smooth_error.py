"""Smooth calibration error: no bins, one bandwidth chosen by the data, from residuals on a grid that add."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

GRID = 1025  # points on [0, 1]; the smallest bandwidth spans one interval of it
SMALLEST = 1e-3
HALVINGS = 14
WAVES, POINTS = 256, 257  # of replicates: cosines, and places where they are added up
USUAL, ITERATIONS = 0.15, 3  # of noise: bandwidth times the cube root of N, and iterations that find it


def on_grid(values_N: Shaped[Array, " N"], weights_N: Shaped[Array, " N"], grid: int = GRID) -> Array:
    """Returns [G]: each weight shared between the two grid points around its value in [0, 1]; sums add over batches."""
    place_N = values_N * (grid - 1)
    left_N = jnp.clip(place_N.astype(jnp.int32), 0, grid - 2)
    right_share_N = place_N - left_N
    empty = jnp.zeros_like(weights_N, shape=(grid,)) + weights_N[0] * 0
    shares = jnp.concatenate([weights_N * (1 - right_share_N), weights_N * right_share_N])
    return empty.at[jnp.concatenate([left_N, left_N + 1])].add(shares)


def smooth(grid_G: Shaped[Array, " G"], sigma: Array) -> Array:
    """Density [G] on [0, 1] of grid weights under a Gaussian of width `sigma` reflected at both ends.

    Reflection at 0 and 1 makes the kernel a heat kernel: cosine coefficient k shrinks by exp(-(pi k sigma)^2 / 2).
    """
    ends = jnp.concatenate([2 * grid_G[:1], grid_G[1:-1], 2 * grid_G[-1:]])
    wave = jnp.fft.rfft(jnp.concatenate([ends, ends[-2:0:-1]]))
    decay = jnp.exp(-((np.pi * sigma * jnp.arange(len(wave))) ** 2) / 2)
    size = len(grid_G)
    return jnp.fft.irfft(wave * decay, 2 * (size - 1))[:size] * (size - 1)


def integral(density_G: Shaped[Array, " G"]) -> Array:
    """Trapezoid rule on [0, 1]."""
    return (jnp.sum(density_G) - (density_G[0] + density_G[-1]) / 2) / (len(density_G) - 1)


def error_at(residual_G: Shaped[Array, " G"], count: Array | float, sigma: Array) -> Array:
    """Calibration error at bandwidth `sigma`: the integral of |smoothed sum of (confidence - correct)| over N."""
    return integral(jnp.abs(smooth(residual_G, sigma))) / count


def of_residuals(residual_G: Shaped[Array, " G"], count: Array | float) -> tuple[Array, Array]:
    """Returns (smECE, bandwidth): the bandwidth equals the error there, which falls as it grows, so it is bisected."""

    def halve(_: Array, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        low, high, middle, _ = state
        error = error_at(residual_G, count, middle)
        low, high = jnp.where(error > middle, middle, low), jnp.where(error > middle, high, middle)
        return low, high, (low + high) / 2, error

    zero = residual_G[0] * 0
    _, _, sigma, error = jax.lax.fori_loop(0, HALVINGS, halve, (zero + SMALLEST, zero + 1.0, zero + 0.5, zero))
    return error, sigma


def smece(confidence_N: Shaped[Array, " N"], correct_N: Shaped[Array, " N"], mask_N: Shaped[Array, " N"]) -> Array:
    """Smooth ECE of confidences, in [0, 1]: consistent, continuous in the predictions, without bins.

    References: Blasiok and Nakkiran, 2023, https://arxiv.org/abs/2309.12236, section 3.
    """
    residual_G = on_grid(confidence_N, (confidence_N - correct_N) * mask_N)
    return of_residuals(residual_G, jnp.sum(mask_N))[0]


def waves(residual_BR: Shaped[Array, "B R"], confidence_B: Shaped[Array, " B"]) -> Array:
    """Returns the first cosine coefficients [R, W] of each column of residuals at their confidences; batches add."""
    cosine_BW = jnp.cos(np.pi * confidence_B[:, None] * jnp.arange(WAVES, dtype=jnp.float32)[None])
    return jnp.matmul(residual_BR.T, cosine_BW, precision=jax.lax.Precision.HIGHEST)


def error_of_waves(wave_RW: Shaped[Array, "R W"], count: Array, sigma: Array) -> Array:
    """Returns `error_at` [R] from cosine coefficients; waves shorter than 1/128 of [0, 1] are missing.

    `count` and `sigma` are scalars, or [R] of each.
    """
    order = np.arange(WAVES, dtype=np.float32)
    twice = np.where(order > 0, 2.0, 1.0).astype(np.float32)
    basis_WP = np.cos(np.pi * order[:, None] * np.linspace(0, 1, POINTS, dtype=np.float32))
    sigma_R1 = jnp.reshape(sigma, (-1, 1))
    decay_RW = jnp.exp(-((np.pi * sigma_R1 * order[None]) ** 2) / 2) * twice[None]
    density_RP = jnp.matmul(wave_RW * decay_RW, basis_WP, precision=jax.lax.Precision.HIGHEST)
    return jax.vmap(integral)(jnp.abs(density_RP)) / count


def of_waves(wave_RW: Shaped[Array, "R W"], count: Array) -> Array:
    """Returns the smECE [R] of residuals that are noise, to about 1 %: the error that equals its bandwidth.

    Noise smoothed at s has an error like s^-1/2, so from s the solution is near (error^2 s)^(1/3): iterated
    `ITERATIONS` times, from where N examples of noise usually have it. Where the error falls more slowly, each one
    leaves at most a third of the logarithm of the ratio to the solution.
    """
    sigma_R, error_R = wave_RW[:, 0] * 0 + USUAL * count ** (-1 / 3), wave_RW[:, 0] * 0

    def nearer(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        error_R = error_of_waves(wave_RW, count, state[0])
        return jnp.clip((error_R**2 * state[0]) ** (1 / 3), SMALLEST, 1.0), error_R

    return jax.lax.fori_loop(0, ITERATIONS, nearer, (sigma_R, error_R))[1]


def replicates(wave_RW: Shaped[Array, "R W"], count_R: Shaped[Array, " R"], error: Array, sigma: Array) -> Array:
    """Returns the smECE [R] of every replicate; replicate 0 holds the data, whose smECE and bandwidth are given.

    Waves are a little coarser than the grid, so they tell only how far a replicate is from the data.

    The bandwidth of each is found to first order: error and bandwidth are equal, and the error falls with slope s, so
    that the solution moves by 1 / (1 - s) of the change of the error at `sigma`.
    """
    error_R = error_of_waves(wave_RW, count_R, sigma)
    beside = error_of_waves(wave_RW[:1], count_R[:1], sigma * 1.1)[0]
    slope = jnp.minimum((beside - error_R[0]) / (0.1 * sigma), 0.0)
    return error + (error_R - error_R[0]) / (1 - slope)
