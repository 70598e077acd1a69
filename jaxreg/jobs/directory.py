"""A study as a directory of jobs: what each one trains, and how far it is.

    STUDY/plan.json              the config and sweep that were launched last
    STUDY/jobs/NUMBER-HASH/      a workdir of its own for some of the trials: its config names them
    STUDY/report/                all jobs as one study

A trial's id is the hash of what determines it. A launch makes jobs of those trials alone that no job has, so a study
grows by seeds or settings and trains nothing twice, and jobs of several machines can be copied into one directory.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from etils import epath

from jaxreg import config as configs
from jaxreg.config import Plain
from jaxreg.jobs import packing
from jaxreg.jobs.record import FREE, differences, flat
from jaxreg.runtime.files import read_json, write_json
from jaxreg.runtime.workdir import Workdir, is_claimed
from jaxreg.spec import StudySpec, digest, require
from jaxreg.training.program import programs_of


class JobState(NamedTuple):
    """How far a job is."""

    workdir: Workdir
    trials: int
    word: str  # done, running, stopped or waiting
    note: str  # the steps that are trained and saved, by program


def workdirs(study: epath.PathLike) -> list[Workdir]:
    """The workdirs that make up a study: its jobs in the order in which they were made, after the study's own."""
    own = Workdir(study)
    return ([own] if own.config.exists() else []) + own.members()


def of_jobs(study: epath.PathLike) -> bool:
    """Whether the study has jobs; one that was only planned has none."""
    return bool(Workdir(study).members())


def saved(study: epath.PathLike, launched: bool = True) -> Plain | None:
    """The config and sweep of a study of jobs or of a workdir, None where there is neither.

    A directory that is both, a workdir that grew, has those that were `launched` last, and its own.
    """
    own = Workdir(study)
    for path in (own.plan, own.config) if launched else (own.config, own.plan):
        if path.exists():
            found: Plain = read_json(path)
            return found
    return None


def trials_in(workdir: Workdir) -> list[str]:
    """The ids of the trials of one workdir."""
    held = workdir.read_config()
    named: list[str] | None = held["config"].get("trials")
    return named if named is not None else [t.id for t in configs.resolve(held["config"], held["sweep"]).trials]


def missing(study: StudySpec, directory: epath.PathLike | None) -> StudySpec:
    """The study with those of its trials alone that no workdir in `directory` has."""
    there = {name for workdir in (workdirs(directory) if directory else []) for name in trials_in(workdir)}
    return dataclasses.replace(study, trials=tuple(t for t in study.trials if t.id not in there))


def base(config: Plain) -> Plain:
    """What all trials of a study have in common: its config without seeds, regularizers, and what trains nothing."""
    kept = {key: value for key, value in config.items() if key not in (*FREE, "trials", "seeds", "regularizers")}
    return flat(kept | {"dataset": {k: v for k, v in config.get("dataset", {}).items() if k != "data_dir"}})


def check_grows(directory: epath.PathLike, config: Plain) -> None:
    """Checks that a study may grow to what `config` describes: by seeds, regularizers and settings of a sweep alone.

    Raises: SpecError: with every difference to what was launched before: trials would differ by what no label tells.
    """
    paths = [Workdir(directory).plan, *(workdir.config for workdir in workdirs(directory))]
    for path in (path for path in paths if path.exists()):
        held = read_json(path)["config"]
        name, new = held["study"], config["study"]
        require(name == new, f"{directory} holds the study {name!r}: choose another --workdir for {new!r}.")
        different = differences(base(held), base(config))
        cure = "restore the config, put the new values into its sweep(), or choose another --workdir"
        require(not different, f"{directory} holds trials of another config ({'; '.join(different)}): {cure}.")


def settle(
    directory: epath.PathLike, study: StudySpec, config: Plain, sweep: Sequence[Plain], packed: Iterable[packing.Job]
) -> list[Workdir]:
    """Writes `packed` as new jobs, tells every workdir the study's present probes, and returns all workdirs."""
    own = Workdir(directory)
    write_json(own.plan, {"config": config, "sweep": list(sweep)})
    owners: dict[str, int] = {}
    for place, overrides in enumerate(sweep):
        for trial in configs.trials_of(config, overrides):
            owners.setdefault(trial.id, place)
    for job in packed:
        _write(own, [t.id for t in job.trials], config, sweep, owners)
    execution = dataclasses.asdict(study.execution)
    free = {"probes": config["probes"], "launch": config.get("launch", {}), "execution": execution}
    for workdir in workdirs(own):
        held = workdir.read_config()
        write_json(workdir.config, held | {"config": held["config"] | free})
    return workdirs(own)


def _write(study: Workdir, names: list[str], config: Plain, sweep: Sequence[Plain], owners: dict[str, int]) -> None:
    number = 1 + max((int(job.name.split("-")[0]) for job in study.members()), default=-1)
    job, places = Workdir(study.jobs / f"{number:03d}-{digest(sorted(names))}"), sorted({owners[n] for n in names})
    write_json(job.config, {"config": config | {"trials": names}, "sweep": [sweep[i] for i in places]})


def finish(workdir: Workdir, config: Plain) -> None:
    """Notes that everything the config asks for is there."""
    write_json(workdir.done, config["probes"])


def is_done(workdir: Workdir) -> bool:
    """Whether everything that the workdir's present config asks for is there."""
    present = workdir.read_config()["config"]["probes"]
    return workdir.done.exists() and read_json(workdir.done) == present


def state(workdir: Workdir) -> JobState:
    """How far one job is, from its files alone."""
    started = workdir.provenance.exists()
    word = "running" if is_claimed(workdir) else "done" if is_done(workdir) else "stopped" if started else "waiting"
    return JobState(workdir, len(trials_in(workdir)), word, _trained(workdir) if started else "")


def _trained(workdir: Workdir) -> str:
    held = workdir.read_config()
    programs = programs_of(configs.resolve(held["config"], held["sweep"]))
    return ", ".join(f"step {workdir.step(p.id)} of {p.steps}" for p in programs)


def status(study: epath.PathLike) -> str:
    """A line a job, and how many are done."""
    states = [state(workdir) for workdir in workdirs(study)]
    lines = [f"{s.workdir.name}  {s.trials:4d} trials  {s.word:8s} {s.note}".rstrip() for s in states]
    counts = Counter(s.word for s in states)
    return "\n".join([*lines, f"{len(states)} jobs: " + ", ".join(f"{n} {word}" for word, n in sorted(counts.items()))])
