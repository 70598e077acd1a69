import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxreg import models
from jaxreg.models import conv, layers
from jaxreg.models.functional import functional
from jaxreg.models.layers import max_pool

ARGUMENTS = {"classes": 10, "image_shape": (8, 8, 1), "mean": (0.5,), "std": (0.2,)}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("resnet19", {}, r"Unknown model 'resnet19'; known: \['cnn', 'resnet18', 'resnet20', 'wrn28_10'\]"),
        ("cnn", {"dtype": "float16"}, r"Unknown dtype 'float16'; known: \['bfloat16', 'float32'\]"),
        ("cnn", {"width": 3}, r"Unknown option 'width' of model 'cnn'; known: \['widths'\]"),
        ("cnn", {"widths": ()}, "widths must be one or more positive"),
        ("cnn", {"widths": (1, 1, 1, 1)}, "needs images of 16x16"),
        ("resnet18", {"width": 0}, "width must be 1 or more, got 0"),
        ("wrn28_10", {"widen": 0}, "widen must be 1 or more, got 0"),
        ("resnet20", {"image_shape": (4, 4, 1)}, "resnet20 needs images of 8x8 pixels or more, got 4x4"),
        ("resnet18", {"image_shape": (32, 4, 1)}, "resnet18 needs images of 8x8 pixels or more, got 32x4"),
        ("wrn28_10", {"image_shape": (7, 7, 1)}, "wrn28_10 needs images of 8x8"),
        ("cnn", {"image_shape": (8, 8)}, r"image_shape must be \(height, width, channels\), got \(8, 8\)"),
        ("cnn", {"image_shape": (8, 8, 3)}, "mean must hold one number a channel"),
        ("cnn", {"std": (0.2, 0.2)}, "std must hold one number a channel"),
        ("cnn", {"std": (0.0,)}, "std > 0"),
        ("cnn", {"mean": (float("nan"),)}, "finite"),
        ("cnn", {"classes": 1}, "classes must be 2 or more, got 1"),
    ],
)
def test_a_wrong_argument_is_named_with_its_cure(name, changes, message):
    with pytest.raises(ValueError, match=message):
        models.make(name, **(ARGUMENTS | changes))


@pytest.mark.parametrize("shape", [(8, 8, 1), (11, 13, 3), (28, 28, 1)])
@pytest.mark.parametrize("name", models.MODELS)
def test_odd_and_oblong_images_fit(name, shape):
    channels = shape[2]
    model = models.make(name, classes=3, image_shape=shape, mean=[0.5] * channels, std=[0.2] * channels)
    state = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    logits, _, _ = jax.eval_shape(lambda *a: model.apply(*a, train=True), *state, images)
    assert logits.shape == (2, 3)


def test_train_has_no_default():
    model = models.make("cnn", **ARGUMENTS)
    with pytest.raises(TypeError, match="train"):
        model.apply({}, {}, jnp.zeros((1, 8, 8, 1)))


class Plain(nnx.Module):
    """One convolution and one layer with an initialiser of its own: quick to compile."""

    def __init__(self, rngs):
        self.first = conv.conv_layer(3, 8, 3, dtype=jnp.float32, rngs=rngs)
        self.head = nnx.Linear(8, 4, kernel_init=nnx.initializers.constant(7.0), rngs=rngs)

    def __call__(self, x, *, train):
        features = self.first(x).mean((1, 2))
        return self.head(features), features


def test_normalisation_comes_first():
    mean, std = np.float32([0.3, 0.5, 0.7]), np.float32([0.2, 0.3, 0.4])
    model, plain = functional(Plain, mean, std), functional(Plain, [0.0] * 3, [1.0] * 3)
    state = model.init(jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
    expected = plain.apply(*state, (x - mean[None, None, None]) / std[None, None, None], train=True)
    got = model.apply(*state, x, train=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, expected)


def test_integer_pixels_are_used_as_they_are():
    model = functional(Plain, [0.5] * 3, [0.2] * 3)
    state = model.init(jax.random.key(0))
    ones = model.apply(*state, jnp.ones((1, 8, 8, 3)), train=False)[0]
    np.testing.assert_array_equal(model.apply(*state, jnp.ones((1, 8, 8, 3), jnp.uint8), train=False)[0], ones)


def test_a_layer_with_its_own_initialiser_keeps_it():
    params, stats = functional(Plain, [0.5] * 3, [0.2] * 3).init(jax.random.key(0))
    np.testing.assert_array_equal(params["head"]["kernel"], 7)
    assert jnp.abs(params["first"]["kernel"]).min() > 0
    assert stats == {}


def test_initialisation_depends_on_the_key_alone():
    model = functional(Plain, [0.5] * 3, [0.2] * 3)
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.jit(jax.vmap(model.init))(keys)
    init = jax.jit(model.init)
    for i, key in enumerate(keys):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), stacked, init(key))
    kernels = stacked[0]["first"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])


def test_convolutions_start_he_normal_fan_out_and_the_rest_neutral():
    model = models.make("resnet20", classes=10, image_shape=(8, 8, 3), mean=[0.5] * 3, std=[0.2] * 3)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    block = params["stages"]["2"]["1"]
    kernel = np.asarray(block["conv2"]["kernel"])  # 3 x 3 x 64 x 64: the spread of the estimate is 0.4 %
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 64)), rtol=0.02)
    np.testing.assert_allclose((kernel**4).mean() / kernel.var() ** 2, 3, rtol=0.05)  # normal, not truncated
    head = np.asarray(params["head"]["kernel"])  # 640 numbers: 3 %
    np.testing.assert_allclose(head.std(), 1 / 8, rtol=0.15)
    wide = np.asarray(params["stages"]["2"]["0"]["conv1"]["kernel"])  # 32 -> 64 channels tells fan-out from fan-in
    np.testing.assert_allclose(wide.std(), np.sqrt(2 / (9 * 64)), rtol=0.03)
    np.testing.assert_array_equal(block["norm2"]["scale"], 1)
    np.testing.assert_array_equal(block["norm2"]["bias"], 0)
    np.testing.assert_array_equal(stats["norm"]["mean"], 0)
    np.testing.assert_array_equal(stats["norm"]["var"], 1)
    np.testing.assert_array_equal(params["head"]["bias"], 0)


def test_zero_init_starts_blocks_as_their_shortcut():
    model = models.make("resnet20", zero_init=True, width=2, **ARGUMENTS)
    params, _ = jax.jit(model.init)(jax.random.key(0))
    np.testing.assert_array_equal(params["stages"]["1"]["2"]["norm2"]["scale"], 0)
    np.testing.assert_array_equal(params["stages"]["1"]["2"]["norm1"]["scale"], 1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_normalisation_against_numpy(dtype):
    layer = layers.norm_layer(3, dtype=dtype, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.1, 0.2, 0.3])
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 3)).astype(dtype) + 1
    exact = np.asarray(x, np.float64)
    mean, var = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
    tolerance = {"rtol": 1e-2, "atol": 2e-2} if dtype == jnp.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}

    y = layer(x, use_running_average=False)
    assert y.dtype == dtype
    expected = (exact - mean) / np.sqrt(var + 1e-5) * [1, 2, 3] + [0.1, 0.2, 0.3]
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, **tolerance)
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-5)  # float32 statistics under either dtype
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * var, rtol=1e-5)

    y = layer(x, use_running_average=True)
    running = (exact - 0.1 * mean) / np.sqrt(0.9 + 0.1 * var + 1e-5) * [1, 2, 3] + [0.1, 0.2, 0.3]
    np.testing.assert_allclose(np.asarray(y, np.float64), running, **tolerance)


def test_max_pool_keeps_the_odd_edge():
    x = np.random.default_rng(0).uniform(size=(2, 5, 6, 3)).astype(np.float32)
    got = max_pool(jnp.asarray(x))
    assert got.shape == (2, 3, 3, 3)
    for i in range(3):
        for j in range(3):
            window = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            np.testing.assert_array_equal(got[:, i, j], window.max((1, 2)))


def test_max_pool_gives_its_gradient_to_the_largest_and_to_the_first_of_equals():
    x = jnp.asarray([[[1.0, 3.0, 5.0, 5.0], [0.0, 2.0, 5.0, 5.0]]]).reshape(1, 2, 4, 1)
    gradient = jax.grad(lambda x: (max_pool(x)[0, 0, :, 0] * jnp.array([7.0, 8.0])).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 7, 8, 0], [0, 0, 0, 0]])


def trial_mesh():
    return jax.make_mesh((jax.device_count(),), ("trial",), axis_types=(jax.sharding.AxisType.Auto,))


def train_twice(model, key, x):
    def loss(params, stats):
        logits, _, stats = model.apply(params, stats, x, train=True)
        return -jax.nn.log_softmax(logits)[:, 0].mean(), stats

    def step(state, _):
        grads, stats = jax.grad(loss, has_aux=True)(*state)
        return (jax.tree.map(lambda p, g: p - 0.1 * g, state[0], grads), stats), None

    params, stats = jax.lax.scan(step, model.init(key), length=2)[0]
    attacked = jax.grad(lambda x: model.apply(params, stats, x, train=False)[0][:, 0].sum())(x)
    return params, stats, attacked


def test_trials_in_shard_map_and_map_equal_each_alone():
    model = models.make("cnn", widths=(3, 4), **ARGUMENTS)
    x = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))
    keys = jax.random.split(jax.random.key(0), 2 * jax.device_count())

    def body(keys, x):
        x = jax.lax.pcast(x, ("trial",), to="varying")
        return jax.lax.map(lambda key: train_twice(model, key, x), keys)

    specs = (jax.P("trial"), jax.P())
    mapped = jax.shard_map(body, mesh=trial_mesh(), in_specs=specs, out_specs=jax.P("trial"), axis_names={"trial"})
    together = jax.jit(mapped)(keys, x)
    alone = jax.jit(lambda key: train_twice(model, key, x))
    for i, key in enumerate(keys):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5), together, alone(key))


def test_a_shared_image_without_the_cast_is_refused_not_summed_over_trials():
    x, w = jnp.ones((2, 4, 4, 1)), jnp.ones((jax.device_count(), 3, 3, 1, 2))

    def body(w, x):
        return jax.grad(lambda x: conv.conv_general_dilated(x, w[0], (1, 1), "SAME").sum())(x)[None]

    specs = (jax.P("trial"), jax.P())
    mapped = jax.shard_map(body, mesh=trial_mesh(), in_specs=specs, out_specs=jax.P("trial"), axis_names={"trial"})
    with pytest.raises(TypeError, match="manual axis types do not match"):
        jax.jit(mapped)(w, x)


def test_a_shared_kernel_has_the_gradient_of_all_images_and_each_image_its_own():
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (jax.device_count(), 4, 4, 1)), jax.random.normal(keys[1], (3, 3, 1, 2))

    def gradients(x, w):
        return jax.grad(lambda x, w: (conv.conv_general_dilated(x, w, (1, 1), "SAME") ** 2).sum(), (0, 1))(x, w)

    axes = jax.P("trial"), jax.P()
    mapped = jax.shard_map(gradients, mesh=trial_mesh(), in_specs=axes, out_specs=axes, axis_names={"trial"})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), jax.jit(mapped)(x, w), gradients(x, w))


def test_a_network_with_other_variables_is_refused():
    class Other(nnx.Module):
        def __init__(self, rngs):
            self.counter = nnx.Variable(jnp.zeros(()))

    with pytest.raises(ValueError, match="Non-exhaustive filters"):
        functional(Other, (0.5,), (0.2,))
