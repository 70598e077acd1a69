"""Partial rank correlation against its closed form and the inverse of the matrix of correlations."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxreg.statistics import partial_rank_correlation


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(2, 80))
    x, y = z + 0.5 * w + rng.normal(size=80), z - w + rng.normal(size=80)
    return x, np.round(y, 1), z, w  # y with ties


def rank(a, b):
    return scipy.stats.spearmanr(a, b).statistic


def test_without_others_it_is_spearmans(values):
    x, y, *_ = values
    assert partial_rank_correlation(x, y) == pytest.approx(rank(x, y), abs=1e-12)


def test_given_one_it_is_the_closed_form(values):
    x, y, z, _ = values
    xy, xz, yz = rank(x, y), rank(x, z), rank(y, z)
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_rank_correlation(x, y, z) == pytest.approx(expected, abs=1e-12)
    assert abs(expected - xy) > 0.1


def test_given_several_it_is_read_from_the_inverse_of_the_matrix(values):
    ranks = np.stack([scipy.stats.rankdata(v) for v in values])
    inverse = np.linalg.inv(np.corrcoef(ranks))
    expected = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    assert partial_rank_correlation(*values) == pytest.approx(expected, abs=1e-12)
    assert partial_rank_correlation(*values, values[3]) == pytest.approx(expected, abs=1e-9)  # twice is once


def test_only_the_order_counts_and_infinities_come_last(values):
    x, y, z, w = values
    far = np.where(y > 1, np.inf, y)
    assert partial_rank_correlation(np.exp(x), far, z**3, w) == pytest.approx(
        partial_rank_correlation(x, np.where(y > 1, 99, y), z, w), abs=1e-12
    )


def test_what_says_nothing_is_nan(values, as_users):
    x, y, z, _ = values
    assert math.isnan(partial_rank_correlation(x[:3], y[:3], z[:3]))
    assert math.isnan(partial_rank_correlation(x, 0 * y, z))
    assert math.isnan(partial_rank_correlation(x, z, z**3))  # the others leave nothing
    assert math.isnan(partial_rank_correlation(x, np.where(y > 1, np.nan, y), z))
    with pytest.raises(ValueError, match="of the same examples"):
        partial_rank_correlation(x, y, z[:-1])
