"""How much of each gap to the baseline an intervention on the baseline closes, as a table."""

from typing import NamedTuple

import pandas as pd

from jaxreg.report.data import StudyData
from jaxreg.report.palette import looks

CHANGES = {"norm_swap": "its mean norm", "turn": "its mean angle to the center"}
GAPS = {
    "ece": ("scaled_ece/1", "ECE %", 100),
    "nll": ("scaled_nll/1", "NLL", 1),
    "margin": ("label_margin", "margin", 1),
}
_ENDS = ("", "_share")  # of the metrics of an intervention
COLUMNS = ("the baseline gets", "metric", "baseline", "changed baseline", "setting", "gap closed", "n")
NOTE = (
    "The baseline at the same seed is given the mean norm of a setting, or turned toward the class centers by the mean "
    "difference of angle. Means over seeds; gap closed: (baseline - changed) / (baseline - setting) of these means, "
    "with the lowest and highest seed where every gap is large enough for a share. Margin: signed angular margin, rad."
)


class Line(NamedTuple):
    """One line: the setting, its colour, the printed cells."""

    setting: str
    colour: str
    cells: list[str]


def lines(data: StudyData) -> list[Line]:
    """Returns a line a setting, intervention and gap; none where no trial had a baseline."""
    look, table = looks(data), numbers(data)
    return [
        Line(row.setting, look[row.setting].colour, [row.change, row.metric, *_texts(row), str(row.n)])
        for row in table.itertuples()
    ]


def numbers(data: StudyData) -> pd.DataFrame:
    """Returns the same in numbers: setting, change, metric, baseline, changed, own, closed, least, greatest, n."""
    found = []
    wanted = {plain for plain, _, _ in GAPS.values()} | {
        f"{c}_{g}{end}" for c in CHANGES for g in GAPS for end in _ENDS
    }
    rows = data.frame[data.frame["metric"].isin(wanted) & (data.frame["split"] == data.split)]
    base, by_setting = rows[rows["regularizer"] == "none"], dict(iter(rows.groupby("setting")))
    changed_ = set(rows.loc[~rows["metric"].isin([plain for plain, _, _ in GAPS.values()]), "setting"])
    for setting in [name for name in data.settings if name in changed_]:
        own = by_setting[setting]
        for change, told in CHANGES.items():
            for gap, (plain, title, scale) in GAPS.items():
                names = (f"{change}_{gap}", plain, f"{change}_{gap}_share")
                changed, after, share = (own[own["metric"] == name].set_index("seed")["value"] for name in names)
                study = base[base["study"].isin(own["study"].unique()) & (base["metric"] == plain)]
                before = study.drop_duplicates("seed").set_index("seed")["value"].reindex(changed.index)
                if changed.empty or before.isna().all():
                    continue
                means = [scale * float(side.reindex(changed.index).mean()) for side in (before, changed, after)]
                closed = (means[0] - means[1]) / (means[0] - means[2]) if means[0] != means[2] else float("nan")
                range_ = (share.min(skipna=False), share.max(skipna=False))
                found.append((setting, told, title, *means, closed, *range_, len(changed)))
    columns = ["setting", "change", "metric", "baseline", "changed", "own", "closed", "least", "greatest", "n"]
    return pd.DataFrame(found, columns=columns)


def _texts(row: NamedTuple) -> list[str]:
    baseline, changed, own, closed, least, greatest = row[4:10]
    spread = "" if pd.isna(least) else f" [{least:.0%}, {greatest:.0%}]"
    return [f"{baseline:.3f}", f"{changed:.3f}", f"{own:.3f}", "–" if pd.isna(closed) else f"{closed:.0%}{spread}"]
