"""Claims for people and files: a line a claim, a text, JSON and CSV."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from etils import epath

DECIDED = "supported", "contradicted"
UNTESTED_CELL, UNDECIDED_CELL, DECIDED_CELL = 0, 1, 2  # how far the tests of a setting on a part have come
NAMED = 12  # settings that contradict a claim: a sentence of hundreds is not read


def summarize(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One line a claim, from the table of `evaluate`.

    The verdict is supported where, for every setting, some test supports every part of the statement that is about it,
    and no test contradicts; contradicted likewise; None if no test has a verdict; else inconclusive. Settings without a
    test that has a verdict do not count. A part without one does: what says more than was tested is not supported.
    """
    keys = _keys(table)
    lines = []
    for _, rows in table.groupby(keys, sort=False):
        head = {key: rows.iloc[0][key] for key in (*keys, "statement")}
        verdict, told = _overall(rows), [_counts(rows), _parts(rows), _undecided(rows), _missing(rows)]
        said = "; ".join(part for part in (*told, rows.iloc[0]["caveat"]) if part)
        lines.append({**head, "verdict": verdict, "sentence": said, "figure": rows.iloc[0]["figure"]})
    return lines


def _overall(rows: pd.DataFrame) -> str | None:
    """The verdict of the tests of one claim: the rule that `summarize` tells, the same for both sides."""
    known = rows[rows["verdict"].notna()]
    if known.empty:
        return None
    sides, cells = set(known["verdict"]) & set(DECIDED), _cells(rows)
    decided = set(cells[cells == DECIDED_CELL].index.get_level_values("part"))
    whole = (cells == DECIDED_CELL).all() and decided == set(rows["part"])
    return sides.pop() if len(sides) == 1 and whole else "inconclusive"


def _cells(rows: pd.DataFrame) -> pd.Series:
    """By (setting, part), of settings that have a verdict: the furthest that a test of theirs has come."""
    known = rows.loc[rows["verdict"].notna(), "setting"]
    counted = rows[rows["setting"].isin(known)]
    come = counted["verdict"].notna().astype(int) + counted["verdict"].isin(DECIDED)
    return come.groupby([counted["setting"], counted["part"]], sort=False).max()


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


def _parts(rows: pd.DataFrame) -> str:
    """Which parts of the statement are decided, of a statement that is not decided as a whole."""
    if rows["part"].nunique() < 2 or _overall(rows) in DECIDED:
        return ""
    come, verdicts = _cells(rows).groupby("part", sort=False).min(), {}
    for part in come.index[come == DECIDED_CELL]:
        sides = set(rows.loc[rows["part"] == part, "verdict"]) & set(DECIDED)
        verdicts[part] = sides.pop() if len(sides) == 1 else ""
    told = {verdict: [part for part, one in verdicts.items() if one == verdict] for verdict in DECIDED}
    return "; ".join(f"{verdict}: {', '.join(parts[:NAMED])}" for verdict, parts in told.items() if parts)


def _undecided(rows: pd.DataFrame) -> str:
    """What keeps a claim, for or against which all decided tests are, from a verdict."""
    if rows.loc[rows["verdict"].isin(DECIDED), "verdict"].nunique() != 1:
        return ""
    left = _named(_cells(rows), UNDECIDED_CELL)
    more = f" and {len(left) - NAMED:,} more (claims.csv)" if len(left) > NAMED else ""
    return f"undecided: {', '.join(left[:NAMED])}{more}" if left else ""


def _named(cells: pd.Series, kind: int) -> list[str]:
    """The cells of one kind: as a setting or as a part where all of its cells are, else each part with its settings."""
    index, those = cells.index.to_frame(index=False), (cells == kind).to_numpy()
    whole = {key: pd.Series(those).groupby(index[key].to_numpy(), sort=False).all() for key in ("setting", "part")}
    named: dict[str, list[str]] = {}
    for setting, part in index[those].itertuples(index=False):
        full = [name for key, name in (("setting", setting), ("part", part)) if whole[key][name]]
        named.setdefault(full[0] if full else part, []).extend([] if full else [setting])
    return [name + (f" for {_some(settings)}" if settings else "") for name, settings in named.items()]


def _some(settings: list[str]) -> str:
    more = [f"{len(settings) - NAMED:,} more (claims.csv)"] if len(settings) > NAMED else []
    return " and ".join(settings[:NAMED] + more)


def _missing(rows: pd.DataFrame) -> str:
    """How many tests have no verdict, and which parts of the statement are left without any."""
    without, cells = rows["verdict"].isna(), _cells(rows)
    none = int(without.sum())
    if not none or none == len(rows):
        return ""
    untested = [part for part, own in without.groupby(rows["part"], sort=False) if own.all()]
    untested += _named(cells[~cells.index.get_level_values("part").isin(untested)], UNTESTED_CELL)
    said = f"{none} more {'tests have' if none > 1 else 'test has'} no verdict"
    return said + (f", and so nothing is said of {', '.join(untested[:NAMED])}" if untested else "")


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
