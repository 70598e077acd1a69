"""Finished calls of an evaluation, kept on disk: one interrupted goes on where it stopped."""

import functools
import hashlib
import io
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from jaxreg.robustness.loop import Found
from jaxreg.runtime import hosts, parallel
from jaxreg.runtime.files import write_whole

Call = Callable[[Any, Any], Found]


def remembered(call: Call, folder: epath.PathLike | None, name: str, program: str) -> Call:
    """`call(job, chunk)` that looks first for its result in `folder`, under the hash of all that determines it.

    That is its arguments (weights, images, labels, radii, targets, settings, keys), `program`, a text that tells what
    was compiled for them (norm, network), and the code of the attacks. Without a folder, `call` itself.
    """
    if folder is None:
        return call
    place = epath.Path(folder)

    def recalled(job: Any, chunk: Any) -> Any:
        path = place / f"{name}-{digest((job, chunk), program)}.npz"
        if hosts.on_first(path.exists):
            return _read(path)
        found = parallel.fetch(call(job, chunk))
        _write(path, found)
        return found

    return recalled


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
    files = sorted(pathlib.Path(__file__).parent.glob("*.py"))
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=16).hexdigest()


def _write(path: epath.Path, found: Found) -> None:
    memory = io.BytesIO()
    np.savez(memory, **found._asdict())
    write_whole(path, memory.getvalue())


def _read(path: epath.Path) -> Found:
    with np.load(io.BytesIO(path.read_bytes())) as data:
        return Found(**{name: data[name] for name in Found._fields})
