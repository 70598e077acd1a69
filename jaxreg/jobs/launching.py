"""From a study to the jobs that it still needs: priced, packed, and described as `plan` prints it."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from etils import epath

from jaxreg import probes
from jaxreg.config import Plain
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import packing, preflight, timing
from jaxreg.jobs.packing import HOUR, Job, Price
from jaxreg.runtime import parallel
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import StudySpec
from jaxreg.training.program import Program, programs_of


def overview(study: StudySpec) -> str:
    """What would run: trials, programs, devices, steps, and the device memory that it should take."""
    mesh = parallel.make_mesh(study.execution.data_devices)
    programs = programs_of(study)
    head = [
        f"study {study.name}: {len(study.trials)} trials in {len(programs)} programs",
        f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}, {dict(mesh.shape)}",
    ]
    return "\n".join(head + [f"\n{_about(program, mesh, study)}" for program in programs])


def _about(program: Program, mesh: parallel.Mesh, study: StudySpec) -> str:
    about = preflight.check(program)
    probes.check(study.probes, about)
    found = preflight.annotated(program)
    if found is not None:
        probes.check_data(study.probes, found)
    way = timing.picked(program, mesh, study.execution)
    needs = preflight.needs(program, about, mesh, way.local)
    settings = Counter(trial.setting for trial in program.trials)
    padding = parallel.padded(len(program.trials), mesh) - len(program.trials)
    height, width, channels = about.image_shape
    lines = [
        f"program {program.id}: {len(program.trials)} trials (+ {padding} padding), {program.steps} steps each",
        f"  data   {about.name}: {height}x{width}x{channels}, {about.num_classes} classes, {dict(about.counts)}",
        f"  model  {program.model.name} {program.model.dtype}, batch {program.batch_size}",
        f"  layers {preflight.layers(program, about)}",
        f"  trials of one device: {way.local} ({way.reason})",
        f"  memory a device: state {_mib(needs.state)}, activations {_mib(needs.activations)}, data {_mib(needs.data)}",
    ]
    if about.unused:
        lines.insert(2, f"  note   the dataset's own {about.unused} validation examples are not used: {_OWN}")
    lines += [f"  {count} x {setting.label}" for setting, count in settings.items()]
    lines += [f"  note: {line}" for line in probes.fewer(study.probes, about, program.steps)]
    return "\n".join(lines)


_OWN = "leave out dataset.validation to use them"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


SHOWN = 12  # settings of a sweep, and jobs, that are printed in full


class Planned(NamedTuple):
    """The trials of a study that no job has, packed into jobs."""

    new: StudySpec
    prices: Mapping[str, Price]  # by program
    jobs: Sequence[Job]
    measured: bool  # whether prices are seconds


def planned(study: StudySpec, directory: epath.PathLike | None, measure: bool) -> Planned:
    """Prices and packs what is new in `study`; `measure` trains a few real steps of each program.

    Raises: SpecError: whatever would stop a job later.
    """
    new = jobs.missing(study, directory)
    cache = str(Workdir(directory).jobs_cache) if directory else None
    prices = {}
    for program in programs_of(new):
        about = preflight.check(program)
        probes.check(study.probes, about)
        found = _with_picked(program, new)
        prices[program.id] = packing.estimate(program, found, about)
        if measure:
            prices[program.id] = timing.measured(program, found, cache, prices[program.id])
    return Planned(new, prices, packing.pack(new, prices, measure), measure)


def _with_picked(program: Program, study: StudySpec) -> StudySpec:
    """The same study, with the way in which the program's trials share a device."""
    if study.execution.local_trials != "auto":
        return study  # touches no device
    mesh = parallel.make_mesh(study.execution.data_devices)
    return dataclasses.replace(study, execution=timing.with_picked(program, mesh, study.execution))


def prepare(
    study: StudySpec, config: Plain, sweep: Sequence[Plain], directory: epath.Path, measure: bool
) -> list[Workdir]:
    """Writes the jobs that the study still needs; returns every workdir of it.

    Raises: SpecError: if `directory` holds another study, or trials of another config, before anything is written.
    """
    jobs.check_grows(directory, config)
    return jobs.settle(directory, study, config, sweep, planned(study, directory, measure).jobs)


def command(workdir: epath.PathLike, study: StudySpec) -> list[str]:
    """What runs one job: on a CPU with as many devices as a job has, and a thread for each.

    So every launcher gives the same numbers to the bit, however many jobs share a machine: XLA:CPU splits a matrix
    product among its threads, by default as many as the cores that the process may use.
    """
    devices = study.execution.cpu_devices or study.launch.devices
    words = ["env", f"NPROC={devices}", sys.executable, "-m", "jaxreg", "study", f"--workdir={workdir}"]
    return [*words, f"--config.execution.cpu_devices={devices}"]


def described(found: Planned, sweep: Sequence[Plain], total: int) -> str:
    """The sweep, and the jobs with what each costs."""
    launch, new = found.new.launch, len(found.new.trials)
    lines = [f"sweep: {len(sweep)} settings", *(f"  {_setting(one)}" for one in sweep[:SHOWN])] if any(sweep) else []
    lines += [f"  ... and {len(sweep) - SHOWN} more"] if len(sweep) > SHOWN else []
    there = f", {total - new} trials have theirs already" if new < total else ""
    each = "1 device" if launch.devices == 1 else f"{launch.devices} devices"
    lines += [f"jobs: {len(found.jobs)} of {each} for {new} trials{there}"]
    lines += [f"  {_job(job, found)}" for job in found.jobs[:SHOWN]]
    lines += [f"  ... and {len(found.jobs) - SHOWN} more"] if len(found.jobs) > SHOWN else []
    return "\n".join([*lines, *_hours(found)])


def _setting(overrides: Plain) -> str:
    return ", ".join(f"{key}={value}" for key, value in overrides.items()) or "(as the config has it)"


def _job(job: Job, found: Planned) -> str:
    names = Counter(trial.model.name for trial in job.trials)
    trials = " + ".join(f"{count} x {name}" for name, count in names.items())
    cost = f"{job.cost / HOUR:.3g} h" if found.measured else f"{job.cost:.2g} FLOP a device"
    return f"{trials}: {cost}"


def _hours(found: Planned) -> list[str]:
    if not found.measured:
        return ["hours: unknown, as no step was measured (--measure runs a few)"] if found.jobs else []
    steps = [
        f"{name}: {price.training / HOUR:.3g} h a trial, {price.fixed:.0f} s to compile"
        for name, price in found.prices.items()
    ]
    whole, longest = (f(job.cost for job in found.jobs) / HOUR if found.jobs else 0.0 for f in (sum, max))
    return [*steps, f"hours of training: {whole:.3g} in all, {longest:.3g} in the longest job (probes come on top)"]
