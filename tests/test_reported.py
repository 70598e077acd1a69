"""What others were bitten by: values, types and functions that are refused, or taken for what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import calibration, geometry
from jaxreg.probes.robustness import RobustnessSettings
from jaxreg.probes.robustness import check as check_settings
from jaxreg.robustness import Attack, corruptions, minimal_eps, robustness_curve, run_attack, run_suite
from jaxreg.spec import SpecError

pytestmark = pytest.mark.usefixtures("as_users")

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(16, 4)).astype(np.float32)
LOGITS = np.random.default_rng(2).normal(size=(12, 4)).astype(np.float32)
LABELS = np.arange(12) % 4
FGSM = Attack("gradient", steps=1, step_size=1.0, random_start=False)


def network(x_BHWC):
    return x_BHWC.reshape(len(x_BHWC), -1) @ WEIGHTS


TRUTH = np.asarray(network(IMAGES)).argmax(1)


def attacked(logits_fn=network, images=IMAGES, eps=0.1, attack=FGSM, **more):
    return run_attack(logits_fn, images, TRUTH, eps, attack, key=KEY, **more)


REFUSED = {
    "complex logits": (lambda: calibration.ece(LOGITS + 1j, LABELS), "must be real numbers"),
    "masked logits": (lambda: calibration.ece(np.ma.masked_greater(LOGITS, 1), LABELS), "masked entries"),
    "masked labels": (lambda: calibration.nll(LOGITS, np.ma.masked_equal(LABELS, 1)), "3 masked entries"),
    "traced logits": (lambda: jax.jit(lambda z: calibration.ece(z, LABELS))(LOGITS), "logits are traced"),
    "a gradient": (lambda: jax.grad(lambda z: calibration.nll(z, LABELS))(LOGITS), "logits are traced"),
    "complex features": (
        lambda: geometry.measure_network(LOGITS + 1j, np.eye(4), np.zeros(4), LABELS),
        "features must be real",
    ),
    "a radius of text": (
        lambda: geometry.measure_network(LOGITS, np.eye(4), np.zeros(4), LABELS, radius="1"),
        "radius must be finite and at least 0, got '1'",
    ),
    "infinite eps": (lambda: attacked(eps=np.inf, norm="l2"), "0 or more and finite, got inf"),
    "eps of pixels in l2": (lambda: attacked(eps=128.0, norm="l2"), r"at most 4 in l2.*got 128: divide.*by 255"),
    "several radii of a suite": (lambda: run_suite(network, IMAGES, TRUTH, [0.1, 0.2], "pgd", key=KEY), "one number"),
    "several largest radii": (lambda: minimal_eps(network, IMAGES, TRUTH, [0.1, 0.2], key=KEY), "eps must be one"),
    "no slots": (lambda: attacked(slots=0), "slots must be a whole number, at least 1, got 0"),
    "half a slot": (lambda: attacked(slots=2.5), "slots must be a whole number, at least 1, got 2.5"),
    "a step that is no number": (lambda: attacked(attack=FGSM._replace(step_size=np.nan)), "finite, got nan"),
    "an endless step": (lambda: attacked(attack=FGSM._replace(step_size=np.inf)), "finite, got inf"),
    "an unknown method": (lambda: attacked(attack=Attack("pgd")), "Unknown method 'pgd'; known: .*'gradient'"),
    "a dict of logits": (lambda: attacked(lambda x: {"logits": network(x)}), "got a dict: return the array of logits"),
    "a tuple of logits": (lambda: attacked(lambda x: (network(x), x)), "got a tuple: return the array of logits"),
    "devices by name": (lambda: attacked(devices=["cpu"]), "got 'cpu': give jax.devices"),
    "masked images": (lambda: attacked(images=np.ma.masked_less(IMAGES, 0.5)), "images have .* masked entries"),
    "a curve of nothing": (lambda: robustness_curve(np.zeros(0)), "min_eps must be radii"),
    "a curve of NaN": (lambda: robustness_curve(np.array([0.1, np.nan])), "NaN among them"),
    "bytes to corrupt": (
        lambda: corruptions.corrupt((IMAGES * 255).astype(np.uint8), "fog", 1, key=KEY),
        "images must be float32.*divide by 255",
    ),
    "pixels of 255 to corrupt": (lambda: corruptions.corrupt(IMAGES * 255, "fog", 1, key=KEY), r"must lie in \[0, 1\]"),
    "NaN to corrupt": (lambda: corruptions.corrupt(IMAGES * np.nan, "fog", 1, key=KEY), r"must lie in \[0, 1\]"),
    "one image to corrupt": (lambda: corruptions.corrupt(IMAGES[0], "fog", 1, key=KEY), r"must be \[N, H, W, C\]"),
    "too few ids": (lambda: corruptions.corrupt(IMAGES, "fog", 1, key=KEY, ids=[1, 2]), "one for each of 6 images"),
    "a severity of 1.0": (lambda: corruptions.corrupt(IMAGES, "fog", 1.0, key=KEY), "severity must be 1 to 5, got 1.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_study_refuses_l2_radii_of_pixels():
    with pytest.raises(SpecError, match="0 or more"):
        RobustnessSettings(suite="pgd", norm="l2", epsilons=(float("inf"),), examples=0)

    class About:
        image_shape, num_classes = (8, 8, 1), 10

    with pytest.raises(ValueError, match="at most 8 in l2"):
        check_settings(RobustnessSettings(suite="pgd", norm="l2", epsilons=(128.0,), examples=0), About)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_network_of_bfloat16_is_attacked_in_the_precision_of_the_images(norm):
    found = attacked(lambda x: network(x).astype(jnp.bfloat16), eps=0.5, norm=norm, slots=128)
    assert found.adversarial.dtype == np.float32
    assert not attacked(lambda x: network(x).astype(jnp.bfloat16), eps=1.0, slots=128).robust.all()


def test_a_network_of_bfloat16_has_minimal_radii():
    radii, _ = minimal_eps(lambda x: network(x).astype(jnp.bfloat16), IMAGES, TRUTH, 0.5, key=KEY, steps=5, targets=1)
    assert np.isfinite(radii).any()


def test_the_byte_order_of_a_file_is_of_no_account():
    np.testing.assert_array_equal(attacked(images=IMAGES.astype(">f4")).robust, attacked().robust)
    assert calibration.ece(LOGITS.astype(">f4"), LABELS.astype(">i8")) == calibration.ece(LOGITS, LABELS)
