"""Post-hoc calibration beyond one temperature: vector scaling on the logits, isotonic regression on the top label."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.runtime import passes

RIDGE = 1e-3  # pulls towards the temperature solution; makes the shift of all biases unique
STEPS = 24
TOLERANCE = 1e-4  # of the parameters
RESOLUTION = 2e-7  # of the mean NLL, in float32: a step that promises less and brings nothing is the last


class Curve(NamedTuple):
    """Sums over examples of the NLL of a * z + b, its gradient [2K] and Hessian [2K, 2K], and their number."""

    loss: Array
    gradient: Array
    hessian: Array
    examples: Array


class Climb(NamedTuple):
    """The best parameters [2K] (scales, then biases) with their loss and curve, the ones to try, and the damping."""

    best: Array
    loss: Array
    gradient: Array
    hessian: Array
    trial: Array
    damping: Array
    done: Array


def scaled(parameters: Array, logits_NK: Shaped[Array, "N K"]) -> Array:
    """Returns a * z + b in float32; `parameters` [2K] are the K scales a, then the K biases b."""
    scale_K, bias_K = jnp.split(parameters, 2)
    return logits_NK.astype(jnp.float32) * scale_K[None] + bias_K[None]


def curve(
    parameters: Array, logits_NK: Shaped[Array, "N K"], labels_N: Shaped[Array, " N"], mask_N: Shaped[Array, " N"]
) -> Curve:
    """Returns the sums of a batch; all second derivatives are three products [K, N] x [N, K]."""
    log_p_NK = jax.nn.log_softmax(scaled(parameters, logits_NK))
    z_NK, p_NK = logits_NK.astype(jnp.float32), jnp.exp(log_p_NK) * mask_N[:, None]
    target_NK = jax.nn.one_hot(labels_N, z_NK.shape[-1]) * mask_N[:, None]
    slope_NK = p_NK - target_NK
    both = jnp.concatenate([z_NK * p_NK, p_NK], -1)
    product = both.T @ jnp.concatenate([z_NK * jnp.exp(log_p_NK), jnp.exp(log_p_NK)], -1)
    cross = jnp.diag(jnp.sum(z_NK * p_NK, 0))
    diagonal = jnp.block([[jnp.diag(jnp.sum(z_NK**2 * p_NK, 0)), cross], [cross, jnp.diag(jnp.sum(p_NK, 0))]])
    gradient = jnp.concatenate([jnp.sum(slope_NK * z_NK, 0), jnp.sum(slope_NK, 0)])
    return Curve(-jnp.sum(target_NK * log_p_NK), gradient, diagonal - product, jnp.sum(mask_N))


def start(parameters: Array) -> Climb:
    """Returns the search before its first step."""
    size = len(parameters)
    infinite = parameters[0] * 0 + jnp.inf
    flat = jnp.zeros_like(parameters)
    return Climb(
        parameters, infinite, flat, jnp.outer(flat, flat) + jnp.eye(size), parameters, flat[0] + 1e-3, flat[0] > 0
    )


def advance(climb: Climb, at: Curve, anchor: Array) -> Climb:
    """Keeps what was tried if it is better, and tries a Newton step: longer after a success, else shorter."""
    loss = at.loss / at.examples + RIDGE / 2 * jnp.sum((climb.trial - anchor) ** 2)
    better = loss < climb.loss
    best = jnp.where(better, climb.trial, climb.best)
    gradient = jnp.where(better, at.gradient / at.examples + RIDGE * (climb.trial - anchor), climb.gradient)
    hessian = jnp.where(better, at.hessian / at.examples + RIDGE * jnp.eye(len(best)), climb.hessian)
    damping = jnp.clip(climb.damping * jnp.where(better, 0.1, 10.0), 1e-7, 1e7)
    damped = hessian + damping * jnp.diag(jnp.diag(hessian))
    step = jax.scipy.linalg.solve(damped, gradient, assume_a="pos")
    promised = jnp.dot(gradient, step) / 2
    done = (jnp.max(jnp.abs(step)) < TOLERANCE) | (~better & (promised < RESOLUTION))
    return Climb(best, jnp.where(better, loss, climb.loss), gradient, hessian, best - step, damping, done)


def solve(curve_at: Callable[[Array], Curve], anchor: Array) -> Array:
    """Searches from `anchor`; `curve_at` returns the summed curve of all examples at parameters [2K]."""

    def unfinished(state: tuple[Array, Climb]) -> Array:
        return (state[0] < STEPS) & ~state[1].done

    def climb(state: tuple[Array, Climb]) -> tuple[Array, Climb]:
        return state[0] + 1, advance(state[1], curve_at(state[1].trial), anchor)

    steps = (anchor[0] * 0).astype(jnp.int32)
    return jax.lax.while_loop(unfinished, climb, (steps, start(anchor)))[1].best


def fit_vector(
    logits_NK: passes.Rows,
    labels_N: Shaped[Array, " N"],
    mask_N: Shaped[Array, " N"],
    temperature: Array,
    size: int = passes.CHUNK,
) -> Array:
    """Fits a scale and a bias per class on a validation split by damped Newton steps: parameters [2K].

    min over (a, b) of mean NLL(a * z + b) + 5e-4 |(a, b) - (1/T, 0)|^2: convex, with one solution. `size` examples are
    a piece.

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    rows = logits_NK, labels_N, mask_N

    def curve_at(parameters: Array) -> Curve:
        return passes.total(lambda _, *piece: curve(parameters, *piece), *rows, size=size)

    classes = logits_NK.shape[-1]
    return solve(curve_at, jnp.concatenate([jnp.ones(classes) / temperature, jnp.zeros(classes) / temperature]))


def isotonic(
    confidence_N: Shaped[np.ndarray, " N"], correct_N: Shaped[np.ndarray, " N"], apply_to_M: Shaped[np.ndarray, " M"]
) -> Shaped[np.ndarray, " M"]:
    """Fits correct ~ increasing(confidence) on validation and returns the map of `apply_to_M`, in [0, 1], float32.

    Raises: ValueError: without an example, or naming the first number that is not in [0, 1].

    References: Zadrozny and Elkan, 2002, https://doi.org/10.1145/775047.775151.
    """
    from sklearn.isotonic import IsotonicRegression  # takes a second to import, which few processes need

    # In float64: of float32, scikit-learn takes values for equal that differ in the sixth digit.
    known_N, correct_N, asked_N = (np.asarray(a, np.float64) for a in (confidence_N, correct_N, apply_to_M))
    _check_shares({"confidence": known_N, "correct": correct_N, "confidence to map": asked_N})
    if known_N.shape != correct_N.shape or known_N.ndim != 1 or not len(known_N):
        got = f"{known_N.shape} and {correct_N.shape}"
        raise ValueError(f"confidence and correct must be [N] both, N at least 1, got {got}: fit on validation.")
    fitted = IsotonicRegression(y_min=0, y_max=1, increasing=True, out_of_bounds="clip").fit(known_N, correct_N)
    return fitted.predict(asked_N).astype(np.float32)


def _check_shares(arrays: Mapping[str, np.ndarray]) -> None:
    for name, values in arrays.items():
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(wrong):
            raise ValueError(f"example {wrong[0]}: {name} must be in [0, 1], got {values.flat[wrong[0]]}.")
