"""Times the gradient of a convolution: JAX's native one against the canonical one, outside and inside a device loop.

    python benchmarks/conv.py            minutes on two CPU cores: the native kernel gradient takes seconds in a loop
    python benchmarks/conv.py --quick    small batches, few repeats: does it run?
    python benchmarks/conv.py --cores    convolutions with all cores in one device, and with a device a core

Each case is one program that computes one gradient `LENGTH` times inside `lax.scan`, or once outside; the two forms are
timed in turns, so that a busy machine disturbs both alike. A line shows the median of one gradient in milliseconds and
native / canonical: above 1 the canonical form is faster. On a platform other than CPU this says what CPU's choice would
cost there; the models use the native gradient on it.

`--cores`: a chain of convolutions on one device that has all cores, and the same images dealt out to a device a core:
GFLOP/s of each, and how many cores each kept busy (processor seconds a second).
"""

import argparse
import functools
import os
import platform
import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
from jax import lax

from jaxreg.models import conv
from jaxreg.runtime import parallel

LENGTH = 4
CHAIN = 16  # convolutions in a row, for --cores
CHANNELS = ((32, 16), (16, 32), (8, 64))  # of square images of a side, in and out


class Case(NamedTuple):
    """One convolution: the sides of the image, its channels, those of the result, the kernel, the stride."""

    side: int
    channels: int
    width: int
    kernel: int
    stride: int


CASES = (
    Case(8, 1, 32, 3, 1),  # first layers
    Case(32, 3, 32, 3, 1),
    Case(32, 16, 16, 3, 1),
    Case(32, 16, 32, 3, 2),
    Case(32, 16, 32, 1, 2),
    Case(16, 32, 32, 3, 1),
    Case(8, 64, 64, 3, 1),
)
GRADIENTS = {
    "input": (conv.native_input_gradient, conv.input_gradient),
    "kernel": (conv.native_kernel_gradient, conv.kernel_gradient),
}


def arrays(case, batch):
    """Images, kernel, and a cotangent of the output, at random."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (batch, case.side, case.side, case.channels))
    w = jax.random.normal(keys[1], (case.kernel, case.kernel, case.channels, case.width))
    y = jax.eval_shape(functools.partial(conv.native_conv, strides=strides(case), pads=pads(case)), x, w)
    return x, w, jax.random.normal(keys[2], y.shape)


def strides(case):
    """As lax takes them."""
    return (case.stride, case.stride)


def pads(case):
    """As lax takes them: half a kernel."""
    return ((case.kernel // 2, case.kernel // 2),) * 2


def program(gradient, case, looped):
    """One gradient, or LENGTH of them in a loop whose every turn depends on the last, so that none can be dropped."""
    one = functools.partial(gradient, strides=strides(case), pads=pads(case))
    if not looped:
        return jax.jit(one)

    def turn(carry, _):
        x, w, g = carry
        change = 1 + 1e-30 * one(x, w, g).mean()
        return (x * change, w * change, g * change), None

    return jax.jit(lambda x, w, g: lax.scan(turn, (x, w, g), length=LENGTH)[0])


def in_turns(programs, inputs, repeats):
    """Median seconds of each program, run one after the other, again and again."""
    for run in programs:
        jax.block_until_ready(run(*inputs))
    seconds = [[] for _ in programs]
    for _ in range(repeats):
        for run, taken in zip(programs, seconds):
            begin = time.perf_counter()
            jax.block_until_ready(run(*inputs))
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in seconds]


def largest_difference(case, inputs, pair):
    """Relative to the largest entry: that both forms compute the same thing."""
    native, canonical = (program(gradient, case, looped=False)(*inputs) for gradient in pair)
    return float(jnp.abs(native - canonical).max() / jnp.abs(native).max())


def chain(x, kernel):
    """Convolutions that keep the shape, one after the other."""
    return lax.fori_loop(0, CHAIN, lambda _, x: 0.1 * conv.native_conv(x, kernel, (1, 1), ((1, 1), (1, 1))), x)


def cores(batch, repeats):
    """A line a shape: GFLOP/s and busy cores of one device, and of a device a core."""
    print(f"{'shape':16} {'one device':>12} {'cores':>6} {'a device a core':>16} {'cores':>6} {'ratio':>6}")
    for side, channels in CHANNELS:
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (batch, side, side, channels))
        kernel = jax.random.normal(keys[1], (3, 3, channels, channels))
        runs = jax.jit(chain), parallel.per_example(chain, jax.devices(), 0)
        seconds = in_turns(runs, (x, kernel), repeats)
        rates = [CHAIN * 2 * batch * side**2 * 9 * channels**2 / s / 1e9 for s in seconds]
        used = [busy(run, (x, kernel), repeats) for run in runs]
        shape = f"{side}x{side}x{channels}"
        print(f"{shape:16} {rates[0]:12.0f} {used[0]:6.2f} {rates[1]:16.0f} {used[1]:6.2f} {rates[1] / rates[0]:6.2f}")


def busy(run, inputs, repeats):
    """Processor seconds a second while a program runs again and again."""
    spent, begin = os.times(), time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(run(*inputs))
    return (sum(os.times()[:2]) - sum(spent[:2])) / (time.perf_counter() - begin)


def hardware():
    """Device, cores and processor, as far as this machine tells."""
    device = jax.devices()[0]
    return (
        f"{jax.device_count()} x {device.device_kind} ({device.platform}), {platform.machine()} {platform.processor()}"
    )


def main():
    """Times gradients of convolutions by several forms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small batches and few repeats")
    parser.add_argument("--cores", action="store_true", help="one device of all cores against a device a core")
    given = parser.parse_args()
    quick = given.quick
    if given.cores:
        parallel.use_cpu_devices(0)
    batch, repeats = (4, 2) if quick else (128, 7)
    print(f"{hardware()}; Python {platform.python_version()}, jax {jax.__version__}, jaxlib {jaxlib.__version__}")
    if given.cores:
        cores(batch, repeats)
        return
    print(f"batch {batch}, float32, median of {repeats} in turns, milliseconds a gradient, loop of {LENGTH}")
    print(f"{'shape':24} {'gradient':8} {'where':8} {'native':>10} {'canonical':>10} {'ratio':>7}  difference")
    for case in CASES:
        inputs = arrays(case, batch)
        shape = f"{case.side}x{case.side}x{case.channels}>{case.width} k{case.kernel} s{case.stride}"
        for name, pair in GRADIENTS.items():
            error = largest_difference(case, inputs, pair)
            for looped in (False, True):
                runs = [program(gradient, case, looped) for gradient in pair]
                native, canonical = (1e3 * s / (LENGTH if looped else 1) for s in in_turns(runs, inputs, repeats))
                where = "loop" if looped else "outside"
                times = f"{native:10.2f} {canonical:10.2f} {native / canonical:7.2f}"
                print(f"{shape:24} {name:8} {where:8} {times}  {error:.0e}")


if __name__ == "__main__":
    main()
