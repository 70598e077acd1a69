"""Rules of the paired statistics that only one odd case shows, by hand and by counting all signs."""

import itertools
import warnings

import numpy as np
import pytest
import scipy.stats

from jaxreg import statistics


def signed_rank(differences):
    """The two-sided p of the signed-rank test from all 2^n signs; zeros are left out, ties share their ranks."""
    known = differences[differences != 0]
    ranks = scipy.stats.rankdata(np.abs(known))
    signs = np.array(list(itertools.product([0, 1], repeat=len(known))))
    every, own = signs @ ranks, ranks[known > 0].sum()
    return min(1.0, 2 * min(np.mean(every <= own), np.mean(every >= own)))


TIED = [1.0, 1, -2, 2, 3, 3, 4, -5, 6, 7, 7, 8, 9]


@pytest.mark.parametrize("differences", [TIED, [0.0, *TIED[1:]], [0.0, 0, *TIED[2:]], [2.0] * 9 + [-1.0] * 4])
def test_thirteen_pairs_with_ties_or_zeros_are_tested_exactly(differences):
    assert len(differences) == 13
    expected = signed_rank(np.array(differences))
    normal = scipy.stats.wilcoxon(differences, method="asymptotic").pvalue
    assert abs(normal - expected) > 1e-3 * expected  # what would be told beyond 13
    assert statistics.effect(differences, np.zeros(13)).p_wilcoxon == pytest.approx(expected, rel=1e-9)


def test_fourteen_pairs_with_ties_have_the_normal_approximation():
    differences = [*TIED, 10.0]
    normal = scipy.stats.wilcoxon(differences, method="asymptotic").pvalue
    assert normal != pytest.approx(signed_rank(np.array(differences)), rel=1e-3)
    assert statistics.effect(differences, np.zeros(14)).p_wilcoxon == pytest.approx(normal, rel=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_of_zero_is_on_no_side(sign):
    # 0 and a rounding error: one coin, which fell on one side of two: p = 2 / 2. Two on one side would be 1/2.
    control = np.array([1.0, 1.0])
    assert statistics.effect(control + sign * np.array([0.0, 1e-9]), control).p == 1
    assert statistics.effect(control + sign * np.array([1e-9, 2e-9]), control).p == 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_is_that_of_the_larger_side(sign):
    # Numbers of size 1 against zeros: 1e-9 between the differences is rounding of float32, whichever side they are on.
    sides = np.array([1.0, 1.0 + 1e-9, 1.0]), np.zeros(3)
    found = statistics.effect(*sides[::sign])
    assert found.difference == pytest.approx(sign)
    assert found.p == 0.25  # three coins on one side
    assert np.isnan([found.t, found.low, found.high]).all()


@pytest.mark.parametrize("n", [13, 14, 20, 60])
def test_differences_that_are_all_zero_are_no_evidence_for_any_number_of_pairs(n):
    same, other = np.linspace(1, 2, n), np.linspace(1, 2, n) + np.r_[-1.0, np.arange(1, n)]
    with warnings.catch_warnings(action="error"):
        alone = statistics.effect(same, same)
        beside = statistics.effects([same, other], [same, same])
    for found in (alone, beside[0]):
        assert (found.p, found.p_wilcoxon, found.low, found.high) == (1, 1, 0, 0)
    assert beside[1].p_wilcoxon < 0.01
