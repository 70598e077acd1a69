"""The claims of the studies of a report: judged, in tables, and whether what is judged was fixed before training."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxreg import claims, config
from jaxreg.claims import over_settings, power
from jaxreg.jobs import record
from jaxreg.names import radius_told
from jaxreg.report.data import StudyData, saved_arrays
from jaxreg.spec import ClaimsSpec

OVERSTATES = (
    "Suite quick left 2.9 to 5.5 points more standing than an exhaustive attack on digits: judge by suite strong"
)


class Claimed(NamedTuple):
    """What a report says of claims: a row a claim and setting, the numbers beside them, and notes on how to read it."""

    table: pd.DataFrame
    beside: pd.DataFrame
    notes: tuple[str, ...] = ()
    scatters: tuple[power.Scatter, ...] = ()


def source(data: StudyData, study: str) -> claims.StudyNumbers:
    """One study as claims read it."""
    rows = data.frame[data.frame["study"] == study]
    texts = dict.fromkeys(("trial", "regularizer", "hyperparameters", "metric", "split"), str)

    def array(probe: str, trial: str, name: str) -> np.ndarray | None:
        return data.array(probe, study, trial, name)

    def predicted(trial: str, split: str) -> Mapping[str, np.ndarray] | None:
        home = data.homes.get((study, trial, "calibration"))
        saved = saved_arrays(home.predictions(trial, split)) if home else None
        return saved if saved and "logits" in saved else None

    return claims.StudyNumbers(rows.astype(texts), array, predicted, spec_of(data, study))


def spec_of(data: StudyData, study: str) -> ClaimsSpec:
    """What the config of a study fixes; the defaults where it was saved without."""
    given = data.config[study].get("config", {}).get("claims", {})
    return config.build("config.claims", ClaimsSpec, given)


def judged(data: StudyData) -> Claimed:
    """Every claim of every study, judged by itself; of several studies a setting bears the name of its own."""
    tables, numbers, notes, scatters = [], [], [], []
    for study in data.config:
        own = source(data, study)
        start = f"{study}: " if len(data.config) > 1 else ""
        judgements = claims.judge(own)
        scatters += power.scatters(judgements)
        found = claims.table(judgements, own.spec)
        shown = [claims.beside(own), over_settings.correlations(own.rows, own.spec)]
        tables.append(found.assign(setting=start + found["setting"]))
        numbers += [part.assign(setting=start + part["setting"]) for part in shown if len(part)]
        notes += [start + note for note in _notes(data, study, own.spec)]
    joined = pd.concat(numbers, ignore_index=True) if numbers else claims.beside_none()
    return Claimed(pd.concat(tables, ignore_index=True), joined, tuple(notes), tuple(scatters))


def _radius(spec: ClaimsSpec) -> str:
    return f"radius {radius_told(spec.radius)}" if spec.radius else "the first radius"


def _notes(data: StudyData, study: str, spec: ClaimsSpec) -> list[str]:
    """With which suite the network was attacked, and whether what is judged was changed after training began."""
    used = data.conditions
    suites = used[(used["study"] == study) & (used["probe"] == "robustness") & (used["condition"] == "suite")]["value"]
    told = [f"Attacked with suite {', '.join(sorted(set(suites)))}, judged at {_radius(spec)}"] if len(suites) else []
    told += [OVERSTATES] if "quick" in set(suites) else []
    homes = {home for (of, _, _), home in data.homes.items() if of == study}
    changed = [home for home in sorted(homes, key=str) if record.fixed(home) not in (None, spec.digest)]
    if changed:
        told.append(
            f"What is judged was changed after training began in {changed[0]} "
            f"(fixed then: {record.fixed(changed[0])}, now: {spec.digest})"
        )
    return told
