"""A convolution whose gradient stays fast inside device loops on CPU, and the layer of the models built on it.

XLA's CPU backend runs the native gradient of a convolution 20 to 150 times slower inside `scan`, `fori_loop` or `map`
(https://github.com/jax-ml/jax/issues/12868): the transposed operands it meets there miss its fast path. Both gradients
are therefore written as plain NHWC/HWIO convolutions on CPU (that of few channels, and that of the kernel where strides
are above 1, as matrix products); other platforms keep the native gradient.
The kernel gradient of a large batch is summed over pieces in a loop. A piece fits the cache, and, more than that, a
loop takes its operands from memory: outside of one XLA computes all that led to the images (of a residual network every
block before) again, pixel by pixel, in the order of the transposed array. To `NARROW` channels XLA runs a slow kernel,
so two neighbours of a row are computed as one pixel of twice the channels: a third more products, in less time.
What each form costs: `python benchmarks/conv_attempts.py`.
A convolution of 3 channels is up to six times slower there than one of 4 (to 24 or 32 channels; to others they cost the
same), so a fourth channel of zeros goes along. The platform is chosen when the program is lowered, so a function traced
once may be lowered for CPU and GPU alike.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from jaxreg.models.layers import normal

NHWC = ("NHWC", "HWIO", "NHWC")
Pads = tuple[tuple[int, int], ...]
FEW = 4  # input channels up to which their gradient is a sum of shifted products
NARROW = 16  # channels of a result up to which neighbours are computed in pairs
PIECE = 2**17  # numbers of a piece of a batch: 512 KiB of float32, to lie in the cache of a core
LEAST = 8  # examples of a piece: so many devices may share the batch and keep their parts


def conv_layer(channels: int, width: int, size: int, stride: int = 1, *, dtype: Any, rngs: nnx.Rngs) -> nnx.Conv:
    """An odd `size` x `size` convolution without bias, padded by size // 2 on every side.

    Kernel ~ N(0, 2 / (size^2 width)): normal, fan-out (He et al., 2015, https://arxiv.org/abs/1502.01852, eq. 14).
    """
    pads = [(size // 2, size // 2)] * 2
    return nnx.Conv(
        channels,
        width,
        (size, size),
        stride,
        padding=pads,
        use_bias=False,
        dtype=dtype,
        kernel_init=nnx.initializers.zeros,
        kernel_metadata=normal((2 / (size**2 * width)) ** 0.5),
        conv_general_dilated=conv_general_dilated,
        rngs=rngs,
    )


def conv_general_dilated(
    x_BHWC: Array, kernel_HWIO: Array, strides: Sequence[int], padding: str | Sequence[tuple[int, int]], **options: Any
) -> Array:
    """`lax.conv_general_dilated` of NHWC images with HWIO kernels: [B, H, W, I] -> [B, H', W', O].

    Reverse mode only: `jax.jvp` and `jax.jacfwd` through it raise TypeError, `jax.jacrev` works. Inside `shard_map`
    the images must vary over the mesh axes of the kernel (`lax.pcast`), else the gradient raises TypeError, where the
    native one would sum over trials in silence. A kernel that does not vary as they do has the sum as its gradient.

    Raises: ValueError: for dilation, feature groups or a precision, which no model here needs.
    """
    _check_plain(options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x_BHWC.shape[1:3], kernel_HWIO.shape[:2], strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    return canonical_conv(x_BHWC, _varying_as(x_BHWC, kernel_HWIO), tuple(strides), pads)


def _varying_as(x: Array, kernel: Array) -> Array:
    """The kernel, varying over the mesh axes that the images vary over: then both gradients have one type each."""
    missing = tuple(jax.typeof(x).manual_axis_type.varying - jax.typeof(kernel).manual_axis_type.varying)
    return lax.pcast(kernel, missing, to="varying") if missing else kernel


def _check_plain(options: dict[str, Any]) -> None:
    for name, value in options.items():
        ones = value == 1 or (isinstance(value, tuple) and set(value) == {1})
        if not (value is None or ones or name == "dimension_numbers"):
            raise ValueError(f"{name} must be left at its default, got {value}: use lax.conv_general_dilated instead.")


def native_conv(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads) -> Array:
    """The convolution with the gradient that JAX gives it."""
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=NHWC)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def canonical_conv(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads) -> Array:
    """The same numbers as `native_conv`, forward and backward; on CPU both gradients are canonical convolutions."""
    quick, native = (functools.partial(form, strides=strides, pads=pads) for form in (quick_conv, native_conv))
    if x.shape[3] != 3 and not _is_paired(x, kernel, strides, pads):
        return native(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=quick, default=native)


def quick_conv(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads) -> Array:
    """The same numbers as `native_conv` up to rounding, in the form that a CPU is quick with."""
    if x.shape[3] == 3:
        x, kernel = (jnp.pad(a, [(0, int(axis == place)) for axis in range(4)]) for a, place in ((x, 3), (kernel, 2)))
    if not _is_paired(x, kernel, strides, pads):
        return native_conv(x, kernel, strides, pads)
    one, other = (jnp.pad(kernel, ((0, 0), (i, 1 - i), (0, 0), (0, 0))) for i in range(2))
    pairs = native_conv(x, jnp.concatenate([one, other], 3), (1, 2), pads)
    return pairs.reshape(*pairs.shape[:2], -1, kernel.shape[3])


def _is_paired(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads) -> bool:
    """Whether the result is narrow and its rows are even: of a 1x1 kernel pairs would be twice the work."""
    columns = x.shape[2] + sum(pads[1]) - kernel.shape[1] + 1
    return strides == (1, 1) and kernel.shape[1] > 1 and kernel.shape[3] <= NARROW and columns % 2 == 0


def _forward(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return canonical_conv(x, kernel, strides, pads), (x, kernel)


def _backward(strides: tuple[int, ...], pads: Pads, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """Two choices of platform, not one, so that an attack, which drops the kernel gradient, does not compute it."""
    static = {"strides": strides, "pads": pads}

    def choose(canonical: Any, native: Any) -> Array:
        cpu, default = functools.partial(canonical, **static), functools.partial(native, **static)
        return lax.platform_dependent(*saved, g, cpu=cpu, default=default)

    return choose(input_gradient, native_input_gradient), choose(kernel_gradient, native_kernel_gradient)


canonical_conv.defvjp(_forward, _backward)


def input_gradient(x: Array, kernel: Array, g: Array, *, strides: tuple[int, ...], pads: Pads) -> Array:
    """Spreads g to stride 1 and convolves it with the kernel flipped in space and transposed in/out: the shape of x.

    Of a 1x1 kernel in the other order: the zeros need no products.
    """
    if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        return _spread(x, kernel, native_conv(g, kernel.transpose(0, 1, 3, 2), (1, 1), pads), strides, pads)
    g = _spread(x, kernel, g, strides, pads)
    if kernel.shape[2] <= FEW:
        return _sum_of_shifted(x, kernel, g, pads)
    back = [(k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel.shape[:2], pads)]
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return quick_conv(g, flipped, (1, 1), tuple(back))


def _sum_of_shifted(x: Array, kernel: Array, g: Array, pads: Pads) -> Array:
    """The same, one matrix product for all places of the kernel, whose images are then shifted and added.

    A convolution to so few channels would leave most lanes of a vector empty.
    """
    rows, columns, inputs, outputs = kernel.shape
    flat = lax.dot_general(g.reshape(-1, outputs), kernel.reshape(-1, outputs), (((1,), (1,)), ((), ())))
    parts = flat.reshape(*g.shape[:3], rows, columns, inputs)

    def shifted(i: int, j: int) -> Array:
        lows = i - pads[0][0], j - pads[1][0]
        sides = [(low, n - m - low, 0) for low, n, m in zip(lows, x.shape[1:3], g.shape[1:3])]
        return lax.pad(parts[:, :, :, i, j], jnp.zeros((), g.dtype), [(0, 0, 0), *sides, (0, 0, 0)])

    return functools.reduce(jnp.add, (shifted(i, j) for i in range(rows) for j in range(columns)))


def kernel_gradient(x: Array, kernel: Array, g: Array, *, strides: tuple[int, ...], pads: Pads) -> Array:
    """The sum over pieces of the batch of theirs: the shape of the kernel."""
    strided = max(strides) > 1
    numbers = g[0, :, :, 0].size * kernel[..., 0].size if strided else x[0].size
    form = functools.partial(_by_product if strided else _by_conv, kernel=kernel, strides=strides, pads=pads)
    count = _pieces(len(x), numbers)
    if count == 1:
        return form(x, g=g)
    # Of every count-th image: a batch that is spread over devices stays where it is.
    dealt = [a.reshape(-1, count, *a.shape[1:]) for a in (x, g)]
    return lax.map(lambda i: form(dealt[0][:, i], g=dealt[1][:, i]), jnp.arange(count)).sum(0)


def _pieces(batch: int, numbers: int) -> int:
    """Into how many equal pieces a batch is dealt: with `PIECE` numbers or fewer, but with `LEAST` examples or more."""
    fitting = [n for n in range(1, batch + 1) if batch % n == 0 and batch // n >= LEAST]
    return next((n for n in fitting if batch // n * numbers <= PIECE), max(fitting, default=1))


def _by_conv(x: Array, kernel: Array, g: Array, *, strides: tuple[int, ...], pads: Pads) -> Array:
    """Convolves x as (C, H, W, B) with g as (H, W, B, O)."""
    del kernel, strides  # 1
    return native_conv(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), (1, 1), pads).transpose(1, 2, 0, 3)


def _by_product(x: Array, kernel: Array, g: Array, *, strides: tuple[int, ...], pads: Pads) -> Array:
    """What each place of the kernel sees, side by side, transposed, times g."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))

    def seen(i: int, j: int) -> Array:
        ends = [low + (n - 1) * s + 1 for low, n, s in zip((i, j), g.shape[1:3], strides)]
        return lax.slice(padded, (0, i, j, 0), (len(x), *ends, x.shape[3]), (1, *strides, 1))

    places = [seen(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
    patches = jnp.concatenate(places, 3).reshape(-1, kernel[..., 0].size)
    return (patches.T @ g.reshape(-1, g.shape[3])).reshape(kernel.shape)


def _spread(x: Array, kernel: Array, g: Array, strides: tuple[int, ...], pads: Pads) -> Array:
    """Puts the entries of g where a stride of 1 would have them, zeros between: the output size at stride 1."""
    full = [n + sum(pad) - k + 1 for n, k, pad in zip(x.shape[1:3], kernel.shape[:2], pads)]
    gaps = [(0, f - ((n - 1) * s + 1), s - 1) for f, n, s in zip(full, g.shape[1:3], strides)]
    return lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])


def native_input_gradient(x: Array, kernel: Array, g: Array, *, strides: tuple[int, ...], pads: Pads) -> Array:
    """What JAX derives for x."""
    return jax.vjp(lambda x: native_conv(x, kernel, strides, pads), x)[1](g)[0]


def native_kernel_gradient(x: Array, kernel: Array, g: Array, *, strides: tuple[int, ...], pads: Pads) -> Array:
    """What JAX derives for the kernel."""
    return jax.vjp(lambda kernel: native_conv(x, kernel, strides, pads), kernel)[1](g)[0]
