"""What a step really takes: a few real steps of a program, on this machine's devices, and which way is faster."""

import dataclasses
import functools
import time
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxreg import data
from jaxreg.jobs import packing, preflight
from jaxreg.runtime import hosts, parallel
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import ExecutionSpec, StudySpec
from jaxreg.training.loop import dispatches
from jaxreg.training.program import Program, Run, fixed_parts, settings_of
from jaxreg.training.step import init_state

REPEATS = 3


def measured(program: Program, study: StudySpec, directory: str | None, estimated: packing.Price) -> packing.Price:
    """The estimated price with measured seconds, by training one trial a device for four times the first dispatch.

    The first time it compiles; of the others the quickest counts. Data are cached under `directory`.
    """
    spec = program.dataset
    loaded = data.load(spec.name, data_dir=spec.data_dir or None, validation=spec.validation, cache_dir=directory)
    mesh = parallel.make_mesh(study.execution.data_devices)
    few = Program(program.trials[: mesh.shape["trial"]])
    run = Run(Workdir(directory or "."), mesh, study.execution, Preemption())
    count, (first, *others) = _seconds(few, loaded, run)
    quickest = min(others)
    return estimated._replace(training=quickest / count * program.steps, fixed=max(first - quickest, 0.0))


def _seconds(program: Program, loaded: data.Dataset, run: Run) -> tuple[int, list[float]]:
    """The steps of the first dispatch, and its seconds each time that it runs.

    The same one again, as a program may have no other, or a last one that is shorter and so compiles anew.
    """
    fixed = fixed_parts(program, loaded, run.mesh)
    settings = parallel.put_trials(settings_of(program, fixed), run.mesh)
    fresh = functools.partial(init_state, fixed=fixed)
    carry = (parallel.per_trial(lambda seed, _: fresh(seed), run.mesh)(settings.seed, ()), settings)
    found: list[float] = []
    count, dispatch = next(dispatches(program, loaded, fixed, run, (), 0))
    for _ in range(1 + REPEATS):
        started = time.monotonic()
        carry, metrics = dispatch(carry)
        jax.block_until_ready(metrics)
        found.append(time.monotonic() - started)
    return count, found


Way = Literal["map", "vmap"]
WAYS: tuple[Way, ...] = ("map", "vmap")


class Picked(NamedTuple):
    """How several trials share a device, and why, in words."""

    local: Way
    reason: str


def picked(program: Program, mesh: parallel.Mesh, execution: ExecutionSpec) -> Picked:
    """What `execution.local_trials` says, or for "auto" the way whose training steps take less time here.

    Measured on noise in the shape of the program's images, with all its trials, for a few dispatches; every process
    measures, and the first one's answer counts. A CPU runs one trial after another without a measurement: a convolution
    over images and kernels of many trials is a grouped one, slow there.
    """
    if execution.local_trials != "auto":
        return Picked(execution.local_trials, "as configured")
    if mesh.devices.flat[0].platform == "cpu":
        return Picked("map", "auto: a CPU runs one trial after another")
    if len(program.trials) <= mesh.shape["trial"]:
        return Picked("map", "auto: no device has more than one trial")
    return fastest({way: _step_seconds(program, mesh, execution, way) for way in WAYS})


def fastest(seconds: dict[Way, float]) -> Picked:
    """The way with the least seconds a step, in the opinion of the first process."""
    seconds = hosts.on_first(lambda: seconds)
    told = ", ".join(f"{way} {1e3 * taken:.3g} ms" for way, taken in seconds.items())
    return Picked(min(seconds, key=lambda way: seconds[way]), f"auto: {told} a step of all trials")


def with_picked(program: Program, mesh: parallel.Mesh, execution: ExecutionSpec) -> ExecutionSpec:
    """The same execution, without "auto"."""
    return dataclasses.replace(execution, local_trials=picked(program, mesh, execution).local)


def _step_seconds(program: Program, mesh: parallel.Mesh, execution: ExecutionSpec, way: Way) -> float:
    """Seconds a step of all trials; infinite where they do not fit together on the devices."""
    run = Run(Workdir("."), mesh, dataclasses.replace(execution, local_trials=way), Preemption())
    held = [dataclasses.replace(t, dataset=dataclasses.replace(t.dataset, residency="device")) for t in program.trials]
    try:
        count, (_, *others) = _seconds(Program(tuple(held)), made_up(program), run)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return float("inf")
    return min(others) / count


def made_up(program: Program) -> data.Dataset:
    """Noise in the shape of the program's images, a few batches of it: as fast as what it stands for."""
    about = preflight.check(program)
    count, random = min(about.counts["train"], 8 * program.batch_size), np.random.default_rng(0)
    noise = random.integers(0, 256, (count, *about.image_shape))
    scale = 255.0 if about.dtype == np.uint8 else 1.0
    images = (noise * (scale / 255)).astype(about.dtype)
    split = data.Split(images, random.integers(0, about.num_classes, count).astype(np.int32), np.arange(count))
    classes = tuple(map(str, range(about.num_classes)))
    return data.Dataset(about.name, classes, scale, {"train": split}, *data.moments(images, scale))
