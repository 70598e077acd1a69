"""A Flax NNX network turned once into two pure functions over plain nested dicts. Nothing else here knows NNX state.

`params` and `stats` are dicts of dicts of float32 arrays, keyed by strings in the order of the network's attributes:

    params["head"]["kernel"] [D, K]     params["head"]["bias"] [K]     the last linear layer, in every model
    params[...]["kernel"]               a convolution, HWIO, without bias
    params[...]["scale"], ["bias"]      a batch normalisation;  stats[...]["mean"], ["var"]: its running averages

so weight decay on kernels alone is a test of the last key. Lists of blocks become dicts with keys "0", "1", ...
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxreg.models import layers

Tree = dict[str, Any]
Network = Callable[..., tuple[Array, Array]]


class Apply(Protocol):
    """(params, stats, x_BHWC in [0, 1], train) -> (logits_BK float32, features_BD float32, stats)."""

    def __call__(self, params: Tree, stats: Tree, x_BHWC: Array, *, train: bool) -> tuple[Array, Array, Tree]:
        """Logits [B, K], features [B, D] and new statistics of images."""


class Head(NamedTuple):
    """The last layer, logits = features @ kernel + bias: [D, K] and [K], JAX or NumPy arrays; of trials [T, ...]."""

    kernel: Any
    bias: Any

    def logits(self, features_ND: Any) -> Any:
        """Those of one network's features: [N, K]."""
        return features_ND @ self.kernel + self.bias[None]


class Model(NamedTuple):
    """A network as pure functions: safe under jit, vmap, lax.map, lax.scan and shard_map."""

    init: Callable[[Array], tuple[Tree, Tree]]
    apply: Apply


def functional(make: Callable[[nnx.Rngs], Any], mean: Sequence[float], std: Sequence[float]) -> Model:
    """Binds a network maker, and the per-channel mean and std of the training images, to a `Model`.

    The network sees (x - mean) / std, x in [0, 1]. `make(rngs)(x, train=...)` must return (logits_BK, features_BD) and
    hold no variables but Param and BatchStat.
    """
    graph, abstract_params, abstract_stats = _split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    mean_C, std_C = (np.asarray(values, np.float32)[None, None, None] for values in (mean, std))

    stds = _to_dict(layers.stds_of(abstract_params))

    def init(key: Array) -> tuple[Tree, Tree]:
        own, all_at_once = jax.random.split(key)
        _, params, stats = _split(make(nnx.Rngs(own)))
        params = layers.draw(all_at_once, _to_dict(params), stds)
        zero = jax.random.key_data(key).ravel()[0] * 0  # ties constants to the key: a loop carry in shard_map needs it
        return jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), (params, _to_dict(stats)))

    def apply(params: Tree, stats: Tree, x_BHWC: Array, *, train: bool) -> tuple[Array, Array, Tree]:
        network = nnx.merge(graph, _bind(abstract_params, params), _bind(abstract_stats, stats))
        x_BHWC = (x_BHWC.astype(jnp.float32) - mean_C) / std_C
        logits_BK, features_BD = network(x_BHWC, train=train)
        return logits_BK, features_BD, _to_dict(nnx.state(network, nnx.BatchStat))

    return Model(init, apply)


def head(params: Tree) -> Head:
    """The last layer of parameters, of one network or of stacks."""
    return Head(params["head"]["kernel"], params["head"]["bias"])


def _split(network: Any) -> tuple[Any, Any, Any]:
    split: Any = nnx.split(network, nnx.Param, nnx.BatchStat)
    return split


def _to_dict(state: Any) -> Tree:
    return _string_keys(nnx.to_pure_dict(state))


def _string_keys(tree: Any) -> Any:
    return {str(key): _string_keys(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _bind(abstract: Any, pure: Tree) -> Any:
    state = jax.tree.map(lambda leaf: leaf, abstract)  # a copy: the abstract state serves every call
    nnx.replace_by_pure_dict(state, pure)
    return state
