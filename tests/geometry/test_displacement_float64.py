"""Every number of a displacement, with its sign, against Gram-Schmidt and arc cosines in float64."""

import jax
import numpy as np
import pytest

from jaxreg.geometry import displacement
from jaxreg.models.functional import Head

WIDTH, CLASSES, COUNT = 8, 4, 40
ALONG = ("radial", "label", "rival")


def angle(a, b):
    return np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))


def rival(h, label, kernel, bias):
    logits = h @ kernel + bias
    logits[label] = -np.inf
    return logits.argmax()


def frame(*directions):
    """Orthonormal, each on the side of its own direction."""
    axes = []
    for direction in directions:
        rest = direction - sum((direction @ axis * axis for axis in axes), np.zeros(WIDTH))
        axes.append(rest / np.linalg.norm(rest))
    return axes


def reference(clean, attacked, labels, kernel, bias, centers):
    """One dict of numbers an example, float64."""
    rows = []
    for h, moved_to, y in zip(clean, attacked, labels):
        moved, own = moved_to - h, centers[y]
        parts = [moved @ axis for axis in frame(-h, own, centers[rival(moved_to, y, kernel, bias)])]
        shares = [part**2 / (moved @ moved) for part in parts]
        row = {
            "radial_cosine": np.cos(angle(moved, -h)),
            "norm_change": np.linalg.norm(moved_to) - np.linalg.norm(h),
            "turn": angle(h, moved_to),
            "center_turn": angle(moved_to, own) - angle(h, own),
            "rest_share": 1 - sum(shares),
        }
        row |= {f"{name}_part": part for name, part in zip(ALONG, parts)}
        rows.append(row | {f"{name}_share": share for name, share in zip(ALONG, shares)})
    return rows


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(10)
    kernel, bias = rng.normal(size=(WIDTH, CLASSES)), 6 * rng.normal(size=CLASSES)
    clean, centers = 2 * rng.normal(size=(COUNT, WIDTH)), rng.normal(size=(CLASSES, WIDTH))
    attacked = 0.8 * clean + rng.normal(size=(COUNT, WIDTH))
    labels = rng.integers(0, CLASSES, COUNT)
    single = [a.astype(np.float32) for a in (clean, attacked, kernel, bias, centers)]
    return single, labels


@pytest.fixture(scope="module")
def found(world):
    (clean, attacked, kernel, bias, centers), labels = world
    return jax.jit(displacement.displacement)(clean, attacked, labels, Head(kernel, bias), centers)


@pytest.fixture(scope="module")
def expected(world):
    (clean, attacked, *rest), labels = world
    clean, attacked, *rest = (np.asarray(a, float) for a in (clean, attacked, *rest))
    return reference(clean, attacked, labels, *rest)


def test_every_number_equals_float64(found, expected):
    assert set(found) == set(expected[0])
    for name in expected[0]:
        values = [row[name] for row in expected]
        np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)


def test_the_example_has_both_signs_of_everything_signed(expected):
    for name in ("radial_cosine", "norm_change", "center_turn", *(f"{axis}_part" for axis in ALONG)):
        values = np.array([row[name] for row in expected])
        assert values.min() < -0.1 < 0.1 < values.max(), name


def test_the_bias_has_a_say_in_who_the_rival_is(world):
    (_, attacked, kernel, bias, _), labels = world
    pairs = list(zip(attacked.astype(float), labels))
    with_bias, without = ([rival(h, y, kernel, b) for h, y in pairs] for b in (bias, 0 * bias))
    assert np.mean(np.array(with_bias) != np.array(without)) > 0.2


def test_to_the_center_is_along_the_label_and_turns_toward_it(world):
    (clean, _, kernel, bias, centers), labels = world
    toward = clean + 0.1 * (centers[labels] - clean)
    moved = jax.jit(displacement.displacement)(clean, toward, labels, Head(kernel, bias), centers)
    assert (moved["label_part"] > 0).all()
    np.testing.assert_allclose(moved["rival_part"], 0, atol=1e-5)
    np.testing.assert_allclose(moved["center_turn"], -moved["turn"], atol=1e-5)
