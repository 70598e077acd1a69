"""Noise of a given Euclidean size inside the box, against bisection in float64."""

import numpy as np
import pytest

from jaxreg.geometry.input_noise import with_noise

COUNT, SHAPE = 30, (6, 6, 1)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    found = rng.random((COUNT, *SHAPE)).astype(np.float32)
    found[:, :3] = 0  # a black half, where half of the noise has no room
    return found


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_added_has_the_size_and_stays_in_the_box(images, norm):
    size = np.linspace(0, 2.5, COUNT)
    noisy, enough = with_noise(images, size, np.arange(COUNT), 7, norm)
    assert enough.all()
    assert noisy.dtype == np.float32
    assert 0 <= noisy.min() <= noisy.max() <= 1
    np.testing.assert_allclose(np.sqrt(((noisy.astype(float) - images) ** 2).sum((1, 2, 3))), size, atol=1e-5)
    np.testing.assert_array_equal(noisy[0], images[0])


def test_it_is_one_direction_times_a_scale_cut_to_the_box(images):
    small, _ = with_noise(images, np.full(COUNT, 1e-3), np.arange(COUNT), 7, "l2")
    large, _ = with_noise(images, np.full(COUNT, 2.0), np.arange(COUNT), 7, "l2")
    for x, near, far in zip(images.astype(float), small.astype(float), large.astype(float)):
        direction = (near - x).ravel()
        known = np.abs(direction) > 1e-5  # the rest is cut, or too small for float32
        low, high = 0.0, 1e5
        for _ in range(60):
            middle = (low + high) / 2
            size = np.linalg.norm(np.clip(x.ravel() + middle * direction, 0, 1) - x.ravel())
            low, high = (low, middle) if size > 2 else (middle, high)
        expected = np.clip(x.ravel() + low * direction, 0, 1)
        np.testing.assert_allclose(far.ravel()[known], expected[known], atol=0.02)


def test_signs_are_as_large_everywhere_in_linf(images):
    noisy, _ = with_noise(images, np.full(COUNT, 0.3), np.arange(COUNT), 7, "linf")
    added = np.abs(noisy.astype(float) - images)
    inside = (noisy > 0) & (noisy < 1)
    largest = added.max((1, 2, 3), keepdims=True)
    assert np.allclose(np.where(inside, added, largest), largest, atol=1e-6)
    signs = np.sign(noisy - images)[:, 3:]
    assert abs(signs.mean()) < 0.1


def test_noise_is_that_of_the_example_and_the_seed_alone(images):
    given = images, np.full(COUNT, 0.5), np.arange(COUNT)
    one, _ = with_noise(*given, 7, "linf")
    other, _ = with_noise(*given, 8, "linf")
    backwards, _ = with_noise(*(a[::-1] for a in given), 7, "linf")
    np.testing.assert_array_equal(backwards[::-1], one)
    assert (one != other).any((1, 2, 3)).all()


def test_where_the_box_has_no_room_all_of_it_is_taken_and_told(images):
    noisy, enough = with_noise(images, np.full(COUNT, 5.9), np.arange(COUNT), 7, "linf")
    assert not enough.any()
    assert np.isin(noisy[:, 3:], (0, 1)).all()
