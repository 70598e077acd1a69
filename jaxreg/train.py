"""The training loop of one program: the only place where steps meet the clock, files and signals."""

import bisect
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxreg import data, hosts, models, parallel
from jaxreg.checkpoint import Checkpoints
from jaxreg.curves import Curves
from jaxreg.data.augment import augment
from jaxreg.data.stream import Chunk, batches
from jaxreg.optimizer import make_optimizer, numbers_of
from jaxreg.plan import Program
from jaxreg.preemption import Preempted, Preemption
from jaxreg.progress import Progress
from jaxreg.regularizers import apply as regularizers
from jaxreg.snapshots import Snapshots, Wanted, schedule
from jaxreg.spec import DatasetSpec, ExecutionSpec
from jaxreg.train_step import Batch, Carry, Fixed, Metrics, Settings, init_state, resident_steps, streamed_steps

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """Where and how a program runs."""

    directory: epath.Path  # the workdir
    mesh: parallel.Mesh
    execution: ExecutionSpec
    preemption: Preemption
    snapshots: Wanted = 0  # which parameters to keep for good


def fixed_parts(program: Program, dataset: data.Dataset, mesh: parallel.Mesh) -> Fixed:
    """All of the program's train step that does not differ between its trials."""
    return Fixed(
        model=make_model(program, dataset),
        optimizer=make_optimizer(program.trials[0].optimizer, program.steps),
        regularizers=regularizers.program_of([t.regularizer.name for t in program.trials]),
        augment=augmentation(program.dataset),
        split_batch=parallel.split_batch(mesh),
        classes=len(dataset.classes),
        scale=dataset.scale,
    )


def make_model(program: Program, dataset: data.Dataset) -> models.Model:
    """The program's network for the images of `dataset`, with their normalisation inside."""
    spec, shape = program.model, dataset.splits["train"].images.shape[1:]
    options: dict[str, Any] = dict(spec.options)
    moments: dict[str, Any] = {"mean": dataset.mean, "std": dataset.std}
    return models.make(
        spec.name, classes=len(dataset.classes), image_shape=shape, dtype=spec.dtype, **moments, **options
    )


def augmentation(spec: DatasetSpec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(keys_B, x_BHWC) -> x_BHWC: the augmentations that the dataset's spec names, one after another."""
    hyper = {"padding": spec.padding, "cutout_size": spec.cutout_size}
    return lambda keys_B, x_BHWC: augment(spec.augment, keys_B, x_BHWC, hyper)


def settings_of(program: Program, fixed: Fixed) -> Settings:
    """The traced settings of the program's trials, stacked [T]."""
    chosen = [t.regularizer for t in program.trials]
    names, hypers = [r.name for r in chosen], [dict(r.hyperparameters) for r in chosen]
    return Settings(
        seed=jnp.array([t.seed for t in program.trials], jnp.uint32),
        choice=regularizers.choices(fixed.regularizers, names, hypers),
        optimizer=numbers_of([t.optimizer for t in program.trials]),
    )


def train(program: Program, dataset: data.Dataset, fixed: Fixed, run: Run) -> Any:
    """Trains all trials of the program from its last checkpoint on: the final TrainState, stacks on the mesh.

    Raises: Preempted: after saving a checkpoint, if a stop was asked for.
    """
    with Checkpoints(run.directory / "checkpoints" / program.id, run.execution.keep_checkpoints) as checkpoints:
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
    return Snapshots(run.directory / "snapshots" / program.id, steps)


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
    curves = Curves(run.directory / "curves", program, step)
    pending: tuple[int, Metrics] | None = None
    unsaved, limit = 0, run.execution.dispatches_per_checkpoint
    with Progress("train", program.steps, "steps", step) as progress:
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
    hosts.on_first(curves.close)
    return carry


Dispatch = tuple[int, Callable[[Carry], tuple[Carry, Metrics]]]  # how many steps, and the call that runs them


def dispatches(
    program: Program, dataset: data.Dataset, fixed: Fixed, run: Run, stops: Sequence[int], step: int
) -> Iterator[Dispatch]:
    """Calls that each run the next few steps of every trial, up to the program's last; none crosses a stop."""
    stops = sorted({*stops, program.steps})
    lift = functools.partial(parallel.per_trial, mesh=run.mesh, local=run.execution.local_trials, donate=True)
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
