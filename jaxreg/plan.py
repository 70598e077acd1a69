"""A study's trials, grouped into programs: those that share shapes and structure compile and run together."""

import dataclasses
from typing import Any

from jaxreg.optimizer import structure_of
from jaxreg.spec import DatasetSpec, ModelSpec, StudySpec, TrialSpec, digest


@dataclasses.dataclass(frozen=True)
class Program:
    """Trials that run as ONE compiled train step; they differ in traced numbers and seeds alone."""

    trials: tuple[TrialSpec, ...]

    @property
    def id(self) -> str:
        """A readable name that ends in the hash of its trials."""
        return f"{self.dataset.name.replace('/', '_')}-{self.model.name}-{digest([t.id for t in self.trials])}"

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


def programs(study: StudySpec) -> list[Program]:
    """The study's programs, in order of their first trial; trials keep their order."""
    groups: dict[tuple[Any, ...], list[TrialSpec]] = {}
    for trial in study.trials:
        groups.setdefault(structure(trial), []).append(trial)
    return [Program(tuple(trials)) for trials in groups.values()]
