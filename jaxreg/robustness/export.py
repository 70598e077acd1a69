"""Adversarial examples as a file for another toolbox, and back."""

import io
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxreg.names import named, radius_texts
from jaxreg.runtime.files import read_arrays, write_whole
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import require

PROBE = "robustness"


class Exported(NamedTuple):
    """Adversarial examples [N, H, W, C] float32 in [0, 1], their example ids, labels, masks, radius and norm."""

    adversarial: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    robust: np.ndarray
    eps: float
    norm: str


def save(path: epath.PathLike, exported: Exported) -> None:
    """Writes an .npz of plain arrays (`numpy.load` reads it), whole or not at all.

    Raises: ValueError: if the arrays do not have the same number of examples.
    """
    counts = {name: len(getattr(exported, name)) for name in ("adversarial", "ids", "labels", "robust")}
    if len(set(counts.values())) > 1:
        raise ValueError(f"all arrays of an export need one number of examples, got {counts}.")
    memory = io.BytesIO()
    arrays: Any = {name: np.asarray(value) for name, value in exported._asdict().items()}
    np.savez_compressed(memory, **arrays)
    write_whole(path, memory.getvalue())


def load(path: epath.PathLike) -> Exported:
    """Reads what `save` wrote."""
    arrays: Any = read_arrays(epath.Path(path))
    return Exported(**arrays)._replace(eps=float(arrays["eps"]), norm=str(arrays["norm"]))


def of_workdir(workdir: Workdir) -> list[epath.Path]:
    """Writes exports/TRIAL/worst-EPS.npz for every attacked trial and radius of a workdir; returns their paths.

    Raises: SpecError: if no trial of the workdir was attacked.
    """
    trials = workdir.measured(PROBE)
    require(bool(trials), f"{workdir} holds no adversarial examples: run the robustness probe first.")
    return [path for trial in trials for path in _of_trial(workdir, trial)]


def _of_trial(workdir: Workdir, trial: str) -> list[epath.Path]:
    probed, clean = workdir.arrays(PROBE, trial), read_arrays(workdir.predictions(trial, "test"))
    attacked, written = read_arrays(probed), []
    require("radii" in attacked, f"{probed} does not hold its exact radii: measure robustness again.")
    radii, norm = attacked["radii"], str(attacked["norm"])
    for eps, text in zip(radii, radius_texts(radii)):
        images, robust = (attacked[named(name, "worst", text)] for name in ("adversarial", "robust"))
        path = workdir.export(trial, f"worst-{text}")
        ids, labels = (clean[key][: len(images)] for key in ("ids", "labels"))
        save(path, Exported(images, ids, labels, robust, float(eps), norm))
        written.append(path)
    return written
