"""The hold-out rule: examples ordered by the hash of their id, the first n of train become validation.

The order depends on the ids alone, not on files, shards, library versions or the machine.
"""

import operator

import numpy as np

from jaxreg.data.dataset import digests


def hash_order(ids: np.ndarray) -> np.ndarray:
    """Returns the positions [N] that sort `ids` (int or str [N], all different) by blake2b."""
    first, second = digests(ids).T
    return np.lexsort((second, first))


def held_out(validation: int | float, total: int) -> int:
    """Returns how many of `total` train examples are held out: `validation` itself, or that share, rounded.

    Raises: ValueError: unless at least one example goes to validation and at least one stays in train.
    """
    rule = f"validation must be a number of examples from 1 to {total - 1}, or a share of train in (0, 1)"
    wrong = f"{rule}, got {validation!r}: {total} train examples are there to share."
    if isinstance(validation, bool) or not np.isfinite(validation):
        raise ValueError(wrong)
    share = 0 < validation < 1
    if not share and validation != int(validation):
        raise ValueError(wrong)
    count = round(validation * total) if share else operator.index(int(validation))
    if not 1 <= count < total:
        raise ValueError(wrong)
    return count
