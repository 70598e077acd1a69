"""Optimizers and schedules whose numbers are traced, so that one program trains many settings."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxreg.spec import OptimizerSpec

Numbers = Mapping[str, Array]
# Of a spec, those that are traced: trials that differ in nothing else share a program.
TRACED = (*(f.name for f in dataclasses.fields(OptimizerSpec) if f.type in ("float", "int", float, int)), "boundaries")


class Optimizer(NamedTuple):
    """`init(params) -> state` and `update(grads, state, params, numbers, step) -> (params, state)`."""

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]
    learning_rate: Callable[[Numbers, Array], Array]


def cosine(numbers: Numbers, progress: Array) -> Array:
    """0.5 (1 + cos(pi t)), t in [0, 1] the share of training after warm-up."""
    return 0.5 * (1 + jnp.cos(jnp.pi * progress))


def step_decay(numbers: Numbers, progress: Array) -> Array:
    """decay^(number of boundaries passed)."""
    return numbers["decay"] ** (progress >= numbers["boundaries"]).sum()


def constant(numbers: Numbers, progress: Array) -> Array:
    """1."""
    return jnp.ones_like(progress)


SCHEDULES = {"cosine": cosine, "step": step_decay, "constant": constant}


def is_decayed(params: Any) -> Any:
    """Weight decay acts on kernels alone, not on biases nor BatchNorm's scales and shifts (vectors)."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def sgd(numbers: Numbers, nesterov: bool) -> optax.GradientTransformation:
    """v = momentum v + (g + weight_decay p): the coupled L2 penalty of the usual CIFAR recipes."""
    return optax.chain(
        optax.add_decayed_weights(numbers["weight_decay"], is_decayed),
        optax.trace(numbers["momentum"], nesterov=nesterov),
    )


def adamw(numbers: Numbers, nesterov: bool) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101)."""
    del nesterov  # of sgd
    return _adam(numbers, nesterov=False)


def nadamw(numbers: Numbers, nesterov: bool) -> optax.GradientTransformation:
    """The same with Nesterov's momentum (Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ)."""
    del nesterov
    return _adam(numbers, nesterov=True)


def _adam(numbers: Numbers, nesterov: bool) -> optax.GradientTransformation:
    return optax.chain(
        optax.scale_by_adam(numbers["b1"], numbers["b2"], nesterov=nesterov),
        optax.add_decayed_weights(numbers["weight_decay"], is_decayed),
    )


OPTIMIZERS = {"sgd": sgd, "adamw": adamw, "nadamw": nadamw}


def make_optimizer(spec: OptimizerSpec, steps: int) -> Optimizer:
    """The optimizer whose structure `spec` names, for a training of `steps` steps."""
    transform, schedule = OPTIMIZERS[spec.name], SCHEDULES[spec.schedule]

    def learning_rate(numbers: Numbers, step: Array) -> Array:
        warmup = numbers["warmup_steps"]
        progress = jnp.clip((step - warmup) / (steps - warmup), 0, 1)
        rising = jnp.where(step < warmup, (step + 1) / jnp.maximum(warmup, 1), 1)
        return numbers["learning_rate"] * rising * jnp.where(step < warmup, 1, schedule(numbers, progress))

    def init(params: Any) -> Any:
        return transform(numbers_of([spec], index=0), spec.nesterov).init(params)

    def update(grads: Any, state: Any, params: Any, numbers: Numbers, step: Array) -> tuple[Any, Any]:
        updates, state = transform(numbers, spec.nesterov).update(grads, state, params)
        rate = learning_rate(numbers, step)
        return optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates)), state

    return Optimizer(init, update, learning_rate)


def numbers_of(specs: Sequence[OptimizerSpec], index: int | None = None) -> Numbers:
    """The scalars of several specs of one structure as float32 arrays [T], or those of one of them."""
    chosen = specs if index is None else specs[index]
    if isinstance(chosen, OptimizerSpec):
        return {name: jnp.asarray(getattr(chosen, name), jnp.float32) for name in TRACED}
    return {name: jnp.asarray([getattr(s, name) for s in chosen], jnp.float32) for name in TRACED}


def structure_of(spec: OptimizerSpec) -> tuple[Any, ...]:
    """What two specs must share to run in one program."""
    return (spec.name, spec.schedule, spec.nesterov, len(spec.boundaries))
