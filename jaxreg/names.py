"""The grammar of metric names, METRIC[/of...][@step]: made and read here alone.

robust_accuracy/pgd_ce/0.1    of an attack and a radius
feature_norm/class/3          of a class
over_training/nc1@54          of another metric, at a step
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

DIGITS = 4  # of a radius in a name


class MetricName(NamedTuple):
    """A name taken apart; `str` puts it together."""

    metric: str
    of: tuple[str, ...] = ()
    step: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The parts of a name of the results table."""
        rest, _, step = text.partition("@")
        metric, *of = rest.split("/")
        return cls(metric, tuple(of), int(step) if step else None)

    def __str__(self) -> str:
        return "/".join((self.metric, *self.of)) + ("" if self.step is None else f"@{self.step}")

    def changed(self, start: str = "", end: str = "") -> str:
        """The name of the same with START and END around its metric: `ece/mean` -> `corruption_ece_floor/mean`."""
        return str(self._replace(metric=f"{start}{self.metric}{end}"))


def named(metric: str, *of: object, step: int | None = None) -> str:
    """Returns the name of a metric of something, at a step: `robust_accuracy` of `pgd_ce` and 0.1."""
    return str(MetricName(metric, tuple(map(str, of)), step))


def those(names: Iterable[str], metric: str, parts: int) -> dict[str, MetricName]:
    """Of `names` those of one metric, of so many parts, taken apart."""
    found = {name: MetricName.parse(name) for name in names if name.startswith(metric)}
    return {name: one for name, one in found.items() if one.metric == metric and len(one.of) == parts}


def rows_of(rows: pd.DataFrame, metric: str, *parts: str) -> pd.DataFrame:
    """Returns the rows of one metric of so many parts, with a column for each of them (text) and the `step`."""
    found = those(rows["metric"].unique(), metric, len(parts))
    chosen = rows[rows["metric"].isin(list(found))]
    names = chosen["metric"].astype(str)
    columns = {
        part: names.map({name: one.of[place] for name, one in found.items()}) for place, part in enumerate(parts)
    }
    return chosen.assign(**columns, step=names.map({name: one.step for name, one in found.items()}))


def radius_told(radius: float) -> str:
    """A radius as people give it: 0.1; of what is a multiple of a tenth of 1/255 to four digits, 8/255."""
    steps = round(float(radius) * 2550)
    is_fraction = steps > 0 and f"{steps / 2550:.4g}" == f"{float(radius):.4g}"
    short = f"{float(radius):.4g}"
    return f"{steps / 10:g}/255" if is_fraction and len(short.lstrip("0.")) > 2 else short


def radius_texts(radii: Sequence[float] | np.ndarray) -> list[str]:
    """How names spell radii: with four significant digits, or as many as tell all of them apart (8/255 is 0.03137)."""
    distinct = {float(eps) for eps in radii}
    digits = next(d for d in range(DIGITS, 18) if len({f"{eps:.{d}g}" for eps in distinct}) == len(distinct))
    return [f"{float(eps):.{digits}g}" for eps in radii]
