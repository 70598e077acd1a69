"""Many regularizers as data of one program: which one, and how strong, are traced numbers of the trial."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg.regularizers import REGULARIZERS, Hyper, compose


class RegularizerFunctions(NamedTuple):
    """The distinct functions that a set of regularizers needs; a trial picks one of each kind by its index."""

    mix: tuple[Callable[..., Any], ...]
    soften: tuple[Callable[..., Any], ...]
    loss: tuple[Callable[..., Any], ...]


class Choice(NamedTuple):
    """A trial's picks from `RegularizerFunctions` (int32 scalars) and its hyperparameters (float32 scalars)."""

    mix: Array
    soften: Array
    loss: Array
    hyper: Mapping[str, Array]


def functions_of(names: Sequence[str]) -> RegularizerFunctions:
    """The distinct mix, soften and loss functions of the regularizers called `names`, in order of appearance."""
    parts = [compose(name) for name in names]
    distinct = (tuple(dict.fromkeys(getattr(part, kind) for part in parts)) for kind in RegularizerFunctions._fields)
    return RegularizerFunctions(*distinct)


def choices(functions: RegularizerFunctions, names: Sequence[str], hypers: Sequence[Mapping[str, float]]) -> Choice:
    """The picks of trials whose regularizers are `names` with complete hyperparameters `hypers`, stacked [T]."""
    parts = [compose(name) for name in names]
    defaults = {key: n.default for r in REGULARIZERS.values() for key, n in r.numbers.items()}
    hyper = {k: jnp.array([h.get(k, d) for h in hypers], jnp.float32) for k, d in sorted(defaults.items())}
    index = {
        kind: jnp.array([getattr(functions, kind).index(getattr(part, kind)) for part in parts], jnp.int32)
        for kind in RegularizerFunctions._fields
    }
    return Choice(**index, hyper=hyper)


def _pick(functions: Sequence[Callable[..., Any]], index: Array, *args: Any, hyper: Hyper) -> Any:
    if len(functions) == 1:
        return functions[0](*args, hyper)
    return lax.switch(index, [functools.partial(_call, f, hyper=hyper) for f in functions], *args)


def _call(function: Callable[..., Any], *args: Any, hyper: Hyper) -> Any:
    return function(*args, hyper)


def mix_batch(
    functions: RegularizerFunctions, choice: Choice, keys: tuple[Array, Array], x_BHWC: Array, targets_BK: Array
) -> tuple[Array, Array]:
    """Mixes a batch with a random permutation of itself, then softens its targets: (x_BHWC, targets_BK).

    `keys` are those of the draws and of the permutation. The shape of images reaches the mix functions as (B, H, W).
    """
    draws, order = keys
    shape = x_BHWC.shape[:3]
    mixes = [functools.partial(_mix_of, f, shape=shape) for f in functions.mix]
    mask_BHW1, weight_B = _pick(mixes, choice.mix, draws, hyper=choice.hyper)
    partner_B = jax.random.permutation(order, shape[0])
    x_BHWC = mask_BHW1 * x_BHWC + (1 - mask_BHW1) * x_BHWC[partner_B]
    weight_B1 = weight_B[:, None]
    targets_BK = weight_B1 * targets_BK + (1 - weight_B1) * targets_BK[partner_B]
    return x_BHWC, _pick(functions.soften, choice.soften, targets_BK, hyper=choice.hyper)


def _mix_of(function: Callable[..., Any], key: Array, hyper: Hyper, shape: tuple[int, ...]) -> Any:
    return function(key, shape, hyper)


def loss_of(functions: RegularizerFunctions, choice: Choice, logits_BK: Array, targets_BK: Array) -> Array:
    """The trial's own loss of each example, in nats: [B]."""
    return _pick(functions.loss, choice.loss, logits_BK, targets_BK, hyper=choice.hyper)
