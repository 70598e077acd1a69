"""Curves over radii against loops over radii, seeds and examples."""

import numpy as np
import pytest

from jaxreg.robustness import gain_curve, robustness_curve


def drawn(key, shape):
    radii = np.random.default_rng(key).choice([0.0, 0.02, 0.05, 0.05, 0.1, 0.3, np.inf], shape)
    return radii + np.random.default_rng(key + 1).choice([0, 1e-3], shape)


def test_gain_is_the_mean_of_paired_differences_at_every_radius():
    own, base = drawn(0, (3, 17)), drawn(5, (3, 17))
    radii, gain = gain_curve(own, base)
    expected = []
    for radius in radii:
        differences = [float(own[s, n] > radius) - float(base[s, n] > radius) for s in range(3) for n in range(17)]
        expected.append(sum(differences) / len(differences))
    np.testing.assert_allclose(gain, expected, atol=1e-12)
    both = {0.0, *own.ravel(), *base.ravel()} - {np.inf}
    np.testing.assert_array_equal(radii, sorted(both))


def test_gain_is_the_difference_of_two_robustness_curves_and_turns_with_its_sign():
    own, base = drawn(2, (1, 40)), drawn(9, (1, 40))
    radii, gain = gain_curve(own, base)
    for values, sign in ((own[0], 1), (base[0], -1)):
        at, share = robustness_curve(values)
        gain = gain - sign * share[np.searchsorted(at, radii, side="right") - 1]
    np.testing.assert_allclose(gain, 0, atol=1e-12)
    np.testing.assert_array_equal(gain_curve(base, own)[1], -gain_curve(own, base)[1])


@pytest.mark.parametrize(
    ("own", "words"),
    [(np.zeros((2, 3)), "pair the trials by their seed"), (np.zeros(4), r"\[S, N\]"), (np.full((1, 4), np.nan), "NaN")],
)
def test_bad_radii_are_named(own, words):
    with pytest.raises(ValueError, match=words):
        gain_curve(own, np.zeros((1, 4)))
