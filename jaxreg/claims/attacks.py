"""The claims on attacks: robust accuracy at one radius, and where adversaries move features."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from jaxreg.claims import findings, words
from jaxreg.claims.findings import Finding
from jaxreg.claims.settings import Pair, Study, differences
from jaxreg.names import MetricName, those

MOVES = {"adversarial_radial_cosine": +1, "adversarial_norm_change": -1}  # which way the claim expects them
CONTROLS = ("noise", "transfer")  # among the names of attacks


def robustness(study: Study) -> Iterator[Finding]:
    """Robust accuracy of each attack and of the worst case, at one radius: `radius` says which."""
    yield from differences(*((name, +1, attack_of(name)) for name in attacked(study)))(study)


def reliability(study: Study) -> str:
    """How many of the attacked trials have robust accuracies that their checks call suspect or broken."""
    found = [values["verdict"].dropna() for values in study.settings.values() if "verdict" in values]
    verdicts = pd.concat(found) if found else pd.Series(dtype=float)
    doubted = int((verdicts > 0).sum())
    return f"{doubted} of {len(verdicts)} trials have a verdict other than reliable" if len(verdicts) else ""


def origin(study: Study) -> Iterator[Finding]:
    """Under attack features of soft labels move toward the origin, and shrink."""
    for metric, direction in MOVES.items():
        called, said = words.quantity(metric), []
        pairs = [pair for pair in study.pairs if metric in pair.own and pair.own[metric].notna().any()]
        for pair in pairs:
            base = pair.base[metric].mean() if metric in pair.base else float("nan")
            beside = "" if np.isnan(base) else f" ({called.value(base)} for none)"
            told = f"{called.name}{_where(pair)}, {words.MOVED}, is {called.value(pair.own[metric].mean())}"
            said.append(told + beside)
        names, values = [pair.name for pair in pairs], [pair.own[metric].to_numpy() for pair in pairs]
        yield from findings.levels(names, metric, values, 0.0, direction, said, called)


def _where(pair: Pair) -> str:
    at = list(pair.own["adversarial_eps"].dropna().unique()) if "adversarial_eps" in pair.own else []
    return " under the worst attack" + (f" at radius {at[0]:.4g}" if len(at) == 1 else "")


def attack_of(metric: str) -> str:
    """The attack of a robust accuracy: robust_accuracy/ATTACK/EPS."""
    return MetricName.parse(metric).of[0]


def radius(study: Study) -> str:
    """The radius to test at, as metrics name it: where most attacks were run; among these where the baseline is nearest
    to half its clean accuracy, so that there is room on both sides. The soft labels have no say.
    """
    base = pd.concat([pair.base for pair in study.pairs]) if study.pairs else pd.DataFrame()
    names = _attacks(map(str, base))
    if not names:
        return ""

    def rank(eps: str) -> tuple[int, float]:
        values = base[[name for name, (_, of) in names.items() if of == eps]]
        half = base["accuracy"].mean() / 2 if "accuracy" in base else 0.5
        return -values.shape[1], abs(float(values.to_numpy().mean()) - half)

    return min(sorted({eps for _, eps in names.values()}, key=float), key=rank)


def attacked(study: Study) -> list[str]:
    """The robust accuracies at `radius` that any setting has, by name."""
    chosen = radius(study)
    known = {str(name) for values in study.settings.values() for name in values}
    return sorted(name for name, (_, eps) in _attacks(known).items() if eps == chosen)


def _attacks(metrics: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Attack and radius of robust accuracies under an attack: not under random noise or adversaries of another trial.

    Adversaries of the baseline fool the baseline itself by construction: the difference would prove nothing.
    """
    found = {name: (one.of[0], one.of[1]) for name, one in those(metrics, "robust_accuracy", 2).items()}
    return {name: of for name, of in found.items() if of[0] not in CONTROLS and float(of[1]) > 0}
