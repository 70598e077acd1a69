"""Class centers as the points of least loss: a convex problem, solved for all classes at once.

The center of class k at radius r is argmin over |z| <= r of CE(W z + b, k). Since CE = log(1 + exp(g)) with the convex
g(z) = log sum_{j != k} exp(l_j - l_k), l = W z + b, the same point minimises g. Its gradient is a weighted mean of the
rows w_j - w_k with weights that sum to one: it does not fade with the loss, so the solver works on g. (It may be zero
without fading: at the best point where the class cannot win outright, and everywhere for equal rows.) Source of the
notion: Park, Kim, Lee, arXiv:2410.03999.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Shaped

from jaxreg.arithmetic import standard
from jaxreg.geometry import newton
from jaxreg.geometry.newton import Descent, accelerate, project, residual
from jaxreg.geometry.svd import spectrum, thin_svd

TOLERANCE = 5e-6
LEAST = 1e-6  # of a target: a start needs a finite logarithm
MAX_STEPS = 500  # of projected gradients; Newton's method takes what they leave


@standard
def minimal_loss_points(
    kernel_DK: Shaped[Array, "D K"],
    bias_K: Shaped[Array, " K"],
    radius: Array | float,
    *,
    nonnegative: bool = False,
    targets_KK: Array | None = None,
    tolerance: Array | float = TOLERANCE,
    max_steps: int = MAX_STEPS,
) -> Descent:
    """argmin_{|z| <= radius} CE(z @ kernel + bias, target) for every class: projected gradients, then Newton.

    Args:
      radius: the length that a center may have, in the units of features: the mean feature norm of the trial.
      nonnegative: also ask z >= 0, as features after a ReLU are; still convex.
      targets_KK: one target distribution a row: a soft label, every class positive, has a finite best point. None: the
        classes themselves.
      tolerance: stops once every class has a residual below it.
      max_steps: of projected gradients, counted in `steps`; classes that are not there yet go on by Newton's method.
    Raises: ValueError: for a radius below 0, where it is known.
    Returns: points [K, D] and residuals [K]. The residual is |z - P(z - t g)| / radius with P the projection on the
      feasible set, g the gradient, t = radius / max(|g|, s / 10), s the largest |w_i - w_j|: it has no unit.
    """
    if not isinstance(radius, jax.core.Tracer) and not 0 <= radius < jnp.inf:
        raise ValueError(f"radius must be finite and at least 0, got {radius}: it is the length of a feature.")
    with jax.default_matmul_precision("highest"):
        itself = jnp.eye(len(bias_K), dtype=bool)
        without, targets = (itself, itself) if targets_KK is None else (itself & False, targets_KK)
        return _solve(without, targets, nonnegative, kernel_DK, bias_K, radius, tolerance, max_steps)


class TrialCenters(NamedTuple):
    """The centers of one trial, three ways: free, with z >= 0, and of the trial's own soft targets."""

    free: Descent
    nonnegative: Descent
    soft: Descent


def three_minimal_loss_points(
    kernel_DK: Shaped[Array, "D K"], bias_K: Shaped[Array, " K"], radius: Array | float, epsilon: Array | float
) -> TrialCenters:
    """`minimal_loss_points` plain, `nonnegative`, and of `soft_targets(epsilon)`.

    With epsilon = 0, a traced scalar, the soft targets are the classes and the third answer is the first.
    """
    with jax.default_matmul_precision("highest"):
        itself = jnp.eye(len(bias_K), dtype=bool)
        targets, head = soft_targets(len(bias_K), epsilon).astype(kernel_DK.dtype), (kernel_DK, bias_K, radius)
        free = _solve(itself, itself, False, *head)
        inside = _solve(itself, itself, True, *head)
        soft = lax.cond(epsilon > 0, lambda: _solve(itself & False, targets, False, *head), lambda: free)
        return TrialCenters(free, inside, soft)


@standard
def max_margin_directions(
    kernel_DK: Shaped[Array, "D K"], *, nonnegative: bool = False, tolerance: float = 1e-6, max_steps: int = 4000
) -> Descent:
    """Where the centers point as the radius grows without bound: argmax_{|u| = 1} min_{j != k} (w_k - w_j).u.

    By duality u points to the element p of least norm in the convex hull of the w_k - w_j, j != k (`nonnegative`: of
    least norm of its positive part). The bias no longer counts. A class that no direction lets win gets zeros.

    Returns: unit points [K, D] and residuals [K]: the duality gap over max(|p|^2, s^2 / 1000).
    """
    with jax.default_matmul_precision("highest"):
        basis, matrix = _reduce(kernel_DK, nonnegative)
        floor = _spread(matrix) ** 2 / 1000
        itself = jnp.eye(matrix.shape[1], dtype=bool)

        def hull(weights_KK: Array) -> Array:
            points = matrix.T - weights_KK @ matrix.T
            return jax.nn.relu(points) if nonnegative else points

        def gradient(weights_KK: Array) -> Array:
            return -hull(weights_KK) @ matrix

        def project(weights_KK: Array) -> Array:
            return jax.vmap(optax.projections.projection_simplex)(jnp.where(itself, -1e9, weights_KK))

        def gap(weights_KK: Array, slopes_KK: Array) -> Array:
            mean_K = jnp.sum(weights_KK * slopes_KK, 1)
            best_K = jnp.min(jnp.where(itself, jnp.inf, slopes_KK), 1)
            return (mean_K - best_K) / jnp.maximum(mean_K - jnp.diagonal(slopes_KK), floor)

        step = 1 / jnp.max(spectrum(matrix.T @ matrix))
        start = project(matrix.T @ matrix * 0)
        found = accelerate(gradient, project, gap, start, step, tolerance, max_steps)
        points = hull(found.points)
        length_K1 = jnp.linalg.norm(points, axis=1, keepdims=True)
        points = jnp.where(length_K1**2 > floor / 100, points / jnp.where(length_K1 > 0, length_K1, 1), 0)
        return found._replace(points=points if basis is None else points @ basis.T)


def soft_targets(num_classes: int, epsilon: Array | float) -> Array:
    """Label smoothing's target of each class, (1 - epsilon) y + epsilon / K: [K, K]."""
    return (1 - epsilon) * jnp.eye(num_classes) + epsilon / num_classes


def _solve(
    without_PK: Array,
    targets_PK: Array,
    nonnegative: bool,
    kernel_DK: Array,
    bias_K: Array,
    radius: Array | float,
    tolerance: Array | float = TOLERANCE,
    max_steps: int = MAX_STEPS,
) -> Descent:
    """In units of radius and of the largest |w_i - w_j|: longer features or rows are the same problem."""
    basis, matrix = _reduce(kernel_DK, nonnegative)
    spread = _spread(matrix)
    matrix, scale = matrix / spread, jnp.maximum(radius * spread, 1e-6)  # of a radius of 0 too the direction is defined
    problems = newton.Problem(without_PK, targets_PK.astype(matrix.dtype), jnp.full(len(targets_PK), nonnegative))

    def gradient(points_PD: Array) -> Array:
        logits_PK = jnp.where(without_PK, -jnp.inf, scale * (points_PD @ matrix) + bias_K[None])
        return (jax.nn.softmax(logits_PK) - targets_PK) @ matrix.T

    start_PD = project(
        matrix.T if targets_PK.dtype == bool else _unbounded(targets_PK, matrix, bias_K) / scale, nonnegative
    )
    step = 4 / scale  # the Hessian is the covariance of the rows under a distribution: at most a quarter
    found = accelerate(
        gradient,
        lambda points_PD: project(points_PD, nonnegative),
        lambda points_PD, slopes_PD: residual(points_PD, slopes_PD, nonnegative),
        start_PD,
        step,
        tolerance,
        max_steps,
    )
    points, left = newton.polish(problems, matrix, bias_K, scale, found.points, found.residual, tolerance)
    points = radius * points
    return Descent(points if basis is None else points @ basis.T, left, found.steps)


def _unbounded(targets_PK: Array, matrix: Array, bias_K: Array) -> Array:
    """The points [P, D] whose logits are the logarithms of soft targets, up to a constant a point: with as many
    dimensions as classes but one the loss is least there, if the ball reaches so far, and else they are a start.
    """
    logits_PK = jnp.log(jnp.maximum(targets_PK, LEAST)) - bias_K[None]
    left, size, right = thin_svd(matrix)
    inverse = jnp.where(size > 1e-5, 1 / jnp.maximum(size, 1e-5), 0)  # rows lie a distance of 1 apart, or are equal
    return (logits_PK - logits_PK.mean(1, keepdims=True)) @ right.T * inverse[None] @ left.T


def _reduce(kernel_DK: Array, nonnegative: bool) -> tuple[Array | None, Array]:
    """Rows less their mean, in an orthonormal basis of their span where that is smaller: (basis or None, matrix)."""
    matrix = kernel_DK - kernel_DK.mean(1, keepdims=True)
    if nonnegative or kernel_DK.shape[0] <= kernel_DK.shape[1]:
        return None, matrix
    return jnp.linalg.qr(matrix)


def _spread(matrix: Array) -> Array:
    """The largest distance between two class rows, never zero."""
    square_K = jnp.sum(matrix**2, 0)
    largest = jnp.max(square_K[:, None] + square_K[None] - 2 * matrix.T @ matrix)
    return jnp.sqrt(jnp.where(largest > 0, largest, 1))
