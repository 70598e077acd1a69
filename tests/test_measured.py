"""Rows with intervals, against published numbers."""

import math

import numpy as np
import pytest

from jaxreg.measured import mean_row, share_row, wilson


def test_wilson_intervals():
    # Agresti and Coull, 1998, doi:10.1080/00031305.1998.10480550: 0 and 5 of 10 at 95 %.
    np.testing.assert_allclose(wilson(0, 10), (0.0, 0.27753), atol=1e-5)
    np.testing.assert_allclose(wilson(5, 10), (0.23659, 0.76341), atol=1e-5)
    with pytest.raises(ValueError, match="at least 1 example"):
        wilson(0, 0)


def test_a_share_has_the_published_interval():
    # Newcombe, 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I: 81 of 263.
    row = share_row("test", "share", np.arange(263) < 81)
    assert (row.value, row.n) == (81 / 263, 263)
    np.testing.assert_allclose([row.low, row.high], [0.2553, 0.3662], atol=1e-4)


def test_a_mean_has_an_interval_from_two_examples_on():
    row = mean_row("test", "length", np.float32([1, 2, 6]))
    half = 1.959964 * math.sqrt(7) / math.sqrt(3)
    np.testing.assert_allclose([row.value, row.low, row.high], [3, 3 - half, 3 + half], rtol=1e-5)
    assert mean_row("test", "length", np.ones(1)) == ("test", "length", 1, 1, None, None)
    assert math.isnan(mean_row("test", "length", np.ones(0)).value)
