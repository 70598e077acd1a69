"""What every probe returns: numbers for the results table, arrays for computing any number again."""

from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """One number of one trial; `low` and `high` bound its 95 % interval over examples, where one exists."""

    split: str
    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None


class Measured(NamedTuple):
    """All that a probe found for one trial: its rows, and per-example arrays (first axis N) under stable names."""

    rows: list[Row]
    arrays: dict[str, np.ndarray]
