"""How the cost of a study grows with trials, devices, processes and examples, on virtual devices of this machine.

    python benchmarks/scaling.py            minutes on two quiet CPU cores
    python benchmarks/scaling.py --quick    few steps, few repeats, small meshes: does it run?
    python benchmarks/scaling.py --only=collectives    one of collectives, trials, examples, devices, processes

Small CNN on the digits (configs/digits.py), `--steps` train steps in one dispatch. A time is the median over
`--repeats` dispatches after one that compiles. Weak scaling: as many trials as devices, efficiency = time on one / time
on all; with more devices than cores it can only fall, and ideal is then cores / devices. `collectives` counts those in
the compiled text of a dispatch: all within a trial's devices, none between trials.
"""

import argparse
import functools
import importlib.util
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jaxlib

from jaxreg import config as configs
from jaxreg import data
from jaxreg.runtime import hosts, parallel
from jaxreg.training import predictions
from jaxreg.training.program import fixed_parts, programs_of, settings_of
from jaxreg.training.step import Batch, init_state, resident_steps

ROOT = Path(__file__).parents[1]
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def program_of(trials, batch_size=64):
    """A program of that many trials of the digits study, without regularizer."""
    spec = importlib.util.spec_from_file_location("digits", ROOT / "configs" / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.regularizers, config.seeds, config.batch_size = (("none", {}),), trials, batch_size
    (program,) = programs_of(configs.resolve(config))
    return program


@functools.cache
def dataset():
    """Small images, that all cases train on."""
    return data.load("digits")


def dispatch_of(trials, mesh, steps, batch_size=64):
    """The compiled dispatch of a program on a mesh, and its arguments in place."""
    program = program_of(trials, batch_size)
    fixed = fixed_parts(program, dataset(), mesh)
    settings = parallel.put_trials(settings_of(program, fixed), mesh)
    state = parallel.per_trial(lambda seed, _: init_state(seed, fixed), mesh)(settings.seed, ())
    split = dataset().splits["train"]
    body = functools.partial(resident_steps, fixed=fixed, batch_size=batch_size, steps=steps)
    shared = Batch(*parallel.put_shared((split.images, split.labels, split.key_ids), mesh))
    return parallel.per_trial(body, mesh, donate=True), (state, settings), shared


def seconds(trials, mesh, given, batch_size=64):
    """Median seconds of one dispatch."""
    run, carry, shared = dispatch_of(trials, mesh, given.steps, batch_size)
    times = []
    for _ in range(given.repeats + 1):
        started = time.perf_counter()
        carry, metrics = run(carry, shared)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def mesh_of(devices, data_devices=1):
    """A mesh of the first devices."""
    return parallel.make_mesh(data_devices, jax.devices()[:devices])


def collectives(given):
    """Counts of collectives in the compiled text of a dispatch, for every way to split all devices."""
    size = len(jax.devices())
    for data_devices in [d for d in (1, 2, 4, 8) if size % d == 0]:
        mesh = mesh_of(size, data_devices)
        run, carry, shared = dispatch_of(size // data_devices, mesh, given.steps)
        text = run.lower(carry, shared).compile().as_text()
        found = {kind: len(re.findall(rf"= .*\b{kind}(?:-start)?\(", text)) for kind in KINDS}
        shown = ", ".join(f"{count} {kind}" for kind, count in found.items() if count) or "none"
        print(f"collectives  mesh trial={size // data_devices} data={data_devices}: {shown}")


def trials(given):
    """Time against the number of trials on one device."""
    first = None
    for count in (1, 2) if given.quick else (1, 2, 4, 8, 16):
        took = seconds(count, mesh_of(1), given)
        first = first or took
        print(
            f"trials       {count:3} on one device: {1e3 * took:8.1f} ms, {took / first / count:.2f} of {count} x one"
        )


def examples(given):
    """Time against the examples of a step, and of a forward pass over a split."""
    for size in (16, 32) if given.quick else (16, 32, 64, 128, 256):
        took = seconds(1, mesh_of(1), given, size)
        step, one = 1e3 * took / given.steps, 1e6 * took / given.steps / size
        print(f"examples     batch {size:4}: {step:8.2f} ms a step, {one:7.1f} us an example")
    program, mesh = program_of(1), mesh_of(1)
    fixed = fixed_parts(program, dataset(), mesh)
    state = parallel.per_trial(lambda seed, _: init_state(seed, fixed), mesh)(
        parallel.put_trials(settings_of(program, fixed), mesh).seed, ()
    )
    forward = parallel.per_trial(functools.partial(predictions._forward, fixed=fixed), mesh)
    images = dataset().splits["train"].images
    for count in (128, 256) if given.quick else (256, 512, 1024):
        shared = parallel.put_shared(images[:count], mesh)
        times = []
        for _ in range(given.repeats + 1):
            started = time.perf_counter()
            jax.block_until_ready(forward((state.params, state.stats), shared))
            times.append(time.perf_counter() - started)
        took = statistics.median(times[1:])
        print(f"examples     prediction of {count:4}: {1e3 * took:8.2f} ms, {1e6 * took / count:7.1f} us an example")


def devices(given):
    """Weak scaling over virtual devices of one process: a trial a device."""
    size, first = len(jax.devices()), None
    for count in [n for n in (1, 2, 4, 8) if n <= size]:
        took = seconds(count, mesh_of(count), given)
        first = first or took
        print(
            f"devices      {count} trials on {count}: {1e3 * took:8.1f} ms, efficiency {first / took:.2f}", flush=True
        )


def processes(given):
    """Weak scaling over processes with one device and one trial each."""
    first = None
    for count in (1, 2) if given.quick else (1, 2, 4):
        took = time_of_job(count, given)
        first = first or took
        print(
            f"processes    {count} trials on {count}: {1e3 * took:8.1f} ms, efficiency {first / took:.2f}", flush=True
        )


def time_of_job(count, given):
    """Starts this script `count` times as one job; what process 0 measured."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    words = [sys.executable, __file__, f"--steps={given.steps}", f"--repeats={given.repeats}"]
    jobs = [
        subprocess.Popen([*words, f"--member={address},{count},{i}"], stdout=subprocess.PIPE, text=True)
        for i in range(count)
    ]
    told = [job.communicate()[0] for job in jobs]
    assert all(job.returncode == 0 for job in jobs), told
    return float(re.search(r"^seconds (\S+)$", told[0], re.MULTILINE)[1])


def member(given):
    """One process of a job: as many trials as processes."""
    hosts.join(given.member, 60)
    parallel.use_cpu_devices(1)
    took = seconds(hosts.count(), parallel.make_mesh(), given)
    print(f"\nseconds {took}", flush=True)


MEASURED = {
    "collectives": collectives,
    "trials": trials,
    "examples": examples,
    "devices": devices,
    "processes": processes,
}


def main():
    """Measures how training scales with devices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=MEASURED)
    parser.add_argument("--steps", type=int, default=None, help="of one dispatch (default 18, with --quick 2)")
    parser.add_argument("--repeats", type=int, default=None, help="dispatches (default 7, with --quick 2)")
    parser.add_argument("--devices", type=int, default=None, help="virtual devices (default 8, with --quick 2)")
    parser.add_argument("--member", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.steps, given.repeats = given.steps or (2 if given.quick else 18), given.repeats or (2 if given.quick else 7)
    if given.member:
        member(given)
        return
    parallel.use_cpu_devices(given.devices or (2 if given.quick else 8))
    load = os.getloadavg()[0]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python "
        f"{platform.python_version()}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
        f"{len(jax.devices())} x {jax.devices()[0].device_kind}, {given.steps} steps, {given.repeats} repeats"
    )
    for name, measure in MEASURED.items():
        if given.only in (None, name):
            measure(given)


if __name__ == "__main__":
    main()
