"""What a report reads: the rows, curves, arrays, configs and provenance of one or several workdirs."""

import dataclasses
import functools
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from etils import epath

from jaxreg import conditions, results
from jaxreg.jobs import directory
from jaxreg.runtime.files import open_bytes, read_arrays
from jaxreg.runtime.workdir import Workdir
from jaxreg.setting import Setting
from jaxreg.spec import SpecError

SHOWN = 12  # settings that can be told apart in a figure, and read in a table


class Member(NamedTuple):
    """A trial of a setting, in one study."""

    study: str
    trial: str
    program: str
    setting: str
    seed: int


class Failed(NamedTuple):
    """A trained trial without results, and why."""

    study: str
    trial: str
    reason: str


@dataclasses.dataclass(frozen=True)
class StudyData:
    """All that figures and tables are made of; a setting is a regularizer with its hyperparameters, in one study."""

    frame: pd.DataFrame  # rows of results.parquet, with the columns `label` and `setting`; texts are categorical
    curves: pd.DataFrame  # rows of training curves, with the columns `study`, `label`, `setting`; empty without any
    homes: Mapping[tuple[str, str, str], Workdir]  # the workdir with what a probe found, by (study, trial, probe)
    config: Mapping[str, dict[str, Any]]  # by study, as what follows
    provenance: Mapping[str, dict[str, Any]]
    failed: Sequence[Failed] = ()

    @functools.cached_property
    def conditions(self) -> pd.DataFrame:
        """Returns what each probe of each trial ran with: study, trial, probe, condition, value."""
        names = {(workdir, study): None for (study, _, _), workdir in self.homes.items()}
        parts = [conditions.read([workdir]).assign(study=study) for workdir, study in names]
        return pd.concat(parts, ignore_index=True) if parts else conditions.read([])

    @functools.cached_property
    def keys(self) -> pd.DataFrame:
        """Returns one line a setting, its first row, with texts as such."""
        names = self.frame.drop_duplicates("setting")
        return names.astype(dict.fromkeys(names.columns[names.dtypes == "category"], str))

    @functools.cached_property
    def settings(self) -> list[str]:
        """Returns the settings in the order of the results, study by study, the unregularized one first."""
        place = self.keys["study"].map(list(self.config).index)
        named = zip(self.keys["regularizer"], self.keys["hyperparameters"])
        rest = [not Setting(*one).is_baseline for one in named]
        return list(self.keys.assign(place=place, rest=rest).sort_values(["place", "rest"], kind="stable")["setting"])

    def limited(self, most: int = SHOWN) -> "StudyData":
        """Returns the same with at most that many settings: of each regularizer the first in turn."""
        names = self.keys.set_index("setting").loc[self.settings]
        if len(names) <= most:
            return self
        turn = names.groupby(["study", "regularizer"], sort=False).cumcount().sort_values(kind="stable")
        chosen = list(turn.index[:most])
        frame, curves = (one[one["setting"].isin(chosen)] for one in (self.frame, self.curves))
        return dataclasses.replace(self, frame=frame, curves=curves)

    @functools.cached_property
    def trials(self) -> pd.DataFrame:
        """Returns one line a trial: study, trial, program, setting, seed."""
        return self.frame[["study", "trial", "program", "setting", "seed"]].drop_duplicates(["study", "trial"])

    @functools.cached_property
    def members(self) -> list[Member]:
        """Returns the same as records."""
        return [Member._make(line) for line in self.trials.itertuples(index=False, name=None)]

    @functools.cached_property
    def split(self) -> str:
        """Returns the split that the report speaks of: test where it was measured."""
        splits = list(self.frame["split"].unique())
        return "test" if "test" in splits or not splits else splits[-1]

    @functools.cached_property
    def summary(self) -> pd.DataFrame:
        """Returns `results.summary` of all rows: several tables are parts of it."""
        return results.summary(self.frame)

    def array(self, probe: str, study: str, trial: str, name: str) -> np.ndarray | None:
        """Returns one per-example array of a trial, or None where the probe saved none of that name."""
        home = self.homes.get((study, trial, probe))
        return saved_array(home, probe, trial, name) if home else None

    def arrays(self, probe: str, study: str, trial: str) -> Mapping[str, np.ndarray]:
        """Returns the arrays that a probe saved of a trial, each read when asked for; none where it saved nothing."""
        home = self.homes.get((study, trial, probe))
        path = home.arrays(probe, trial) if home else None
        return np.load(io.BytesIO(path.read_bytes())) if path and path.exists() else {}

    def by_setting(self, probe: str, *names: str) -> dict[str, list[tuple[np.ndarray, ...]]]:
        """Returns for every setting the named arrays of each of its trials, leaving out trials that lack one."""
        found: dict[str, list[tuple[np.ndarray, ...]]] = {setting: [] for setting in self.settings}
        for row in self.members:
            arrays = [self.array(probe, row.study, row.trial, name) for name in names]
            saved = tuple(array for array in arrays if array is not None)
            if len(saved) == len(names):
                found[row.setting].append(saved)
        return {setting: trials for setting, trials in found.items() if trials}

    def values(self, metric: str, split: str | None = None) -> pd.DataFrame:
        """Returns the rows of one metric (of the report's split, unless told) that have a finite value."""
        rows = self.frame[(self.frame["metric"] == metric) & (self.frame["split"] == (split or self.split))]
        return rows[np.isfinite(rows["value"])]


def saved_arrays(path: epath.Path) -> Mapping[str, np.ndarray] | None:
    """All arrays of a file; None where there is none."""
    return read_arrays(path) if path.exists() else None


def saved_array(workdir: Workdir, probe: str, trial: str, name: str) -> np.ndarray | None:
    """Returns one array of those that a probe saved of a trial, reading no other; None where there is none."""
    path = workdir.arrays(probe, trial)
    try:
        with open_bytes(path, "rb") as file:
            return np.load(file).get(name)
    except FileNotFoundError:
        return None


def load(studies: Sequence[epath.PathLike]) -> StudyData:
    """Reads one or several studies, each a workdir or a directory of jobs.

    Those of one name and config (but for seeds, regularizers and settings) are one, and what both have counts once;
    others of one name are told apart by folder.
    Raises: ValueError: if there is no study, or one holds no results.parquet.
    """
    if not studies:
        raise ValueError("a report needs at least one workdir, got none: name one.")
    groups = _joined([Workdir(study) for study in studies])
    paths = [group[0] for group in groups]
    workdirs = [[workdir for path in group for workdir in _finished(path)] for group in groups]
    joined = [results.join(own) for own in workdirs]
    names = _study_names([table for table, _ in joined], paths)
    several = len(names) > 1
    curves = [_read_curves(w, own).assign(study=name) for w, (_, own), name in zip(workdirs, joined, names)]
    tables = [_of_study(table, name) for (table, _), name in zip(joined, names)]
    frame = pa.concat_tables(tables).unify_dictionaries().to_pandas()
    curve = pd.concat(curves, ignore_index=True)
    return StudyData(
        frame=_with_setting(frame, several),
        curves=_with_setting(curve, several),
        homes={(name, *of[1:]): workdir for name, (_, own) in zip(names, joined) for of, workdir in own.items()},
        config={name: directory.saved(path) or {} for name, path in zip(names, paths)},
        provenance={name: _provenance(group) for name, group in zip(names, groups)},
        failed=_failed(frame, curve),
    )


def _of_study(table: pa.Table, name: str) -> pa.Table:
    """The rows under another name of their study."""
    names = pa.DictionaryArray.from_arrays(np.zeros(len(table), np.int32), pa.array([name]))
    return table.set_column(results.CODED.get_field_index("study"), results.CODED.field("study"), names)


def _joined(paths: Sequence[Workdir]) -> list[list[Workdir]]:
    """The studies, those together whose trials differ by what their labels and seeds tell alone."""
    found: dict[str, list[Workdir]] = {}
    for path in paths:
        held = directory.saved(directory.workdirs(path)[0]) if directory.workdirs(path) else None
        config = (held or {}).get("config")
        found.setdefault(json.dumps(directory.base(config), sort_keys=True) if config else str(path), []).append(path)
    return list(found.values())


def _finished(study: Workdir) -> list[Workdir]:
    """The workdirs of a study that have results."""
    found = [w for w in directory.workdirs(study) or [study] if w.results.exists()]
    if not found:
        cure = "wait until a job is finished, or run the probes first"
        raise SpecError(f"a report needs results.parquet in its workdir, got none in {study}: {cure}.")
    return found


def _provenance(studies: Sequence[Workdir]) -> dict[str, Any]:
    """The provenance of a workdir; of jobs that of the last one, with the runs and the seconds of all."""
    workdirs = [workdir for study in studies for workdir in directory.workdirs(study) or [study]]
    facts = [_read_json(workdir.provenance) for workdir in workdirs]
    seconds: dict[str, float] = {}
    for stage, spent in (item for one in facts for item in one.get("wall_seconds", {}).items()):
        seconds[stage] = round(seconds.get(stage, 0.0) + spent, 3)
    runs = [run for one in facts for run in one.get("runs", [])]
    return {**facts[-1], "wall_seconds": seconds, "runs": runs} if any(facts) else {}


def _study_names(tables: list[pa.Table], paths: list[Workdir]) -> list[str]:
    names = [table["study"][0].as_py() if len(table) else path.name for table, path in zip(tables, paths)]
    told = [name if names.count(name) == 1 else f"{name} [{path.name}]" for name, path in zip(names, paths)]
    return [one if told.count(one) == 1 else f"{name} [{path}]" for one, name, path in zip(told, names, paths)]


def _with_setting(frame: pd.DataFrame, several: bool) -> pd.DataFrame:
    """Adds `label`, the regularizer with its hyperparameters, and `setting`, the same within its study."""
    if frame.empty:
        return frame.assign(label="", setting="")
    code = frame.groupby(results.SETTING, sort=False).ngroup().to_numpy()
    keys = frame[results.SETTING].drop_duplicates()
    labels = [Setting(*key[1:]).label for key in keys.itertuples(index=False, name=None)]
    settings = [f"{study}: {label}" for study, label in zip(keys["study"], labels)] if several else labels
    return frame.assign(label=_coded(labels, code), setting=_coded(settings, code))


def _coded(texts: list[str], code: np.ndarray) -> pd.Categorical:
    """The texts at the places `code`; equal texts are one category."""
    own, different = pd.factorize(np.array(texts, object))
    return pd.Categorical.from_codes(own[code].tolist(), pd.Index(different))


def _read_curves(workdirs: Sequence[Workdir], homes: Mapping[tuple[str, str, str], Workdir]) -> pd.DataFrame:
    """The curves of every trial, from one home of it; those of trials that froze are wherever they were trained."""
    tables, home = [], {trial: workdir for (_, trial, _), workdir in reversed(list(homes.items()))}
    for workdir in workdirs:
        for path in workdir.curves():
            table = pd.read_parquet(io.BytesIO(path.read_bytes()))
            own = {trial: home.get(trial, workdir) == workdir for trial in table["trial"].unique()}
            tables.append(table[table["trial"].map(own)])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _failed(frame: pd.DataFrame, curves: pd.DataFrame) -> list[Failed]:
    """Trials that were trained and have no results, with what their curves tell about it."""
    if curves.empty:
        return []
    measured = set(frame[["study", "trial"]].drop_duplicates().itertuples(index=False, name=None))
    lacking = curves[[trial not in measured for trial in zip(curves["study"], curves["trial"])]]
    found = []
    for (study, trial), steps in lacking.groupby(["study", "trial"], sort=False):
        broken = steps[~np.isfinite(steps[["loss", "grad_norm"]]).all(axis=1)]
        reason = f"loss or gradient not finite by step {broken['step'].min()}" if len(broken) else "not measured"
        found.append(Failed(str(study), str(trial), reason))
    return found


def _read_json(path: epath.Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
