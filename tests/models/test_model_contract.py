"""What holds for every model of the table. A model without a case fails."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import models

CASES = {  # small options to run; parameters of the full network with 10 classes on 32x32x3 (1 channel for cnn); D
    "cnn": ({"widths": (4, 8)}, 19_562, 64),
    "resnet20": ({"width": 4}, 272_474, 64),  # He et al., 2016, with projection shortcuts
    "resnet18": ({"width": 4}, 11_173_962, 512),
    "wrn28_10": ({"widen": 1}, 36_479_194, 640),  # Zagoruyko and Komodakis, 2016: 36.5 M
}
SHAPE = (8, 8, 3)
QUICK = {
    "xla_backend_optimization_level": 1
}  # compiling is the cost of these tests; at level 0 XLA:CPU itself returns NaN


def test_every_model_has_a_case():
    assert set(CASES) == set(models.MODELS)


def full(name, dtype="float32", classes=10):
    channels = 1 if name == "cnn" else 3
    shape = (32, 32, channels)
    return models.make(
        name, classes=classes, image_shape=shape, mean=[0.5] * channels, std=[0.2] * channels, dtype=dtype
    ), shape


@functools.cache
def small(name, dtype="float32"):
    """A network of the same structure, a state at random, and compiled functions shared by the tests below."""
    model = models.make(
        name, classes=5, image_shape=SHAPE, mean=[0.5] * 3, std=[0.2] * 3, dtype=dtype, **CASES[name][0]
    )
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.1, 0.4, leaf.shape) * rng.choice([-1, 1, 1], leaf.shape), leaf.dtype),
        jax.eval_shape(model.init, jax.random.key(0)),
    )
    state[1].update(jax.tree.map(jnp.abs, state[1]))  # a variance is positive

    def loss(params, stats, x):
        logits, features, stats = model.apply(params, stats, x, train=True)
        nll = -jax.nn.log_softmax(logits)[:, 0].mean()
        return nll, (logits, features, stats)

    train = jax.jit(jax.grad(loss, argnums=(0, 2), has_aux=True), compiler_options=QUICK)
    evaluate = jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICK)
    return state, jax.random.uniform(jax.random.key(1), (6, *SHAPE)), train, evaluate


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", models.MODELS)
def test_full_network_has_its_count_shapes_and_dtypes(name, dtype):
    _, count, width = CASES[name]
    model, shape = full(name, dtype)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    for train in (False, True):
        apply = functools.partial(model.apply, train=train)
        logits, features, new_stats = jax.eval_shape(apply, params, stats, images)
        assert (logits.shape, features.shape) == ((2, 10), (2, width))
        assert jax.tree.map(lambda s: (s.shape, s.dtype), new_stats) == jax.tree.map(
            lambda s: (s.shape, s.dtype), stats
        )
        leaves = jax.tree.leaves((params, stats, logits, features, new_stats))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    kernel, bias = models.head(params)
    assert (kernel.shape, bias.shape) == ((width, 10), (10,))


@pytest.mark.parametrize("name", models.MODELS)
def test_state_is_plain_nested_dicts_with_string_keys(name):
    model, _ = full(name)

    def check(tree):
        if isinstance(tree, dict):
            assert type(tree) is dict
            assert all(type(key) is str for key in tree)
            [check(value) for value in tree.values()]
        else:
            assert isinstance(tree, jax.ShapeDtypeStruct)

    [check(tree) for tree in jax.eval_shape(model.init, jax.random.key(0))]


@pytest.mark.parametrize("name", models.MODELS)
def test_logits_are_the_head_of_the_features(name):
    (params, stats), x, _, evaluate = small(name)
    params = params | {"head": jax.tree.map(lambda leaf: leaf + 0.1, params["head"])}  # a bias that is not zero
    logits, features, _ = evaluate(params, stats, x)
    kernel, bias = (np.asarray(a, np.float64) for a in models.head(params))
    np.testing.assert_allclose(logits, np.asarray(features, np.float64) @ kernel + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", models.MODELS)
def test_evaluation_is_deterministic_keeps_statistics_and_ignores_the_rest_of_the_batch(name):
    (params, stats), x, _, evaluate = small(name)
    logits, features, after = evaluate(params, stats, x)
    again = evaluate(params, stats, x)
    jax.tree.map(np.testing.assert_array_equal, (logits, features, after), again)
    jax.tree.map(np.testing.assert_array_equal, after, stats)
    others = evaluate(params, stats, x.at[:2].set(0).at[3:].set(1))
    for got, expected in zip(others[:2], (logits, features)):
        np.testing.assert_allclose(got[2], expected[2], rtol=1e-5, atol=1e-6)


def test_evaluation_does_not_depend_on_the_batch_size():
    (params, stats), x, _, evaluate = small("cnn")
    whole, one = evaluate(params, stats, x), evaluate(params, stats, x[2:3])
    for got, expected in zip(one[:2], whole[:2]):
        np.testing.assert_allclose(got, expected[2:3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in models.MODELS), ("cnn", "bfloat16")])
def test_training_moves_statistics_and_gives_finite_float32_gradients(name, dtype):
    (params, stats), x, train, _ = small(name, dtype)
    (grads, dx), (_, features, after) = train(params, stats, x)
    for leaf in jax.tree.leaves((grads, dx)):
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads["head"]))
    assert jnp.abs(dx).max() > 0
    assert (features >= 0).all()
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), stats, after)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("name", models.MODELS)
def test_bfloat16_computes_the_same_network(name):
    model, shape = full(name, "bfloat16")
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    jaxpr = str(jax.make_jaxpr(functools.partial(model.apply, train=True))(params, stats, images))
    lines = [line for line in jaxpr.splitlines() if "conv_general_dilated[" in line]
    assert lines
    assert all("bf16[" in line for line in lines)


def test_bfloat16_is_close_to_float32():
    state, x, _, evaluate = small("cnn")
    exact, rounded = evaluate(*state, x)[1], small("cnn", "bfloat16")[3](*state, x)[1]
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=0.01 * float(exact.max()))
    assert (rounded != exact).any()
