"""Where the worst attack at the middle radius moved features, and on which path PGD takes the first of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxreg.geometry import displacement
from jaxreg.geometry.attack_path import measure_path
from jaxreg.geometry.input_noise import with_noise
from jaxreg.measured import Measured, Row
from jaxreg.names import named, radius_texts
from jaxreg.probes import geometry
from jaxreg.probes.geometry import GeometrySettings
from jaxreg.probes.probe import Probe
from jaxreg.probes.robustness import RobustnessSettings
from jaxreg.trained import Trained
from jaxreg.training import predictions

NOISE = "noise"
COMPARED = ("radial_cosine", "norm_change")
PATH_EXAMPLES = 100  # whose path under attack is followed step by step: only its mean is kept


def measure(trained: Trained, attacks: RobustnessSettings, geometry_: GeometrySettings) -> list[Measured]:
    """Parts of the displacement, under noise too, the mean path, and how the cosine goes with the smallest radius."""
    del geometry_  # whose arrays are read: it is measured again when they are
    radius = _middle_radius(attacks.epsilons)
    saved = trained.arrays("robustness")
    texts = dict(zip(saved[0]["radii"], radius_texts(saved[0]["radii"])))  # as the attack rounded them
    images = np.stack([arrays[named("adversarial", "worst", texts[np.float32(radius)])] for arrays in saved])
    centers = np.stack([arrays["class/center"] for arrays in trained.arrays("geometry")])
    head, clean, count = trained.head, trained.predictions("test"), images.shape[1]
    differs = np.any(images != trained.examples("test", count).images, axis=(2, 3, 4))
    noisy, enough = _noisy(trained, images, attacks.norm)
    both = np.concatenate([images, noisy], 1)  # in one program
    features = predictions.own_features(trained.weights, both, trained.fixed, trained.run)
    moved, by_chance = (
        displacement.measure_displacement(
            clean.features[:, :count],
            own,
            clean.labels[:count],
            head.kernel,
            head.bias,
            centers,
            differs_TN=differs_,
            called=called,
            mesh=trained.run.mesh,
        )
        for own, differs_, called in (
            (features[:, :count], differs, displacement.ADVERSARIAL),
            (features[:, count:], differs & enough, NOISE),
        )
    )
    moved = [_joined(*three, clean.ids[:count]) for three in zip(moved, by_chance)]
    paths = _paths(trained, centers, radius, attacks.norm)
    at = Row("test", "adversarial_eps", radius, count)
    cosines = [arrays["test/center_cosine"][:count] for arrays in trained.arrays("geometry")]
    related = [
        [displacement.relation(cosine_N, arrays["min_eps"])] if "min_eps" in arrays else []
        for cosine_N, arrays in zip(cosines, saved)
    ]
    return [one._replace(rows=[*one.rows, at, *path, *own]) for one, path, own in zip(moved, paths, related)]


def _noisy(trained: Trained, images_TNHWC: np.ndarray, norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Clean images with noise of the Euclidean size of each trial's perturbations, and where there is room for it."""
    clean, _, ids = trained.examples("test", images_TNHWC.shape[1])
    sizes_TN = np.sqrt(np.sum((images_TNHWC - clean.astype(np.float64)) ** 2, axis=(2, 3, 4)))
    found = [with_noise(clean, size_N, ids, t.seed, norm) for size_N, t in zip(sizes_TN, trained.measured)]
    images, enough = (np.stack(parts) for parts in zip(*found))
    return images, enough


def _joined(moved: Measured, by_chance: Measured, ids_N: np.ndarray) -> Measured:
    """The attack's displacement, and of that under noise what is compared with it; the ids of the examples."""
    rows = [row for row in by_chance.rows if row.metric in (f"{NOISE}_{name}" for name in COMPARED)]
    arrays = {name: by_chance.arrays[name] for name in (f"test/{NOISE}_{part}" for part in COMPARED)}
    return Measured(moved.rows + rows, moved.arrays | arrays | {"test/id": ids_N})


def _middle_radius(epsilons: Sequence[float]) -> float:
    """The middle one, the larger of two, of those that attack at all."""
    radii = sorted({eps for eps in epsilons if eps > 0} or {0.0})
    return radii[len(radii) // 2]


def _paths(trained: Trained, centers: np.ndarray, radius: float, norm: Any) -> list[list[Row]]:
    images, labels, _ = trained.examples("test", PATH_EXAMPLES)
    how: dict[str, Any] = {"eps": radius, "norm": norm, "mesh": trained.run.mesh, "local": trained.run.local}
    return measure_path(trained.fixed.model.apply, *trained.weights, images, labels, centers, **how)


PROBE = Probe(measure, geometry.SECTION, reads=("robustness", "geometry"), needs=("robustness", "geometry"))
