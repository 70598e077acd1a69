"""64-bit mode and strict promotion of types, which a user may have set for code of their own, change no number."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import calibration, geometry
from jaxreg.__main__ import main
from jaxreg.robustness import Attack, corruptions, minimal_eps, run_attack, run_suite

COUNT, WIDTH, CLASSES = 24, 6, 4
LABELS = np.arange(COUNT) % CLASSES
ATTACKS = {
    "gradient": Attack("gradient", loss="targeted_dlr", steps=4, targets=2, adaptive=True),
    "fab": Attack("fab", steps=3, random_start=False, targets=2),
    "square": Attack("square", loss="margin", steps=8),
    "noise": Attack("noise", steps=3),
    "minimal": Attack("minimal", loss="margin", steps=4, random_start=False),
}


@contextlib.contextmanager
def set_by_a_user():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def drawn(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


FEATURES, KERNEL, BIAS = np.abs(drawn(2, COUNT, WIDTH)), drawn(2, WIDTH, CLASSES), drawn(2, CLASSES)
LOGITS = FEATURES @ KERNEL + BIAS[:, None]
IMAGES = np.random.default_rng(0).uniform(size=(8, 4, 4, 1)).astype(np.float32)
WEIGHTS = drawn(16, CLASSES)


def network(x_BHWC):
    return x_BHWC.reshape(len(x_BHWC), -1) @ jnp.asarray(WEIGHTS, x_BHWC.dtype)


TRUTH = np.asarray(network(IMAGES)).argmax(1)


def attacked(method, norm, images=IMAGES):
    eps = [0.05, 0.2] if norm == "linf" else [0.2, 0.6]
    return run_attack(network, images, TRUTH, eps, ATTACKS[method], key=jax.random.key(0), norm=norm)


def same(fn, **tolerance):
    plain = fn()
    with set_by_a_user():
        found = fn()
    assert jax.tree.structure(found) == jax.tree.structure(plain)
    close = functools.partial(np.testing.assert_allclose, **{"rtol": 1e-4, "atol": 1e-5} | tolerance)
    jax.tree.map(lambda a, b: isinstance(a, str) or close(np.asarray(a), np.asarray(b)), found, plain)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ATTACKS)
def test_attacks(method, norm):
    same(lambda: attacked(method, norm))


def test_attacks_in_float64():
    with set_by_a_user():
        found = attacked("gradient", "linf", IMAGES.astype(np.float64))
    adversarial = np.asarray(found.adversarial)
    assert adversarial.dtype == np.float64
    assert np.abs(adversarial[1] - IMAGES).max() <= 0.2 + 1e-12


def test_suites_and_minimal_radii():
    key = jax.random.key(0)
    same(lambda: run_suite(network, IMAGES, TRUTH, 0.1, "pgd", key=key))
    same(lambda: minimal_eps(network, IMAGES, TRUTH, 0.5, key=key, steps=5, targets=2))


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_corruptions(name):
    images = np.random.default_rng(1).uniform(size=(2, 8, 8, 1)).astype(np.float32)
    same(lambda: corruptions.corrupt(images, name, 3, key=jax.random.key(0)), atol=1.01 / 255)


@pytest.mark.slow
def test_geometry():
    same(lambda: geometry.measure_network(FEATURES[0], KERNEL[0], BIAS[0], LABELS))
    splits = {"train": geometry.Features(FEATURES, LABELS), "test": geometry.Features(FEATURES[:, ::-1], LABELS[::-1])}
    same(lambda: geometry.measure(splits, KERNEL, BIAS, baselines=[None, 0]))
    centers = np.swapaxes(KERNEL, 1, 2)
    same(lambda: geometry.measure_displacement(FEATURES, FEATURES + 0.1, LABELS, KERNEL, BIAS, centers))
    same(lambda: geometry.measure_snapshots(FEATURES[:, None], LABELS, KERNEL[:, None], BIAS[:, None]))


@pytest.mark.slow
def test_geometry_of_arrays():
    features, kernel, bias = jnp.asarray(FEATURES[0]), jnp.asarray(KERNEL[0]), jnp.asarray(BIAS[0])
    labels, covariance = jnp.asarray(LABELS, jnp.int32), jnp.asarray(KERNEL[0] @ KERNEL[0].T)
    same(lambda: geometry.cone(features, kernel, bias))
    same(lambda: geometry.minimal_loss_points(kernel, bias, 3.0)._replace(steps=0), atol=1e-4)
    same(lambda: geometry.max_margin_directions(kernel)._replace(steps=0), atol=1e-4)
    same(lambda: geometry.angular_margin(features, kernel, bias, labels))
    same(lambda: geometry.rival_angles(features, kernel, bias, labels))
    same(lambda: geometry.turn_toward(features, features[::-1], 0.2))
    same(lambda: geometry.effective_rank(covariance))
    same(lambda: geometry.class_means(features, labels, CLASSES))
    same(lambda: (geometry.norm(features), geometry.rms(features), geometry.common_mode(features)))
    same(lambda: (geometry.cosine(features, features[::-1]), geometry.angle(features, features[::-1])))


@pytest.mark.parametrize("name", sorted(set(calibration.__all__) - {"Logits", "evaluate", "isotonic", "measure"}))
def test_calibration(name):
    same(lambda: getattr(calibration, name)(LOGITS[0], LABELS))


def test_calibration_of_trials():
    ids = np.arange(COUNT)
    validation = calibration.Logits(LOGITS, LABELS, ids)
    splits = {"validation": validation, "test": calibration.Logits(LOGITS[:, ::-1], LABELS, ids + COUNT)}
    same(lambda: calibration.evaluate(splits))
    same(lambda: calibration.measure(splits, replicates=10))


def test_a_command_computes_in_32_bits_and_by_the_rules_of_jax(tmp_path):
    before = jax.config.jax_enable_x64, jax.config.jax_numpy_dtype_promotion
    try:
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_numpy_dtype_promotion", "strict")
        main(["jaxreg", "status", str(tmp_path)])
        assert (jax.config.jax_enable_x64, jax.config.jax_numpy_dtype_promotion) == (False, "standard")
    finally:
        jax.config.update("jax_enable_x64", before[0])
        jax.config.update("jax_numpy_dtype_promotion", before[1])
