"""Beside a suite: noise of the same radius, points of the highest loss, and those of another trial."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.robustness.attacks import ATTACKS
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.balls import Norm, project, random_point, spread
from jaxreg.robustness.trial import WRONG, pass_keys
from jaxreg.robustness.trials import Evaluation, Outcome

# Attacks stop at the first point that fools, where a network is least sure: confidence under attack is measured at the
# highest loss, past the boundary or not, also of examples that are misclassified without attack. So are adversaries for
# another trial: points that barely cross a boundary would seldom cross another.
STRONGEST = ATTACKS["pgd_ce"]._replace(highest=True)


@functools.partial(jax.jit, static_argnames=("norm",))
def noisy(images_NHWC: Shaped[Array, "N H W C"], keys_N: Shaped[Array, " N"], eps: Array, norm: Norm) -> Array:
    """Images with one draw each of noise of size `eps`, clipped to [0, 1]."""
    eps_N = jnp.full(images_NHWC.shape[0], eps, images_NHWC.dtype)
    moved = images_NHWC + spread(eps_N, images_NHWC) * random_point(keys_N, images_NHWC, True, norm)
    return project(moved, images_NHWC, eps_N, norm)


def noise(evaluation: Evaluation) -> Outcome:
    """All trials on the same noisy images, one draw an example."""
    keys_N = pass_keys(evaluation.key, evaluation.ids, 1)[:, 0]
    images = jnp.asarray(evaluation.images)
    drawn = np.stack([noisy(images, keys_N, eps, evaluation.norm) for eps in evaluation.radii])
    return outcome_at(evaluation, np.broadcast_to(drawn, (evaluation.networks.trials, *drawn.shape)))


def outcome_at(evaluation: Evaluation, x_TENHWC: Shaped[np.ndarray, "T E N H W C"]) -> Outcome:
    """The outcome of given points [T, E, N, H, W, C]: one forward pass each."""
    wrong_TN = wrong(evaluation.clean, evaluation.labels)
    hits_TEN = wrong(evaluation.logits(x_TENHWC), evaluation.labels) & ~wrong_TN[:, None]
    radii_E1 = np.asarray(evaluation.radii, np.float32)[:, None]
    smallest_TN = np.where(wrong_TN, np.float32(WRONG), np.where(hits_TEN, radii_E1, np.float32(np.inf)).min(axis=1))
    evaluations_T = np.full(len(x_TENHWC), hits_TEN[0].size)
    return Outcome(x_TENHWC, ~(hits_TEN | wrong_TN[:, None]), smallest_TN, hits_TEN, evaluations_T)
