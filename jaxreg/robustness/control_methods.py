"""Noise of the same radius as a method of the loop: an attack must beat it by far."""

import functools

import jax
from jax import Array
from jaxtyping import Shaped

from jaxreg.robustness import gradient
from jaxreg.robustness.balls import Norm, project, random_point, spread
from jaxreg.robustness.losses import fooled
from jaxreg.robustness.method import AttackNumbers, Logits, Method, QueueRow, Step


def step(
    logits_fn: Logits,
    row: QueueRow,
    x_BHWC: Shaped[Array, "B H W C"],
    k_B: Shaped[Array, " B"],
    numbers: AttackNumbers,
    norm: Norm,
) -> Step:
    """Looks at the point and draws the next, a function of the example and the number of the draw alone."""
    del numbers
    keys_B = jax.vmap(jax.random.fold_in)(row.key_B, k_B + 2)  # 1 is that of the start's distance in l2
    drawn_BHWC = row.clean_BHWC + spread(row.eps_B, x_BHWC) * random_point(keys_B, x_BHWC, True, norm)
    return Step(project(drawn_BHWC, row.clean_BHWC, row.eps_B, norm), x_BHWC, fooled(logits_fn(x_BHWC), row.label_B))


def noise(norm: Norm) -> Method:
    """Random points at the full radius: `steps` draws after the start."""
    return Method(functools.partial(gradient.start, norm=norm), functools.partial(step, norm=norm))
