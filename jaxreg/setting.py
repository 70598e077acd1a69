"""A setting: what trials share that differ only in their seed. Which setting is the baseline of which."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

BASELINE = "none"  # the regularizer that others are compared with
# What a sweep overrides, beside seeds and regularizers.
SWEPT = ("dataset", "model", "optimizer", "batch_size", "steps")
_OFF = {"per_batch": 0, "odd_sides": 0}  # not said where it has this value, as in nearly every study


class Setting(NamedTuple):
    """A regularizer with its numbers, and what a sweep overrides; both as JSON with sorted keys, as results hold them.

    Settings are equal where these texts are: a number is never rounded.
    """

    regularizer: str
    hyperparameters: str = "{}"

    @classmethod
    def of(cls, regularizer: str, values: Mapping[str, Any] | str) -> Self:
        """A setting from its values, or from the same as JSON with keys in any order."""
        given = json.loads(values) if isinstance(values, str) else dict(values)
        return cls(regularizer, json.dumps(given, sort_keys=True))

    @property
    def values(self) -> Mapping[str, Any]:
        """Hyperparameters and overrides by name."""
        return _parsed(self.hyperparameters)

    @property
    def overrides(self) -> dict[str, Any]:
        """What a sweep sets, by dotted key."""
        return {key: value for key, value in self.values.items() if key.split(".")[0] in SWEPT}

    @property
    def own(self) -> "Setting":
        """The same without what a sweep overrides."""
        return Setting.of(self.regularizer, {k: v for k, v in self.values.items() if k not in self.overrides})

    @property
    def label(self) -> str:
        """The name that people read: `label_smoothing(epsilon=0.1)`; settings that differ have different ones."""
        shown = (f"{k}={_short(v)}" for k, v in self.values.items() if k not in _OFF or v != _OFF[k])
        inside = ", ".join(shown)
        return f"{self.regularizer}({inside})" if inside else self.regularizer

    def baseline(self, known: Iterable["Setting"], name: str = BASELINE) -> "Setting | None":
        """Which of the `known` settings this one is compared with; None for none.

        The one called `name` whose hyperparameters it shares, and whose overrides are its own: one that lacks an
        override has the value of the config, which is another. Of several the one that shares most.
        """
        return _closest(self, tuple(other for other in known if other.regularizer == name))


def baselines(settings: Sequence[Setting], seeds: Sequence[int]) -> list[int | None]:
    """For each trial the place of its baseline at the same seed; None for a baseline, and where there is none."""
    at = {(setting, seed): place for place, (setting, seed) in enumerate(zip(settings, seeds))}
    known = list(dict.fromkeys(settings))
    found = {own: None if own.regularizer == BASELINE else own.baseline(known) for own in known}
    return [at.get((base, seed)) if (base := found[own]) else None for own, seed in zip(settings, seeds)]


@functools.lru_cache(maxsize=4096)
def _closest(setting: Setting, bases: tuple[Setting, ...]) -> Setting | None:
    own, shared = setting.values, {}
    for base in bases:
        values = base.values
        if setting.overrides.keys() <= values.keys() <= own.keys() and all(own[k] == v for k, v in values.items()):
            shared[base] = len(values)
    return max(shared, key=lambda base: shared[base]) if shared else None


@functools.lru_cache(maxsize=65536)
def _parsed(hyperparameters: str) -> Mapping[str, Any]:
    return json.loads(hyperparameters)


def _short(value: Any) -> str:
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return value if isinstance(value, str) and not _is_json(value) else json.dumps(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
