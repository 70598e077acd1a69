"""The training loop of one program: the only place where steps meet the clock, files and signals."""

import bisect
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import data
from jaxreg.data.stream import Chunk, batches
from jaxreg.runtime import hosts, parallel
from jaxreg.runtime.preemption import Preempted
from jaxreg.runtime.progress import Progress
from jaxreg.training.checkpoint import Checkpoints, Snapshots, schedule
from jaxreg.training.curves import Curves
from jaxreg.training.program import Program, Run, settings_of
from jaxreg.training.step import Batch, Carry, Fixed, Metrics, init_state, resident_steps, streamed_steps

log = logging.getLogger(__name__)


def train(program: Program, dataset: data.Dataset, fixed: Fixed, run: Run) -> Any:
    """Trains all trials of the program from its last checkpoint on: the final TrainState, stacks on the mesh.

    Raises: Preempted: after saving a checkpoint, if a stop was asked for.
    """
    with Checkpoints(run.workdir.checkpoints(program.id), run.execution.keep_checkpoints) as checkpoints:
        step, carry = start(program, fixed, run, checkpoints)
        if step < program.steps:
            with snapshots_of(program, run) as kept:
                carry = _train_on(program, dataset, fixed, run, (checkpoints, kept), step, carry)
    state, _ = carry
    _report_failures(program, parallel.fetch(state.failed, len(program.trials)))
    return state


def start(program: Program, fixed: Fixed, run: Run, checkpoints: Checkpoints) -> tuple[int, Carry]:
    """The step and the stacks to go on from: those of the newest whole checkpoint, or untrained ones."""
    settings = settings_of(program, fixed)
    fresh = functools.partial(init_state, fixed=fixed)
    saved = checkpoints.restore(jax.eval_shape(fresh, jax.ShapeDtypeStruct((), jnp.uint32)))
    if saved is None:
        settings = parallel.put_trials(settings, run.mesh)
        state = parallel.per_trial(lambda seed, _: fresh(seed), run.mesh)(settings.seed, ())
        return 0, (state, settings)
    count = len(program.trials)  # without the padding of the mesh that saved it
    state = jax.tree.map(lambda a: a[:count], saved[1])
    return saved[0], parallel.put_trials((state, settings), run.mesh)


def snapshots_of(program: Program, run: Run) -> Snapshots:
    """The program's snapshots, at the steps that its run asks for."""
    steps = schedule(run.snapshots, program.steps, run.execution.steps_per_dispatch)
    return Snapshots(run.workdir.snapshots(program.id), steps)


def _train_on(
    program: Program,
    dataset: data.Dataset,
    fixed: Fixed,
    run: Run,
    files: tuple[Checkpoints, Snapshots],
    step: int,
    carry: Carry,
) -> Carry:
    checkpoints, kept = files
    kept.take(step, carry[0].params, carry[0].stats)
    pending: tuple[int, Metrics] | None = None
    unsaved, limit = 0, run.execution.dispatches_per_checkpoint
    with Curves(run.workdir, program, step) as curves, Progress("train", program.steps, "steps", step) as progress:
        for count, dispatch in dispatches(program, dataset, fixed, run, kept.scheduled, step):
            carry, metrics = dispatch(carry)
            kept.take(step + count, carry[0].params, carry[0].stats)
            if pending is not None:
                _record(curves, progress, program, *pending)  # while the devices work on the next dispatch
            step, pending, unsaved = step + count, (step + count, metrics), unsaved + 1
            is_due = run.preemption.is_due()
            if unsaved == limit or step == program.steps or is_due:
                _record(curves, progress, program, *pending)
                pending, unsaved = None, 0
                hosts.on_first(curves.save)  # before the checkpoint: a table may know too much, never too little
                kept.wait()  # for the same reason
                checkpoints.save(step, carry[0])
            if is_due and step < program.steps:
                raise Preempted
    return carry


Dispatch = tuple[int, Callable[[Carry], tuple[Carry, Metrics]]]  # how many steps, and the call that runs them


def dispatches(
    program: Program, dataset: data.Dataset, fixed: Fixed, run: Run, stops: Sequence[int], step: int
) -> Iterator[Dispatch]:
    """Calls that each run the next few steps of every trial, up to the program's last; none crosses a stop."""
    stops = sorted({*stops, program.steps})
    lift = functools.partial(parallel.per_trial, mesh=run.mesh, local=run.local, donate=True)
    split, size = dataset.splits["train"], run.execution.steps_per_dispatch
    if program.dataset.residency == "stream":
        # One order for all, whoever shares the program: the job that a trial is in changes none of its numbers.
        chunks = batches(split, batch_size=program.batch_size, seed=0, start_step=step, steps_a_chunk=size)
        return _streamed(lift(functools.partial(streamed_steps, fixed=fixed)), chunks, run.mesh, stops, step)
    resident = Batch(*parallel.put_shared((split.images, split.labels, split.key_ids), run.mesh))
    body = functools.partial(resident_steps, fixed=fixed, batch_size=program.batch_size)
    return _resident(lambda steps: lift(functools.partial(body, steps=steps)), resident, size, stops, step)


def _streamed(
    steps: Callable[..., Any], chunks: Iterator[Chunk], mesh: parallel.Mesh, stops: Sequence[int], step: int
) -> Iterator[Dispatch]:
    while step < stops[-1]:
        chunk = next(chunks)
        while len(chunk.labels_SB) and step < stops[-1]:
            count = min(len(chunk.labels_SB), _next(stops, step) - step)
            shared = Batch(*parallel.put_shared(tuple(a[:count] for a in chunk), mesh))
            yield count, functools.partial(_call, steps, shared)
            step, chunk = step + count, Chunk(*(a[count:] for a in chunk))


def _resident(
    make: Callable[[int], Callable[..., Any]], resident: Batch, size: int, stops: Sequence[int], step: int
) -> Iterator[Dispatch]:
    steps = functools.cache(make)  # a dispatch cut short is a program of its own
    while step < stops[-1]:
        count = min(size, _next(stops, step) - step)
        yield count, functools.partial(_call, steps(count), resident)
        step += count


def _next(stops: Sequence[int], step: int) -> int:
    return stops[bisect.bisect_right(stops, step)]


def _call(steps: Callable[..., Any], shared: Batch, carry: Carry) -> tuple[Carry, Metrics]:
    return steps(carry, shared)


def _record(curves: Curves, progress: Progress, program: Program, step: int, metrics: Metrics) -> None:
    host = parallel.fetch(metrics, len(program.trials))
    curves.add(step, host)
    alive = np.isfinite(host.loss[:, -1])
    loss = f"{host.loss[alive, -1].mean():.3f}" if alive.any() else "nan"
    frozen = "" if alive.all() else f", {(~alive).sum()} frozen"
    progress.advance(step - progress.done, f"{len(program.trials)} trials, loss {loss}{frozen}")


def _report_failures(program: Program, failed: np.ndarray) -> None:
    for trial, step in zip(program.trials, failed):
        if step >= 0 and hosts.is_first():
            log.warning("Trial %s: loss or gradient not finite at step %d; frozen there, left out.", trial.id, step)
