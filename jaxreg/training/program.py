"""A study's trials, grouped into programs, and what a program's step is made of: ONE compilation for all its trials."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg import data, models
from jaxreg.data.augment import augment
from jaxreg.regularizers import apply as regularizers
from jaxreg.runtime import parallel
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import DatasetSpec, ExecutionSpec, ModelSpec, StudySpec, TrialSpec, digest
from jaxreg.training.checkpoint import Wanted
from jaxreg.training.optimizer import make_optimizer, numbers_of, structure_of
from jaxreg.training.step import Fixed, Settings

SHOWN = 80  # last letters of a dataset in the name of a program


@dataclasses.dataclass(frozen=True)
class Program:
    """Trials that run as ONE compiled train step; they differ in traced numbers and seeds alone."""

    trials: tuple[TrialSpec, ...]

    @property
    def id(self) -> str:
        """A readable name that ends in the hash of its trials."""
        dataset = self.dataset.name.replace("/", "_")[-SHOWN:]  # a folder is called so: its name must not be too long
        return f"{dataset}-{self.model.name}-{digest([t.id for t in self.trials])}"

    @property
    def dataset(self) -> DatasetSpec:
        """The dataset of all its trials."""
        return self.trials[0].dataset

    @property
    def model(self) -> ModelSpec:
        """The network of all its trials."""
        return self.trials[0].model

    @property
    def batch_size(self) -> int:
        """Examples a step of each trial."""
        return self.trials[0].batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps of each trial."""
        return self.trials[0].steps


def structure(trial: TrialSpec) -> tuple[Any, ...]:
    """What two trials must share to run in one program; regularizers, their numbers and seeds are data."""
    return (trial.dataset, trial.model, structure_of(trial.optimizer), trial.batch_size, trial.steps)


def programs_of(study: StudySpec) -> list[Program]:
    """The study's programs, in order of their first trial; trials keep their order."""
    groups: dict[tuple[Any, ...], list[TrialSpec]] = {}
    for trial in study.trials:
        groups.setdefault(structure(trial), []).append(trial)
    return [Program(tuple(trials)) for trials in groups.values()]


class Run(NamedTuple):
    """Where and how a program runs."""

    workdir: Workdir
    mesh: parallel.Mesh
    execution: ExecutionSpec
    preemption: Preemption
    snapshots: Wanted = 0  # which parameters to keep for good

    @property
    def local(self) -> parallel.Local:
        """How several trials share a device; one after another as long as nothing was measured for "auto"."""
        way = self.execution.local_trials
        return "map" if way == "auto" else way


def fixed_parts(program: Program, dataset: data.Dataset, mesh: parallel.Mesh) -> Fixed:
    """All of the program's train step that does not differ between its trials."""
    return Fixed(
        model=make_model(program, dataset),
        optimizer=make_optimizer(program.trials[0].optimizer, program.steps),
        regularizers=regularizers.functions_of([t.regularizer.name for t in program.trials]),
        augment=augmentation(program.dataset),
        split_batch=parallel.split_batch(mesh),
        classes=len(dataset.classes),
        scale=dataset.scale,
    )


def make_model(program: Program, dataset: data.Dataset) -> models.Model:
    """The program's network for the images of `dataset`, with their normalisation inside."""
    spec, shape = program.model, dataset.splits["train"].images.shape[1:]
    options: dict[str, Any] = dict(spec.options)
    moments: dict[str, Any] = {"mean": dataset.mean, "std": dataset.std}
    return models.make(
        spec.name, classes=len(dataset.classes), image_shape=shape, dtype=spec.dtype, **moments, **options
    )


def augmentation(spec: DatasetSpec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(keys_B, x_BHWC) -> x_BHWC: the augmentations that the dataset's spec names, one after another."""
    hyper = {"padding": spec.padding, "cutout_size": spec.cutout_size}
    return lambda keys_B, x_BHWC: augment(spec.augment, keys_B, x_BHWC, hyper)


def settings_of(program: Program, fixed: Fixed) -> Settings:
    """The traced settings of the program's trials, stacked [T]."""
    chosen = [t.regularizer for t in program.trials]
    names, hypers = [r.name for r in chosen], [dict(r.hyperparameters) for r in chosen]
    return Settings(
        seed=jnp.array([t.seed for t in program.trials], jnp.uint32),
        choice=regularizers.choices(fixed.regularizers, names, hypers),
        optimizer=numbers_of([t.optimizer for t in program.trials]),
    )
