"""A study as a directory of jobs: what each one trains, and how far it is.

    STUDY/plan.json              the config and sweep that were launched last
    STUDY/jobs/NUMBER-HASH/      a workdir of its own for some of the trials: its config names them
    STUDY/report/                all jobs as one study

A trial's id is the hash of what determines it. A launch makes jobs of those trials alone that no job has, so a study
grows by seeds or settings and trains nothing twice, and jobs of several machines can be copied into one directory.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from etils import epath

from jaxreg import config as configs
from jaxreg.config import Plain
from jaxreg.jobs import packing
from jaxreg.runtime.workdir import FREE, differences, flat, is_claimed, write_json
from jaxreg.spec import StudySpec, digest, require
from jaxreg.training.program import programs_of

DONE = "done.json"  # written last, by a run that finished everything: the probes that it measured


class State(NamedTuple):
    """How far a job is."""

    directory: epath.Path
    trials: int
    word: str  # done, running, stopped or waiting
    note: str  # the steps that are trained and saved, by program


def workdirs(study: epath.Path) -> list[epath.Path]:
    """The workdirs that make up a study: its jobs in the order in which they were made, after the study's own."""
    own = [study] if (study / "config.json").exists() else []
    return own + sorted(path.parent for path in study.glob("jobs/*/config.json"))


def of_jobs(study: epath.Path) -> bool:
    """Whether the study has jobs; one that was only planned has none."""
    return any(study.glob("jobs/*/config.json"))


def saved(directory: epath.Path, launched: bool = True) -> Plain | None:
    """The config and sweep of a study of jobs or of a workdir, None where there is neither.

    A directory that is both, a workdir that grew, has those that were `launched` last, and its own.
    """
    for name in ("plan.json", "config.json") if launched else ("config.json", "plan.json"):
        if (directory / name).exists():
            return json.loads((directory / name).read_text())
    return None


def trials_in(workdir: epath.Path) -> list[str]:
    """The ids of the trials of one workdir."""
    held = json.loads((workdir / "config.json").read_text())
    named = held["config"].get("trials")
    return named if named is not None else [t.id for t in configs.resolve(held["config"], held["sweep"]).trials]


def missing(study: StudySpec, directory: epath.Path | None) -> StudySpec:
    """The study with those of its trials alone that no workdir in `directory` has."""
    there = {name for workdir in (workdirs(directory) if directory else []) for name in trials_in(workdir)}
    return dataclasses.replace(study, trials=tuple(t for t in study.trials if t.id not in there))


def base(config: Plain) -> Plain:
    """What all trials of a study have in common: its config without seeds, regularizers, and what trains nothing."""
    kept = {key: value for key, value in config.items() if key not in (*FREE, "trials", "seeds", "regularizers")}
    return flat(kept | {"dataset": {k: v for k, v in config.get("dataset", {}).items() if k != "data_dir"}})


def check_grows(directory: epath.Path, config: Plain) -> None:
    """Checks that a study may grow to what `config` describes: by seeds, regularizers and settings of a sweep alone.

    Raises: SpecError: with every difference to what was launched before: trials would differ by what no label tells.
    """
    paths = [directory / "plan.json", *(workdir / "config.json" for workdir in workdirs(directory))]
    for path in (path for path in paths if path.exists()):
        held = json.loads(path.read_text())["config"]
        name, new = held["study"], config["study"]
        require(name == new, f"{directory} holds the study {name!r}: choose another --workdir for {new!r}.")
        different = differences(base(held), base(config))
        cure = "restore the config, put the new values into its sweep(), or choose another --workdir"
        require(not different, f"{directory} holds trials of another config ({'; '.join(different)}): {cure}.")


def settle(
    directory: epath.Path, study: StudySpec, config: Plain, sweep: Sequence[Plain], packed: Iterable[packing.Job]
) -> list[epath.Path]:
    """Writes `packed` as new jobs, tells every workdir the study's present probes, and returns all workdirs."""
    (directory / "jobs").mkdir(parents=True, exist_ok=True)
    write_json(directory / "plan.json", {"config": config, "sweep": list(sweep)})
    owners: dict[str, int] = {}
    for place, overrides in enumerate(sweep):
        for trial in configs.trials_of(config, overrides):
            owners.setdefault(trial.id, place)
    for job in packed:
        _write(directory / "jobs", [t.id for t in job.trials], config, sweep, owners)
    execution = dataclasses.asdict(study.execution)
    free = {"probes": config["probes"], "launch": config.get("launch", {}), "execution": execution}
    for workdir in workdirs(directory):
        held = json.loads((workdir / "config.json").read_text())
        write_json(workdir / "config.json", held | {"config": held["config"] | free})
    return workdirs(directory)


def _write(folder: epath.Path, names: list[str], config: Plain, sweep: Sequence[Plain], owners: dict[str, int]) -> None:
    number = 1 + max((int(path.name.split("-")[0]) for path in folder.glob("[0-9]*-*")), default=-1)
    path = folder / f"{number:03d}-{digest(sorted(names))}"
    path.mkdir(exist_ok=True)
    places = sorted({owners[name] for name in names})
    write_json(path / "config.json", {"config": config | {"trials": names}, "sweep": [sweep[i] for i in places]})


def finish(workdir: epath.Path, config: Plain) -> None:
    """Notes that everything the config asks for is there."""
    write_json(workdir / DONE, config["probes"])


def is_done(workdir: epath.Path) -> bool:
    """Whether everything that the workdir's present config asks for is there."""
    path = workdir / DONE
    present = json.loads((workdir / "config.json").read_text())["config"]["probes"]
    return path.exists() and json.loads(path.read_text()) == present


def state(workdir: epath.Path) -> State:
    """How far one job is, from its files alone."""
    started = (workdir / "provenance.json").exists()
    word = "running" if is_claimed(workdir) else "done" if is_done(workdir) else "stopped" if started else "waiting"
    return State(workdir, len(trials_in(workdir)), word, _trained(workdir) if started else "")


def _trained(workdir: epath.Path) -> str:
    held = json.loads((workdir / "config.json").read_text())
    programs = programs_of(configs.resolve(held["config"], held["sweep"]))
    return ", ".join(f"step {_last_step(workdir / 'checkpoints' / p.id)} of {p.steps}" for p in programs)


def _last_step(checkpoints: epath.Path) -> int:
    steps = [int(path.name) for path in checkpoints.iterdir() if path.name.isdigit()] if checkpoints.exists() else []
    return max(steps, default=0)


def status(study: epath.Path) -> str:
    """A line a job, and how many are done."""
    states = [state(workdir) for workdir in workdirs(study)]
    lines = [f"{s.directory.name}  {s.trials:4d} trials  {s.word:8s} {s.note}".rstrip() for s in states]
    counts: dict[str, Any] = {}
    for s in states:
        counts[s.word] = counts.get(s.word, 0) + 1
    return "\n".join([*lines, f"{len(states)} jobs: " + ", ".join(f"{n} {word}" for word, n in sorted(counts.items()))])
