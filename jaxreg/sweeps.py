"""The algebra of sweeps: a sweep is a list of dicts of dotted overrides, pure data that `plan` prints and JSON holds.

from jaxreg import sweeps

def sweep():
    return sweeps.product(
        sweeps.over("optimizer.learning_rate", 0.02, 0.05),
        sweeps.chain(sweeps.over("model.widths", (32, 64), (64, 128)), [{"batch_size": 32}]),
    )
"""

import builtins
import functools
from collections.abc import Iterable, Mapping
from typing import Any

Sweep = list[dict[str, Any]]


def over(key: str, *values: Any) -> Sweep:
    """One setting a value of the override `key`."""
    return [{key: value} for value in values]


def product(*parts: Iterable[Mapping[str, Any]]) -> Sweep:
    """Every combination of a setting of each part; the last part varies fastest, and nothing combined is `[{}]`.

    Raises: ValueError: if two parts set the same key.
    """
    return functools.reduce(lambda left, right: [_joined(a, b) for a in left for b in right], map(list, parts), [{}])


def zip(*parts: Iterable[Mapping[str, Any]]) -> Sweep:
    """Settings side by side: the first of each part together, then the second of each.

    Raises: ValueError: if the parts differ in length, or two of them set the same key.
    """
    rows = [list(part) for part in parts]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"a zip needs parts of one length, got {[len(row) for row in rows]}: did you mean product?")
    return [functools.reduce(_joined, together, {}) for together in builtins.zip(*rows)]


def chain(*parts: Iterable[Mapping[str, Any]]) -> Sweep:
    """The settings of each part, one after another; what stands in it again is left out."""
    found: Sweep = []
    for setting in (dict(setting) for part in parts for setting in part):
        if setting not in found:
            found.append(setting)
    return found


def _joined(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    both = sorted(set(left) & set(right))
    if both:
        raise ValueError(f"a setting must set a key once, got {both[0]!r} from two parts of a sweep: remove one.")
    return {**left, **right}
