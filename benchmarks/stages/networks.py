"""Trials of a ResNet as a study trains them: programs, their dispatches, and a trained network."""

import dataclasses
import functools
import statistics
from typing import Any

import jax
import numpy as np

from jaxreg import config, data
from jaxreg.jobs import packing, preflight, timing
from jaxreg.runtime import parallel
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import ExecutionSpec, StudySpec
from jaxreg.training.loop import dispatches
from jaxreg.training.program import Program, Run, fixed_parts, programs_of, settings_of
from jaxreg.training.step import init_state

REGULARIZERS = (
    ("none", {}),
    ("label_smoothing", {"epsilon": 0.1}),
    ("mixup", {"alpha": 1.0}),
    ("cutmix", {"alpha": 1.0, "probability": 0.5}),
)
# Of one number in bfloat16 with float32 sums, dense, as their makers publish it: TFLOP/s by a part of the name.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L4": 121, "v5 lite": 197, "v5p": 459, "v4": 275, "v6": 918}
TINY = {"name": "cnn", "widths": [4]}  # instead of a ResNet: quick to compile
UNMEASURED = {"robustness": {"suite": "pgd", "norm": "linf", "epsilons": [0.1], "examples": 8}}  # must be said


def plain(options: Any, model: str, seeds: int, steps: int, batch: int, **more: Any) -> dict[str, Any]:
    """The config of a study on the images of the stages, as plain dicts; `more`: its probes and execution."""
    network = TINY if options.tiny else {"name": model, "dtype": "bfloat16"}
    return {
        "study": "accelerator",
        "dataset": {"name": options.dataset, "validation": 0.1, "augment": ["pad_crop", "flip"], "padding": 4},
        "model": network,
        "regularizers": [list(pair) for pair in REGULARIZERS],
        "seeds": seeds,
        "batch_size": batch,
        "steps": steps,
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
        "probes": more.get("probes", UNMEASURED),
        "execution": more.get("execution", {}),
    }


def study_of(*given: Any, **more: Any) -> StudySpec:
    """The study that `plain` describes."""
    return config.resolve(plain(*given, **more))


def program_of(options: Any, model: str, trials: int, steps: int, batch: int) -> Program:
    """The first so many trials of a study as one program."""
    (program,) = programs_of(study_of(options, model, -(-trials // len(REGULARIZERS)), steps, batch))
    return Program(program.trials[:trials])


def loaded(options: Any) -> data.Dataset:
    """The images of the stages, decoded once."""
    return data.load(options.dataset, validation=0.1, cache_dir=str(options.out / "cache"))


def step_seconds(program: Program, dataset: data.Dataset, way: str, steps: int) -> tuple[float, float]:
    """Seconds of the first dispatch, with compilation, and of a step of all trials."""
    execution = ExecutionSpec(local_trials=way, steps_per_dispatch=steps)  # type: ignore[arg-type]
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    run = Run(Workdir("."), mesh, execution, Preemption())
    count, (first, *others) = timing._seconds(program, dataset, run)
    return first, statistics.median(others) / count


def share_of_peak(program: Program, seconds: float) -> float | None:
    """Floating point operations of a step of all trials over what the device could do; None of an unknown device."""
    kind = jax.devices()[0].device_kind
    peak = next((peak for name, peak in PEAKS.items() if name in kind), None)
    if peak is None:
        return None
    flops = 3 * packing.forward_flops(program, preflight.check(program)) * len(program.trials)
    return flops / seconds / (peak * 1e12)


def trained(program: Program, dataset: data.Dataset, dispatched: int) -> tuple[Any, Any, Any]:
    """`apply`, parameters and statistics [T, ...] after some dispatches of ten steps, in float32."""
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    run = Run(Workdir("."), mesh, ExecutionSpec(), Preemption())
    fixed = fixed_parts(program, dataset, mesh)
    settings = parallel.put_trials(settings_of(program, fixed), mesh)
    fresh = functools.partial(init_state, fixed=fixed)
    carry = (parallel.per_trial(lambda seed, _: fresh(seed), mesh)(settings.seed, ()), settings)
    for place, (_, dispatch) in enumerate(dispatches(program, dataset, fixed, run, (), 0)):
        if place == dispatched:
            break
        carry, _ = dispatch(carry)
    return fixed.model.apply, carry[0].params, carry[0].stats


def in_float32(program: Program) -> Program:
    """The same trials in float32."""
    trials = (dataclasses.replace(t, model=dataclasses.replace(t.model, dtype="float32")) for t in program.trials)
    return Program(tuple(trials))


def test_images(dataset: data.Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first test images in [0, 1], and their labels."""
    test = dataset.splits["test"][:count]
    return np.asarray(test.images, np.float32) / np.float32(dataset.scale), test.labels
