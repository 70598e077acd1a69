"""The tests behind each claim, as the page prints them."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from jaxreg.claims.mechanism import WITHIN

COLUMNS = ("setting", "seen", "effect", "95 % interval", "n", "test", "p (Holm)", "verdict")
TEXTS = {"setting", "seen", "test", "verdict"}  # columns of words
SHOWN = 40  # tests of a claim: more are no longer read, and stand in claims.csv
NO_VERDICT = "no verdict"
SHOWN_BY = {WITHIN: "within"}  # the figure of tests that the claim's own one does not show


class ClaimTest(NamedTuple):
    """One test: the printed cells, its verdict, which is one of them, and the name of its metric."""

    cells: list[str]
    verdict: str
    metric: str


def lines(claim: Mapping[str, Any]) -> list[ClaimTest]:
    """Returns a line a test of the claim, at most `SHOWN`; none where it was given without tests."""
    return [ClaimTest(_cells(test), _verdict(test), test["metric"]) for test in claim.get("tests", ())[:SHOWN]]


def figures(claim: Mapping[str, Any], drawn: Collection[str]) -> list[str]:
    """Returns the figures that show the claim, of those that were drawn: its own, then those of its tests."""
    wanted = [claim.get("figure", ""), *(SHOWN_BY.get(test["metric"], "") for test in claim.get("tests", ()))]
    return [name for name in dict.fromkeys(wanted) if name in drawn]


def left_out(claim: Mapping[str, Any]) -> str:
    """Returns as a sentence how many tests are not shown; empty where all are."""
    missing = len(claim.get("tests", ())) - SHOWN
    return f"{missing:,} more tests stand in claims.csv." if missing > 0 else ""


def _cells(test: Mapping[str, Any]) -> list[str]:
    low, high, p = test["low"], test["high"], test["p_holm"]
    interval = "–" if low is None else f"[{low:.3g}, {high:.3g}]"
    numbers = [_number(test["effect"]), interval, str(test["n"]), test["test"], _p(p), _verdict(test)]
    return [test["setting"], test["said"], *numbers]


def _verdict(test: Mapping[str, Any]) -> str:
    return test["verdict"] or NO_VERDICT


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _p(p: float | None) -> str:
    return "–" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.2g}"
