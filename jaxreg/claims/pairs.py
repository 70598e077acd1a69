"""Soft settings beside their baselines, as tests take them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxreg.claims import findings
from jaxreg.claims.findings import Finding
from jaxreg.claims.study import Pair, Study


def having(study: Study, *metrics: str) -> Iterator[Pair]:
    """The pairs with a seed at which the own side has all the metrics, and the baseline the last."""
    for pair in study.pairs:
        if all(metric in pair.own for metric in metrics) and metrics[-1] in pair.base:
            columns = [*(pair.own[metric].to_numpy() for metric in metrics), pair.base[metrics[-1]].to_numpy()]
            if np.isfinite(columns).all(0).any():
                yield pair


def sides(pairs: Sequence[Pair], metric: str) -> tuple[list[str], str, list[np.ndarray], list[np.ndarray]]:
    """Names, metric, own values, values of the baseline: as `findings` takes them."""
    own = [pair.own[metric].to_numpy() for pair in pairs]
    return [pair.name for pair in pairs], metric, own, [pair.base[metric].to_numpy() for pair in pairs]


def differences(*metrics: tuple[str, int, str]) -> Callable[[Study], Iterator[Finding]]:
    """Paired differences of every pair, soft - none, of metrics with the direction that the claim expects and the part
    of its sentence that they bear on.
    """

    def find(study: Study) -> Iterator[Finding]:
        for metric, direction, part in metrics:
            pairs = list(having(study, metric))
            ends = [pair.floors.get(metric, 0.0) for pair in pairs]
            yield from findings.differences(*sides(pairs, metric), direction, ends, part)

    return find
