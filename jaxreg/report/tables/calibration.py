"""The tables of calibration: every error with its interval and noise floor, before and after what validation mends."""

from collections.abc import Callable, Sequence

import pandas as pd

from jaxreg.calibration.bins import ERRORS
from jaxreg.report.tables.columns import Column, Doubt, SettingTable

NOTE = (
    "ECE, floor, gap in %; ECE: mean over seeds of the ECE and of the ends of its 95 % interval over examples: how far "
    "it scatters with them, not what it lies above the ECE of infinitely many, about the floor where it is small; "
    "floor: the 95 % range of the ECE that a perfectly calibrated network with these confidences shows at this n; ≈: "
    "the difference to the baseline lies inside the floor; T: temperature, and after scaling by it (†: of some trial "
    "at an end of its bracket [0.01, 100]); vector, isotonic: ECE after vector scaling, after isotonic regression (all "
    "fitted on validation); gap: confidence - accuracy"
)
ERRORS_NOTE = (
    "In %, mean over seeds: ECE over bins of equal mass, mean over classes, debiased L2, smooth ECE, the worst bin, "
    "each with its 95 % interval over examples, as for ECE; floor: the 95 % range of the same error of a perfectly "
    "calibrated network with these probabilities at this n; ≈: the difference to the baseline lies inside the floor; "
    "T: after temperature scaling"
)


def of_ece(frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns of the table of calibration: ECE with interval and floor, and what mends it."""
    ece, floor, mean = "{mean} [{low}, {high}]", "{low}–{high}", "{mean}"
    return [
        Column("ece", "ECE [95 %]", 2, 100, form=ece),
        Column("ece_floor", "floor", 2, 100, form=floor),
        Column("ece_ts", "ECE T [95 %]", 2, 100, form=ece),
        Column("ece_floor_ts", "floor T", 2, 100, form=floor),
        Column("ece_vector_scaling", "vector", 2, 100, form=mean),
        Column("ece_isotonic", "isotonic", 2, 100, form=mean),
        Column("temperature", "T", 2, form=mean, doubt=Doubt("temperature_at_bracket", 0, "†")),
        Column("confidence_gap", "gap", 1, 100, form=mean),
        Column("confidence_gap_ts", "gap T", 1, 100, form=mean),
        Column("ece_floor_vector_scaling", "floor vector", 2, 100, wide=True, form=floor),
        Column("ece_floor_isotonic", "floor isotonic", 2, 100, wide=True, form=floor),
        Column("nll_vector_scaling", "NLL vector", 3, wide=True),
        Column("brier", "Brier", 3, wide=True, form=ece),
        Column("brier_ts", "Brier T", 3, wide=True, form=ece),
        Column("ece_human", "ECE human", 2, 100, wide=True, form=ece),
        Column("ece_floor_human", "floor human", 2, 100, wide=True, form=floor),
        Column("ece_human_ts", "ECE human T", 2, 100, wide=True, form=ece),
        Column("ece_floor_human_ts", "floor human T", 2, 100, wide=True, form=floor),
        Column("cross_entropy_human", "CE human", 3, wide=True, form=ece),
        Column("cross_entropy_human_ts", "CE human T", 3, wide=True, form=ece),
    ]


def of_others(frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns of the table of the other calibration errors, each beside its floor."""
    every = []
    for metric, error in ERRORS.items():
        for suffix, after in (("", ""), ("_ts", " T")) if metric != "ece" else ():  # which has the first table
            every.append(Column(metric + suffix, error.title + after, 2, 100, wide=True, form="{mean} [{low}, {high}]"))
            every.append(Column(f"{metric}_floor{suffix}", "floor" + after, 2, 100, wide=True, form="{low}–{high}"))
    return every


def _table(name: str, title: str, columns: Callable[[pd.DataFrame, str], Sequence[Column]], note: str) -> SettingTable:
    return SettingTable(name, title, "accuracy", columns, lambda split, shown: f"{split} split. {note}")


TABLES = (
    _table("calibration", "Calibration", of_ece, NOTE),
    _table("errors", "Other calibration errors", of_others, ERRORS_NOTE),
)
