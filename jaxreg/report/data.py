"""What a report reads: the rows, curves, arrays, configs and provenance of one or several workdirs."""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from etils import epath

from jaxreg import results


class Failed(NamedTuple):
    """A trained trial without results, and why."""

    study: str
    trial: str
    reason: str


@dataclasses.dataclass(frozen=True)
class StudyData:
    """All that figures and tables are made of; a setting is a regularizer with its hyperparameters, in one study."""

    frame: pd.DataFrame  # rows of results.parquet, with the columns `label` and `setting`
    curves: pd.DataFrame  # rows of training curves, with the columns `study`, `label`, `setting`; empty without any
    workdirs: Mapping[str, epath.Path]  # by study, as all that follows
    config: Mapping[str, dict[str, Any]]
    provenance: Mapping[str, dict[str, Any]]
    failed: Sequence[Failed] = ()

    @property
    def settings(self) -> list[str]:
        """Returns the settings in the order of the results, study by study, the unregularized one first."""
        names = self.frame.drop_duplicates("setting")
        order = names.assign(place=names["study"].map(list(self.workdirs).index), soft=names["regularizer"] != "none")
        return list(order.sort_values(["place", "soft"], kind="stable")["setting"])

    @property
    def trials(self) -> pd.DataFrame:
        """Returns one line a trial: study, trial, program, setting, seed."""
        return self.frame[["study", "trial", "program", "setting", "seed"]].drop_duplicates(["study", "trial"])

    @property
    def split(self) -> str:
        """Returns the split that the report speaks of: test where it was measured."""
        splits = list(self.frame["split"].unique())
        return "test" if "test" in splits or not splits else splits[-1]

    def array(self, probe: str, study: str, trial: str, name: str) -> np.ndarray | None:
        """Returns one per-example array of a trial, or None where the probe saved none of that name."""
        return self.arrays(probe, study, trial).get(name)

    def arrays(self, probe: str, study: str, trial: str) -> Mapping[str, np.ndarray]:
        """Returns the arrays that a probe saved of a trial, each read when asked for; none where it saved nothing."""
        path = self.workdirs[study] / "probes" / probe / f"{trial}.npz"
        return np.load(io.BytesIO(path.read_bytes())) if path.exists() else {}

    def by_setting(self, probe: str, *names: str) -> dict[str, list[tuple[np.ndarray, ...]]]:
        """Returns for every setting the named arrays of each of its trials, leaving out trials that lack one."""
        found: dict[str, list[tuple[np.ndarray, ...]]] = {setting: [] for setting in self.settings}
        for row in self.trials.itertuples():
            arrays = [self.array(probe, row.study, row.trial, name) for name in names]
            saved = tuple(array for array in arrays if array is not None)
            if len(saved) == len(names):
                found[row.setting].append(saved)
        return {setting: trials for setting, trials in found.items() if trials}

    def values(self, metric: str, split: str | None = None) -> pd.DataFrame:
        """Returns the rows of one metric (of the report's split, unless told) that have a finite value."""
        rows = self.frame[(self.frame["metric"] == metric) & (self.frame["split"] == (split or self.split))]
        return rows[np.isfinite(rows["value"])]


def load(workdirs: Sequence[epath.PathLike]) -> StudyData:
    """Reads one or several workdirs; studies of one name in different workdirs are told apart by their folder.

    Raises: ValueError: if there is no workdir, or one holds no results.parquet.
    """
    paths = [epath.Path(workdir) for workdir in workdirs]
    for path in paths:
        if not (path / "results.parquet").exists():
            raise ValueError(
                f"a report needs results.parquet in its workdir, got none in {path}: run the probes first."
            )
    if not paths:
        raise ValueError("a report needs at least one workdir, got none: name one.")
    frames = [results.read(path / "results.parquet") for path in paths]
    names = _study_names(frames, paths)
    curves = [_read_curves(path).assign(study=name) for path, name in zip(paths, names)]
    frame = pd.concat([one.assign(study=name) for one, name in zip(frames, names)], ignore_index=True)
    curve = pd.concat(curves, ignore_index=True)
    return StudyData(
        frame=_with_setting(frame, several=len(names) > 1),
        curves=_with_setting(curve, several=len(names) > 1),
        workdirs=dict(zip(names, paths)),
        config={name: _read_json(path / "config.json") for name, path in zip(names, paths)},
        provenance={name: _read_json(path / "provenance.json") for name, path in zip(names, paths)},
        failed=_failed(frame, curve),
    )


def _study_names(frames: list[pd.DataFrame], paths: list[epath.Path]) -> list[str]:
    names = [frame["study"].iloc[0] if len(frame) else path.name for frame, path in zip(frames, paths)]
    told = [name if names.count(name) == 1 else f"{name} [{path.name}]" for name, path in zip(names, paths)]
    return [one if told.count(one) == 1 else f"{name} [{path}]" for one, name, path in zip(told, names, paths)]


def _with_setting(frame: pd.DataFrame, several: bool) -> pd.DataFrame:
    """Adds `label`, the regularizer with its hyperparameters, and `setting`, the same within its study."""
    if frame.empty:
        return frame.assign(label="", setting="")
    keys = frame[["regularizer", "hyperparameters"]]
    texts = {key: results.label(*key) for key in keys.drop_duplicates().itertuples(index=False, name=None)}
    label = pd.Series([texts[key] for key in keys.itertuples(index=False, name=None)], frame.index)
    return frame.assign(label=label, setting=frame["study"] + ": " + label if several else label)


def _read_curves(workdir: epath.Path) -> pd.DataFrame:
    tables = [pd.read_parquet(io.BytesIO(path.read_bytes())) for path in sorted(workdir.glob("curves/*.parquet"))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _failed(frame: pd.DataFrame, curves: pd.DataFrame) -> list[Failed]:
    """Trials that were trained and have no results, with what their curves tell about it."""
    measured = set(zip(frame["study"], frame["trial"]))
    found = []
    for (study, trial), steps in curves.groupby(["study", "trial"], sort=False) if len(curves) else []:
        if (study, trial) not in measured:
            broken = steps[~np.isfinite(steps[["loss", "grad_norm"]]).all(axis=1)]
            reason = f"loss or gradient not finite by step {broken['step'].min()}" if len(broken) else "not measured"
            found.append(Failed(study, trial, reason))
    return found


def _read_json(path: epath.Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
