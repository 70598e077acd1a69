"""Claims for people and files: a line a claim, a text, JSON and CSV."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from etils import epath

NAMED = 12  # settings that contradict a claim: a sentence of hundreds is not read


def summarize(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One line a claim, from the table of `evaluate`.

    The verdict is supported if every test supports the claim, contradicted if one contradicts it and none supports it,
    None if no test had two seeds, and else inconclusive.
    """
    keys = _keys(table)
    lines = []
    for _, rows in table.groupby(keys, sort=False):
        head = {key: rows.iloc[0][key] for key in (*keys, "statement")}
        counts = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in ("supported", "contradicted")}
        against = list(dict.fromkeys(rows.loc[rows["verdict"] == "contradicted", "setting"]))
        said = f"{counts['supported']} of {len(rows)} tests support it, {counts['contradicted']} contradict it"
        said += f": {', '.join(against[:NAMED])}" if against else ""
        said += f" and {len(against) - NAMED:,} more settings (claims.csv)" if len(against) > NAMED else ""
        said += f"; {rows.iloc[0]['caveat']}" if rows.iloc[0]["caveat"] else ""
        lines.append({**head, "verdict": _overall(rows, counts), "sentence": said, "figure": rows.iloc[0]["figure"]})
    return lines


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


def _overall(rows: pd.DataFrame, counts: Mapping[str, int]) -> str | None:
    if rows["verdict"].isna().all():
        return None
    if counts["supported"] == len(rows):
        return "supported"
    return "contradicted" if counts["contradicted"] and not counts["supported"] else "inconclusive"


def _keys(table: pd.DataFrame) -> list[str]:
    return [key for key in ("study", "claim") if key in table]


def _tests(table: pd.DataFrame, claim: Mapping[str, Any]) -> pd.DataFrame:
    chosen = pd.Series(True, table.index)
    for key in _keys(table):
        chosen &= table[key] == claim[key]
    return table[chosen]
