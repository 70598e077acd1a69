"""A study from its spec to its report, stage by stage; what is finished is not done again."""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from etils import epath

from jaxreg import claims, conditions, data, results
from jaxreg.config import Plain
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import preflight, record, timing
from jaxreg.measured import Measured
from jaxreg.probes import PROBES, check, check_data, chosen, fewer, settings_of
from jaxreg.probes.geometry import splits_of
from jaxreg.runtime import hosts, parallel
from jaxreg.runtime.files import read_json, write_arrays, write_json
from jaxreg.runtime.precision import told
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir, claim
from jaxreg.spec import SpecError, StudySpec, require
from jaxreg.trained import Trained
from jaxreg.training import predictions
from jaxreg.training.loop import train
from jaxreg.training.program import Program, Run, fixed_parts, programs_of

STAGES = ("train", "predict", "probe", "report")


@dataclasses.dataclass(frozen=True)
class StudyProgram:
    """One program of a study on its way; what several stages need is made once, when first needed."""

    program: Program
    study: StudySpec
    run: Run
    provenance: record.Provenance

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The program's dataset, decoded or read from the cache beside the workdir."""
        spec, cache = self.program.dataset, self.run.workdir.data_cache
        where = {"data_dir": spec.data_dir or None, "cache_dir": str(cache)}
        load = functools.partial(_loaded, spec.name, validation=spec.validation, **where)
        if hosts.is_first():
            print(f"data: {spec.name} (decoded once into {cache})", file=sys.stderr, flush=True)
        found = hosts.one_first(load)  # process 0 decodes; the others then read what it left
        hosts.on_first(functools.partial(record.settle_data, self.run.workdir, spec.name, found.contents))
        check_data(self.study.probes, found)
        return found

    @functools.cached_property
    def splits(self) -> dict[str, data.Split]:
        """The examples that its trials predict."""
        return splits_of(self.dataset, self.study.probes.settings["geometry"])

    @property
    def is_predicted(self) -> bool:
        """Whether its predictions are saved, and so its training is done."""
        with self.careful():
            return predictions.is_done(self.program, self.splits, self.run.workdir)

    def careful(self) -> contextlib.AbstractContextManager[None]:
        """The precision of all that follows training."""
        return jax.default_matmul_precision(self.run.execution.precision)

    @functools.cached_property
    def trained(self) -> Trained:
        """The trained trials: from their last checkpoint, training what is left."""
        fixed = fixed_parts(self.program, self.dataset, self.run.mesh)
        with self.provenance.stage("train"):
            state = train(self.program, self.dataset, fixed, self.run)
        return Trained(self.program, self.dataset, fixed, state, self.run)


def _loaded(name: str, **how: Any) -> data.Dataset:
    """A dataset; what is wrong with it is said in one line."""
    try:
        return data.load(name, **how)
    except ValueError as error:
        raise SpecError(str(error)) from None


def train_stage(work: StudyProgram) -> None:
    """Trains what is not trained; trials with predictions are."""
    if not work.is_predicted:
        _ = work.trained


def predict_stage(work: StudyProgram) -> None:
    """Saves logits and features of every split."""
    if not work.is_predicted:
        trained = work.trained
        with work.provenance.stage("predict"), work.careful():
            predictions.predict(work.program, work.splits, trained.state, trained.fixed, work.run)


def probe_stage(work: StudyProgram) -> None:
    """Measures what is not measured yet under the present settings of each probe."""
    predict_stage(work)
    for name in chosen(work.study.probes):
        work.run.preemption.check()
        settings = settings_of(name, work.study.probes)
        marker = work.run.workdir.marker(name, work.program.id)
        rows = work.run.workdir.rows(name, work.program.id)
        said = {"settings": _as_json(settings), "conditions": _conditions(work, settings)}
        if not hosts.on_first(functools.partial(_is_measured, marker, rows, said)):
            with work.careful():
                _measure(work, name, settings)
            hosts.on_first(functools.partial(write_json, marker, said))  # last: a probe with a marker is whole


def _measure(work: StudyProgram, name: str, settings: Sequence[Any]) -> None:
    trained = work.trained
    with work.provenance.stage(f"probe/{name}"):
        # A study whose every trial froze still ends in a report that says so.
        failed = trained.failed
        measured = [] if failed.all() else PROBES[name].measure(trained, *settings)
        hosts.on_first(functools.partial(_save, work, name, measured, failed))


def _is_measured(marker: epath.Path, rows: epath.Path, said: Plain) -> bool:
    """Whether the rows are there, and a marker of the same settings and precision; the device does not matter."""
    held = read_json(marker) if marker.exists() and rows.exists() else {}
    same = held.get("conditions", {}).get("precision") == said["conditions"]["precision"]
    return same and held.get("settings") == said["settings"]


def _as_json(settings: Sequence[Any]) -> Any:
    return json.loads(json.dumps([dataclasses.asdict(one) for one in settings]))


def _conditions(work: StudyProgram, settings: Sequence[Any]) -> dict[str, str]:
    """What a probe runs with, as texts: device, compute type and precision, then its settings."""
    given = {name: value for one in settings for name, value in dataclasses.asdict(one).items()}
    device = {"device": jax.devices()[0].device_kind, "dtype": work.program.model.dtype}
    device["precision"] = work.run.execution.precision
    return device | {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


def _save(work: StudyProgram, probe: str, measured: list[Measured], failed: np.ndarray) -> None:
    """Writes per-example arrays a trial, then the program's rows; those of frozen trials are no results."""
    workdir, tables = work.run.workdir, [results.SCHEMA.empty_table()]
    healthy = [(t, m) for t, m, froze in zip(work.program.trials, measured, failed) if not froze]
    for trial, found in healthy:
        write_arrays(workdir.arrays(probe, trial.id), found.arrays)
        origin = results.Origin(work.study.name, work.program.id, trial.id, trial.setting, trial.seed)
        tables.append(results.rows_to_table(origin, probe, found.rows))
    results.write(workdir.rows(probe, work.program.id), pa.concat_tables(tables))


PER_PROGRAM: dict[str, Callable[[StudyProgram], None]] = {
    "train": train_stage,
    "predict": predict_stage,
    "probe": probe_stage,
}


def run(
    command: str, study: StudySpec, config: Plain, sweep: list[Plain], directory: epath.PathLike, preemption: Preemption
) -> int:
    """Runs one stage, or all of them for `study`, of every program; returns an exit code."""
    programs, workdir = programs_of(study), Workdir(directory)
    hosts.check_alike([_shared(config), sweep, metadata.version("jax"), [program.id for program in programs]])
    hosts.everywhere(functools.partial(_check, study, programs, workdir))
    mesh = parallel.make_mesh(study.execution.data_devices)
    run = Run(workdir, mesh, study.execution, preemption, study.probes.settings["geometry"].snapshots)
    stages = STAGES if command == "study" else (command,)
    with contextlib.ExitStack() as held:
        hosts.on_first(lambda: held.enter_context(claim(workdir)))
        hosts.on_first(lambda: record.settle(workdir, config, sweep))
        hosts.on_first(lambda: record.fix_claims(workdir, study.claims))
        provenance = record.Provenance(workdir, _precision(study))
        for program in programs:
            wanted = [PER_PROGRAM[name] for name in stages if name in PER_PROGRAM]
            own = run._replace(execution=timing.with_picked(program, mesh, study.execution)) if wanted else run
            work = StudyProgram(program, study, own, provenance)  # lets go of the one before, and of its device memory
            for stage in wanted:
                stage(work)
                preemption.check()
        if "trials" in config and "report" in stages:  # one of the jobs of a study, whose report is of all of them
            hosts.on_first(lambda: gather(workdir))
        elif "report" in stages:
            with provenance.stage("report"):
                hosts.on_first(lambda: report([workdir]))
        if command == "study":
            hosts.on_first(lambda: jobs.finish(workdir, config))
    return 0


def _check(study: StudySpec, programs: list[Program], workdir: Workdir) -> None:
    for program in programs:
        about = preflight.check(program)
        check(study.probes, about)
        for line in fewer(study.probes, about, program.steps) if hosts.is_first() else ():
            print(f"note: {line}", file=sys.stderr, flush=True)
    own = workdir.config.exists() or not jobs.of_jobs(workdir)
    require(own, f"{workdir} holds a study of jobs: go on with launch/local.py, or choose another --workdir.")


def _shared(config: Plain) -> Plain:
    """What of a config must be the same for every process of a job: all but which process it is."""
    execution = {k: v for k, v in config["execution"].items() if k != "distributed"}
    return config | {"execution": execution}


def gather(workdir: Workdir) -> None:
    """Joins what the probes of a workdir left into its tables of results and conditions."""
    results.gather(workdir)
    conditions.gather(workdir)


def report(directories: Sequence[epath.PathLike]) -> int:
    """Joins the probes' rows of each workdir, tests the claims, writes one report into the first, prints both."""
    from jaxreg.report import claimed, page, text
    from jaxreg.report import data as reported  # draws: not for a plan
    from jaxreg.report.tables import MAIN, calibration, verdicts

    studies = [Workdir(directory) for directory in directories]
    for study in studies:
        own = study.provenance.exists()
        require(own or jobs.of_jobs(study), f"{study} holds no study: name the --workdir of one.")
        if own:
            gather(study)
    record.check_alike([workdir for study in studies for workdir in jobs.workdirs(study)])
    found = reported.load(studies)
    _name_unfinished(studies)
    _name_equal(studies)
    judged = claimed.judged(found)
    claims.save(judged.table, judged.beside, judged.scatters, studies[0].report / "tables")
    path = page.build(studies, claimed=judged, data=found)
    shown = found.limited()
    parts = [
        *(text.printed(table, shown.frame) for table in (MAIN, calibration.TABLES[0])),
        verdicts.text(shown),
        page.left_out(found, shown),
        claims.grid(judged.table),
        "\n".join([*claims.headlines(judged.table), *judged.notes]),
        f"report: {path}",
    ]
    print("\n\n".join(part for part in parts if part))
    return 0


def with_results(directory: epath.PathLike) -> list[Workdir]:
    """The workdirs of a study that have results.

    Raises: SpecError: if none has.
    """
    found = [workdir for workdir in jobs.workdirs(directory) if workdir.results.exists()]
    require(bool(found), f"{directory} holds no results: name the --workdir of a study that was measured.")
    return found


def _name_unfinished(studies: Sequence[Workdir]) -> None:
    """Says which jobs a report lacks."""
    for study in filter(jobs.of_jobs, studies):
        lacking = [workdir.name for workdir in jobs.workdirs(study) if not jobs.is_done(workdir)]
        if lacking:
            some = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
            print(f"{study}: {len(lacking)} jobs are not finished ({some}).", file=sys.stderr, flush=True)


def _name_equal(studies: Sequence[Workdir]) -> None:
    """Says which of several workdirs hold trials that an earlier one answers for, and whose report shows all."""
    if len(studies) < 2:
        return
    seen: dict[str, Workdir] = {}
    for study in studies:
        own = {trial for _, trial, _ in results.join(with_results(study))[1]}
        equal = sorted(own & seen.keys())
        if equal:
            of = " and ".join(sorted({str(seen[trial]) for trial in equal}))
            told = f"note: {len(equal)} of {len(own)} trials of {study} are in {of} too, whose numbers count"
            print(f"{told}: {study} adds what is not measured there.", file=sys.stderr, flush=True)
        seen |= dict.fromkeys(own - seen.keys(), study)
    first = studies[0]
    alone = f"note: {first.report} shows all {len(studies)}; `python -m jaxreg report {first}` makes that of it alone"
    print(f"{alone}.", file=sys.stderr, flush=True)


def _precision(study: StudySpec) -> str:
    dtypes = sorted({trial.model.dtype for trial in study.trials})
    products = f"products {told() or 'default'} in training, {study.execution.precision} after it"
    return f"compute {'/'.join(dtypes)}, {products}, parameters and logits float32"
