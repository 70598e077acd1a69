"""Claims for people and files: a line a claim, a text, JSON and CSV."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from etils import epath

DECIDED = "supported", "contradicted"
NAMED = 12  # settings that contradict a claim: a sentence of hundreds is not read


def summarize(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One line a claim, from the table of `evaluate`.

    The verdict is supported where some test supports the claim for every setting and for every part of its statement,
    and none contradicts it; contradicted likewise; None if no test has a verdict; else inconclusive. Settings without
    a test that has a verdict do not count. A part without one does: what says more than was tested is not supported.
    """
    keys = _keys(table)
    lines = []
    for _, rows in table.groupby(keys, sort=False):
        head = {key: rows.iloc[0][key] for key in (*keys, "statement")}
        verdict, told = _overall(rows), [_counts(rows), _undecided(rows), _missing(rows), rows.iloc[0]["caveat"]]
        said = "; ".join(part for part in told if part)
        lines.append({**head, "verdict": verdict, "sentence": said, "figure": rows.iloc[0]["figure"]})
    return lines


def _overall(rows: pd.DataFrame) -> str | None:
    """The verdict of the tests of one claim: the rule that `summarize` tells, the same for both sides."""
    known = rows[rows["verdict"].notna()]
    if known.empty:
        return None
    sides = set(known["verdict"]) & set(DECIDED)
    decided = known[known["verdict"].isin(DECIDED)]
    whole = set(decided["setting"]) == set(known["setting"]) and set(decided["part"]) == set(rows["part"])
    return sides.pop() if len(sides) == 1 and whole else "inconclusive"


def _counts(rows: pd.DataFrame) -> str:
    """How many tests say what, and which contradict."""
    counts = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in DECIDED}
    known = int(rows["verdict"].notna().sum())
    if not known:
        return "no test has a verdict"
    against = list(dict.fromkeys(rows.loc[rows["verdict"] == "contradicted", "setting"]))
    said = "the evidence is mixed: " if all(counts.values()) else ""
    said += f"{counts['supported']} of {known} tests support it, {counts['contradicted']} contradict it"
    said += f": {', '.join(against[:NAMED])}" if against else ""
    return said + (f" and {len(against) - NAMED:,} more settings (claims.csv)" if len(against) > NAMED else "")


def _undecided(rows: pd.DataFrame) -> str:
    """What keeps a claim, for or against which all decided tests are, from a verdict."""
    known, decided = rows[rows["verdict"].notna()], rows[rows["verdict"].isin(DECIDED)]
    if decided["verdict"].nunique() != 1:
        return ""
    left = [name for key in ("setting", "part") for name in known.loc[~known[key].isin(decided[key]), key].unique()]
    more = f" and {len(left) - NAMED:,} more (claims.csv)" if len(left) > NAMED else ""
    return f"undecided: {', '.join(left[:NAMED])}{more}" if left else ""


def _missing(rows: pd.DataFrame) -> str:
    """How many tests have no verdict, and which parts of the statement are left without any."""
    without = rows["verdict"].isna()
    none, parts = int(without.sum()), rows["part"].nunique()
    untested = [part for part, own in without.groupby(rows["part"], sort=False) if own.all()]
    if not none or none == len(rows):
        return ""
    said = f"{none} more {'tests have' if none > 1 else 'test has'} no verdict"
    return said + (f", and so nothing is said of {', '.join(untested)}" if 0 < len(untested) < parts else "")


def with_tests(table: pd.DataFrame) -> list[dict[str, Any]]:
    """`summarize`, and in each claim under "tests" the rows of its tests; what could not be computed is None."""
    return [
        {**claim, "tests": json.loads(_tests(table, claim).to_json(orient="records"))} for claim in summarize(table)
    ]


def as_text(table: pd.DataFrame) -> str:
    """The claims as people read them: each with its verdict, and under it a sentence for every test."""
    if table.empty:
        return "No claim was tested: a study needs the baseline `none` and a soft label at the same seeds."
    lines = []
    for headline, claim in zip(headlines(table), summarize(table)):
        lines.append(headline)
        lines += [f"    {sentence}" for sentence in _tests(table, claim)["sentence"]]
    return "\n".join(lines)


def headlines(table: pd.DataFrame) -> list[str]:
    """A line a claim: its verdict, what it says, and how many tests say so."""
    lines = []
    for claim in summarize(table):
        study = f"[{claim['study']}] " if "study" in claim else ""
        verdict = str(claim["verdict"] or "no verdict").upper()
        lines.append(f"{verdict:12s} {study}{claim['claim']}: {claim['statement']} ({claim['sentence']})")
    return lines


def save(table: pd.DataFrame, directory: epath.PathLike) -> None:
    """Writes claims.csv, a row a test, claims.json, the claims, each with its tests, and claims.txt to `directory`."""
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "claims.csv").write_text(table.to_csv(index=False))
    (directory / "claims.json").write_text(json.dumps(with_tests(table), indent=1))
    (directory / "claims.txt").write_text(as_text(table) + "\n")


def _keys(table: pd.DataFrame) -> list[str]:
    return [key for key in ("study", "claim") if key in table]


def _tests(table: pd.DataFrame, claim: Mapping[str, Any]) -> pd.DataFrame:
    chosen = pd.Series(True, table.index)
    for key in _keys(table):
        chosen &= table[key] == claim[key]
    return table[chosen]
