"""On how many trials and examples a figure stands, as the sentence behind its caption."""

import functools
from collections.abc import Callable

from jaxreg.geometry.map_figure import SHOWN
from jaxreg.report.data import StudyData

Told = Callable[[StudyData], str]


def counts(data: StudyData, counted: str = "accuracy$") -> str:
    """Returns as a sentence how many trials a setting has, and on how many examples `counted` metrics were measured."""
    number, split = _examples(data, counted)
    return f"{_trials(data)}, {number} {split} examples a trial." if number else f"{_trials(data)}."


def over(counted: str) -> Told:
    """Returns `counts` of these metrics; "": of none."""
    return functools.partial(counts, counted=counted)


def parts(**counted: str) -> Told:
    """Returns what tells the same where metrics (regular expressions) stand on different examples, by their names."""

    def told(data: StudyData) -> str:
        found = {name.replace("_", " "): _examples(data, one) for name, one in counted.items()}
        known = {name: one for name, one in found.items() if one[0]}
        if len(set(known.values())) < 2:
            return counts(data, "|".join(f"(?:{one})" for one in counted.values()))
        each = "; ".join(f"{name}: {number} {split} examples" for name, (number, split) in known.items())
        return f"{_trials(data)}; {each} a trial."

    return told


def maps(data: StudyData) -> str:
    """Maps show one trial, and few of its examples."""
    return f"One trial a setting, at most {SHOWN} of its examples in each map."


def _trials(data: StudyData) -> str:
    return f"n = {_range(sorted(data.trials.groupby('setting')['trial'].count().unique()))} trials a setting"


def _examples(data: StudyData, counted: str) -> tuple[str, str]:
    """How many examples, and of which split: that of the report where it was measured; empty for none."""
    measured = data.frame[data.frame["metric"].str.match(counted)] if counted else data.frame.iloc[:0]
    if (measured["split"] == data.split).any():
        measured = measured[measured["split"] == data.split]
    if measured.empty:
        return "", ""
    return _range(sorted(measured["n"].unique())), str(measured["split"].iloc[0])


def _range(numbers: list[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}" if numbers else "0"
