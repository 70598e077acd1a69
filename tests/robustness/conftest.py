"""Attacks of the tests run in batches of one size: to compile the smaller ones takes longer than to run them."""

import pytest

from jaxreg.robustness import loop


@pytest.fixture(autouse=True)
def one_batch_size(request, monkeypatch):
    """As for few slots, but in tests that ask for `every_batch_size`."""
    if "every_batch_size" not in request.fixturenames:
        monkeypatch.setattr(loop, "LARGE", 2**30)


@pytest.fixture
def every_batch_size():
    """The smaller batches that the last rows go on in, and the last evaluation without a gradient."""
