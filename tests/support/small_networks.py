"""Small functions to attack, and their closed forms in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

SHAPE = (3, 3, 1)


@functools.cache  # one function object, hence one program, for all tests
def linear(key=0, classes=4, shape=SHAPE, scale=1.0):
    """A linear classifier over images: its logits function, weights [D, K], bias [K]."""
    rng = np.random.default_rng(key)
    w, b = rng.normal(size=(int(np.prod(shape)), classes)) * scale, rng.normal(size=classes) * scale * 0.1
    return lambda x: (x.reshape(x.shape[0], -1) - 0.5) @ jnp.asarray(w, x.dtype) + jnp.asarray(b, x.dtype)[None], w, b


@functools.cache
def mlp(key=0, classes=4, shape=SHAPE, width=16):
    """A two-layer network with random weights."""
    rng = np.random.default_rng(key)
    w1 = rng.normal(size=(int(np.prod(shape)), width)) * 0.8
    w2 = rng.normal(size=(width, classes)) * 0.8
    return lambda x: (
        jax.nn.tanh((x.reshape(x.shape[0], -1) - 0.5) @ jnp.asarray(w1, x.dtype)) @ jnp.asarray(w2, x.dtype)
    )


def images(count, key=1, shape=SHAPE, low=0.3, high=0.7):
    """Images far enough from the box's faces that small balls lie inside it."""
    return np.random.default_rng(key).uniform(low, high, (count, *shape)).astype(np.float32)


def predicted(logits_fn, x):
    return np.array(jnp.argmax(logits_fn(jnp.asarray(x)), axis=1), np.int32)


def linear_min_eps(w, b, x, labels, norm):
    """The exact radius of misclassification: min over j != y of (z_y - z_j) / dual norm of (w_y - w_j)."""
    flat = x.reshape(len(x), -1).astype(np.float64) - 0.5
    logits = flat @ w + b
    radii = np.full(len(x), np.inf)
    for j in range(w.shape[1]):
        d = w[:, labels] - w[:, [j]]
        dual = np.abs(d).sum(0) if norm == "linf" else np.sqrt((d**2).sum(0))
        gap = logits[np.arange(len(x)), labels] - logits[:, j]
        radii = np.where(labels == j, radii, np.minimum(radii, gap / np.maximum(dual, 1e-30)))
    return radii
