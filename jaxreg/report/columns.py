"""The columns of the main table, told once for the terminal, the page and the CSV files."""

from typing import NamedTuple

import pandas as pd

from jaxreg import results


class Column(NamedTuple):
    """A metric as a column: `scale` turns the stored number into the printed one, with `digits` after the point."""

    metric: str
    title: str
    digits: int
    scale: float = 1.0
    split: str | None = None  # None: the split that the report speaks of
    wide: bool = False  # left out of the terminal's table

    def text(self, mean: float, sd: float | None = None) -> str:
        """Returns `mean ± sd` as printed, `mean` alone without an sd, and a dash for no number."""
        if pd.isna(mean):
            return "–"
        number = f"{mean * self.scale:.{self.digits}f}"
        return number if sd is None or pd.isna(sd) else f"{number} ± {sd * self.scale:.{self.digits}f}"


def main_columns(frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns of the main table that `frame` has numbers for."""
    robust = headline_robust(frame, split)
    columns = [
        Column("accuracy", "accuracy %", 2, 100),
        Column("nll", "NLL", 3),
        Column("nll_ts", "NLL T", 3),
        Column("ece", "ECE %", 2, 100),
        Column("ece_ts", "ECE T %", 2, 100),
        Column("temperature", "T", 2, wide=True),
        Column("confidence_gap", "conf. gap %", 2, 100, wide=True),
        *([Column(robust, "robust %", 1, 100)] if robust else []),
        Column("feature_norm", "norm", 2),
        Column("center_cosine", "cosine", 3),
    ]
    return [located for column in columns if (located := _locate(column, frame, split))]


def headline_robust(frame: pd.DataFrame, split: str) -> str | None:
    """Returns the robust accuracy to show first: the worst case of all attacks at the radius most attacks were run at.

    Without a worst case, the lowest mean among PGD attacks; without those, among all attacks. Ties: the largest radius.
    """
    rows = frame[(frame["split"] == split) & frame["metric"].str.match(r"robust_accuracy/[^/]+/[^/]+$")]
    rows = rows.assign(attack=rows["metric"].str.split("/").str[1], eps=rows["metric"].str.split("/").str[2])
    rows = rows[rows["eps"].astype(float) > 0]
    if rows.empty:
        return None
    counts = rows.groupby("eps")["attack"].nunique()
    eps = max(counts.index, key=lambda name: (counts[name], float(name)))
    means = rows[rows["eps"] == eps].groupby("attack")["value"].mean()
    pgd = means[means.index.str.startswith("pgd")]
    attack = "worst" if "worst" in means.index else str((pgd if len(pgd) else means).idxmin())
    return f"robust_accuracy/{attack}/{eps}"


def cells(rows: pd.DataFrame, columns: list[Column]) -> list[str]:
    """Returns the printed numbers of one setting; a column that lacks some of its trials tells its own n."""
    line = results.summary(rows).drop_duplicates(["split", "metric"]).set_index(["split", "metric"])
    trials = rows["trial"].nunique()
    return [_cell(column, line, trials) for column in columns]


def _cell(column: Column, line: pd.DataFrame, trials: int) -> str:
    if (column.split, column.metric) not in line.index:
        return "–"
    mean, sd, n = line.loc[(column.split, column.metric), ["mean", "sd", "n"]]
    return column.text(mean, sd) + (f" (n={n:.0f})" if 0 < n < trials else "")


def _locate(column: Column, frame: pd.DataFrame, split: str) -> Column | None:
    """Returns the column with the split it is measured on: the report's split first, then any other."""
    splits = frame.loc[frame["metric"] == column.metric, "split"].unique()
    if len(splits) == 0:
        return None
    return column._replace(split=split if split in splits else str(splits[0]))
