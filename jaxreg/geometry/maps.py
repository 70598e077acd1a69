"""The network on planes through the space of features: regions, confidence, the slope of the loss."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import scipy.special

from jaxreg.models.functional import Head

LEAST = 1e-5  # of a length: what float32 leaves of a difference between equal directions


class Space(NamedTuple):
    """One trial as NumPy arrays: features [N, D], labels [N], its last layer, class centers [K, D]."""

    features_ND: np.ndarray
    labels_N: np.ndarray
    head: Head
    centers_KD: np.ndarray


class Plane(NamedTuple):
    """Points h = point + x axes[0] + y axes[1], axes orthonormal, and the classes whose examples are projected in."""

    point_D: np.ndarray
    axes_2D: np.ndarray
    classes: tuple[int, ...]

    def project(self, features_ND: np.ndarray) -> np.ndarray:
        """Coordinates [N, 2] of the nearest points of the plane."""
        return (features_ND - self.point_D) @ self.axes_2D.T


class Map(NamedTuple):
    """The network on a square grid [G, G] of a plane: coordinates [G], predicted class, confidence, slope [G, G, 2]."""

    coordinates_G: np.ndarray
    prediction_GG: np.ndarray
    confidence_GG: np.ndarray
    slope_GG2: np.ndarray


def absent(space: Space, name: str) -> str:
    """Why a plane of `PLANES` cannot be drawn in this space, in words; empty where it can."""
    vectors = (space.features_ND, space.centers_KD, space.head.kernel, space.head.bias)
    if not all(np.isfinite(vector).all() for vector in vectors) or not np.any(space.features_ND):
        return "features are zero\nor not finite"
    if space.features_ND.shape[1] < 2:
        return "features have\none dimension"
    return "" if len(space.centers_KD) >= CLASSES.get(name, 0) else f"fewer than\n{CLASSES[name]} classes"


def through_two_centers(space: Space, classes: tuple[int, int] = (0, 1), seed: int = 0) -> Plane:
    """Through the origin and two class centers, which lie to the left and right of the upward axis."""
    a, b = (_unit(np.asarray(space.centers_KD[k], np.float64)) for k in classes)
    return Plane(0 * a, _orthonormal(b - a, a + b), classes)


def through_three_centers(space: Space, classes: tuple[int, int, int] = (0, 1, 2), seed: int = 0) -> Plane:
    """Through three class centers, around their middle; the origin is not on it."""
    a, b, c = (np.asarray(space.centers_KD[k], np.float64) for k in classes)
    return Plane((a + b + c) / 3, _orthonormal(b - a, c - a), classes)


def of_most_variance(space: Space, classes: tuple[int, ...] = (), seed: int = 0) -> Plane:
    """Through the mean of all features, along their first two principal directions."""
    middle = space.features_ND.mean(0)
    axes = np.linalg.svd(space.features_ND - middle, full_matrices=False)[2][:2]
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(1)])  # the largest entry positive: a sign is free
    return Plane(middle, axes * signs[:, None], tuple(range(len(space.centers_KD))))


def random(space: Space, classes: tuple[int, ...] = (), seed: int = 0) -> Plane:
    """Through the origin, along two random directions that depend on `seed` and the width alone."""
    one, other = np.random.default_rng(seed).normal(size=(2, space.features_ND.shape[1]))
    return Plane(0 * one, _orthonormal(one, other), tuple(range(len(space.centers_KD))))


PLANES: Mapping[str, Callable[..., Plane]] = {
    "two centers": through_two_centers,
    "three centers": through_three_centers,
    "most variance": of_most_variance,
    "random": random,
}
CLASSES = {"two centers": 2, "three centers": 3}  # that a plane needs


def extent(space: Space, plane: Plane) -> float:
    """Half the side of a square around the plane's point that holds its centers and 98 % of its examples."""
    inside_N = np.isin(space.labels_N, plane.classes)
    shown = np.abs(plane.project(space.features_ND[inside_N])).max(1, initial=0)
    centers = np.abs(plane.project(space.centers_KD[list(plane.classes)][:3])).max(initial=0)
    half = max(np.quantile(shown, 0.98) if len(shown) else 0.0, centers if len(plane.classes) <= 3 else 0.0)
    return 1.1 * half or 1.0


def evaluate(space: Space, plane: Plane, half_side: float, points: int = 240) -> Map:
    """The network on points x points of the square [-half_side, half_side]^2.

    The slope is the gradient of CE(W h + b, c), c the predicted class, along the plane, at unit length: where an attack
    on a right prediction pushes. It is that of sum_{j != c} p_j (w_j - w_c), and p_j for j != c goes as the softmax
    over the rivals alone: nothing cancels or vanishes, however sure the network is. Zero only for equal rows.
    """
    coordinates = np.linspace(-half_side, half_side, points)
    x, y = np.meshgrid(coordinates, coordinates)
    kernel = np.asarray(space.head.kernel, np.float64)
    flat = kernel.T @ plane.axes_2D.T  # [K, 2]: logits are affine on the plane
    logits = np.stack([x, y], -1) @ flat.T + plane.point_D @ kernel + np.asarray(space.head.bias, np.float64)
    p = scipy.special.softmax(logits, -1)
    prediction = logits.argmax(-1)
    rivals = scipy.special.softmax(np.where(np.eye(len(flat), dtype=bool)[prediction], -np.inf, logits), -1)
    slope = rivals @ flat - flat[prediction]
    length = np.linalg.norm(slope, axis=-1, keepdims=True)
    slope = np.divide(slope, length, out=np.zeros_like(slope), where=length > 1e-300)
    return Map(coordinates, prediction, p.max(-1), slope)


def _orthonormal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Axes of a plane that holds both; where they span less, such as centers on one line, coordinate axes help out."""
    least = LEAST * max(np.linalg.norm(first), np.linalg.norm(second))
    first = _unit(first if np.linalg.norm(first) > least else _beside(second))
    rest = second - _along(second, first)
    rest = rest if np.linalg.norm(rest) > least else _beside(first)
    return np.stack([first, _unit(rest - _along(rest, first))])


def _beside(axis: np.ndarray) -> np.ndarray:
    """What is perpendicular to `axis`, in the coordinate direction that is least along it."""
    coordinate = np.eye(len(axis))[np.argmin(np.abs(axis))]
    return coordinate - _along(coordinate, axis)


def _along(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return (vector @ axis) / max(axis @ axis, 1e-300) * axis


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-300)
