"""What the robust accuracies of a study are worth: the verdict of every trial, and by setting in words."""

from collections import Counter

import pandas as pd

from jaxreg.names import rows_of
from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks
from jaxreg.report.tables.table import Line, LinedTable
from jaxreg.robustness.verdict import CHECKS, WORDS, Verdict, judge

HEADS = ("setting", "suite", "verdicts", "masks turned at the highest precision", "reason of the worst trial")
NOTE = "How far these numbers can be relied on, by checks on every trial; verdicts.csv has every number"


def _checks(frame: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """The numbers of the checks of every trial; of a number that could not be computed nan."""
    rows = rows_of(frame, "verdict", "check")
    found: dict[tuple[str, str], dict[str, float]] = {}
    for study, trial, check, value in zip(rows["study"], rows["trial"], rows["check"], rows["value"].astype(float)):
        found.setdefault((study, trial), {})[check] = value
    return found


def numbers(data: StudyData) -> pd.DataFrame:
    """Returns a line a trial: its verdict, the reason, and the number of every check; empty without verdicts."""
    checked, found = _checks(data.frame), []
    for row in data.members:
        own = checked.get((row.study, row.trial))
        if own is not None:
            verdict = judge(own)
            told = {"study": row.study, "trial": row.trial, "setting": row.setting, "seed": row.seed}
            told |= {"verdict": verdict.word, "reason": verdict.reason}
            found.append(told | {name: own.get(name) for name in CHECKS})
    return pd.DataFrame(found)


def suites(data: StudyData) -> str:
    """Returns the suites of attacks that robust accuracies come from, as the conditions say; empty if they do not."""
    table = data.conditions
    chosen = table[(table["probe"] == "robustness") & (table["condition"] == "suite")]
    return ", ".join(dict.fromkeys(chosen["value"]))


def lines(data: StudyData) -> list[Line]:
    """Returns a line a setting: by which suite, how many trials of each word, and the worst one's reason."""
    by_setting: dict[str, list[Verdict]] = {}
    turned: dict[str, list[float]] = {}
    settings = {(row.study, row.trial): row.setting for row in data.members}
    for trial, checks in _checks(data.frame).items():
        by_setting.setdefault(settings[trial], []).append(judge(checks))
        turned.setdefault(settings[trial], []).extend(checks[name] for name in ("precision",) if name in checks)
    found, look, suite = [], looks(data), suites(data)
    for setting in data.settings:
        own = by_setting.get(setting)
        if own:
            counts = Counter(verdict.word for verdict in own)
            worst = max(own, key=lambda verdict: WORDS.index(verdict.word))
            told = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
            found.append(Line(setting, look[setting].colour, [suite, told, _most(turned[setting]), worst.reason]))
    return found


def _most(shares: list[float]) -> str:
    """The largest share of a mask that turned, over trials and attacks; nothing where none was looked at again."""
    return f"{100 * max(shares):.2g} %" if shares else ""


def text(data: StudyData) -> str:
    """Returns the lines as people read them in a terminal; empty without verdicts."""
    told = []
    for line in lines(data):
        suite, counts, turned, reason = line.cells
        by = f" by {suite}" if suite else ""
        told.append(f"robustness of {line.setting}{by}: {counts}" + (f" ({reason})" if reason else ""))
        told[-1] += f"; the highest precision turns {turned} of a mask at most" if turned else ""
    return "\n".join(told)


TABLE = LinedTable("verdicts", "What the robust accuracies are worth", "robustness", HEADS, lines, numbers, NOTE)
