"""Forms of ResNet-20's convolutions on one core, each with its floor: those in use and those that were tried.

    python benchmarks/conv_attempts.py             a few minutes: a table a shape, then whole training steps
    python benchmarks/conv_attempts.py --quick     does it run?

floor: GFLOP of the convolution at the rate of a product of two 2048 x 2048 matrices, or its bytes, images read once and
written once, at the rate of a copy, whichever takes longer. Each form runs `LENGTH` times in a loop on device, one form
after the other, again and again; medians of processor milliseconds, which other work on the machine disturbs less. What
a form is off its table's first one stands beside it (the native kernel gradient is in `benchmarks/conv.py`: it takes
seconds in a loop). The forward forms serve the input gradient too: it is a
convolution of the same size. A step trains ResNet-20 (float32, plain SGD); the forms are switched one after another.
"""

import argparse
import contextlib
import functools
import os
import platform
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxreg import models
from jaxreg.models import conv

LENGTH = 4
SHAPES = ((32, 16), (16, 32), (8, 64))  # side and channels of images
ONE, PADS = (1, 1), ((1, 1), (1, 1))
HOW = {"strides": ONE, "pads": PADS}


def patches(x):
    """What each place of a 3x3 kernel sees, side by side."""
    sides, padded = x.shape[1:3], jnp.pad(x, ((0, 0), *PADS, (0, 0)))
    return jnp.concatenate([padded[:, i : i + sides[0], j : j + sides[1]] for i in range(3) for j in range(3)], 3)


def by_patches(x, w):
    """One product over patches."""
    return patches(x) @ w.reshape(-1, w.shape[3])


def by_rows(x, w):
    """Three products: the places of a row side by side, the rows shifted and added."""
    height, width, padded = *x.shape[1:3], jnp.pad(x, ((0, 0), *PADS, (0, 0)))
    beside = jnp.concatenate([padded[:, :, j : j + width] for j in range(3)], 3)
    return sum(beside[:, i : i + height] @ w[i].reshape(-1, w.shape[3]) for i in range(3))


def by_shifts(x, w):
    """Nine products of shifted slices, added."""
    height, width, padded = *x.shape[1:3], jnp.pad(x, ((0, 0), *PADS, (0, 0)))
    return sum(padded[:, i : i + height, j : j + width] @ w[i, j] for i in range(3) for j in range(3))


def channels_first(x, w):
    """NCHW inside: transposed, convolved, transposed back."""
    y = lax.conv_general_dilated(x.transpose(0, 3, 1, 2), w, ONE, PADS, dimension_numbers=("NCHW", "HWIO", "NCHW"))
    return y.transpose(0, 2, 3, 1)


def in_pieces(form, count):
    """A form of forward passes over pieces of the batch, in a loop."""

    def run(x, w):
        count_of = min(count, len(x))
        return lax.map(lambda one: form(one, w), x.reshape(count_of, -1, *x.shape[1:])).reshape(*x.shape[:3], -1)

    return run


def of_kernel(form, piece):
    """A form of `conv` with pieces of so many numbers."""

    def run(x, g):
        kernel = jnp.zeros((3, 3, x.shape[3], g.shape[3]))
        with mock.patch.object(conv, "PIECE", piece):
            return form(x, kernel, g, **HOW)

    return run


def product_over_patches(x, g):
    """The kernel gradient as one product over patches."""
    return (patches(x).reshape(-1, 9 * x.shape[3]).T @ g.reshape(-1, g.shape[3])).reshape(3, 3, x.shape[3], -1)


def summed(form, count):
    """A form of kernel gradients, over pieces of the batch, in a loop."""

    def run(x, g):
        pieces = [a.reshape(min(count, len(a)), -1, *a.shape[1:]) for a in (x, g)]
        return lax.map(lambda one: form(*one), pieces).sum(0)

    return run


def paired(x, w):
    """Neighbours in pairs, however wide."""
    with mock.patch.object(conv, "NARROW", 64):
        return conv.quick_conv(x, w, **HOW)


WHOLE = 2**40
FORWARD = {
    "native": functools.partial(conv.native_conv, **HOW),
    "neighbours in pairs": paired,
    "product over patches": by_patches,
    "  of 4 images at a time": in_pieces(by_patches, 32),
    "three products of rows": by_rows,
    "  of one image at a time": in_pieces(by_rows, 128),
    "nine shifted products": by_shifts,
    "channels first": channels_first,
}
KERNEL = {
    "canonical, whole": of_kernel(conv.kernel_gradient, WHOLE),
    "canonical, in pieces": of_kernel(conv.kernel_gradient, conv.PIECE),
    "product over patches": product_over_patches,
    "  of 4 images at a time": summed(product_over_patches, 32),
}
BEFORE = {"PIECE": WHOLE, "NARROW": 0}
STEPS = {
    "whole kernel gradients, no pairs": (BEFORE, None),
    "kernel gradients in pieces": ({"NARROW": 0}, None),
    "and narrow results in pairs (in use)": ({}, None),
    "  with XLA's older emitters": ({}, {"xla_cpu_use_fusion_emitters": False}),
    "  with LLVM's level 1": ({}, {"xla_backend_optimization_level": 1}),
    "  with oneDNN's custom calls": ({}, {"xla_cpu_use_onednn": True, "xla_cpu_experimental_onednn_custom_call": True}),
    "  with XLA's scheduler for many cores": ({}, {"xla_cpu_enable_concurrency_optimized_scheduler": True}),
}


def looped(form):
    """LENGTH calls in a loop; each depends on the last, so that none can be dropped."""

    def turn(carry, _):
        change = 1 + 1e-30 * form(*carry).mean()
        return tuple(a * change for a in carry), None

    return lambda *given: lax.scan(turn, given, length=LENGTH)[0]


def nothing(a, b):
    """The loop's own cost."""
    return a.ravel()[:1] + b.ravel()[:1]


def in_turns(programs, inputs, repeats):
    """Median processor milliseconds of each program, run one after the other, again and again."""
    for run in programs.values():
        jax.block_until_ready(run(*inputs))
    taken = {name: [] for name in programs}
    for _ in range(repeats):
        for name, run in programs.items():
            begin = time.process_time()
            jax.block_until_ready(run(*inputs))
            taken[name].append(1e3 * (time.process_time() - begin))
    return {name: statistics.median(times) for name, times in taken.items()}


def rates(repeats):
    """GFLOP/s of a product, and GB/s of a copy, of one core."""
    a, b = jnp.ones((2048, 2048)), jnp.ones(2**24)
    found = in_turns({"product": jax.jit(lambda a, b: a @ a), "copy": jax.jit(lambda a, b: b + 1)}, (a, b), repeats)
    return 2 * 2048**3 / found["product"] / 1e6, 2 * b.nbytes / found["copy"] / 1e6


def table(side, channels, batch, repeats, peak, bandwidth):
    """A line a form of one shape."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, g = (jax.random.normal(key, (batch, side, side, channels)) for key in keys[:2])
    w = jax.random.normal(keys[2], (3, 3, channels, channels))
    work, moved = 2 * x.size * 9 * channels / 1e9, 2 * x.nbytes / 1e9
    floor = 1e3 * max(work / peak, moved / bandwidth)
    told = f"{side}x{side}x{channels}: {work:.2f} GFLOP, {1e3 * moved:.0f} MB, floor {floor:.1f} ms"
    print(f"\n| {told} | ms | GFLOP/s | off |")
    print("|---|---|---|---|")
    for kind, forms, inputs in (("forward", FORWARD, (x, w)), ("kernel gradient", KERNEL, (x, g))):
        programs = {name: jax.jit(looped(form)) for name, form in forms.items()}
        found = in_turns(programs | {"": jax.jit(looped(nothing))}, inputs, repeats)
        own, first = found.pop(""), next(iter(forms.values()))(*inputs)
        for name, time_of in found.items():
            taken = max(time_of - own, 1e-3) / LENGTH
            off = float(jnp.abs(forms[name](*inputs) - first).max() / jnp.abs(first).max())
            print(f"| {kind}: {name} | {taken:.1f} | {1e3 * work / taken:.0f} | {off:.0e} |", flush=True)


def trained(batch):
    """A function of parameters and statistics that trains for LENGTH steps, and both untrained."""
    model = models.make("resnet20", classes=10, image_shape=(32, 32, 3), mean=(0.5,) * 3, std=(0.2,) * 3)
    x, y = jax.random.uniform(jax.random.key(1), (batch, 32, 32, 3)), jax.nn.one_hot(jnp.arange(batch) % 10, 10)

    def loss(params, stats):
        logits, _, stats = model.apply(params, stats, x, train=True)
        return optax.softmax_cross_entropy(logits, y).mean(), stats

    def step(carry, _):
        grads, stats = jax.grad(loss, has_aux=True)(*carry)
        return (jax.tree.map(lambda p, g: p - 0.01 * g, carry[0], grads), stats), None

    return lambda *carry: lax.scan(step, carry, length=LENGTH)[0], model.init(jax.random.key(0))


def steps(batch, repeats):
    """A line a way to train."""
    programs = {}
    for name, (values, options) in STEPS.items():
        train, start = trained(batch)
        with contextlib.ExitStack() as patches_of, contextlib.suppress(jax.errors.JaxRuntimeError):
            for constant, value in values.items():
                patches_of.enter_context(mock.patch.object(conv, constant, value))
            programs[name] = jax.jit(train).lower(*start).compile(compiler_options=options)
    found = in_turns(programs, start, repeats)
    print("\n| a step of ResNet-20 | ms | img/s a core |\n|---|---|---|")
    for name in STEPS:
        told = (
            f"{found[name] / LENGTH:.0f} | {1e3 * batch * LENGTH / found[name]:.0f}" if name in found else "refused |"
        )
        print(f"| {name} | {told} |")


def main():
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    batch, repeats = (8, 1) if given.quick else (128, 5)
    print(f"{platform.platform()}, one core, Python {platform.python_version()}, jax {jax.__version__}, batch {batch}")
    peak, bandwidth = rates(repeats)
    print(f"a product of matrices: {peak:.0f} GFLOP/s; a copy: {bandwidth:.0f} GB/s")
    for side, channels in SHAPES:
        table(side, channels, batch, repeats, peak, bandwidth)
    steps(batch, repeats)


if __name__ == "__main__":
    main()
