"""Every network in evaluation mode against a plain NumPy float64 forward pass written from the papers."""

import functools

import jax
import numpy as np
import pytest

from jaxreg import models

QUICK = {"xla_backend_optimization_level": 1}  # compile time is what this test costs
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def conv(x, w, stride=1):
    pad = w.shape[0] // 2
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), w.shape[:2], axis=(1, 2)
    )
    return np.einsum("bhwcij,ijco->bhwo", windows[:, ::stride, ::stride], w)


def norm(x, p, s):
    return (x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]


def relu(x):
    return np.maximum(x, 0)


def cnn(x, p, s):
    for i in sorted(p["convs"]):
        x = relu(norm(conv(x, p["convs"][i]["kernel"]), p["norms"][i], s["norms"][i]))
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
    return x


def basic(x, p, s, stride):
    y = relu(norm(conv(x, p["conv1"]["kernel"], stride), p["norm1"], s["norm1"]))
    y = norm(conv(y, p["conv2"]["kernel"]), p["norm2"], s["norm2"])
    if "shortcut" in p:
        kernel = p["shortcut"]["conv"]["kernel"]
        x = norm(conv(x, kernel, stride), p["shortcut"]["norm"], s["shortcut"]["norm"])
    return relu(x + y)


def resnet(x, p, s):
    return stages(relu(norm(conv(x, p["stem"]["kernel"]), p["norm"], s["norm"])), p, s, basic)


def wide(x, p, s, stride):
    a = relu(norm(x, p["norm1"], s["norm1"]))
    y = conv(a, p["conv1"]["kernel"], stride)
    y = conv(relu(norm(y, p["norm2"], s["norm2"])), p["conv2"]["kernel"])
    return y + (conv(a, p["shortcut"]["kernel"], stride) if "shortcut" in p else x)


def wrn(x, p, s):
    return relu(norm(stages(conv(x, p["stem"]["kernel"]), p, s, wide), p["norm"], s["norm"]))


def stages(x, p, s, block):
    for i in sorted(p["stages"]):
        for j in sorted(p["stages"][i]):
            stride = 2 if (i, j) != ("0", "0") and j == "0" else 1
            x = block(x, p["stages"][i][j], s["stages"][i][j], stride)
    return x


REFERENCES = {
    "cnn": (cnn, {"widths": (3, 4)}, {"convs": 2}),
    "resnet20": (resnet, {"width": 2}, {"stages": 3}),
    "resnet18": (resnet, {"width": 2}, {"stages": 4}),
    "wrn28_10": (wrn, {"widen": 1}, {"stages": 3}),
}


def at_random(model, rng):
    """Every leaf at random, variances positive, so that no term can be left out unseen."""

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return rng.normal(size=leaf.shape).astype(np.float32) * np.float32(np.prod(leaf.shape[:-1]) ** -0.5)
        return rng.uniform(0.5, 1.5, size=leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0)))


@pytest.mark.parametrize("name", models.MODELS)
def test_equals_numpy(name):
    reference, options, depth = REFERENCES[name]
    model = models.make(name, classes=5, image_shape=(8, 8, 3), mean=MEAN, std=STD, **options)
    rng = np.random.default_rng(0)
    params, stats = at_random(model, rng)
    for part, length in depth.items():
        assert len(params[part]) == length
    x = rng.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    apply = jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICK)
    logits, features, _ = apply(params, stats, x)
    p, s = jax.tree.map(np.float64, (params, stats))
    expected = reference((x - np.array(MEAN)) / np.array(STD), p, s).mean((1, 2))
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, expected @ p["head"]["kernel"] + p["head"]["bias"], rtol=1e-4, atol=1e-4)
