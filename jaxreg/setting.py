"""A setting: what trials share that differ only in their seed. Which setting is the baseline of which."""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

BASELINE = "none"  # the regularizer that others are compared with
# What a sweep overrides, beside seeds and regularizers.
SWEPT = ("dataset", "model", "optimizer", "batch_size", "steps")
_OFF = {"per_batch": 0, "odd_sides": 0}  # not said where it has this value, as in nearly every study
# Of a control: the regularizer that it is compared with, and which of its keys are a sweep's, where any is.
_AGAINST, _OF_SWEEP = "baseline", "swept"


class Setting(NamedTuple):
    """A regularizer with its numbers, and what a sweep overrides; both as JSON with sorted keys, as results hold them.

    Settings are equal where these texts are: a number is never rounded. A control overrides numbers of the optimizer by
    itself, to be compared with the baseline that has those of the config: its JSON names it, `"baseline": "none"`.
    """

    regularizer: str
    hyperparameters: str = "{}"

    @classmethod
    def of(cls, regularizer: str, values: Mapping[str, Any] | str) -> Self:
        """A setting from its values, or from the same as JSON with keys in any order."""
        given = json.loads(values) if isinstance(values, str) else dict(values)
        return cls(regularizer, json.dumps(given, sort_keys=True))

    @classmethod
    def control(cls, regularizer: str, own: Mapping[str, Any], swept: Mapping[str, Any]) -> Self:
        """A control from its hyperparameters and what it overrides, and from what a sweep overrides beside."""
        marks = {_AGAINST: BASELINE} | ({_OF_SWEEP: sorted(swept)} if swept else {})
        return cls.of(regularizer, {**own, **swept, **marks})

    @property
    def is_control(self) -> bool:
        """Whether it overrides numbers of the optimizer by itself, to be compared with a baseline that does not."""
        return _AGAINST in self.values

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.regularizer == BASELINE and not self.is_control

    @property
    def values(self) -> Mapping[str, Any]:
        """Hyperparameters and overrides by name."""
        return _parsed(self.hyperparameters)

    @property
    def overrides(self) -> dict[str, Any]:
        """What a sweep sets, by dotted key; what a control sets itself is none of it."""
        values = self.values
        swept = values.get(_OF_SWEEP, ()) if self.is_control else [k for k in values if k.split(".")[0] in SWEPT]
        return {key: values[key] for key in swept}

    @property
    def own(self) -> "Setting":
        """The same without what a sweep overrides."""
        left = {*self.overrides, _OF_SWEEP}
        return Setting.of(self.regularizer, {k: v for k, v in self.values.items() if k not in left})

    @property
    def label(self) -> str:
        """The name that people read: `label_smoothing(epsilon=0.1)`; settings that differ have different ones."""
        told = {k: v for k, v in self.values.items() if k not in (_AGAINST, _OF_SWEEP)}
        shown = (f"{k}={_short(v)}" for k, v in told.items() if k not in _OFF or v != _OFF[k])
        inside = ", ".join(shown)
        return f"{self.regularizer}({inside})" if inside else self.regularizer

    def baseline(self, known: Iterable["Setting"], name: str = BASELINE) -> "Setting | None":
        """Which of the `known` settings this one is compared with; None for none.

        The one called `name` whose hyperparameters it shares, and whose overrides are its own: one that lacks an
        override has the value of the config, which is another. Of several the one that shares most. A control is never
        one, and has no other than the one that it names.
        """
        if self.values.get(_AGAINST, name) != name:
            return None
        return _closest(self, tuple(other for other in known if other.regularizer == name and not other.is_control))


def baselines(settings: Sequence[Setting], seeds: Sequence[int]) -> list[int | None]:
    """For each trial the place of its baseline at the same seed; None for a baseline, and where there is none."""
    at = {(setting, seed): place for place, (setting, seed) in enumerate(zip(settings, seeds))}
    known = list(dict.fromkeys(settings))
    found = {own: None if own.is_baseline else own.baseline(known) for own in known}
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
