"""The numbers of every setting against the baseline at the same seed, and which differences of errors are noise."""

from collections.abc import Collection, Mapping

import pandas as pd

from jaxreg import results, statistics
from jaxreg.calibration import floors
from jaxreg.report.data import StudyData
from jaxreg.setting import BASELINE, Setting

MARK = "≈"  # behind an error that differs from the baseline's by no more than perfectly calibrated networks would
COLUMNS = ["study", *results.SETTING[1:], "metric", "split", "mean", "baseline_mean", *statistics.Effect._fields]


def paired(frame: pd.DataFrame, split: str, metrics: Collection[str]) -> pd.DataFrame:
    """Returns a line a setting and metric: means, paired difference, tests, `inside_floor` of what has a floor.

    `floor` is how far noise reaches, by `floors.reach` from the means over seeds of both sides; `p_holm` adjusts over
    the settings.
    """
    known = (frame["split"] == split) & frame["metric"].isin([*metrics, *map(floors.floor_of, metrics)])
    rows = frame[known & frame["value"].notna()]
    rows = rows.drop_duplicates([*results.SETTING, "seed", "metric"])
    found = [pd.DataFrame(columns=[*COLUMNS, "p_holm"])]
    for (study, metric), own in rows[rows["metric"].isin(metrics)].groupby(["study", "metric"], sort=False):
        if BASELINE in set(own["regularizer"]):
            found.append(statistics.paired(own, str(metric), split=split).assign(study=str(study)))
    table = pd.concat([one for one in found if len(one)] or found, ignore_index=True)[[*COLUMNS, "p_holm"]]
    ends = _floor_ends(rows)
    floor = [_floor(ends, *line) for line in table[[*results.SETTING, "metric"]].itertuples(index=False, name=None)]
    inside = [floors.inside(*pair) if pair[1] == pair[1] else None for pair in zip(table["difference"], floor)]
    return table.assign(
        floor=pd.Series(floor, table.index, dtype=float), inside_floor=pd.Series(inside, table.index, dtype="boolean")
    )


def noise(frame: pd.DataFrame, split: str, metrics: Collection[str] = tuple(floors.FLOORS)) -> set[tuple[str, ...]]:
    """Returns (study, regularizer, hyperparameters, metric) of those errors whose difference is inside their floor."""
    table = paired(frame, split, metrics)
    chosen = table[table["inside_floor"].fillna(False).astype(bool)]
    return set(chosen[[*results.SETTING, "metric"]].itertuples(index=False, name=None))


def noisy(data: StudyData, metrics: Collection[str], rows: pd.DataFrame | None = None) -> set[tuple[str, str]]:
    """Returns the same as (setting, metric), on the report's split: of the study, or of other `rows`."""
    lines = data.keys[[*results.SETTING, "setting"]].itertuples(index=False, name=None)
    names = {line[:-1]: line[-1] for line in lines}
    return {(names[key[:-1]], key[-1]) for key in noise(data.frame if rows is None else rows, data.split, metrics)}


def _floor_ends(rows: pd.DataFrame) -> dict[tuple[str, str], dict[tuple[str, str], tuple[float, float]]]:
    """The mean ends of each noise floor, by study and metric, then by setting."""
    found: dict[tuple[str, str], dict[tuple[str, str], tuple[float, float]]] = {}
    for (study, *setting, metric), both in floors.ends(rows, results.SETTING).items():
        found.setdefault((study, metric), {})[setting[0], setting[1]] = both
    return found


def _floor(
    ends: Mapping[tuple[str, str], dict[tuple[str, str], tuple[float, float]]],
    study: str,
    regularizer: str,
    given: str,
    metric: str,
) -> float:
    """How far the floors of a setting and its baseline reach; nan where there is none."""
    own = ends.get((study, floors.floor_of(metric)), {})
    base = Setting(regularizer, given).baseline(map(Setting._make, own)) if own else None
    return floors.reach(metric, [own[side] for side in ((regularizer, given), base) if side in own])
