import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxreg.models import conv

NHWC = ("NHWC", "HWIO", "NHWC")
SHAPES = [  # (height, width), kernel, strides, padding
    *[((7, 8), (k, k), (s, s), p) for k in (1, 3, 5) for s in (1, 2, 3) for p in ("SAME", "VALID")],
    ((8, 8), (3, 3), (2, 2), [(1, 1), (1, 1)]),
    ((8, 8), (1, 1), (2, 2), [(0, 0), (0, 0)]),
    ((9, 6), (5, 3), (1, 2), [(2, 1), (0, 2)]),
    ((8, 8), (2, 2), (2, 2), "VALID"),
]


def native(x, w, strides, padding):
    return jax.lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC)


def draw(size, kernel, dtype="float64", batch=2, inputs=3, outputs=4):
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.normal(size=(batch, *size, inputs)), dtype),
        jnp.asarray(rng.normal(size=(*kernel, inputs, outputs)), dtype),
    )


def energy(convolve, x, w):
    """A scalar that is not linear in the output, so that its gradient depends on it."""
    return (convolve(x, w).astype(jnp.float32) ** 2).sum() if x.dtype == jnp.bfloat16 else (convolve(x, w) ** 2).sum()


def gradients(convolution, strides, padding):
    convolve = functools.partial(convolution, strides=strides, padding=padding)
    return jax.value_and_grad(functools.partial(energy, convolve), argnums=(0, 1))


# Two forms of the input gradient, of the forward pass (narrow results in pairs) and of the batch (whole, in pieces).
@pytest.mark.parametrize(("inputs", "narrow", "piece"), [(conv.FEW, 4, 2**17), (conv.FEW + 1, 5, 1), (3, 3, 1)])
def test_gradients_equal_native_in_float64(inputs, narrow, piece, monkeypatch):
    """All in one program: one side odd, one even, and a loss whose gradient depends on the output."""
    monkeypatch.setattr(conv, "NARROW", narrow)
    monkeypatch.setattr(conv, "PIECE", piece)
    monkeypatch.setattr(conv, "LEAST", 1)

    def everywhere(convolution, arrays):
        return [gradients(convolution, *shape[2:])(x, w) for (x, w), shape in zip(arrays, SHAPES)]

    with jax.enable_x64(True):
        arrays = [draw(size, kernel, inputs=inputs) for size, kernel, _, _ in SHAPES]
        quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
        ours = quick(functools.partial(everywhere, conv.conv_general_dilated))(arrays)
        theirs = quick(functools.partial(everywhere, native))(arrays)
    for shape, a, b in zip(SHAPES, ours, theirs):
        for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert left.dtype == jnp.float64
            np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-11, err_msg=str(shape))


def test_gradient_against_finite_differences():
    with jax.enable_x64(True):
        x, w = draw((5, 4), (3, 3), batch=1, inputs=2, outputs=2)
        convolve = functools.partial(conv.conv_general_dilated, strides=(2, 2), padding="SAME")
        check_grads(convolve, (x, w), order=1, modes=["rev"])


@pytest.mark.parametrize("stride", [1, 2])
def test_vmap_and_loops_equal_one_by_one(stride):
    xs, ws = (jnp.stack([a, 2 * a, a - 1]) for a in draw((6, 7), (3, 3), "float32"))
    one = gradients(conv.conv_general_dilated, (stride, stride), "SAME")
    alone = [one(x, w) for x, w in zip(xs, ws)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    mapped = jax.jit(lambda xs, ws: jax.lax.map(lambda a: one(*a), (xs, ws)))(xs, ws)
    scanned = jax.jit(lambda xs, ws: jax.lax.scan(lambda c, a: (c, one(*a)), None, (xs, ws))[1])(xs, ws)
    for other in (jax.jit(jax.vmap(one))(xs, ws), mapped, scanned):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-4), other, stacked)


def test_input_alone_used_twice():
    x, w = draw((6, 6), (3, 3), "float32")
    y, pull = jax.vjp(lambda x: conv.conv_general_dilated(x, w, (2, 2), "SAME"), x)
    reference, pull_native = jax.vjp(lambda x: native(x, w, (2, 2), "SAME"), x)
    np.testing.assert_array_equal(y, reference)
    for g in (jnp.ones_like(y), y):
        np.testing.assert_allclose(pull(g)[0], pull_native(g)[0], rtol=1e-5, atol=1e-5)


def test_second_derivative_equals_native():
    with jax.enable_x64(True):
        x, w = draw((5, 6), (3, 3), inputs=2, outputs=2)

        def product(convolution):
            grad = jax.grad(lambda x, w: (convolution(x, w, (2, 2), "SAME") ** 3).sum(), argnums=(0, 1))
            return jax.grad(lambda x, w: sum((g**2).sum() for g in grad(x, w)), argnums=(0, 1))

        ours, theirs = product(conv.conv_general_dilated)(x, w), product(native)(x, w)
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=1e-10)


def test_bfloat16_keeps_its_dtype_and_is_close():
    x, w = draw((8, 8), (3, 3), "bfloat16")
    value, (dx, dw) = gradients(conv.conv_general_dilated, (2, 2), "SAME")(x, w)
    exact, (dx64, dw64) = gradients(native, (2, 2), "SAME")(x.astype(jnp.float32), w.astype(jnp.float32))
    assert dx.dtype == dw.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, exact, rtol=2e-2)
    for a, b in ((dx, dx64), (dw, dw64)):
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=0, atol=2e-2 * float(jnp.abs(b).max()))


def lowered(platform, inputs=3):
    """The program of both gradients inside a loop, as lowered for `platform`, which need not be present."""
    x, w = draw((8, 8), (3, 3), "float32", inputs=inputs)
    one = gradients(conv.conv_general_dilated, (2, 2), [(1, 1), (1, 1)])

    def descend(state, _):
        return jax.tree.map(jnp.subtract, state, one(*state)[1]), None

    loop = jax.jit(lambda state: jax.lax.scan(descend, state, length=3)[0])
    return loop.trace((x, w)).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize(("inputs", "convolutions"), [(3, 1), (8, 2)])  # others are matrix products
def test_cpu_program_has_only_canonical_convolutions_and_no_choice_at_run_time(inputs, convolutions):
    text = lowered("cpu", inputs).compile().as_text()
    lines = [line for line in text.splitlines() if " convolution(" in line]
    assert len(lines) == convolutions
    assert all("dim_labels=b01f_01io->b01f" in line for line in lines)
    assert not any("lhs_dilate" in line or "rhs_dilate" in line for line in lines)
    assert "conditional(" not in text


@pytest.mark.parametrize(
    ("batch", "numbers", "pieces"),
    [(128, 2**14, 16), (128, 2**12, 4), (5, 1, 1), (16, 2**20, 2), (7, 2**20, 1), (24, 2**13, 2)],
)
def test_pieces_are_equal_and_fit(batch, numbers, pieces):
    assert conv._pieces(batch, numbers) == pieces


def test_narrow_results_are_computed_in_pairs_on_a_cpu():
    x, w = draw((6, 8), (3, 3), "float32", outputs=conv.NARROW)
    text = jax.jit(lambda x, w: conv.conv_general_dilated(x, w, (1, 1), "SAME")).lower(x, w).as_text()
    assert f"tensor<3x4x4x{2 * conv.NARROW}xf32>" in text
    pairs, plain = conv.quick_conv(x, w, (1, 1), ((1, 1), (1, 1))), native(x, w, (1, 1), "SAME")
    np.testing.assert_allclose(pairs, plain, rtol=1e-5, atol=1e-5)


def test_pieces_of_a_batch_that_is_spread_over_devices_are_not_gathered(monkeypatch):
    """Each device takes its own part of every piece; only the sum crosses."""
    monkeypatch.setattr(conv, "PIECE", 1)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    own = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, w = draw((8, 8), (3, 3), "float32", batch=16)
    g = native(x, w, (1, 1), "SAME")
    gradient = functools.partial(conv.kernel_gradient, strides=(1, 1), pads=((1, 1), (1, 1)))
    text = jax.jit(gradient, in_shardings=(own, None, own)).lower(x, w, g).compile().as_text()
    assert "while(" in text
    assert "all-gather" not in text
    assert "all-to-all" not in text
    assert "all-reduce" in text


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_keep_the_native_gradient(platform):
    lines = [line for line in lowered(platform).as_text().splitlines() if "stablehlo.convolution" in line]
    assert len(lines) == 3
    assert sum("lhs_dilate = [2, 2]" in line for line in lines) == 1  # how JAX writes the input gradient at stride 2
    assert sum("rhs_dilate = [2, 2]" in line for line in lines) == 1  # and the kernel gradient


@pytest.mark.parametrize("option", [{"rhs_dilation": (2, 2)}, {"feature_group_count": 3}, {"precision": "highest"}])
def test_what_it_does_not_implement_is_refused(option):
    x, w = draw((6, 6), (3, 3), "float32")
    with pytest.raises(ValueError, match="must be left at its default"):
        conv.conv_general_dilated(x, w, (1, 1), "SAME", **option)
