"""What a step really takes: a few real steps of a program, on this machine's devices."""

import functools
import time

import jax

from jaxreg import data
from jaxreg.jobs import packing
from jaxreg.runtime import parallel
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import StudySpec
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
