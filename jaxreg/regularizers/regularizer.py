"""What a regularizer is: a mask and a weight (mix), a softening of targets (soften), and a loss. All of it is data."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

Hyper = Mapping[str, Array]


class Mix(NamedTuple):
    """How each example is mixed with its partner: x = m x_i + (1-m) x_j, y = w y_i + (1-w) y_j."""

    mask_BHW1: Array
    weight_B: Array


MixFn = Callable[[Array, tuple[int, int, int], Hyper], Mix]  # key, (B, H, W), hyperparameters
SoftenFn = Callable[[Array, Hyper], Array]  # targets_BK -> targets_BK
LossFn = Callable[[Array, Array, Hyper], Array]  # logits_BK, targets_BK -> loss_B


class Number(NamedTuple):
    """A hyperparameter: its default and the interval it must lie in."""

    default: float
    interval: str  # such as "[0, 1)"; "inf" is allowed as an end

    def contains(self, value: float) -> bool:
        """Whether `value` lies in the interval, ends as its brackets say."""
        low, high = (float(end) for end in self.interval[1:-1].split(","))
        above = value >= low if self.interval[0] == "[" else value > low
        below = value <= high if self.interval[-1] == "]" else value < high
        return above and below


def no_mixing(key: Array, shape_BHW: tuple[int, int, int], hyper: Hyper) -> Mix:
    """Every example stays itself: m = w = 1."""
    del key
    # The ones come from a traced number: branches of one switch must vary over the same mesh axes.
    one = jnp.ones_like(hyper["per_batch"])
    return Mix(jnp.broadcast_to(one, (*shape_BHW, 1)), jnp.broadcast_to(one, shape_BHW[:1]))


def keep_targets(targets_BK: Array, hyper: Hyper) -> Array:
    """Targets stay as they are."""
    del hyper
    return targets_BK


def cross_entropy(logits_BK: Array, targets_BK: Array, hyper: Hyper) -> Array:
    """CE(p, y') = -sum_k y'_k log p_k, in nats: [B]."""
    del hyper
    return optax.softmax_cross_entropy(logits_BK, targets_BK)


class Regularizer(NamedTuple):
    """Pure functions and the hyperparameters that they read; what is left out does nothing.

    A `soften` that turns one-hot targets into (1 - epsilon) y + epsilon / K says its epsilon in `smoothing`.
    """

    numbers: Mapping[str, Number] = {}
    mix: MixFn = no_mixing
    soften: SoftenFn = keep_targets
    loss: LossFn = cross_entropy
    smoothing: Callable[[Mapping[str, float]], float] | None = None  # hyperparameters -> epsilon


PER_BATCH = Number(0.0, "[0, 1]")  # 1 draws once a batch instead of once an example


def drawn(values_B: Array, hyper: Hyper) -> Array:
    """One draw an example, or the first of them for the whole batch where `per_batch` is 1."""
    return jnp.where(hyper["per_batch"] > 0, values_B[:1], values_B)


def mixing_weights(key: Array, alpha: Array, hyper: Hyper, count: int) -> Array:
    """Draws lam ~ Beta(alpha, alpha), one an example or one a batch: [count].

    Of two Gamma(alpha) variables a and b, a / (a + b) = sigmoid(log a - log b) is Beta(alpha, alpha). One call for both
    compiles in half the time of `jax.random.beta`.
    """
    log_a, log_b = jax.random.loggamma(key, alpha, (2, count))
    return drawn(jax.nn.sigmoid(log_a - log_b), hyper)
