"""The table of calibration: every ECE with its interval and its noise floor, before and after what validation mends."""

import pandas as pd

from jaxreg.report.columns import Column, located

NOTE = (
    "ECE, floor, gap in %; ECE: mean over seeds of the ECE and of the ends of its 95 % interval over examples; floor: "
    "the 95 % range of the ECE that a perfectly calibrated network with these confidences shows at this n; ≈: the "
    "difference to the baseline lies inside the floor; T: temperature, and after scaling by it (†: of "
    "some trial at an end of its bracket [0.01, 100]); vector, isotonic: "
    "ECE after vector scaling, after isotonic regression (all fitted on validation); gap: confidence - accuracy"
)


def columns(frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns of the table of calibration: ECE with interval and floor, and what mends it."""
    ece, floor, mean = "{mean} [{low}, {high}]", "{low}–{high}", "{mean}"
    every = [
        Column("ece", "ECE [95 %]", 2, 100, form=ece),
        Column("ece_floor", "floor", 2, 100, form=floor),
        Column("ece_ts", "ECE T [95 %]", 2, 100, form=ece),
        Column("ece_floor_ts", "floor T", 2, 100, form=floor),
        Column("ece_vector_scaling", "vector", 2, 100, form=mean),
        Column("ece_isotonic", "isotonic", 2, 100, form=mean),
        Column("temperature", "T", 2, form=mean),
        Column("confidence_gap", "gap", 1, 100, form=mean),
        Column("confidence_gap_ts", "gap T", 1, 100, form=mean),
        Column("ece_floor_vector_scaling", "floor vector", 2, 100, wide=True, form=floor),
        Column("ece_floor_isotonic", "floor isotonic", 2, 100, wide=True, form=floor),
        Column("nll_vector_scaling", "NLL vector", 3, wide=True),
        Column("smece", "smECE", 2, 100, wide=True, form=ece),
        Column("smece_ts", "smECE T", 2, 100, wide=True, form=ece),
        Column("brier", "Brier", 3, wide=True, form=ece),
        Column("brier_ts", "Brier T", 3, wide=True, form=ece),
        Column("ece_human", "ECE human", 2, 100, wide=True, form=ece),
        Column("ece_human_ts", "ECE human T", 2, 100, wide=True, form=ece),
        Column("cross_entropy_human", "CE human", 3, wide=True, form=ece),
        Column("cross_entropy_human_ts", "CE human T", 3, wide=True, form=ece),
    ]
    return located(every, frame, split)
