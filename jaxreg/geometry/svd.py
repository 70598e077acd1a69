"""Singular values and eigenvalues that have a TPU program within `shard_map`, too.

JAX's own for TPUs fails there (0.10: a loop begins with a constant that does not vary over the mesh), so that platform
takes one-sided Jacobi rotations (Hestenes, 1958, doi:10.1137/0106005), pairs of rows side by side in a round robin.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Shaped

SWEEPS = 12  # over all pairs; convergence is quadratic in the end


def thin_svd(matrix: Shaped[Array, "M D"]) -> tuple[Array, Array, Array]:
    """left [M, R], values [R] descending, right [R, D] with left * values @ right = matrix, R = min(M, D).

    Of a value that is zero by rounding the vectors may be anything finite.
    """
    return lax.platform_dependent(matrix, tpu=jacobi_svd, default=_of_library)


def spectrum(matrix: Shaped[Array, "D D"]) -> Array:
    """The eigenvalues [D] of a symmetric matrix without negative ones, but for rounding, in no order.

    JAX's own for TPUs fails in the same way from a width of 257 on.
    """
    return lax.platform_dependent(matrix, tpu=lambda one: jacobi_svd(one)[1], default=jnp.linalg.eigvalsh)


def _of_library(matrix: Array) -> tuple[Array, Array, Array]:
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    return left, values, right


def jacobi_svd(matrix: Shaped[Array, "M D"]) -> tuple[Array, Array, Array]:
    """The same by rotations of the rows, or of the columns where they are fewer."""
    if matrix.shape[0] > matrix.shape[1]:
        left, values, right = jacobi_svd(matrix.T)
        return right.T, values, left.T
    count = len(matrix) + len(matrix) % 2  # an odd row is paired with zeros
    rows = jnp.pad(matrix, ((0, count - len(matrix)), (0, 0)))
    turned = jnp.eye(count, dtype=matrix.dtype) + 0 * matrix[0, 0]
    rounds = jnp.asarray(_rounds(count))

    def turn(place: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        return _rotated(*carry, rounds[place % len(rounds)])

    rows, turned = lax.fori_loop(0, SWEEPS * len(rounds), turn, (rows, turned))
    lengths = jnp.sqrt(jnp.sum(rows**2, 1))
    order = jnp.argsort(-lengths)[: len(matrix)]
    values = lengths[order]
    right = rows[order] / jnp.where(values > 0, values, 1)[:, None]
    return turned[order, : len(matrix)].T, values, right


def _rounds(count: int) -> np.ndarray:
    """Every pair of `count` rows once, in rounds of disjoint pairs: [count - 1, 2, count / 2]."""
    ring, found = list(range(1, count)), []
    for _ in range(count - 1):
        seats = [0, *ring]
        found.append([seats[: count // 2], seats[: count // 2 - 1 : -1]])
        ring = ring[-1:] + ring[:-1]
    return np.array(found, np.int32)


def _rotated(rows: Array, turned: Array, pairs: Array) -> tuple[Array, Array]:
    """Both matrices after the rotations that make the rows of each pair orthogonal."""
    first, second = rows[pairs[0]], rows[pairs[1]]
    cross = jnp.sum(first * second, 1)
    slope = (jnp.sum(second**2, 1) - jnp.sum(first**2, 1)) / jnp.where(cross == 0, 1, 2 * cross)
    sign = jnp.where(slope < 0, -1.0, 1.0)
    tangent = jnp.where(cross == 0, 0, sign / (jnp.abs(slope) + jnp.sqrt(1 + slope**2)))
    cosine = (1 / jnp.sqrt(1 + tangent**2))[:, None]
    sine = cosine * tangent[:, None]

    def both(matrix: Array) -> Array:
        one, other = matrix[pairs[0]], matrix[pairs[1]]
        matrix = matrix.at[pairs[0]].set(cosine * one - sine * other)
        return matrix.at[pairs[1]].set(sine * one + cosine * other)

    return both(rows), both(turned)
