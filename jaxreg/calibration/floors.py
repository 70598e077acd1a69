"""Noise floors: the error that a perfectly calibrated model with the same probabilities would show at this N.

Labels are drawn anew from the probabilities of the model itself; counts, confidences and bins stay. As for the
bootstrap, every draw is a function of (seed, replicate, example id) alone, and sums over batches add.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration import bins as binning
from jaxreg.calibration.bins import ERRORS, Bins
from jaxreg.calibration.metrics import Sums
from jaxreg.checks import Arrays

# What is above 0 by noise alone. A difference within the `reach` of the floors is none.
SUMMED = "ece_classwise"
AFTER = ("", "_ts", "_vector_scaling", "_isotonic")
OF_VOTES = ("_human", "_human_ts")
FLOORS = {f"{name}{suffix}": f"{name}_floor{suffix}" for name in ERRORS for suffix in AFTER}
FLOORS |= {f"{n}{suffix}": f"{n}_floor{suffix}" for n, error in ERRORS.items() if error.votes for suffix in OF_VOTES}
ELSEWHERE = ("attacked_ece", "corruption_ece")  # errors under attack and corruption, named METRIC/WHERE
WAVED = 50  # draws for smECE at most: each takes as much as all bins together
LABELLED = 12  # draws for the classwise ECE: each looks at all classes; so many cells scatter little
FEWEST = 39  # draws that have a 2.5 % point: the smallest of them


def draw(uniform_BR: Shaped[Array, "B R"], confidence_B: Shaped[Array, " B"], mask_B: Shaped[Array, " B"]) -> Array:
    """Returns which examples are correct, 1 or 0 [B, R], where each is with probability its confidence."""
    return (uniform_BR < confidence_B[:, None]).astype(jnp.float32) * mask_B[:, None]


def binned(correct_BR: Shaped[Array, "B R"], width_BM: Shaped[Array, "B M"], mass_BM: Shaped[Array, "B M"]) -> Array:
    """Returns how many are correct [R, 2 M] in each bin, of equal width, then of equal mass; batches add."""
    both_B2M = jnp.concatenate([width_BM, mass_BM], -1)
    return jnp.matmul(correct_BR.T, both_B2M, precision=binning.EXACT)


def draw_classes(
    uniform_BR: Shaped[Array, "B R"], p_BK: Shaped[Array, "B K"], mask_B: Shaped[Array, " B"], bins: int
) -> Array:
    """Returns how many labels [R, K, M] fall on each class and bin of its p, drawn from all of `p_BK`; batches add.

    The label is the first class whose cumulative probability is beyond the uniform draw.
    """
    classes = p_BK.shape[-1]
    until_BK = jnp.matmul(p_BK, jnp.triu(jnp.ones((classes, classes))), precision=binning.EXACT)
    at_BR = uniform_BR * until_BK[:, -1:]
    label_BR = jnp.sum(until_BK[:, None, :-1] <= at_BR[..., None], -1, dtype=jnp.int32)
    place_BR = binning.place(jnp.take_along_axis(p_BK, label_BR, -1), bins)
    replicates = uniform_BR.shape[-1]
    nothing = jnp.zeros((replicates, classes, bins)) + mask_B[0] * 0
    return nothing.at[jnp.arange(replicates), label_BR, place_BR].add(mask_B[:, None])


def classwise(drawn_RKM: Shaped[Array, "R K M"], by_class: Bins, count: Array) -> Array:
    """Returns the classwise ECE [R] of draws of `draw_classes`; `by_class` [K, M] and count are those of the data."""
    return jnp.sum(jnp.abs(drawn_RKM - by_class.confidence[None]), (-2, -1)) / (drawn_RKM.shape[1] * count)


def of_bins(drawn_R2M: Shaped[Arrays, "R bins"], data: Sums) -> dict[str, Any]:
    """Returns the errors [R] of the draws of `binned`, by metric; `data` are the sums of the data themselves."""
    assert data.mass is not None  # `uncertainty.unpack` has both
    drawn = np.split(np.asarray(drawn_R2M), 2, axis=-1)
    both = (Bins(bins.count, bins.confidence, correct_RM) for bins, correct_RM in zip((data.width, data.mass), drawn))
    return binning.errors(*both)


def summary(drawn_R: Shaped[Arrays, " R"]) -> tuple[float, tuple[float, float]]:
    """Returns the mean, and (low, high), of drawn errors [R] >= 0: one more draw is within with 95 %.

    Low and high are the 2.5 and 97.5 % points of the draws, between the r-th smallest at r / (R + 1); of fewer draws
    than have such points mean -+ t sd sqrt(1 + 1 / R), t of R - 1 degrees of freedom.

    References: Hyndman and Fan, 1996, doi:10.2307/2684934, definition 6.
    """
    count, mean = len(drawn_R), float(np.mean(drawn_R))
    if count >= FEWEST:
        low, high = np.percentile(drawn_R, [2.5, 97.5], method="weibull")
        return mean, (float(low), float(high))
    reach = scipy.stats.t.ppf(0.975, count - 1) * np.std(drawn_R, ddof=1) * np.sqrt(1 + 1 / count)
    return mean, (max(mean - reach, 0.0), mean + reach)


def floor_of(metric: str) -> str:
    """The name of the noise floor of an error in results; empty for what has none."""
    name, where = metric.partition("/")[::2]
    return f"{name}_floor/{where}" if name in ELSEWHERE else FLOORS.get(metric, "")


def is_floor(metric: str) -> bool:
    """Whether that is the name of a noise floor."""
    return metric in FLOORS.values() or metric.startswith(tuple(f"{name}_floor/" for name in ELSEWHERE))


def ends(rows: pd.DataFrame, by: Sequence[str]) -> dict[tuple[str, ...], tuple[float, float]]:
    """The mean (low, high) of each noise floor in a results table, by (*by, its name); none where none was measured."""
    if "high" not in rows:
        return {}
    names = [name for name in rows["metric"].unique() if is_floor(name)]
    floors = rows[rows["metric"].isin(names) & rows["high"].notna()]
    means = floors.groupby([*by, "metric"], sort=False)[["low", "high"]].mean()
    return dict(zip(means.index, means.itertuples(index=False, name=None)))


def reach(metric: str, sides: Sequence[tuple[float, float]]) -> float:
    """How far apart noise may put the errors of settings whose floors are `sides`, (low, high) each; nan for none.

    The higher of the upper ends; of the classwise ECE, whose noise is a sum over all classes, high above 0 and narrow,
    from the lower of the lower ends to it.
    """
    high = max((high for _, high in sides), default=float("nan"))
    return high - min(low for low, _ in sides) if metric.startswith(SUMMED) and sides else high


def inside(difference: float, *reaches: float) -> bool:
    """True where a difference between errors is no larger than perfect models show: it is not to be called one.

    `reaches` are those of everything that was compared; NaN compares as inside.
    """
    return not abs(difference) > max(reaches)
