"""Two controls as methods of the loop: noise of the same radius, and the point of the highest loss in a ball.

An attack must beat noise by far. Attacks stop at the first point that fools, where a network is least sure; confidence
under attack is measured where the loss is highest, past the boundary or not.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.robustness import gradient
from jaxreg.robustness.balls import Norm, project, random_point, spread
from jaxreg.robustness.losses import fooled
from jaxreg.robustness.method import AttackNumbers, Logits, Method, QueueRow, Step


def strongest(norm: Norm) -> Method:
    """Gradient ascent that runs to its end and shows the best point so far; it reports nothing as fooled."""
    ascent = gradient.method(norm)

    def step(logits_fn: Logits, row: QueueRow, state: gradient.AscentState, k_B: Array, numbers: AttackNumbers) -> Step:
        out = ascent.step(logits_fn, row, state, k_B, numbers)
        return Step(out.state, out.state.best, jnp.zeros_like(out.fooled_B))

    return Method(ascent.start, step, spares_wrong=False)


def step(logits_fn: Logits, row: QueueRow, x_BHWC: Array, k_B: Array, numbers: AttackNumbers, norm: Norm) -> Step:
    """Looks at the point and draws the next, a function of the example and the number of the draw alone."""
    del numbers
    keys_B = jax.vmap(jax.random.fold_in)(row.key_B, k_B + 2)  # 1 is that of the start's distance in l2
    drawn_BHWC = row.clean_BHWC + spread(row.eps_B, x_BHWC) * random_point(keys_B, x_BHWC, True, norm)
    return Step(project(drawn_BHWC, row.clean_BHWC, row.eps_B, norm), x_BHWC, fooled(logits_fn(x_BHWC), row.label_B))


def noise(norm: Norm) -> Method:
    """Random points at the full radius: `steps` draws after the start."""
    return Method(functools.partial(gradient.start, norm=norm), functools.partial(step, norm=norm))
