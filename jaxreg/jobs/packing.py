"""Trials packed into jobs of a given number of devices, by memory and by what training them costs."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxreg import data, rng
from jaxreg.jobs import preflight
from jaxreg.runtime import parallel
from jaxreg.spec import ExecutionSpec, LaunchSpec, StudySpec, TrialSpec, require
from jaxreg.training.program import Program, programs_of

GIB, HOUR = 2**30, 3600.0
COPIES = 2  # of the state of every trial on its device, while a checkpoint is written from one of them


class Family(NamedTuple):
    """Trials of one program, seed and setting of the sweep: some numbers compare them, so they share a job."""

    program: str
    trials: tuple[TrialSpec, ...]


class Price(NamedTuple):
    """What one trial of a program asks of a device."""

    training: float  # of all its steps: seconds where measured, else floating point operations
    fixed: float  # once a job, whatever the number of trials: compilation
    fits: int  # trials that one device holds


class Job(NamedTuple):
    """Trials that one process, or one process a host, trains and measures."""

    trials: tuple[TrialSpec, ...]
    cost: float  # in the unit of its prices, on its devices


def families(study: StudySpec) -> list[Family]:
    """The families of a study, program by program."""
    found: dict[tuple[str, int, str], list[TrialSpec]] = {}
    for program in programs_of(study):
        name = program.id
        for trial in program.trials:
            found.setdefault((name, trial.seed, str(trial.overrides)), []).append(trial)
    return [Family(program, tuple(trials)) for (program, _, _), trials in found.items()]


def estimate(program: Program, study: StudySpec, about: data.Description) -> Price:
    """The price of a trial from shapes alone: a step is taken to cost three forward passes.

    Raises: SpecError: if not even one trial fits `launch.memory_gib`.
    """
    flops = 3.0 * forward_flops(program, about) * program.steps
    return Price(flops, 0.0, _fits(program, about, study.execution, study.launch))


def forward_flops(program: Program, about: data.Description) -> float:
    """Floating point operations of one batch through the network, as XLA counts them before optimisation."""
    model = preflight.abstract_model(program, about)
    params, stats = jax.eval_shape(lambda: model.init(rng.key(0)))
    images = jax.ShapeDtypeStruct((program.batch_size, *about.image_shape), jnp.float32)
    lowered = jax.jit(lambda p, s, x: model.apply(p, s, x, train=True)[0]).lower(params, stats, images)
    return float((lowered.cost_analysis() or {}).get("flops", 0.0)) or 1.0


def pack(study: StudySpec, prices: Mapping[str, Price], measured: bool) -> list[Job]:
    """Jobs for the trials of `study`: families in order, cut so that the dearest job is as cheap as it can be.

    `launch.jobs` jobs, more where memory or `launch.hours` demand it; without either bound, as few as fit.
    Raises: SpecError: if a family fits no job, or hours are limited before a step was measured.
    """
    launch, found = study.launch, families(study)
    rows = launch.devices // study.execution.data_devices
    require(rows > 0, f"launch.devices must be at least execution.data_devices, got {launch.devices}: raise it.")
    require(measured or not launch.hours, f"launch.hours = {launch.hours} needs a measured step time: add --measure.")
    for family in found:
        _check_fits(family, prices[family.program], rows, launch, _cost(_count([family]), prices, rows))
    fewest = _cut(found, prices, rows, launch.hours * HOUR or math.inf)
    cuts = fewest if launch.jobs <= len(fewest) else _even(found, prices, rows, launch.jobs)
    return [Job(tuple(t for f in part for t in f.trials), _cost(_count(part), prices, rows)) for part in cuts]


def _cost(counts: Mapping[str, int], prices: Mapping[str, Price], rows: int) -> float:
    """What a job of `counts` trials a program costs: they lie on `rows` devices, the last round padded."""
    return sum(-(-count // rows) * prices[name].training + prices[name].fixed for name, count in counts.items())


def _cut(found: Sequence[Family], prices: Mapping[str, Price], rows: int, limit: float) -> list[list[Family]]:
    """Families in order, a new job wherever the present one would cost more than `limit` or not fit."""
    parts: list[list[Family]] = []
    counts: Counter[str] = Counter()
    for family in found:
        longer = counts + Counter({family.program: len(family.trials)})
        fits = longer[family.program] <= rows * prices[family.program].fits
        if parts and fits and _cost(longer, prices, rows) <= limit:
            parts[-1].append(family)
            counts = longer
        else:
            parts.append([family])
            counts = _count([family])
    return parts


def _count(part: Sequence[Family]) -> Counter[str]:
    return sum((Counter({family.program: len(family.trials)}) for family in part), Counter())


def _even(found: Sequence[Family], prices: Mapping[str, Price], rows: int, jobs: int) -> list[list[Family]]:
    """The cut into at most `jobs` parts whose dearest part is cheapest, by bisection of the limit."""
    low, high = 0.0, _cost(_count(found), prices, rows)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_cut(found, prices, rows, middle)) <= jobs else (middle, high)
    return _cut(found, prices, rows, high)


def _fits(program: Program, about: data.Description, execution: ExecutionSpec, launch: LaunchSpec) -> int:
    """How many trials of the program one device holds."""
    if not launch.memory_gib:
        return 10**9
    one = Program(program.trials[:1])
    mesh = parallel.shape_only(execution.data_devices, execution.data_devices)
    together = execution.local_trials == "vmap"
    needs = preflight.needs(one, about, mesh, "vmap" if together else "map")
    needs = needs._replace(state=COPIES * needs.state)
    shared, own = (
        (needs.data, needs.state + needs.activations) if together else (needs.data + needs.activations, needs.state)
    )
    count = int((launch.memory_gib * GIB - shared) // own)
    said = f"{sum(needs) / GIB:.2f} GiB, launch.memory_gib is {launch.memory_gib:g}"
    require(count > 0, f"one trial of {program.model.name} needs {said}: lower batch_size, or raise data_devices.")
    return count


def _check_fits(family: Family, price: Price, rows: int, launch: LaunchSpec, cost: float) -> None:
    count = len(family.trials)
    held = f"a job of {launch.devices} devices holds {rows * price.fits}: raise launch.devices"
    require(count <= rows * price.fits, f"the {count} trials of one seed share a job, but {held}.")
    hours = f"take {cost / HOUR:.2f} h, launch.hours is {launch.hours:g}"
    within = not launch.hours or cost <= launch.hours * HOUR
    require(within, f"the {count} trials of one seed share a job and {hours}: raise it, or launch.devices.")
