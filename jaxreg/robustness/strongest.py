"""The point of the highest loss in a ball, past the boundary or not: what confidence under attack is measured on.

Attacks that ask whether an example can be fooled stop at the first point that fools, where a network is least sure.
"""

import jax.numpy as jnp
from jax import Array

from jaxreg.robustness import gradient
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.method import Logits, Method, Row, Settings, Step


def method(norm: Norm) -> Method:
    """Gradient ascent that runs to its end and shows the best point so far; it reports nothing as fooled."""
    ascent = gradient.method(norm)

    def step(logits_fn: Logits, row: Row, state: gradient.State, k_B: Array, settings: Settings) -> Step:
        out = ascent.step(logits_fn, row, state, k_B, settings)
        return Step(out.state, out.state.best, jnp.zeros_like(out.fooled_B))

    return Method(ascent.start, step)
