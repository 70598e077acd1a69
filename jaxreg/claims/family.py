"""Which settings are judged, and of how many judgements each is one: by the config, not by what came out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.claims.endpoints import CLAIMS
from jaxreg.claims.trials import Pair
from jaxreg.regularizers import is_soft
from jaxreg.setting import BASELINE, Setting
from jaxreg.spec import ClaimsSpec

PRIMARY, STRENGTH, CONTROL, REFERENCE = "primary", "another strength", "control", "baseline"


def roles(pairs: Sequence[Pair], spec: ClaimsSpec) -> dict[Setting, str]:
    """What each setting is: the judged one of its method, another strength of it, a control, or the baseline."""
    own = [pair.own.setting for pair in pairs]
    soft = [setting for setting in own if is_soft(setting.regularizer)]
    chosen = {setting for setting in soft if is_primary(setting, spec, soft)}
    return {setting: _role(setting, chosen, soft, pair) for setting, pair in zip(own, pairs, strict=True)}


def _role(setting: Setting, chosen: set[Setting], soft: Sequence[Setting], pair: Pair) -> str:
    if setting in chosen:
        return PRIMARY
    if setting in soft:
        return STRENGTH
    return REFERENCE if setting == pair.base.setting and setting.regularizer == BASELINE else CONTROL


def is_primary(setting: Setting, spec: ClaimsSpec, soft: Sequence[Setting]) -> bool:
    """Whether the config names the setting; where it names none, whether it is the first of its regularizer."""
    if spec.primary:
        return any(matches(setting, name, given) for name, given in spec.primary)
    first = next(other for other in soft if other.regularizer == setting.regularizer)
    return setting.own == first.own


def matches(setting: Setting, name: str, given: Mapping[str, Any]) -> bool:
    """Whether a setting is of a regularizer, with the numbers that are given."""
    return setting.regularizer == name and given.items() <= setting.own.values.items()


def size(found: Mapping[Setting, str]) -> int:
    """Judgements of a study: every claim of every primary setting, and of the baseline those that are about it too."""
    primary, bases = (sum(role == kind for role in found.values()) for kind in (PRIMARY, REFERENCE))
    return max(1, len(CLAIMS) * primary + sum(claim.of_all for claim in CLAIMS.values()) * bases)


def told(spec: ClaimsSpec) -> str:
    """What is fixed, as one line of JSON."""
    return json.dumps({"primary": spec.primary, "radius": spec.radius, "digest": spec.digest})
