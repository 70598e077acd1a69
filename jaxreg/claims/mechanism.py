"""The claim on the mechanism: what goes with what over settings, and over the examples of each trial."""

from collections.abc import Iterator

import numpy as np

from jaxreg.claims import findings, ranks, words
from jaxreg.claims.attacks import attacked
from jaxreg.claims.findings import Finding
from jaxreg.claims.study import Study

WITHIN = (
    "rank correlation of the cosine to the class center with the smallest radius that fools, over the test images of"
    " each trial that are right without attack, is on average"
)
PARTS = "a higher cosine with robustness", "a smaller norm with calibration"


def mechanism(study: Study) -> Iterator[Finding]:
    """Higher cosine with robustness, smaller norm with calibration: over settings; the first also within each trial.

    ECEs that all lie within the noise floor of one another have no order to go with.
    """
    for one, other in relations(study):
        values = units(study, one, other)
        if values:
            found = ranks.correlation(one, values, (words.quantity(one).name, words.quantity(other).name))
            apart = float(np.ptp([both[1].mean() for both in values]))
            lost = other == "ece" and findings.within(apart, max(study.floors.values()))
            yield found._replace(part=PARTS[one != "center_cosine"], noise=lost)
    within = {name: np.asarray(own, float) for name, own in study.within.items() if np.isfinite(own).any()}
    said = [f"{WITHIN} {np.nanmean(own_T):.2f}" for own_T in within.values()]
    values = list(within.values())
    tests = findings.levels(list(within), "center_cosine, min_eps", values, 0.0, +1, said, ranks.CORRELATION)
    yield from (found._replace(part=PARTS[0], counted="trials") for found in tests)


def relations(study: Study) -> list[tuple[str, str]]:
    """The pairs of metrics that `mechanism` correlates over settings, of those that were measured.

    The norm is taken over sqrt(D) where that was measured: settings may differ in width.
    """
    known = {name for values in study.settings.values() for name in values}
    robust = attacked(study)
    robust = [name for name in robust if "/worst/" in name] or robust[:1]
    norm = "feature_rms" if _are_known(study, "feature_rms") else "feature_norm"
    wanted = (("center_cosine", robust[0] if robust else ""), (norm, "ece"))
    return [pair for pair in wanted if set(pair) <= known]


def units(study: Study, one: str, other: str) -> list[np.ndarray]:
    """Both metrics [2, S] of all trials of each regularizer with its own hyperparameters.

    Settings that differ in what a sweep overrides are no further evidence: a regularizer does much the same at every
    learning rate, and a learning rate to every regularizer. Of each the mean of those settings is taken off that all
    overrides have, so that no override stands for a regularizer.
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, values in study.settings.items():
        if one in values and other in values:
            both = np.stack([values[one].to_numpy(), values[other].to_numpy()])
            unit, overrides = study.kinds[name]
            both = both[:, np.isfinite(both).all(0)]
            if both.size:
                groups.setdefault(overrides, {})[unit] = both
    shared = set.intersection(*(set(group) for group in groups.values())) if groups else set()
    found: dict[str, list[np.ndarray]] = {}
    for group in groups.values():
        middle = np.mean([group[unit].mean(1) for unit in shared or group], 0) if len(groups) > 1 else np.zeros(2)
        for unit, both in group.items():
            found.setdefault(unit, []).append(both - middle[:, None])
    return [np.concatenate(parts, 1) for parts in found.values()]


def _are_known(study: Study, metric: str) -> bool:
    """Whether all settings with features have the metric."""
    return all(metric in values for values in study.settings.values() if "feature_norm" in values)
