"""From findings to verdicts: one family of tests a study, Holm's correction, a plain sentence for each."""

import numpy as np
import pandas as pd

from jaxreg import statistics
from jaxreg.claims import settings, words
from jaxreg.claims.findings import ALPHA, Finding
from jaxreg.claims.settings import Study
from jaxreg.claims.table import CLAIMS, tests_of

COLUMNS = (
    "claim", "statement", "part", "setting", "metric", "said", "effect", "low", "high", "n", "test", "p", "p_holm",
    "verdict", "sentence", "caveat", "figure",
)  # fmt: skip


def evaluate(frame: pd.DataFrame) -> pd.DataFrame:
    """Tests every claim on the rows of one study and returns a row a test, with the columns of `COLUMNS`.

    `frame`: rows of `results.parquet`; several studies are tested each by itself, with a column `study` in front. The
    verdict is None where fewer than two seeds pair. What was not measured is not tested.
    """
    studies = list(frame.groupby("study", sort=False)) if "study" in frame else [("", frame)]
    tables = [_evaluate_one(settings.read(rows)).assign(study=name) for name, rows in studies]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["study", *COLUMNS])
    return whole[["study", *COLUMNS]] if len(tables) > 1 else whole[list(COLUMNS)]


def _evaluate_one(tested: Study) -> pd.DataFrame:
    found = [(name, finding) for name in CLAIMS for finding in tests_of(name, tested)]
    adjusted = statistics.holm([finding.p for _, finding in found])
    rows, caveats = [], {name: claim.caveat(tested) for name, claim in CLAIMS.items()}
    for (name, finding), p_holm in zip(found, adjusted):
        verdict, claim = _verdict(finding, p_holm), CLAIMS[name]
        own = {key: getattr(finding, key) for key in ("setting", "metric", "effect", "low", "high", "n", "test", "p")}
        own |= {
            "said": _said(finding),
            "p_holm": p_holm,
            "verdict": verdict,
            "part": finding.part,
        }
        last = {"sentence": _sentence(finding, p_holm, verdict), "caveat": caveats[name], "figure": claim.figure}
        rows.append({"claim": name, "statement": claim.statement, **own, **last})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _verdict(finding: Finding, p_holm: float) -> str | None:
    if np.isnan(p_holm):
        return None
    if p_holm >= ALPHA or finding.noise:
        return "inconclusive"
    return "supported" if finding.p_for < finding.p_against else "contradicted"


def _sentence(finding: Finding, p_holm: float, verdict: str | None) -> str:
    """Whom, what was seen, its interval, n, the test, p and the verdict."""
    if not finding.n:
        return f"{finding.setting}: {finding.said}: no verdict."
    parts = [] if np.isnan(finding.low) else [_interval(finding)]
    parts.append(f"n = {finding.n} {finding.counted if finding.n > 1 else finding.counted.removesuffix('s')}")
    parts.append(f"test: {finding.test}")
    parts += [] if np.isnan(p_holm) else [f"{words.probability(p_holm)} after Holm's correction"]
    return f"{finding.setting}: {_said(finding)}; {'; '.join(parts)}: {verdict or 'no verdict'}."


def _interval(finding: Finding) -> str:
    scale, unit = finding.quantity.scale, finding.quantity.unit
    of, unit = ("", unit) if not finding.is_difference else ("of the difference ", finding.quantity.step)
    return f"95 % interval {of}[{finding.low * scale:.3g}, {finding.high * scale:.3g}]{unit}"


def _said(finding: Finding) -> str:
    return f"{finding.said} (inside the noise floor of ECE: not called a difference)" if finding.noise else finding.said
