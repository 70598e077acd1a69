"""Adversarial examples as a file for another toolbox, and back."""

import io
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxreg.files import write_whole


class Exported(NamedTuple):
    """Adversarial examples [N, H, W, C] float32 in [0, 1], their example ids, labels, masks, radius and norm."""

    adversarial: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    robust: np.ndarray
    eps: float
    norm: str


def save(path: epath.PathLike, found: Exported) -> None:
    """Writes an .npz of plain arrays (`numpy.load` reads it), whole or not at all.

    Raises: ValueError: if the arrays do not have the same number of examples.
    """
    counts = {name: len(getattr(found, name)) for name in ("adversarial", "ids", "labels", "robust")}
    if len(set(counts.values())) > 1:
        raise ValueError(f"all arrays of an export need one number of examples, got {counts}.")
    memory = io.BytesIO()
    arrays: Any = {name: np.asarray(value) for name, value in found._asdict().items()}
    np.savez_compressed(memory, **arrays)
    write_whole(path, memory.getvalue())


def load(path: epath.PathLike) -> Exported:
    """Reads what `save` wrote."""
    with np.load(io.BytesIO(epath.Path(path).read_bytes())) as data:
        arrays = {name: data[name] for name in ("adversarial", "ids", "labels", "robust")}
        return Exported(**arrays, eps=float(data["eps"]), norm=str(data["norm"]))
