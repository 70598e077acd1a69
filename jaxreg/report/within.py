"""Within each trial: how the cosine to the center and the smallest radius that fools go together over its examples.

within.json beside results.parquet holds the number of each trial and is written with it: to open the arrays of ten
thousand trials takes longer than all else that a report reads.
"""

import json

import numpy as np
from etils import epath

from jaxreg import claims, results
from jaxreg.report.data import StudyData, saved_array
from jaxreg.runtime.workdir import write_json

FILE = "within.json"
PROBES = ("geometry", "robustness")  # whose arrays are needed


def gather(workdir: epath.Path) -> None:
    """Writes results.parquet of a workdir (`results.gather`), and within.json beside it; null: a constant."""
    results.gather(workdir)
    trials = sorted(path.stem for path in (workdir / "probes" / PROBES[0]).glob("*.npz"))
    found = {trial: correlation(workdir, workdir, trial) for trial in trials}
    known = {trial: value for trial, value in found.items() if value is not None}
    write_json(workdir / FILE, {trial: None if np.isnan(value) else value for trial, value in known.items()})


def correlation(geometry: epath.Path, robustness: epath.Path, trial: str) -> float | None:
    """Returns the rank correlation from the arrays in two workdirs; None where one is missing, nan for a constant.

    Over the examples that are right without attack: the radius of the others is 0, whatever their cosine.
    """
    radius = saved_array(robustness, PROBES[1], trial, "min_eps")
    cosine = saved_array(geometry, PROBES[0], trial, "test/center_cosine") if radius is not None else None
    if cosine is None or radius is None:
        return None
    right = radius > 0
    return claims.rank_correlation(cosine[: len(radius)][right], radius[right])


def by_setting(data: StudyData) -> dict[tuple[str, str], list[float]]:
    """Returns the numbers of the trials that have one, by study and by setting as `claims.label` names it.

    They are read from within.json, or worked out where a trial lies in two workdirs or in one of before that file.
    """
    kept: dict[epath.Path, dict[str, float | None]] = {}
    found: dict[tuple[str, str], list[float]] = {}
    for row in data.frame.drop_duplicates(["study", "trial"]).itertuples():
        one, other = (data.homes.get((row.study, row.trial, probe)) for probe in PROBES)
        if one is None or other is None:
            continue
        if one not in kept:
            kept[one] = _read(one)
        is_kept = one == other and row.trial in kept[one]
        value = kept[one][row.trial] if is_kept else correlation(one, other, row.trial)
        if is_kept or value is not None:
            key = (row.study, claims.label(row.regularizer, row.hyperparameters))
            found.setdefault(key, []).append(float("nan") if value is None else value)
    return found


def _read(workdir: epath.Path) -> dict[str, float | None]:
    path = workdir / FILE
    return json.loads(path.read_text()) if path.exists() else {}
