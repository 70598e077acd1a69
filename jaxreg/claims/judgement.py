"""From a study's numbers to verdicts: every claim and setting with its effect, simultaneous interval and reason."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxreg.claims import family
from jaxreg.claims.endpoints import CLAIMS, Claim
from jaxreg.claims.family import PRIMARY, REFERENCE
from jaxreg.claims.trials import Pair, StudyNumbers, Unmeasured, pairs_of
from jaxreg.setting import Setting
from jaxreg.spec import ClaimsSpec
from jaxreg.statistics import Components, Decision, Estimates, Plan, decide, plan
from jaxreg.statistics.decision import INCONCLUSIVE

NOT_JUDGED = "not judged"
MOST = 40  # settings whose examples are read: the judged ones, then others


class Judgement(NamedTuple):
    """One claim about one setting. `effect`, `low`, `high` are in the direction in which they were measured."""

    claim: str
    setting: Setting
    role: str
    decision: Decision | None  # None: not measured
    verdict: str  # of a setting that is judged, else ""
    reason: str  # why it is not judged
    planned: Plan | None = None  # seeds that would decide, where that is open

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Effect and interval, turned back from the claimed direction."""
        if self.decision is None:
            return np.nan, np.nan, np.nan
        effect, low, high = self.decision.effect, self.decision.low, self.decision.high
        claim = CLAIMS[self.claim]
        turned = (effect, low, high) if claim.direction > 0 else (-effect, -high, -low)
        return turned[0] + claim.bound, turned[1] + claim.bound, turned[2] + claim.bound

    @property
    def components(self) -> tuple[Components, ...]:
        """How its parts scatter."""
        return () if self.decision is None else tuple(one.components for one in self.decision.spreads)

    @property
    def examples(self) -> int:
        """Test examples behind it."""
        sizes = [sample.size for one in self.components for name, sample in one.samples.items() if name == "test"]
        return min(sizes, default=0)


def judge(source: StudyNumbers) -> list[Judgement]:
    """Judges every claim of one study, for the settings that the config names, and measures it for the others."""
    pairs = list(pairs_of(source))
    roles = family.roles(pairs, source.spec)
    size = family.size(roles)
    return [
        one
        for name, claim in CLAIMS.items()
        for pair in _read(pairs, roles, claim)
        for one in [_judged(name, claim, pair, roles[pair.own.setting], size)]
    ]


def _read(pairs: Sequence[Pair], roles: Mapping[Setting, str], claim: Claim) -> list[Pair]:
    """The pairs that a claim is about: judged ones first come first where there are more than `MOST`."""
    about = [pair for pair in pairs if claim.of_all or roles[pair.own.setting] != REFERENCE]
    about = [pair for pair in about if pair.own.setting != pair.base.setting or roles[pair.own.setting] == REFERENCE]
    kept = sorted(about, key=lambda pair: roles[pair.own.setting] != PRIMARY)[:MOST]
    return [pair for pair in about if pair in kept] if len(about) > MOST else about


def _judged(name: str, claim: Claim, pair: Pair, role: str, size: int) -> Judgement:
    setting, smallest = pair.own.setting, smallest_of(name, pair.own.source.spec)
    is_judged = role == PRIMARY or (claim.of_all and role == REFERENCE)
    try:
        decision = decide(parts_of(claim, pair), smallest, size if is_judged else 1)
        reason = claim.unjudged(pair) if is_judged else ""
    except Unmeasured as error:
        return Judgement(name, setting, role, None, NOT_JUDGED if is_judged else "", str(error))
    if not is_judged:
        return Judgement(name, setting, role, decision, "", "")
    if decision.verdict is None:
        return Judgement(name, setting, role, decision, NOT_JUDGED, "a single seed says nothing of how seeds scatter")
    if reason:
        return Judgement(name, setting, role, decision, NOT_JUDGED, reason)
    found = Judgement(name, setting, role, decision, decision.verdict, "")
    if decision.verdict == INCONCLUSIVE and smallest is not None:
        found = found._replace(planned=plan(found.components, smallest, size))
    return found


def parts_of(claim: Claim, pair: Pair) -> list[Estimates]:
    """The estimates that judge a claim, above 0 where it is as claimed."""
    found = claim.measure(pair)
    parts = [found] if isinstance(found, Estimates) else list(found)
    return [part.shifted(-claim.bound).scaled(claim.direction) for part in parts]


def smallest_of(name: str, spec: ClaimsSpec) -> float | None:
    """The smallest effect that matters to a claim; of a norm the logarithm of a ratio."""
    if not CLAIMS[name].smallest:
        return None
    given = float(getattr(spec, name))
    return float(np.log1p(given)) if CLAIMS[name].quantity.is_log else given


NUMBERS = ["claim", "number", "setting", "effect", "low", "high", "n", "p", "text"]


def beside_none() -> pd.DataFrame:
    """The table of numbers beside claims, empty."""
    return pd.DataFrame(columns=NUMBERS)


def beside(source: StudyNumbers) -> pd.DataFrame:
    """The numbers beside the claims, with 95 % intervals of their own over seeds and examples: never judged."""
    pairs = list(pairs_of(source))
    roles = family.roles(pairs, source.spec)
    lines = [
        {"claim": name, "number": number, "setting": pair.own.setting.label, **line}
        for name, claim in CLAIMS.items()
        for pair in _read(pairs, roles, claim)
        for number, line in _beside(claim, pair)
    ]
    return pd.DataFrame(lines, columns=NUMBERS)


def _beside(claim: Claim, pair: Pair) -> Iterator[tuple[str, dict[str, object]]]:
    for number, (measure, quantity) in claim.beside.items():
        try:
            found = measure(pair)
        except Unmeasured:
            continue
        one = decide([found] if isinstance(found, Estimates) else list(found))
        text = quantity.whole(one.effect, one.low, one.high)
        yield number, {"effect": one.effect, "low": one.low, "high": one.high, "n": one.n, "p": one.p, "text": text}
