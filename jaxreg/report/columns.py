"""The columns of the main table, told once for the terminal, the page and the CSV files."""

from typing import NamedTuple

import pandas as pd

from jaxreg.report import differences

BRACKET = "†"  # behind a temperature whose search ended at 0.01 or 100 for some trial


class Number(NamedTuple):
    """A metric of a group of trials: mean, sd and count, the means of the ends of its interval, the largest value."""

    mean: float
    sd: float
    n: int
    low: float
    high: float
    most: float


class Column(NamedTuple):
    """A metric as a column: `scale` turns the stored number into the printed one, with `digits` after the point."""

    metric: str
    title: str
    digits: int
    scale: float = 1.0
    split: str | None = None  # None: the split that the report speaks of
    wide: bool = False  # left out of the terminal's table
    form: str = "{mean} ± {sd}"  # what is printed of a `Number`
    kind: str = "f"  # "e": as powers of ten

    def text(self, number: Number) -> str:
        """Returns the number as printed; without an sd or an interval only its mean, and a dash for no number."""
        if pd.isna(number.mean):
            return "–"
        lacks = any(f"{{{name}}}" in self.form and pd.isna(getattr(number, name)) for name in ("sd", "low", "high"))
        shown = {name: f"{value * self.scale:z.{self.digits}{self.kind}}" for name, value in number._asdict().items()}
        return ("{mean}" if lacks else self.form).format(**shown)


def main_columns(frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns of the main table that `frame` has numbers for."""
    robust = headlines(frame, split)
    columns = [
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
    return located(columns, frame, split)


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
    names = frame["metric"].drop_duplicates()
    robust = names[names.str.match(r"robust_accuracy/[^/]+/[^/]+$")]
    chosen = frame[frame["metric"].isin(robust) & (frame["split"] == split)]
    found = chosen.groupby("metric", sort=False)["value"].mean()
    parts = found.index.str.split("/")
    rows = pd.DataFrame({"attack": parts.str[1], "eps": parts.str[2], "value": found.to_numpy()})
    rows = rows[rows["eps"].astype(float) > 0]
    if rows.empty:
        return None
    counts = rows.groupby("eps")["attack"].nunique()
    radii = sorted(counts.index[counts == counts.max()], key=float)
    eps = radii[len(radii) // 2]
    means = rows[rows["eps"] == eps].set_index("attack")["value"]
    pgd = means[means.index.str.startswith("pgd")]
    attack = "worst" if "worst" in means.index else str((pgd if len(pgd) else means).idxmin())
    return f"robust_accuracy/{attack}/{eps}"


def cells(frame: pd.DataFrame, columns: list[Column], by: list[str]) -> dict[tuple[str, ...], list[str]]:
    """Returns the printed numbers of each group of trials; a column that lacks some of them tells its own n.

    In groups that are settings (`results.SETTING`), an ECE that differs from the baseline by noise carries a mark; a
    temperature carries one where the search of some trial ended at its bracket.
    """
    shown = frame[frame["metric"].isin(["temperature_at_bracket", *(column.metric for column in columns)])]
    once = shown.drop_duplicates(["study", "trial", "split", "metric"])
    groups = once.groupby([*by, "split", "metric"], sort=False)
    table = groups["value"].agg(["mean", "std", "count"]).join(groups[["low", "high"]].mean())
    table = table.assign(most=groups["value"].max())
    numbers = {key: Number(*rest) for key, *rest in table.itertuples(name=None)}
    trials = frame.drop_duplicates(["study", "trial"]).groupby(by, sort=False).size()
    sizes = {key if isinstance(key, tuple) else (key,): count for key, count in trials.items()}
    hit = once[(once["metric"] == "temperature_at_bracket") & (once["value"] > 0)]
    brackets = set(hit[[*by, "split"]].itertuples(index=False, name=None))
    marked = {key for split in {c.split for c in columns if c.split} for key in differences.noise(frame, split)}

    def cell(key: tuple[str, ...], column: Column) -> str:
        mark = differences.MARK if (*key, column.metric) in marked else ""
        if column.metric == "temperature" and (*key, column.split) in brackets:
            mark = BRACKET
        return _cell(column, numbers.get((*key, column.split, column.metric)), sizes[key]) + mark

    return {key: [cell(key, column) for column in columns] for key in sizes}


def _cell(column: Column, number: Number | None, trials: int) -> str:
    if number is None:
        return "–"
    return column.text(number) + (f" (n={number.n})" if 0 < number.n < trials else "")


def _robust_title(metric: str, several: bool) -> str:
    return f"robust % {metric.rsplit('/', 1)[1]}" if several else "robust %"


def located(columns: list[Column], frame: pd.DataFrame, split: str) -> list[Column]:
    """Returns the columns that `frame` has numbers for, on the report's split where it has, else on another."""
    splits = {column.metric: frame.loc[frame["metric"] == column.metric, "split"].unique() for column in columns}
    return [
        c._replace(split=split if split in splits[c.metric] else str(splits[c.metric][0]))
        for c in columns
        if len(splits[c.metric])
    ]
