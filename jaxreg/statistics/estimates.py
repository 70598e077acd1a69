"""Estimates of several seeds with the influence of every example on them: what an interval over both is made of."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Shaped

Values = Shaped[np.ndarray, "S N"]
TEST, VALIDATION = "test", "validation"


class Estimates(NamedTuple):
    """One number a seed, and by sample of examples how far each example moved it: rows of mean 0.

    The influence psi of an example is what the estimate theta = T(F_N) would gain, times N, if the example had a little
    more weight: theta(F) + mean psi is the first-order expansion. Images are the same for every seed, in one order.
    """

    value_S: np.ndarray
    influence: Mapping[str, np.ndarray]  # by sample, [S, N]

    @property
    def seeds(self) -> int:
        """The number of estimates."""
        return len(self.value_S)

    @property
    def mean(self) -> float:
        """The estimate over all seeds."""
        return float(np.mean(self.value_S))

    def __sub__(self, other: Self) -> "Estimates":
        return combined((1.0, self), (-1.0, other))

    def scaled(self, factor: float) -> "Estimates":
        """The same times a number."""
        return combined((factor, self))

    def shifted(self, by: float) -> "Estimates":
        """The same plus a number."""
        return self._replace(value_S=self.value_S + by)


def combined(*terms: tuple[float, Estimates]) -> Estimates:
    """The sum of factor times estimates, seeds by place, and examples by place in each sample.

    Raises: ValueError: for other numbers of seeds, or of examples in a sample that two share.
    """
    names = dict.fromkeys(name for _, one in terms for name in one.influence)
    shapes = {name: {one.influence[name].shape for _, one in terms if name in one.influence} for name in names}
    shapes |= {"seeds": {one.value_S.shape for _, one in terms}}
    if any(len(found) > 1 for found in shapes.values()):
        told = {name: sorted(found) for name, found in shapes.items() if len(found) > 1}
        raise ValueError(f"estimates must be of the same seeds and examples, got shapes {told}.")
    value_S = sum((factor * one.value_S for factor, one in terms), np.zeros(1))
    influence = {
        name: sum((factor * one.influence[name] for factor, one in terms if name in one.influence), np.zeros(1))
        for name in names
    }
    return Estimates(value_S, influence)


def of_values(value_S: np.ndarray, influence_SN: Values, sample: str = TEST) -> Estimates:
    """Estimates with the influence of one sample, whose rows are centred."""
    return Estimates(np.asarray(value_S, float), {sample: influence_SN - influence_SN.mean(1, keepdims=True)})
