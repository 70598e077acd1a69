"""What minimal radii say at every radius at once: the accuracy that is left, and what one network gains on another."""

import numpy as np
from jaxtyping import Shaped


def robustness_curve(min_eps_N: Shaped[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray]:
    """Robust accuracy as a step function of the radius: ascending radii [M], and the share that survives each [M].

    An example is robust at eps if its minimal radius lies above eps. Starts at radius 0 with the clean accuracy.
    Raises: ValueError: for no radius, and for NaN.
    """
    radii_N = _checked("min_eps", min_eps_N, 1)
    radii_M = _grid(radii_N)
    return radii_M, _standing(radii_N, radii_M)


def gain_curve(
    own_min_eps_SN: Shaped[np.ndarray, "..."], base_min_eps_SN: Shaped[np.ndarray, "..."]
) -> tuple[np.ndarray, np.ndarray]:
    """Robust accuracy gained over a baseline at every radius: ascending radii [M], gain [M] in [-1, 1].

    gain(r) = mean over seeds s and examples n of [own_sn > r] - [base_sn > r], for trials paired by their seed on the
    same examples: [S, N] each. It changes at minimal radii alone, which are the grid, from radius 0 on.

    Raises: ValueError: for no radius, NaN, and shapes that differ.
    """
    own_SN, base_SN = _checked("own_min_eps", own_min_eps_SN, 2), _checked("base_min_eps", base_min_eps_SN, 2)
    if own_SN.shape != base_SN.shape:
        rule = "needs the same seeds and examples in both"
        raise ValueError(f"gain_curve {rule}, got {own_SN.shape} and {base_SN.shape}: pair the trials by their seed.")
    radii_M = _grid(np.concatenate([own_SN.ravel(), base_SN.ravel()]))
    return radii_M, _standing(own_SN, radii_M) - _standing(base_SN, radii_M)


def _checked(name: str, min_eps: np.ndarray, axes: int) -> np.ndarray:
    """The radii in float64."""
    radii = np.asarray(min_eps, np.float64)
    if not radii.size or np.isnan(radii).any() or radii.ndim != axes:
        shape = "[N]" if axes == 1 else "[S, N]"
        told = f"got shape {radii.shape}" + (", NaN among them" if np.isnan(radii).any() else "")
        raise ValueError(f"{name} must be radii {shape}, inf where there is none, {told}.")
    return radii


def _grid(radii: np.ndarray) -> np.ndarray:
    """0 and every finite radius, ascending."""
    return np.unique(np.concatenate([[0.0], radii[np.isfinite(radii)]]))


def _standing(radii: np.ndarray, at_M: np.ndarray) -> np.ndarray:
    """The share of radii that lie above each of `at_M`."""
    return (radii.size - np.searchsorted(np.sort(radii, axis=None), at_M, side="right")) / radii.size
