"""The claims as the page prints them: a grid of verdicts, a table a claim, and the numbers beside them."""

from typing import Any, NamedTuple

import pandas as pd

from jaxreg.claims.family import REFERENCE
from jaxreg.claims.summary import LETTERS
from jaxreg.claims.words import probability

HEADS = ("setting", "effect and interval", "seeds", "images", "p", "verdict", "why, or what would decide")
TEXTS = {"setting", "verdict", "why, or what would decide"}  # columns of words
SHOWN = 40  # settings of a claim: more are no longer read, and stand in claims.csv


class Cell(NamedTuple):
    """One judgement in the grid: its letter, its verdict, the effect with its interval, and where its row is."""

    letter: str
    verdict: str
    text: str
    anchor: str


def settings(found: pd.DataFrame) -> list[str]:
    """Returns the settings that are judged, in their order: the columns of the grid."""
    judged = found[found["verdict"] != ""]
    first = judged["role"] == REFERENCE  # the baseline, of which few claims are
    return list(dict.fromkeys([*judged.loc[first, "setting"], *judged["setting"]]))


def grid(found: pd.DataFrame) -> dict[str, list[Cell | None]]:
    """Returns by claim a cell for each of `settings`, None where the claim is not about it."""
    columns = settings(found)
    judged = found[found["verdict"] != ""]
    cells = {(row["claim"], row["setting"]): _cell(row) for row in judged.to_dict("records")}
    return {name: [cells.get((name, setting)) for setting in columns] for name in dict.fromkeys(found["claim"])}


def _cell(row: dict[Any, Any]) -> Cell:
    verdict = row["verdict"]
    return Cell(LETTERS[verdict], verdict, row["text"] if row["effect"] == row["effect"] else "", anchor(row["claim"]))


def anchor(claim: str) -> str:
    """Returns the place of a claim's table on the page."""
    return f"claim-{claim}"


def lines(found: pd.DataFrame, claim: str) -> list[tuple[list[str], str]]:
    """Returns a line a setting of the claim, at most `SHOWN`, with its verdict."""
    rows = found[found["claim"] == claim].head(SHOWN)
    return [(_cells(row), row["verdict"]) for row in rows.to_dict("records")]


def _cells(row: dict[Any, Any]) -> list[str]:
    p = "–" if row["p"] != row["p"] else probability(row["p"]).removeprefix("p ").removeprefix("= ")
    why = row["reason"] or row["needed"]
    counts = [str(row["n"]), f"{row['examples']:,}"] if row["n"] else ["–", "–"]
    return [row["setting"], row["text"], *counts, p, row["verdict"] or f"({row['role']})", why]


def left_out(found: pd.DataFrame, claim: str) -> str:
    """Returns as a sentence how many settings are not shown; empty where all are."""
    missing = int((found["claim"] == claim).sum()) - SHOWN
    return f"{missing:,} more settings stand in claims.csv." if missing > 0 else ""


def beside(numbers: pd.DataFrame, claim: str) -> list[list[str]]:
    """Returns a line a number beside the claim, with a cell a setting; first the settings."""
    own = numbers[(numbers["claim"] == claim) & (numbers["setting"] != "over settings")]
    if own.empty:
        return []
    columns = list(dict.fromkeys(own["setting"]))[:SHOWN]
    texts = {(row["number"], row["setting"]): row["text"] for row in own.to_dict("records")}
    names = dict.fromkeys(own["number"])
    body = [[name.replace("_", " "), *(texts.get((name, setting), "–") for setting in columns)] for name in names]
    return [["", *columns], *body]
