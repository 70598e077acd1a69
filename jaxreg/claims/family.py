"""Which settings are judged, and of how many judgements each is one: by the config, not by what came out."""

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
    chosen = set(judged(own, spec))
    return {setting: _role(setting, chosen, own) for setting in own}


def _role(setting: Setting, chosen: set[Setting], known: Sequence[Setting]) -> str:
    if setting in chosen:
        return PRIMARY
    if is_soft(setting.regularizer):
        return STRENGTH
    return REFERENCE if is_reference(setting, known) else CONTROL


def is_primary(setting: Setting, spec: ClaimsSpec, soft: Sequence[Setting]) -> bool:
    """Whether the config names the setting; where it names none, whether it is the first of its regularizer."""
    if spec.primary:
        return any(matches(setting, name, given) for name, given in spec.primary)
    first = next(other for other in soft if other.regularizer == setting.regularizer)
    return setting.own == first.own


def matches(setting: Setting, name: str, given: Mapping[str, Any]) -> bool:
    """Whether a setting is of a regularizer, with the numbers that are given."""
    return setting.regularizer == name and given.items() <= setting.own.values.items()


def judged(settings: Sequence[Setting], spec: ClaimsSpec) -> list[Setting]:
    """The judged ones of a study's settings."""
    soft = [setting for setting in settings if is_soft(setting.regularizer)]
    return [setting for setting in soft if is_primary(setting, spec, soft)]


def is_reference(setting: Setting, known: Sequence[Setting]) -> bool:
    """Whether a setting is a baseline of others, and no control, which has a baseline itself."""
    return setting.regularizer == BASELINE and setting.baseline(known) in (None, setting)


def size(found: Mapping[Setting, str]) -> int:
    """Judgements of a study, of settings by what they are."""
    return size_of(*(sum(role == kind for role in found.values()) for kind in (PRIMARY, REFERENCE)))


def size_of(primary: int, bases: int) -> int:
    """Every claim of every primary setting, and of each baseline the claims that are about it too; at least 1."""
    return max(1, len(CLAIMS) * primary + sum(claim.of_all for claim in CLAIMS.values()) * bases)
