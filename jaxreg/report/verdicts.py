"""What the robust accuracies of a study are worth: the verdict of every trial, and by setting in words."""

from collections import Counter
from typing import NamedTuple

import pandas as pd

from jaxreg.report.data import StudyData
from jaxreg.robustness.verdict import CHECKS, WORDS, Verdict, judge

PREFIX = "verdict/"


class Line(NamedTuple):
    """The verdicts of one setting: how many trials of each word, and the worst one's reason."""

    setting: str
    counts: str
    reason: str


def of_trials(frame: pd.DataFrame) -> dict[tuple[str, str], Verdict]:
    """Returns the verdict of every trial, by (study, trial), from the numbers of its checks; none where unmeasured."""
    rows = frame[frame["metric"].str.startswith(PREFIX)]
    found = {}
    for key, own in rows.groupby(["study", "trial"], sort=False):
        numbers = dict(zip(own["metric"].str.removeprefix(PREFIX), own["value"].astype(float)))
        found[key] = judge(numbers)
    return found


def table(data: StudyData) -> pd.DataFrame:
    """Returns a line a trial: its verdict, the reason, and the number of every check; empty without verdicts."""
    found = of_trials(data.frame)
    rows = data.frame[data.frame["metric"].str.startswith(PREFIX)]
    numbers = {key: dict(zip(own["metric"], own["value"])) for key, own in rows.groupby(["study", "trial"], sort=False)}
    return pd.DataFrame(
        [
            {"study": row.study, "trial": row.trial, "setting": row.setting, "seed": row.seed}
            | {"verdict": found[key].word, "reason": found[key].reason}
            | {name: numbers[key].get(f"{PREFIX}{name}") for name in CHECKS}
            for row in data.trials.itertuples()
            if (key := (row.study, row.trial)) in found
        ]
    )


def lines(data: StudyData) -> list[Line]:
    """Returns a line a setting."""
    verdicts, found = of_trials(data.frame), []
    settings = {(row.study, row.trial): row.setting for row in data.trials.itertuples()}
    for setting in data.settings:
        own = [verdict for key, verdict in verdicts.items() if settings[key] == setting]
        if own:
            counts = Counter(verdict.word for verdict in own)
            worst = max(own, key=lambda verdict: WORDS.index(verdict.word))
            told = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
            found.append(Line(setting, told, worst.reason))
    return found


def text(data: StudyData) -> str:
    """Returns the lines as people read them in a terminal; empty without verdicts."""
    return "\n".join(
        f"robustness of {line.setting}: {line.counts}{f' ({line.reason})' if line.reason else ''}"
        for line in lines(data)
    )
