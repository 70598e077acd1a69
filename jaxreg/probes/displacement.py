"""Where the worst attack at the middle radius moved features, and on which path PGD takes the first of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxreg.geometry import displacement
from jaxreg.geometry.attack_path import measure_path
from jaxreg.measured import Measured, Row
from jaxreg.names import named, radius_texts
from jaxreg.probes import geometry
from jaxreg.probes.geometry import GeometrySettings
from jaxreg.probes.probe import Probe
from jaxreg.probes.robustness import RobustnessSettings
from jaxreg.trained import Trained
from jaxreg.training import predictions

PATH_EXAMPLES = 100  # whose path under attack is followed step by step: only its mean is kept


def measure(trained: Trained, attacks: RobustnessSettings, geometry_: GeometrySettings) -> list[Measured]:
    """Parts of the displacement, the mean path, and how the cosine to the center goes with the smallest radius."""
    del geometry_  # whose arrays are read: it is measured again when they are
    radius = _middle_radius(attacks.epsilons)
    saved = trained.arrays("robustness")
    texts = dict(zip(saved[0]["radii"], radius_texts(saved[0]["radii"])))  # as the attack rounded them
    images = np.stack([arrays[named("adversarial", "worst", texts[np.float32(radius)])] for arrays in saved])
    centers = np.stack([arrays["class/center"] for arrays in trained.arrays("geometry")])
    attacked = predictions.own_features(trained.weights, images, trained.fixed, trained.run)
    head, clean, count = trained.head, trained.predictions("test"), images.shape[1]
    pair = (clean.features[:, :count], attacked, clean.labels[:count])
    differs = np.any(images != trained.examples("test", count).images, axis=(2, 3, 4))
    moved = displacement.measure_displacement(
        *pair, head.kernel, head.bias, centers, differs_TN=differs, mesh=trained.run.mesh
    )
    paths = _paths(trained, centers, radius, attacks.norm)
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
    images, labels, _ = trained.examples("test", PATH_EXAMPLES)
    how: dict[str, Any] = {"eps": radius, "norm": norm, "mesh": trained.run.mesh, "local": trained.run.local}
    return measure_path(trained.fixed.model.apply, *trained.weights, images, labels, centers, **how)


PROBE = Probe(measure, geometry.SECTION, reads=("robustness", "geometry"), needs=("robustness", "geometry"))
