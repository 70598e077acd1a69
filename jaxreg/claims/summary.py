"""Claims for people and files: a grid of verdicts, a sentence a claim, CSV and JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from etils import epath

from jaxreg.claims import power
from jaxreg.claims.endpoints import CLAIMS
from jaxreg.claims.family import REFERENCE
from jaxreg.claims.judgement import NOT_JUDGED, Judgement, smallest_of
from jaxreg.claims.words import probability
from jaxreg.runtime.files import write_whole
from jaxreg.spec import ClaimsSpec
from jaxreg.statistics import benjamini_hochberg
from jaxreg.statistics.decision import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from jaxreg.statistics.planning import MOST, POWER, Plan

LETTERS = {SUPPORTED: "S", CONTRADICTED: "C", EQUIVALENT: "E", INCONCLUSIVE: "?", NOT_JUDGED: "–", "": ""}
COLUMNS = (
    "claim", "statement", "endpoint", "setting", "role", "effect", "low", "high", "n", "examples", "p", "verdict",
    "reason", "smallest", "needed", "text", "sentence", "figure",
)  # fmt: skip
FILES = ("claims.csv", "claims.json", "claims.txt", "beside.csv", power.FILE)


def table(found: Sequence[Judgement], spec: ClaimsSpec) -> pd.DataFrame:
    """A row a claim and setting, with the columns of `COLUMNS`."""
    return pd.DataFrame([_row(one, spec) for one in found], columns=list(COLUMNS))


def _row(one: Judgement, spec: ClaimsSpec) -> dict[str, Any]:
    claim, (effect, low, high) = CLAIMS[one.claim], one.numbers
    decision, quantity = one.decision, claim.quantity
    smallest = smallest_of(one.claim, spec)
    numbers = {"effect": effect, "low": low, "high": high, "examples": one.examples}
    numbers |= {"n": decision.n if decision else 0, "p": decision.p if decision else float("nan")}
    text = quantity.whole(effect, low, high) if decision else "–"
    head = {"claim": one.claim, "statement": claim.statement, "endpoint": claim.endpoint, "figure": claim.figure}
    head |= {"setting": one.setting.label, "role": one.role, "verdict": one.verdict, "reason": one.reason}
    needed = _needed(one.planned, one.examples)
    last = {"smallest": quantity.size(smallest) if smallest else "", "needed": needed, "text": text}
    return {**head, **numbers, **last, "sentence": _sentence(one, text, needed)}


def _needed(planned: Plan | None, examples: int) -> str:
    """How many seeds would decide, in words; empty where that is not open."""
    if planned is None:
        return ""
    if planned.find:
        same = f", and {planned.equivalent} would find none to be none" if planned.equivalent else ""
        return f"{planned.find} seeds would find the smallest effect that matters{same} (power {POWER:g})"
    more = f": {MOST} seeds would need {planned.examples:,} images" if planned.examples else ""
    return f"no number of seeds up to {MOST} decides with {examples:,} images{more}"


def _sentence(one: Judgement, text: str, needed: str) -> str:
    """Whom, the effect with its interval, n, p, the verdict and its reason or what would decide."""
    if one.decision is None:
        return f"{one.setting.label}: {one.reason}."
    said = f"{one.setting.label}: {text}, n = {one.decision.n} seeds and {one.examples:,} images"
    said += f", {probability(one.decision.p)}" if one.decision.p == one.decision.p else ""
    said += f": {one.verdict}" if one.verdict else f" ({one.role}, not judged)"
    why = one.reason or needed
    return said + (f" ({why})." if why else ".")


def lines(found: pd.DataFrame) -> list[dict[str, Any]]:
    """A line a claim: its verdict for each setting that is judged, and a sentence about all of them."""
    told = []
    for name, rows in found.groupby("claim", sort=False):
        judged = rows[rows["verdict"] != ""]
        first = rows.iloc[0]
        cells = dict(zip(judged["setting"], judged["verdict"], strict=True))
        told.append(
            {"claim": name, "statement": first["statement"], "endpoint": first["endpoint"], "figure": first["figure"]}
            | {"cells": cells, "sentence": _about(judged)}
        )
    return told


def _about(judged: pd.DataFrame) -> str:
    """`supported: cutmix(...) −2.1 % [...]; inconclusive: ...`."""
    parts = []
    for verdict in LETTERS:
        own = judged[judged["verdict"] == verdict]
        if verdict and len(own):
            each = (_short(row) for row in own.to_dict("records"))
            parts.append(f"{verdict}: {', '.join(each)}")
    return "; ".join(parts) or "no setting is judged"


def _short(row: Mapping[Any, Any]) -> str:
    if row["reason"]:
        return f"{row['setting']} ({row['reason']})"
    return f"{row['setting']} {row['text']}" + (f" ({row['needed']})" if row["needed"] else "")


def grid(found: pd.DataFrame) -> str:
    """Claims x judged settings as text, a letter a cell, with what the letters mean; empty without any."""
    judged = found[found["verdict"] != ""]
    if judged.empty:
        return ""
    bases = judged.loc[judged["role"] == REFERENCE, "setting"]
    settings = list(dict.fromkeys([*bases, *judged["setting"]]))
    letters = {(row["claim"], row["setting"]): LETTERS[row["verdict"]] for row in judged.to_dict("records")}
    claims = list(dict.fromkeys(found["claim"]))
    width = max(map(len, claims))
    heads = [f"{' ' * width}  {' ' * 4 * place}{setting}" for place, setting in enumerate(settings)]
    body = [f"{name:{width}}  " + "".join(f"{letters.get((name, one), ''):4}" for one in settings) for name in claims]
    known = ", ".join(f"{letter} {verdict}" for verdict, letter in LETTERS.items() if verdict)
    return "\n".join([*heads, *(line.rstrip() for line in body), f"({known})"])


def as_text(found: pd.DataFrame) -> str:
    """The claims as people read them: the grid, then each claim with a sentence a setting."""
    if found.empty:
        return "No claim was judged: a study needs the baseline `none` and a soft label at the same seeds."
    told = [grid(found)]
    for line in lines(found):
        rows = found[found["claim"] == line["claim"]]
        head = [f"{line['claim']}: {line['statement']}", f"  ({line['endpoint']})"]
        told.append("\n".join([*head, *(f"  {sentence}" for sentence in rows["sentence"])]))
    return "\n\n".join(part for part in told if part)


def headlines(found: pd.DataFrame) -> list[str]:
    """A line a claim: what it says, and its verdicts with their effects."""
    return [f"{line['claim']}: {line['statement']}: {line['sentence']}" for line in lines(found)]


def with_discoveries(numbers: pd.DataFrame) -> pd.DataFrame:
    """The numbers beside the claims with Benjamini and Hochberg's adjusted p over all of them."""
    return numbers.assign(p_fdr=benjamini_hochberg(numbers["p"].to_numpy(float)) if len(numbers) else [])


def save(
    found: pd.DataFrame, numbers: pd.DataFrame, scatters: Sequence[power.Scatter], directory: epath.PathLike
) -> None:
    """Writes `FILES`: a row a claim and setting, the claims with their rows, in words, the numbers beside them, and how
    effects scatter, for `plan`.
    """
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    by_claim = [{**line, "rows": json.loads(_rows(found, line).to_json(orient="records"))} for line in lines(found)]
    texts = (
        found.to_csv(index=False),
        json.dumps(by_claim, indent=1),
        as_text(found) + "\n",
        with_discoveries(numbers).to_csv(index=False),
        power.as_json(scatters),
    )
    for name, text in zip(FILES, texts, strict=True):
        write_whole(directory / name, text.encode())


def _rows(found: pd.DataFrame, line: Mapping[str, Any]) -> pd.DataFrame:
    return found[found["claim"] == line["claim"]]
