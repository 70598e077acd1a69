"""The main table: accuracy, calibration, robustness and geometry of every setting at one glance."""

from collections.abc import Sequence

import pandas as pd

from jaxreg.names import MetricName, named, radius_told, rows_of, those
from jaxreg.report.tables import differences
from jaxreg.report.tables.columns import Column, SettingTable


def columns(frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns of the main table."""
    robust = headlines(frame, split)
    return [
        Column("accuracy", "accuracy %", 2, 100),
        Column("nll", "NLL", 3),
        Column("nll_ts", "NLL T", 3),
        Column("ece", "ECE %", 2, 100),
        Column("ece_ts", "ECE T %", 2, 100),
        Column("ece_floor", "ECE floor %", 2, 100, wide=True),
        Column("ece_floor_ts", "ECE T floor %", 2, 100, wide=True),
        Column("temperature", "T", 2, wide=True),
        Column("confidence_gap", "conf. gap %", 2, 100, wide=True),
        *(Column(metric, _robust_title(metric, len(robust) > 1), 1, 100) for metric in robust),
        Column("feature_norm", "norm", 2),
        Column("center_cosine", "cosine", 3),
    ]


def headlines(frame: pd.DataFrame, split: str) -> list[str]:
    """Returns the robust accuracies to show first: one that every study has, or else one of each study."""
    studies = [rows for _, rows in frame.groupby("study", sort=False)]
    shared = set.intersection(*(set(rows["metric"].unique()) for rows in studies)) if studies else set()
    common = headline_robust(frame[frame["metric"].isin(shared)], split)
    each = [headline_robust(rows, split) for rows in studies]
    return [common] if common else list(dict.fromkeys(metric for metric in each if metric))


def headline_robust(frame: pd.DataFrame, split: str) -> str | None:
    """Returns the robust accuracy to show first: the worst case of all attacks at the radius most attacks were run at.

    Of several such radii the middle one, the larger of two: neither all nor none of the examples should be fooled.
    Without a worst case, the attack with the lowest mean: of the PGD attacks, or if there are none, of all.
    """
    robust = rows_of(frame[frame["split"] == split], "robust_accuracy", "attack", "eps")
    rows = robust.groupby(["attack", "eps"], sort=False, as_index=False)["value"].mean()
    rows = rows[rows["eps"].astype(float) > 0]
    if rows.empty:
        return None
    counts = rows.groupby("eps")["attack"].nunique()
    radii = sorted(counts.index[counts == counts.max()], key=float)
    eps = radii[len(radii) // 2]
    means = rows[rows["eps"] == eps].set_index("attack")["value"]
    pgd = means[means.index.str.startswith("pgd")]
    attack = "worst" if "worst" in means.index else str((pgd if len(pgd) else means).idxmin())
    return named("robust_accuracy", attack, eps)


def _robust_title(metric: str, several: bool) -> str:
    return f"robust % {MetricName.parse(metric).of[1]}" if several else "robust %"


def note(split: str, columns: Sequence[Column]) -> str:
    """Returns what the short titles mean, in one sentence for those that are shown."""
    meant = {
        "nll_ts": "T: after temperature scaling fitted on validation",
        "ece_ts": f"{differences.MARK}: ECE differs from the baseline's by less than the noise floor",
        "center_cosine": "cosine: to the class center",
    }
    robust = those([column.metric for column in columns], "robust_accuracy", 2).values()
    told = [meant[column.metric] for column in columns if column.metric in meant]
    told += [
        f"robust: {attack if attack != 'worst' else 'worst case of all attacks'}, radius {radius_told(float(eps))}"
        for _, (attack, eps), _ in robust
    ]
    return f"{split} split, mean ± sd over n seeds" + "".join(f"; {one}" for one in told)


MAIN = SettingTable("main", "Main table", "main", columns, note)
