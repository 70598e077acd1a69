"""Times the gradient of a convolution: JAX's native one against the canonical one, outside and inside a device loop.

    python benchmarks/conv.py            minutes on two CPU cores: the native kernel gradient takes seconds in a loop
    python benchmarks/conv.py --quick    small batches, few repeats: does it run?

Each case is one program that computes one gradient `LENGTH` times inside `lax.scan`, or once outside; the two forms are
timed in turns, so that a busy machine disturbs both alike. A line shows the median of one gradient in milliseconds and
native / canonical: above 1 the canonical form is faster. On a platform other than CPU this says what CPU's choice would
cost there; the models use the native gradient on it.
"""

import argparse
import functools
import platform
import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
from jax import lax

from jaxreg.models import conv

LENGTH = 4


class Case(NamedTuple):
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
    return (case.stride, case.stride)


def pads(case):
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


def hardware():
    """Device, cores and processor, as far as this machine tells."""
    device = jax.devices()[0]
    return (
        f"{jax.device_count()} x {device.device_kind} ({device.platform}), {platform.machine()} {platform.processor()}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small batches and few repeats")
    quick = parser.parse_args().quick
    batch, repeats = (4, 2) if quick else (128, 7)
    print(f"{hardware()}; Python {platform.python_version()}, jax {jax.__version__}, jaxlib {jaxlib.__version__}")
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
