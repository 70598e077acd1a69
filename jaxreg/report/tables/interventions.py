"""How much of each gap to the baseline an intervention on the baseline closes, as a table."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxreg import results
from jaxreg.calibration import floors
from jaxreg.geometry.interventions import share_closed
from jaxreg.geometry.rows import CALIBRATION_NOISE, MARGIN_NOISE
from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks
from jaxreg.report.tables.differences import MARK
from jaxreg.report.tables.table import Line, LinedTable
from jaxreg.setting import Setting

CHANGES = {"norm_swap": "its mean norm", "turn": "its mean angle to the center"}


class Gap(NamedTuple):
    """A metric in which a setting and its baseline differ; a difference of `noise` or less has no share."""

    metric: str
    title: str
    scale: float
    noise: float


GAPS = {
    "ece": Gap("scaled_ece/1", "ECE %", 100, CALIBRATION_NOISE),  # at least: the noise floor counts where it is known
    "nll": Gap("scaled_nll/1", "NLL", 1, CALIBRATION_NOISE),
    "margin": Gap("label_margin", "margin", 1, MARGIN_NOISE),
}
HEADS = ("setting", "the baseline gets", "metric", "baseline", "changed baseline", "setting", "gap closed", "n")
NOTE = (
    "The baseline at the same seed and overrides is given the mean norm of a setting, or turned to its mean angle to "
    "the class centers. Means over seeds; gap closed: (baseline - changed) / (baseline - setting) of these means, with "
    "the lowest and highest seed where every gap is large enough for a share; –: the gap is inside the noise floor of "
    f"ECE, or too small. {MARK}: the ECE of the setting differs from the baseline's by less than the noise floor; no "
    "mark where none was measured, as of the changed baseline, whose difference may be noise as well. Margin: signed "
    "angular margin, rad."
)


class Closing(NamedTuple):
    """How much of a gap an intervention closes, in the units of the table; least and greatest over seeds."""

    setting: str
    change: str
    metric: str
    baseline: float
    changed: float
    own: float
    closed: float
    least: float
    greatest: float
    n: int
    inside_floor: bool | None  # of own - baseline; None where no floor is known


def lines(data: StudyData) -> list[Line]:
    """Returns a line a setting, intervention and gap; none where no trial had a baseline."""
    look, table = looks(data), numbers(data)
    return [
        Line(row.setting, look[row.setting].colour, [row.change, row.metric, *_texts(row), str(row.n)])
        for row in (Closing(*values) for values in table.itertuples(index=False, name=None))
    ]


def numbers(data: StudyData) -> pd.DataFrame:
    """Returns the same in numbers: a row a `Closing`."""
    wanted = [gap.metric for gap in GAPS.values()] + [f"{change}_{gap}" for change in CHANGES for gap in GAPS]
    rows = data.frame[(data.frame["split"] == data.split) & data.frame["metric"].isin([*wanted, floors.FLOORS["ece"]])]
    changed = set(rows.loc[rows["metric"].str.startswith(tuple(CHANGES)), "setting"])
    table = rows.pivot(index=["setting", "seed"], columns="metric", values="value").reindex(columns=wanted)
    tables = {str(name): own.droplevel("setting") for name, own in table.groupby(level="setting", sort=False)}
    ends = floors.ends(rows, ["setting"])
    found: list[Closing] = []
    for setting, base in _pairs(data, changed):
        known = [ends[key] for side in (setting, base) if (key := (side, floors.FLOORS["ece"])) in ends]
        floor = floors.reach("ece", known)
        before, own = (dict(zip(wanted, one.to_numpy().T)) for one in _same_seeds(tables[base], tables[setting]))
        for change, told in CHANGES.items():
            for name, gap in GAPS.items():
                reach = floor if name == "ece" else np.nan
                sides = (before[gap.metric], own[f"{change}_{name}"], own[gap.metric])
                numbers_ = _numbers(np.stack(sides, 1), gap, reach)
                found += [Closing(setting, told, gap.title, *numbers_)] if numbers_ else []
    return pd.DataFrame(found, columns=list(Closing._fields)).astype({"inside_floor": "boolean"})


def _pairs(data: StudyData, settings: Collection[str]) -> Iterator[tuple[str, str]]:
    """The names of the settings, each beside that of its baseline in the same study."""
    lines = data.keys[[*results.SETTING, "setting"]].itertuples(index=False, name=None)
    names = {(study, Setting(*own)): name for study, *own, name in lines}
    for (study, own), name in names.items():
        base = own.baseline([other for of, other in names if of == study]) if name in settings else None
        if base is not None:
            yield name, names[study, base]


def _same_seeds(base: pd.DataFrame, own: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return base if base.index.equals(own.index) else base.reindex(own.index), own


def _numbers(sides_S3: np.ndarray, gap: Gap, floor: float) -> tuple[Any, ...] | None:
    """Of a metric before, changed and after: means, the share closed, its least and greatest over seeds, n, whether
    the means before and after differ by less than the floor (None without one); or None without seeds.

    The shares are nan inside the noise.
    """
    sides_S3 = sides_S3[np.isfinite(sides_S3).all(1)]
    if not len(sides_S3):
        return None
    means, noise = sides_S3.mean(0), np.fmax(gap.noise, floor)
    closed = share_closed(means[0], means[1], means[2], noise)
    shares = [share_closed(one, moved, other, noise) for one, moved, other in sides_S3]
    range_ = (min(shares), max(shares)) if np.isfinite(shares).all() else (np.nan, np.nan)
    inside = None if np.isnan(floor) else floors.inside(means[2] - means[0], floor)
    return (*(gap.scale * means), closed, *range_, len(sides_S3), inside)


def _texts(row: Closing) -> list[str]:
    sides = [f"{side:z.3f}" for side in (row.baseline, row.changed, row.own)]
    sides[2] += MARK if pd.notna(row.inside_floor) and row.inside_floor else ""
    spread = "" if pd.isna(row.least) else f" [{row.least:z.0%}, {row.greatest:z.0%}]"
    return [*sides, "–" if pd.isna(row.closed) else f"{row.closed:z.0%}{spread}"]


TABLE = LinedTable("interventions", "What length and direction explain", "geometry", HEADS, lines, numbers, NOTE)
