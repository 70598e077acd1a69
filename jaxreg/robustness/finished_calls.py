"""Finished calls of an evaluation, kept on disk: one interrupted goes on where it stopped."""

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from jaxreg.robustness.loop import Attacked
from jaxreg.robustness.trial import Apply, Models, forward_trial
from jaxreg.runtime import hosts, parallel
from jaxreg.runtime.files import read_arrays, write_arrays

Call = Callable[[Any, Any], Any]


def remembered(
    name: str, call: Call, folder: epath.PathLike | None, program: str, rebuild: Callable[..., Any] = Attacked
) -> Call:
    """`call(one, shared)` that first looks for its result in `folder`, under the hash of all that determines it.

    That is its arguments (weights, images, labels, radii, numbers, seed), `program`, a text of what was compiled for
    them (norm, network), and the code of the attacks. Without a folder, `call` itself. `rebuild` makes the result of
    its arrays.
    """
    if folder is None:
        return call
    place = epath.Path(folder)

    def recalled(one: Any, shared: Any) -> Any:
        path = place / f"{name}-{digest((one, shared), program)}.npz"
        if hosts.on_first(path.exists):
            stored = read_arrays(path)
            return rebuild(*(stored[str(i)] for i in range(len(stored))))
        result = parallel.fetch(call(one, shared))
        write_arrays(path, {str(i): array for i, array in enumerate(jax.tree.leaves(result))})
        return result

    return recalled


def described(apply: Apply, models: Models, norm: str, shape: tuple[int, ...]) -> str:
    """What is compiled into an attack beside its arguments: the norm, and the network on images of `shape`, as text.

    The network is that of one trial: on how many devices trials lie changes nothing but rounding.
    """
    given = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), models)
    images = jax.ShapeDtypeStruct((1, *shape), np.float32)
    forward = jax.jit(functools.partial(forward_trial, apply))
    return f"{norm} {jax.devices()[0].platform} {forward.lower((given, images), None).as_text()}"


def digest(tree: Any, program: str) -> str:
    """The hash of a text, of all arrays of a tree with shape and dtype, and of the code in this folder."""
    state = hashlib.blake2b(f"{_code()} {len(program)} {program}{jax.tree.structure(tree)}".encode(), digest_size=16)
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(parallel.fetch(leaf))
        state.update(f"{array.dtype}{array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


@functools.cache
def _code() -> str:
    files = sorted(path for path in pathlib.Path(__file__).parent.iterdir() if path.suffix == ".py")
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=16).hexdigest()
