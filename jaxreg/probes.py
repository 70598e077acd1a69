"""PROBES: what a study measures on the trained trials of a program. A new probe is one function and one line here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from jaxreg import data
from jaxreg.calibration import human
from jaxreg.calibration import probe as calibration
from jaxreg.checks import check_apart
from jaxreg.geometry import displacement, norms, over_training
from jaxreg.geometry import probe as geometry
from jaxreg.geometry.attack_path import measure_path
from jaxreg.measured import Measured, Row
from jaxreg.models import head as last_layer
from jaxreg.names import named, radius_texts
from jaxreg.regularizers import has_floor, smoothing_of
from jaxreg.robustness import corruptions
from jaxreg.robustness import probe as robustness
from jaxreg.robustness.attacks import check as check_attack
from jaxreg.robustness.attacks import suite
from jaxreg.robustness.corruptions import CORRUPTIONS
from jaxreg.robustness.verdict_checks import Effort
from jaxreg.runtime import parallel
from jaxreg.runtime.progress import Progress
from jaxreg.spec import (
    CalibrationSpec,
    CorruptionsSpec,
    GeometrySpec,
    ProbesSpec,
    RobustnessSpec,
    SpecError,
    require,
)
from jaxreg.trained import Trained
from jaxreg.training import predictions
from jaxreg.training.checkpoint import Weights
from jaxreg.training.loop import snapshots_of
from jaxreg.training.predictions import SPLITS
from jaxreg.training.program import Program

PATH_EXAMPLES = 100  # whose path under attack is followed step by step: only its mean is kept


def splits_of(dataset: data.Dataset, spec: ProbesSpec) -> dict[str, data.Split]:
    """The splits to predict: all of validation and test, and as much of train as the geometry probe looks at.

    Raises: SpecError: if a probe would look at train images that lack a class.
    """
    splits, train, looked = dict(dataset.splits), dataset.splits["train"], spec.geometry
    sizes = {"geometry": ("train_examples", looked.train_examples)}
    if looked.snapshots:
        sizes["over_training"] = ("snapshot_examples", looked.snapshot_examples)
    for name, (setting, size) in sizes.items():
        if name in chosen(spec):
            try:
                norms.check_classes(train[: size or len(train)].labels, len(dataset.classes))
            except ValueError as error:
                cure = f"raise it from {size}, or leave {name} out of probes.only"
                raise SpecError(f"probes.geometry.{setting}: {error}: {cure}.") from None
    return splits | {"train": train[: looked.train_examples or len(train)]}


def measure_calibration(trained: Trained, spec: CalibrationSpec) -> list[Measured]:
    """Calibration of validation and test, before and after what validation alone can mend."""
    found = {name: trained.predictions(name) for name in ("validation", "test")}
    splits = {name: calibration.Split(p.logits, p.labels, p.ids) for name, p in found.items()}
    names, mesh = [t.id for t in trained.program.trials], trained.run.mesh
    people = human.load(spec.human_labels) if spec.human_labels else None
    return calibration.measure(splits, trials=names, replicates=spec.bootstrap, human=people, mesh=mesh)


def measure_robustness(trained: Trained, spec: RobustnessSpec) -> list[Measured]:
    """A suite of attacks on the test split, or on its first `examples`, at every radius, and how far to trust it."""
    test, scale = trained.dataset.splits["test"], np.float32(trained.dataset.scale)
    test = test[: spec.examples or len(test)]
    run, sources = trained.run, [i if b is None else b for i, b in enumerate(trained.baselines)]
    with _AttackProgress(trained) as progress:
        return robustness.measure(
            trained.fixed.model.apply,
            *trained.weights,
            np.asarray(test.images, np.float32) / scale,
            test.labels,
            test.key_ids,
            suite_name=spec.suite,
            epsilons=spec.epsilons,
            norm=spec.norm,
            trials=len(sources),
            mesh=run.mesh,
            local=run.execution.local_trials,
            sources=np.array(sources),
            effort=Effort() if spec.verdict else None,
            finished=run.directory / "probes" / "robustness" / "finished",
            progress=progress.show,
        )


class _AttackProgress(Progress):
    """Calls of attacks done, and how much they have left standing."""

    def __init__(self, trained: Trained) -> None:
        super().__init__("attack", 1, "calls")
        self._stop, self._trials = trained.run.preemption, len(trained.program.trials)

    def show(self, now: robustness.SuiteProgress) -> None:
        """Reports one finished call; lets a stop through between two."""
        self._stop.check()
        robust = now.robust / max(now.examples, 1)
        left = (
            f"{now.robust} of {now.examples} examples x trials left, robust so far {robust:.3f} at the largest radius"
        )
        self.reach(now.done, now.calls, f"{self._trials} trials, {now.attack}, {left}")


def measure_corruptions(trained: Trained, spec: CorruptionsSpec) -> list[Measured]:
    """Accuracy on corrupted test images, by family and severity."""
    if not spec.families:
        return []
    test, scale, run = trained.dataset.splits["test"], np.float32(trained.dataset.scale), trained.run
    test = test[: spec.examples or len(test)]
    return corruptions.measure(
        trained.fixed.model.apply,
        *trained.weights,
        np.asarray(test.images, np.float32) / scale,
        test.labels,
        test.key_ids,
        names=spec.families,
        severities=spec.severities,
        trials=len(trained.program.trials),
        mesh=run.mesh,
        local=run.execution.local_trials,
    )


def measure_geometry(trained: Trained, spec: GeometrySpec) -> list[Measured]:
    """Norms, class centers, cones, margins, collapse, scaling and interventions on the features of every split."""
    found = {name: trained.predictions(name) for name in SPLITS}
    splits = {name: geometry.Split(p.features, p.labels) for name, p in found.items()}
    chosen_T = [t.regularizer for t in trained.measured]
    smoothing = [smoothing_of(r.name, dict(r.hyperparameters)) or 0.0 for r in chosen_T]
    floor_known = [has_floor(r.name) for r in chosen_T]
    return geometry.measure(
        splits,
        trained.head.kernel,
        trained.head.bias,
        radius=spec.radius,
        smoothing_T=smoothing,
        floor_known_T=floor_known,
        baselines=trained.baselines,
        mesh=trained.run.mesh,
    )


def measure_displacement(trained: Trained, specs: tuple[RobustnessSpec, GeometrySpec]) -> list[Measured]:
    """Where the worst attack at the middle radius moved the features, and on which path PGD takes the first of them."""
    radius = _middle_radius(specs[0].epsilons)
    saved = trained.arrays("robustness")
    texts = dict(zip(saved[0]["radii"], radius_texts(saved[0]["radii"])))  # as the attack rounded them
    images = np.stack([arrays[named("adversarial", "worst", texts[np.float32(radius)])] for arrays in saved])
    centers = np.stack([arrays["class/center"] for arrays in trained.arrays("geometry")])
    attacked = predictions.own_features(trained.weights, images, trained.fixed, trained.run)
    head, clean, count = trained.head, trained.predictions("test"), images.shape[1]
    pair = (clean.features[:, :count], attacked, clean.labels[:count])
    test = np.asarray(trained.dataset.splits["test"][:count].images, np.float32) / np.float32(trained.dataset.scale)
    differs = np.any(images != test, axis=(2, 3, 4))
    moved = displacement.measure_displacement(
        *pair, head.kernel, head.bias, centers, differs_TN=differs, mesh=trained.run.mesh
    )
    paths = _paths(trained, centers, radius, specs[0].norm)
    at = Row("test", "adversarial_eps", radius, count)
    cosines = [arrays["test/center_cosine"][:count] for arrays in trained.arrays("geometry")]
    related = [
        [displacement.relation(cosine_N, arrays["min_eps"])] if "min_eps" in arrays else []
        for cosine_N, arrays in zip(cosines, saved)
    ]
    return [one._replace(rows=[*one.rows, at, *path, *own]) for one, path, own in zip(moved, paths, related)]


def _middle_radius(epsilons: Sequence[float]) -> float:
    """The middle one, the larger of two, of those that attack at all."""
    radii = sorted({eps for eps in epsilons if eps > 0} or {0.0})
    return radii[len(radii) // 2]


def _paths(trained: Trained, centers: np.ndarray, radius: float, norm: Any) -> list[list[Row]]:
    test, run = trained.dataset.splits["test"][:PATH_EXAMPLES], trained.run
    images = np.asarray(test.images, np.float32) / np.float32(trained.dataset.scale)
    how: dict[str, Any] = {"eps": radius, "norm": norm, "mesh": run.mesh, "local": run.execution.local_trials}
    return measure_path(trained.fixed.model.apply, *trained.weights, images, test.labels, centers, **how)


def measure_over_training(trained: Trained, spec: GeometrySpec) -> list[Measured]:
    """The geometry of the first train images at every snapshot that training kept."""
    program, fixed, run = trained.program, trained.fixed, trained.run
    train, count = trained.dataset.splits["train"], len(program.trials)
    train = train[: spec.snapshot_examples or len(train)]
    steps, features, heads = [], [], []
    with (
        snapshots_of(program, run) as kept,
        Progress("snapshots", len(kept.scheduled) * len(train), "examples") as seen,
    ):
        for step, weights in kept.read(Weights(trained.state.params, trained.state.stats), count):
            placed = parallel.put_trials(tuple(weights), run.mesh)
            _, found_TND = predictions.predict_split(f"step {step}", train, placed, count, fixed, run, seen)
            steps.append(step)
            features.append(found_TND)
            heads.append(last_layer(weights.params))
    if not steps:
        return [Measured([], {}) for _ in program.trials]
    kernels, biases = (np.stack(stacks, 1) for stacks in zip(*heads))
    stacked = np.stack(features, 1)
    found = over_training.measure_snapshots(stacked, train.labels, kernels, biases, mesh=run.mesh)
    measured = over_training.measured(found, steps, len(train))
    for t in _first_seeds(program):
        arrays = over_training.space_arrays(t, steps, stacked, train.labels, kernels, biases, found["center"])
        measured[t] = measured[t]._replace(arrays=arrays)
    return measured


def _first_seeds(program: Program) -> list[int]:
    """The trials of the lowest seed of each setting: one of each is enough to draw."""
    trials = program.trials
    lowest = {t.setting: t.seed for t in sorted(trials, key=lambda t: -t.seed)}
    return [i for i, t in enumerate(trials) if t.seed == lowest[t.setting]]


class Probe(NamedTuple):
    """A measurement, and the settings that it depends on: it is repeated when they change."""

    measure: Callable[[Trained, Any], list[Measured]]
    settings: Callable[[ProbesSpec], Any]


PROBES: Mapping[str, Probe] = {
    "calibration": Probe(measure_calibration, lambda spec: spec.calibration),
    "robustness": Probe(measure_robustness, lambda spec: spec.robustness),
    "geometry": Probe(measure_geometry, lambda spec: spec.geometry),
    "over_training": Probe(measure_over_training, lambda spec: spec.geometry),  # of snapshots
    "corruptions": Probe(measure_corruptions, lambda spec: spec.corruptions),
    "displacement": Probe(measure_displacement, lambda spec: (spec.robustness, spec.geometry)),  # needs both
}


def chosen(spec: ProbesSpec) -> list[str]:
    """The probes that a study asks for, in the order of the table."""
    return [name for name in PROBES if not spec.only or name in spec.only]


def check(spec: ProbesSpec, classes: int) -> None:
    """Raises SpecError for a suite, an attack, corruption or file that cannot be had, before anything trains."""
    try:
        for attack in suite(spec.robustness.suite, classes).attacks.values():
            check_attack(attack, spec.robustness.norm, classes)
    except ValueError as error:
        raise SpecError(f"probes.robustness: {error}") from None
    unknown = sorted(set(spec.corruptions.families) - set(CORRUPTIONS))
    require(not unknown, f"Unknown probes.corruptions.families {unknown}; known: {sorted(CORRUPTIONS)}.")
    unknown = sorted(set(spec.only) - set(PROBES))
    require(not unknown, f"Unknown probes.only {unknown}; known: {list(PROBES)}.")
    both = "displacement" not in spec.only or {"robustness", "geometry"} <= set(spec.only)
    require(both, "probes.only names displacement, which needs robustness and geometry: name them too.")
    if people := spec.calibration.human_labels:
        require(epath.Path(people).exists(), f"probes.calibration.human_labels: there is no file {people}.")
        try:
            counted = len(next(iter(human.load(people).values())))
        except ValueError as error:
            raise SpecError(f"probes.calibration.human_labels: {error}") from None
        require(
            counted == classes,
            f"probes.calibration.human_labels: {people} has counts of {counted} classes, the dataset {classes}: "
            "use the same classes.",
        )


def check_examples(spec: ProbesSpec, dataset: data.Dataset) -> None:
    """Raises SpecError where calibration could not tell the examples of `dataset` apart, before anything trains."""
    if "calibration" not in chosen(spec):
        return
    splits = {name: dataset.splits[name] for name in ("validation", "test")}
    try:
        check_apart({name: (split.ids, split.labels) for name, split in splits.items()})
        if spec.calibration.human_labels:
            ids = {name: split.ids for name, split in splits.items()}
            human.check_ids(human.load(spec.calibration.human_labels), ids)
    except ValueError as error:
        raise SpecError(str(error)) from None
