"""Corruptions against NumPy, SciPy and Pillow, and their laws."""

import jax
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from jaxreg.rng import Stream, key_of
from jaxreg.robustness import corruptions, warps
from jaxreg.robustness.corruptions import CORRUPTIONS, LEFT_OUT, SEVERITIES, corrupt
from support import small_networks

KEY = jax.random.key(2)
SIDE = 16


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(rng.uniform(size=(6, SIDE, SIDE, 3)), (0, 2, 2, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (np.floor(smooth * 255) / 255).astype(np.float32)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_severity_rises_and_draws_belong_to_examples(images, name):
    out = {s: np.asarray(corrupt(images, name, s, key=KEY)) for s in (1, SEVERITIES)}
    distance = {s: np.abs(x - images).mean() for s, x in out.items()}
    assert 0 < distance[1] < distance[SEVERITIES] or name == "elastic_transform"
    for x in out.values():
        assert x.min() >= 0
        assert x.max() <= 1
        np.testing.assert_allclose(x * 255, np.round(x * 255), atol=1e-3)
    order = np.array([3, 0, 5, 1, 4, 2])
    again = corrupt(images[order], name, SEVERITIES, key=KEY, ids=order)
    np.testing.assert_allclose(again, out[SEVERITIES][order], atol=1.1 / 255)


def test_ten_families_of_fifteen():
    assert len(CORRUPTIONS) + len(LEFT_OUT) == 15
    assert not set(CORRUPTIONS) & set(LEFT_OUT)
    assert all(len(c.levels) == SEVERITIES for c in CORRUPTIONS.values())


def test_draws_are_numbered_not_placed(images, monkeypatch):
    assert {name: c.number for name, c in CORRUPTIONS.items()} == {name: i for i, name in enumerate(CORRUPTIONS)}
    before = corrupt(images, "impulse_noise", 5, key=KEY)
    monkeypatch.setattr(corruptions, "CORRUPTIONS", {"impulse_noise": CORRUPTIONS["impulse_noise"]})
    np.testing.assert_array_equal(corruptions.corrupt(images, "impulse_noise", 5, key=KEY), before)


def test_noise_has_the_stated_law():
    flat = np.full((6, 48, 48, 3), 0.5, np.float32)
    assert np.std(corrupt(flat, "gaussian_noise", 3, key=KEY)) == pytest.approx(0.08, rel=0.02)
    assert np.std(corrupt(flat, "shot_noise", 3, key=KEY)) == pytest.approx(np.sqrt(0.5 / 100), rel=0.02)
    salted = np.asarray(corrupt(flat, "impulse_noise", 5, key=KEY))
    assert np.mean(salted == 1) == pytest.approx(0.035, rel=0.1)
    assert np.mean(salted == 0) == pytest.approx(0.035, rel=0.1)


def test_zoom_blur_is_scipys(images):
    x, total, factors = images[0].astype(np.float64), 0, np.arange(1, 1.21, 0.01)
    for factor in factors:
        kept = int(np.ceil(SIDE / factor))
        first = (SIDE - kept) // 2
        part = x[first : first + kept, first : first + kept]
        grown = scipy.ndimage.zoom(part, (factor, factor, 1), order=1)
        trim = (len(grown) - SIDE) // 2
        total = total + grown[trim : trim + SIDE, trim : trim + SIDE]
    expected = (x + total) / (len(factors) + 1)
    np.testing.assert_allclose(corrupt(images, "zoom_blur", 4, key=KEY)[0], expected, atol=1.1 / 255)


@pytest.mark.parametrize("severity", [1, 5])
def test_defocus_blur_is_a_correlation_with_a_disk(images, severity):
    radius, alias = CORRUPTIONS["defocus_blur"].levels[severity - 1]
    kernel = warps.disk(radius, alias)
    assert kernel.sum() == pytest.approx(1)
    expected = scipy.ndimage.correlate(images[0].astype(np.float64), kernel[..., None], mode="mirror")
    np.testing.assert_allclose(corrupt(images, "defocus_blur", severity, key=KEY)[0], expected, atol=1.1 / 255)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_pixelate_is_pillows(images, severity):
    small = int(SIDE * CORRUPTIONS["pixelate"].levels[severity - 1][0])
    image = PIL.Image.fromarray(np.uint8(np.round(images[0] * 255)))
    box = PIL.Image.Resampling.BOX
    expected = np.asarray(image.resize((small, small), box).resize((SIDE, SIDE), box)) / 255
    np.testing.assert_allclose(corrupt(images, "pixelate", severity, key=KEY)[0], expected, atol=2.1 / 255)


def test_brightness_raises_the_value_of_hsv(images):
    import colorsys

    got = np.asarray(corrupt(images, "brightness", 4, key=KEY)[0])
    for i, j in ((0, 0), (5, 9), (12, 3)):
        h, s, v = colorsys.rgb_to_hsv(*map(float, images[0, i, j]))
        np.testing.assert_allclose(got[i, j], colorsys.hsv_to_rgb(h, s, min(v + 0.2, 1)), atol=1.1 / 255)
    black = corrupt(np.zeros((1, 4, 4, 3), np.float32), "brightness", 4, key=KEY)
    np.testing.assert_allclose(black, 0.2, atol=1e-6)


def test_contrast_keeps_the_mean(images):
    got = np.asarray(corrupt(images, "contrast", 5, key=KEY))
    np.testing.assert_allclose(got.mean((1, 2)), images.mean((1, 2)), atol=1 / 255)
    np.testing.assert_allclose(got.std((1, 2)), 0.15 * images.std((1, 2)), atol=1 / 255)


def test_the_landscape_of_fog_is_rougher_with_less_decay():
    plasma = jax.jit(lambda decay: warps.plasma(KEY, 32, decay))
    rough = [np.abs(np.diff(np.asarray(plasma(decay)), axis=0)).mean() for decay in (1.5, 3.0)]
    assert rough[0] > 1.3 * rough[1]
    land = np.asarray(plasma(2.0))
    assert (land.min(), land.max()) == (0, 1)


def test_no_motion_leaves_the_image(images):
    x = images[0]
    np.testing.assert_allclose(jax.jit(warps.affine)(KEY, x, 0.0), x, atol=1e-5)
    displaced = jax.jit(lambda strength: warps.displaced(KEY, x, strength, 2.0))
    np.testing.assert_allclose(displaced(0.0), x, atol=1e-6)
    moved = displaced(3.0)
    assert np.abs(moved - x).max() > 0.01


@pytest.mark.parametrize(
    ("name", "severity", "words"), [("frost", 1, "Unknown corruption 'frost'"), ("fog", 6, "severity must be 1 to 5")]
)
def test_bad_use_is_named(images, name, severity, words):
    with pytest.raises(ValueError, match=words):
        corrupt(images, name, severity, key=KEY)


def test_the_probe_sees_every_trial_on_the_same_corrupted_images():
    x, rng = small_networks.images(12, shape=(8, 8, 1)), np.random.default_rng(1)
    params, stats = {"w": rng.normal(size=(2, 64, 4)).astype(np.float32)}, {"none": np.zeros((2, 1), np.float32)}

    def apply(params, stats, x, *, train):
        return ((x.reshape(x.shape[0], -1) - 0.5) @ params["w"],)

    labels = np.asarray(apply({"w": params["w"][0]}, None, x, train=False)[0]).argmax(1)
    chosen = {"names": ("contrast", "gaussian_noise"), "severities": (1, 5)}
    first, second = corruptions.measure(apply, params, stats, x, labels, np.arange(12), **chosen)
    values = {row.metric: row.value for row in first.rows}
    noisy = corrupt(x, "gaussian_noise", 5, key=key_of(0, Stream.CORRUPTION))
    expected = np.mean(np.asarray(apply({"w": params["w"][0]}, None, noisy, train=False)[0]).argmax(1) == labels)
    assert values["corruption_accuracy/gaussian_noise/5"] == pytest.approx(expected)
    for metric in ("corruption_accuracy", "corruption_ece", "corruption_nll"):
        shares = [v for k, v in values.items() if k.startswith(f"{metric}/") and not k.endswith("mean")]
        assert values[f"{metric}/mean"] == pytest.approx(np.mean(shares))
        assert len(shares) == 4
    assert first.arrays["corruption_logits/contrast/1"].shape == (12, 4)
    assert values["corruption_accuracy/contrast/1"] > second.rows[0].value


def test_draws_do_not_depend_on_the_implementation_of_keys():
    x = small_networks.images(6)
    key = jax.random.key(1, impl="rbg")
    for name in ("shot_noise", "gaussian_noise"):
        found, turned = (
            corrupt(x[order], name, 1, key=key, ids=order)[order] for order in (np.arange(6), np.arange(6)[::-1])
        )
        np.testing.assert_array_equal(found, turned)
