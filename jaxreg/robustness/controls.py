"""What stands beside a suite: noise of the same radius, points of the highest loss, and those of another trial."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.robustness.attacks import ATTACKS
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.balls import Norm, project, random_point, spread
from jaxreg.robustness.trial import keys_of, unbroken
from jaxreg.robustness.trials import Bench, Data, Outcome, Report, logits, run_attack, silent

STRONGEST = ATTACKS["pgd_ce"]._replace(method="strongest")


@functools.partial(jax.jit, static_argnames=("norm",))
def noisy(images_NHWC: Array, keys_N: Array, eps: Array, norm: Norm) -> Array:
    """Images with one draw each of noise of size `eps`, clipped to [0, 1]."""
    eps_N = jnp.full(images_NHWC.shape[0], eps, images_NHWC.dtype)
    moved = images_NHWC + spread(eps_N, images_NHWC) * random_point(keys_N, images_NHWC, True, norm)
    return project(moved, images_NHWC, eps_N, norm)


def noise(bench: Bench, data: Data, radii: np.ndarray) -> Outcome:
    """Every trial on the same noisy images, one draw an example: the control."""
    keys_N = jax.random.wrap_key_data(jnp.asarray(keys_of(bench.seed, data.ids, 1)))[:, 0]
    drawn = np.stack([noisy(jnp.asarray(data.images), keys_N, eps, bench.norm) for eps in radii])
    return looked_at(bench, data, np.broadcast_to(drawn, (bench.trials, *drawn.shape)), radii)


def strongest(bench: Bench, data: Data, radii: np.ndarray, report: Report = silent) -> np.ndarray:
    """Where PGD, run to its end, found the highest cross-entropy in each ball: [T, E, N, H, W, C].

    Of every example, also of those that are misclassified without attack.
    """
    open_TN = np.full((bench.trials, len(data.labels)), np.inf, np.float32)
    return run_attack(bench, STRONGEST, radii, data, open_TN, report=report).adversarial


def transfer(bench: Bench, data: Data, strongest: np.ndarray, sources: np.ndarray, radii: np.ndarray) -> Outcome:
    """Every trial on the points [T, E, N, H, W, C] of the highest loss of its source trial, `sources` [T].

    Points that barely cross the source's boundary would seldom cross another's.
    """
    return looked_at(bench, data, strongest[sources], radii)


def looked_at(bench: Bench, data: Data, x_TENHWC: np.ndarray, radii: np.ndarray) -> Outcome:
    """The outcome of given images: one forward pass each."""
    shown = np.stack([logits(bench, x_TENHWC[:, e]) for e in range(len(radii))], axis=1)
    hits = wrong(shown, data.labels) & ~wrong(data.clean, data.labels)[:, None]
    smallest = unbroken(data.clean, data.labels)
    for e in reversed(range(len(radii))):
        smallest = np.where(hits[:, e] & (smallest >= 0), radii[e], smallest)
    robust = (smallest >= 0)[:, None] & ~hits
    return Outcome(robust, x_TENHWC, smallest, hits, np.full(bench.trials, len(radii) * len(data.labels)))
