"""Logits and features of every split from trained trials: computed once, saved a file a trial and split."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.data import Split
from jaxreg.models import Head, head
from jaxreg.runtime import hosts, parallel, precision
from jaxreg.runtime.files import read_arrays, write_arrays
from jaxreg.runtime.progress import Progress
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import TrialSpec
from jaxreg.training.program import Program, Run
from jaxreg.training.step import Fixed, TrainState

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a program's trials say of one split, as NumPy arrays."""

    logits: np.ndarray  # float32 [T, N, K], raw
    features: np.ndarray  # float32 [T, N, D]
    labels: np.ndarray  # int32 [N]
    ids: np.ndarray  # [N], as the dataset has them


def is_done(program: Program, splits: Mapping[str, Split], workdir: Workdir) -> bool:
    """Whether every file of every trial is there, with as many examples as its split has."""
    return hosts.on_first(
        lambda: (
            all(workdir.predictions(trial.id, "head").exists() for trial in program.trials)
            and all(_is_saved(program, name, split, workdir) for name, split in splits.items())
        )
    )


def _is_saved(program: Program, name: str, split: Split, workdir: Workdir) -> bool:
    paths = [workdir.predictions(trial.id, name) for trial in program.trials]
    if not all(path.exists() for path in paths):
        return False
    last = read_arrays(paths[-1])  # written last; all of them have its size
    return len(last["labels"]) == len(split) and str(last.get("precision")) == precision.chosen()


def predict(program: Program, splits: Mapping[str, Split], state: TrainState, fixed: Fixed, run: Run) -> None:
    """Runs every split through every trial in evaluation mode, un-augmented, and saves what comes out."""
    count = len(program.trials)
    missing = missing_splits(program, splits, run.workdir)
    with Progress("predict", sum(map(len, missing.values())), "examples") as progress:
        for name, split in missing.items():
            logits, features = predict_split(name, split, (state.params, state.stats), count, fixed, run, progress)
            own = {"logits": logits, "features": features}
            # At another precision they are predicted anew.
            shared = {"labels": split.labels, "ids": split.ids, "precision": np.array(precision.chosen())}
            _save(program, name, own, shared, run.workdir)
    kernel, bias = parallel.fetch(head(state.params), count)
    _save(program, "head", {"kernel": kernel, "bias": bias}, {}, run.workdir)


def missing_splits(program: Program, splits: Mapping[str, Split], workdir: Workdir) -> dict[str, Split]:
    """The splits that some trial has no predictions of."""
    names = hosts.on_first(lambda: [n for n, split in splits.items() if not _is_saved(program, n, split, workdir)])
    return {name: splits[name] for name in names}


def _save(
    program: Program, name: str, own: dict[str, np.ndarray], shared: dict[str, np.ndarray], workdir: Workdir
) -> None:
    """Writes a file a trial, with its part of the stacks [T, ...]; all processes wait until they are there."""

    def write() -> None:
        for i, trial in enumerate(program.trials):
            write_arrays(workdir.predictions(trial.id, name), {k: stack[i] for k, stack in own.items()} | shared)

    hosts.on_first(write)


@precision.careful
def predict_split(
    name: str, split: Split, weights: tuple[Any, Any], count: int, fixed: Fixed, run: Run, progress: Progress
) -> Iterator[np.ndarray]:
    """Logits [T, N, K] and features [T, N, D]; the next batch is under way while one is fetched."""
    forward = _program(fixed, run.mesh, run.local)
    parts, pending = [], None
    batches = padded_batches(split.images, run.execution.eval_batch_size)
    for images, used in itertools.chain(batches, [(None, 0)]):
        started = None if images is None else (forward(weights, parallel.put_shared(images, run.mesh)), used)
        if pending is not None:
            parts.append([a[:, : pending[1]] for a in parallel.fetch(pending[0], count)])
            progress.advance(pending[1], f"{count} trials, {name}")
            run.preemption.check()
        pending = started
    return (np.concatenate(arrays, 1) for arrays in zip(*parts))


@functools.lru_cache(maxsize=2)
def _program(fixed: Fixed, mesh: parallel.Mesh, local: parallel.Local) -> Any:
    """Kept: what is predicted after the last step compiled for every snapshot before it."""
    return parallel.per_trial(functools.partial(_forward, fixed=fixed), mesh, local)


def _forward(weights: tuple[Any, Any], images_BHWC: Array, *, fixed: Fixed) -> tuple[Array, Array]:
    x_BHWC = images_BHWC.astype(jnp.float32) / fixed.scale
    logits_BK, features_BD, _ = fixed.model.apply(*weights, x_BHWC, train=False)
    return logits_BK, features_BD


@precision.careful
def own_features(weights: tuple[Any, Any], images_TNHWC: np.ndarray, fixed: Fixed, run: Run) -> np.ndarray:
    """Features [T, N, D] of images (float32 in [0, 1]) that every trial has of its own, such as adversarial ones."""
    count, size = len(images_TNHWC), run.execution.eval_batch_size
    run_all = parallel.per_trial(functools.partial(_own_forward, fixed=fixed), run.mesh)
    parts = []
    for images, used in padded_batches(images_TNHWC.swapaxes(0, 1), size):
        own = parallel.put_trials(images.swapaxes(0, 1), run.mesh)
        features = parallel.fetch(run_all((*weights, own), ()), count)
        parts.append(features[:, :used])
    return np.concatenate(parts, 1)


def _own_forward(one: tuple[Any, Any, Array], _: Any, *, fixed: Fixed) -> Array:
    params, stats, x_BHWC = one
    return fixed.model.apply(params, stats, x_BHWC, train=False)[1]


def padded_batches(images: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of exactly `size` images, the last one padded with zeros, and how many of each are real."""
    for first in range(0, len(images), size):
        batch = np.asarray(images[first : first + size])
        missing = size - len(batch)
        yield np.pad(batch, [(0, missing)] + [(0, 0)] * (batch.ndim - 1)), len(batch)


def load(trials: Sequence[TrialSpec], workdir: Workdir, split: str) -> Predictions:
    """The saved predictions of one split, stacked in the order of `trials`.

    Raises: ValueError: naming the first trial whose labels or ids are not those of the first one.
    """
    parts = [read_arrays(workdir.predictions(trial.id, split)) for trial in trials]
    _check_alike(trials, parts, split)
    logits, features = (np.stack([part[name] for part in parts]) for name in ("logits", "features"))
    return Predictions(logits, features, parts[0]["labels"], parts[0]["ids"])


def _check_alike(trials: Sequence[TrialSpec], parts: Sequence[Mapping[str, np.ndarray]], split: str) -> None:
    for trial, part in zip(trials, parts):
        for name in ("labels", "ids"):
            first, own = parts[0][name], part[name]
            if not np.array_equal(first, own):
                at = int(np.argmax(first != own)) if first.shape == own.shape else None
                told = (
                    f"{len(own)} and not {len(first)}" if at is None else f"{own[at]!s} and not {first[at]!s} at {at}"
                )
                raise ValueError(
                    f"{split} of trial {trial.id}: {name} are not those of trial {trials[0].id} ({told}): "
                    "remove its predictions and predict again."
                )


def load_head(trials: Sequence[TrialSpec], workdir: Workdir) -> Head:
    """The saved last layers, stacked in the order of `trials`."""
    parts = [read_arrays(workdir.predictions(trial.id, "head")) for trial in trials]
    return Head(*(np.stack([part[name] for part in parts]) for name in ("kernel", "bias")))
