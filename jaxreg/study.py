"""A study from its spec to its report, stage by stage; what is finished is not done again."""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from etils import epath

from jaxreg import claims, data, results
from jaxreg.config import Plain
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import preflight
from jaxreg.measured import Measured
from jaxreg.probes import PROBES, check_examples, chosen, splits_of
from jaxreg.probes import check as check_probes
from jaxreg.runtime import hosts, parallel, workdir
from jaxreg.runtime.files import write_arrays
from jaxreg.runtime.preemption import Preemption
from jaxreg.spec import StudySpec, require
from jaxreg.trained import Trained
from jaxreg.training import predictions
from jaxreg.training.loop import train
from jaxreg.training.program import Program, Run, fixed_parts, programs_of

STAGES = ("train", "predict", "probe", "report")


@dataclasses.dataclass(frozen=True)
class Job:
    """One program of a study on its way; what several stages need is made once, when first asked for."""

    program: Program
    study: StudySpec
    run: Run
    provenance: workdir.Provenance

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The program's dataset, decoded or read from the cache beside the workdir."""
        spec = self.program.dataset
        cache = self.run.directory.parent / "data_cache"
        where = {"data_dir": spec.data_dir or None, "cache_dir": str(cache)}
        load = functools.partial(data.load, spec.name, validation=spec.validation, **where)
        if hosts.is_first():
            print(f"data: {spec.name} (decoded once into {cache})", file=sys.stderr, flush=True)
        return hosts.one_first(load)  # it decodes; the others then read what it left

    @functools.cached_property
    def splits(self) -> dict[str, data.Split]:
        """What its trials are to say something of."""
        return splits_of(self.dataset, self.study.probes)

    @property
    def is_predicted(self) -> bool:
        """Whether its predictions are saved, and so its training is done."""
        return predictions.is_done(self.program, self.splits, self.run.directory)

    @functools.cached_property
    def trained(self) -> Trained:
        """The trained trials: from their last checkpoint, training what is left."""
        check_examples(self.study.probes, self.dataset)
        fixed = fixed_parts(self.program, self.dataset, self.run.mesh)
        with self.provenance.stage("train"):
            state = train(self.program, self.dataset, fixed, self.run)
        return Trained(self.program, self.dataset, fixed, state, self.run)


def train_stage(job: Job) -> None:
    """Trains what is not trained; trials with predictions are."""
    if not job.is_predicted:
        _ = job.trained


def predict_stage(job: Job) -> None:
    """Saves logits and features of every split."""
    if not job.is_predicted:
        trained = job.trained
        with job.provenance.stage("predict"):
            predictions.predict(job.program, job.splits, trained.state, trained.fixed, job.run)


def probe_stage(job: Job) -> None:
    """Measures what is not measured yet under the present settings of each probe."""
    predict_stage(job)
    for name in chosen(job.study.probes):
        job.run.preemption.check()
        probe = PROBES[name]
        spec = probe.settings(job.study.probes)
        marker = job.run.directory / "probes" / name / f"{job.program.id}.json"
        if not hosts.on_first(functools.partial(_is_measured, marker, spec)):
            trained = job.trained
            with job.provenance.stage(f"probe/{name}"):
                # A study whose every trial froze still ends in a report that says so.
                failed = trained.failed
                measured = [] if failed.all() else probe.measure(trained, spec)
                hosts.on_first(functools.partial(_save, job, name, measured, failed))
            # Last: a probe with a marker is whole.
            hosts.on_first(functools.partial(workdir.write_json, marker, _as_json(spec)))


def _is_measured(marker: epath.Path, spec: Any) -> bool:
    return marker.exists() and json.loads(marker.read_text()) == _as_json(spec)


def _as_json(spec: Any) -> Any:
    return json.loads(json.dumps(spec, default=dataclasses.asdict))


def _save(job: Job, probe: str, measured: list[Measured], failed: np.ndarray) -> None:
    """Writes per-example arrays a trial, then the program's rows; those of frozen trials are no results."""
    folder, tables = job.run.directory / "probes" / probe, [results.SCHEMA.empty_table()]
    healthy = [(t, m) for t, m, froze in zip(job.program.trials, measured, failed) if not froze]
    for trial, found in healthy:
        write_arrays(folder / f"{trial.id}.npz", found.arrays)
        origin = results.Origin(job.study.name, job.program.id, trial.id, trial.setting, trial.seed)
        tables.append(results.rows_to_table(origin, probe, found.rows))
    results.write(folder / f"{job.program.id}.parquet", pa.concat_tables(tables))


PER_PROGRAM: dict[str, Callable[[Job], None]] = {"train": train_stage, "predict": predict_stage, "probe": probe_stage}


def run(
    command: str, study: StudySpec, config: Plain, sweep: list[Plain], directory: epath.Path, preemption: Preemption
) -> int:
    """Runs one stage, or all of them for `study`, of every program; returns an exit code."""
    programs = programs_of(study)
    hosts.check_alike([_shared(config), sweep, metadata.version("jax"), [program.id for program in programs]])
    hosts.everywhere(functools.partial(_check, study, programs, directory))
    mesh = parallel.make_mesh(study.execution.data_devices)
    run = Run(directory, mesh, study.execution, preemption, study.probes.geometry.snapshots)
    stages = STAGES if command == "study" else (command,)
    with contextlib.ExitStack() as held:
        hosts.on_first(lambda: held.enter_context(workdir.claim(directory)))
        hosts.on_first(lambda: workdir.settle(directory, config, sweep))
        provenance = workdir.Provenance(directory, _precision(study))
        for program in programs:
            job = Job(program, study, run, provenance)  # lets go of the one before, and of its state on the devices
            for stage in stages:
                if stage in PER_PROGRAM:
                    PER_PROGRAM[stage](job)
                    preemption.check()
        if "trials" in config and "report" in stages:  # one of the jobs of a study, whose report is of all of them
            hosts.on_first(lambda: results.gather(directory))
        elif "report" in stages:
            with provenance.stage("report"):
                hosts.on_first(lambda: report([directory]))
        if command == "study":
            hosts.on_first(lambda: jobs.finish(directory, config))
    return 0


def _check(study: StudySpec, programs: list[Program], directory: epath.Path) -> None:
    for program in programs:
        check_probes(study.probes, preflight.check(program).num_classes)
    own = (directory / "config.json").exists() or not jobs.of_jobs(directory)
    require(own, f"{directory} holds a study of jobs: go on with launch/local.py, or choose another --workdir.")


def _shared(config: Plain) -> Plain:
    """What of a config must be the same for every process of a job: all but which process it is."""
    execution = {k: v for k, v in config["execution"].items() if k != "distributed"}
    return config | {"execution": execution}


def report(directories: list[epath.Path]) -> int:
    """Joins the probes' rows of each workdir, tests the claims, writes one report into the first, prints both."""
    from jaxreg.report import data as reported
    from jaxreg.report import page, text  # draws: not for a plan
    from jaxreg.report.tables import MAIN, calibration, verdicts

    for directory in directories:
        own = (directory / "provenance.json").exists()
        require(own or jobs.of_jobs(directory), f"{directory} holds no study: name the --workdir of one.")
        if own:
            results.gather(directory)
    found = reported.load(directories)
    _name_unfinished(directories)
    tested = claims.evaluate(found.frame)
    claims.save(tested, directories[0] / "report" / "tables")
    path = page.build(directories, claims=claims.with_tests(tested), data=found)
    shown = found.limited()
    parts = [
        *(text.printed(table, shown.frame) for table in (MAIN, calibration.TABLES[0])),
        verdicts.text(shown),
        page.left_out(found, shown),
        "\n".join(claims.headlines(tested)),
        f"report: {path}",
    ]
    print("\n\n".join(part for part in parts if part))
    return 0


def with_results(directory: epath.Path) -> list[epath.Path]:
    """The workdirs of a study that have results.

    Raises: SpecError: if none has.
    """
    found = [w for w in jobs.workdirs(directory) if (w / "results.parquet").exists()]
    require(bool(found), f"{directory} holds no results: name the --workdir of a study that was measured.")
    return found


def _name_unfinished(directories: list[epath.Path]) -> None:
    """Says which jobs a report lacks."""
    for directory in filter(jobs.of_jobs, directories):
        lacking = [workdir.name for workdir in jobs.workdirs(directory) if not jobs.is_done(workdir)]
        if lacking:
            some = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
            print(f"{directory}: {len(lacking)} jobs are not finished ({some}).", file=sys.stderr, flush=True)


def _precision(study: StudySpec) -> str:
    dtypes = sorted({trial.model.dtype for trial in study.trials})
    default = getattr(jax.config, "jax_default_matmul_precision") or "default"  # noqa: B009  (unknown to the type checker)
    return f"compute {'/'.join(dtypes)}, matmul {default}, parameters and logits float32"
