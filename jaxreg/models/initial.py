"""Normal starting values for all layers of a network, drawn at once.

XLA needs half a second or more on CPU to compile a draw of normal numbers: with one draw a layer the initialisation of
ResNet-20 compiled for 20 s of processor time, with one draw for all it takes 2. A layer says
`kernel_init=zeros, kernel_metadata=normal(std)`; any other parameter starts as its layer's own initialiser makes it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

STD = "initial_std"


def normal(std: float) -> Mapping[str, Any]:
    """Metadata of a parameter that starts as N(0, std^2)."""
    return {STD: std}


def stds_of(abstract_params: Any) -> Any:
    """The state with every parameter replaced by its initial std, 0.0 where its layer has another initialiser."""
    return nnx.map_state(lambda _, variable: variable.get_metadata().get(STD, 0.0), abstract_params)


def draw(key: Array, params: Any, stds: Any) -> Any:
    """Fills the parameters of std > 0 with normal numbers from one draw, in the order of the tree's leaves."""
    leaves, structure = jax.tree.flatten(params)
    spread = jax.tree.leaves(stds)
    sizes = [leaf.size if std > 0 else 0 for leaf, std in zip(leaves, spread)]
    parts = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    filled = [std * part.reshape(leaf.shape) if std > 0 else leaf for leaf, std, part in zip(leaves, spread, parts)]
    return jax.tree.unflatten(structure, filled)
