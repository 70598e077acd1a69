"""What the robust accuracies of a study are worth: the verdict of every trial, and by setting in words."""

from collections import Counter

import pandas as pd

from jaxreg.names import rows_of
from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks
from jaxreg.report.tables.table import Line, LinedTable
from jaxreg.robustness.verdict import CHECKS, WORDS, Verdict, judge

HEADS = ("setting", "verdicts", "reason of the worst trial")
NOTE = "How far these numbers can be relied on, by checks on every trial; verdicts.csv has every number"


def of_trials(frame: pd.DataFrame) -> dict[tuple[str, str], Verdict]:
    """Returns the verdict of every trial, by (study, trial), from the numbers of its checks; none where unmeasured."""
    return {trial: judge(numbers) for trial, numbers in _checks(frame).items()}


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


def lines(data: StudyData) -> list[Line]:
    """Returns a line a setting: how many trials of each word, and the worst one's reason."""
    by_setting: dict[str, list[Verdict]] = {}
    settings = {(row.study, row.trial): row.setting for row in data.members}
    for trial, verdict in of_trials(data.frame).items():
        by_setting.setdefault(settings[trial], []).append(verdict)
    found, look = [], looks(data)
    for setting in data.settings:
        own = by_setting.get(setting)
        if own:
            counts = Counter(verdict.word for verdict in own)
            worst = max(own, key=lambda verdict: WORDS.index(verdict.word))
            told = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
            found.append(Line(setting, look[setting].colour, [told, worst.reason]))
    return found


def text(data: StudyData) -> str:
    """Returns the lines as people read them in a terminal; empty without verdicts."""
    told = [(line.setting, *line.cells) for line in lines(data)]
    return "\n".join(
        f"robustness of {setting}: {counts}{f' ({reason})' if reason else ''}" for setting, counts, reason in told
    )


TABLE = LinedTable("verdicts", "What the robust accuracies are worth", "robustness", HEADS, lines, numbers, NOTE)
