"""CLAIMS: each a sentence of the paper, the one number that judges it, and what is shown beside it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxreg.claims import effects
from jaxreg.claims.trials import Pair
from jaxreg.claims.words import CHANGE, COSINE, NATS, POINTS, TIMES, Quantity
from jaxreg.names import named
from jaxreg.robustness import verdict
from jaxreg.statistics import Estimates

Measure = Callable[[Pair], Estimates | Sequence[Estimates]]
WORST_CASE = [name for name in verdict.CHECKS if name != "ce_overstates"]  # checks that say something of it
HEADROOM = 2.0  # smallest effects that a baseline must err by
FAR = 0.01  # distance of confidence gaps below which there is nothing to close


class Beside(NamedTuple):
    """A number that is shown with its interval and never judged."""

    measure: Measure
    quantity: Quantity


class Claim(NamedTuple):
    """A sentence, the number that judges it and the direction that the sentence claims."""

    statement: str
    endpoint: str  # the number in words
    measure: Measure  # one, or several that must all lie on the claimed side
    quantity: Quantity
    direction: int  # +1: above 0 is as claimed
    figure: str
    bound: float = 0.0  # that the number must lie beyond, on the claimed side
    smallest: bool = True  # whether the config names the smallest effect that matters
    unjudged: Callable[[Pair], str] = lambda pair: ""  # a reason not to judge; "" for none
    beside: Mapping[str, Beside] = MappingProxyType({})
    of_all: bool = False  # about the baseline too, not about soft labels beside it


def _by_construction(pair: Pair) -> str:
    bare = pair.own.values("cone_by_construction", "train")
    return "true by construction: the last layer has no bias" if np.nanmax(np.append(bare, 0.0)) > 0 else ""


def _no_headroom(pair: Pair) -> str:
    wrong, least = 1 - float(np.mean(pair.base.values("accuracy"))), HEADROOM * pair.own.source.spec.accuracy
    told = (
        f"no headroom: the baseline errs on {100 * wrong:.2g} % of the test images, and {100 * least:.2g} % are needed"
    )
    return told if wrong < least else ""


def _nothing_to_close(pair: Pair) -> str:
    before = effects.gaps(pair)[0].mean
    return f"nothing to explain: confidence gaps lie {100 * before:.2g} points apart" if before < FAR else ""


def _unreliable(pair: Pair) -> str:
    """A broken attack, or suspect ones on most trials, and why; what says only of CE attacks is left out."""
    checks = {name: np.concatenate([side.values(named("verdict", name)) for side in pair]) for name in WORST_CASE}
    trials = len(pair.own.names) + len(pair.base.names)
    known = [{name: values[t] for name, values in checks.items() if not np.isnan(values[t])} for t in range(trials)]
    found = [verdict.judge(numbers) for numbers in known]
    doubted = [one for one in found if one.word != verdict.WORDS[0]]
    broken = [one for one in doubted if one.word == verdict.WORDS[-1]]
    if not broken and 2 * len(doubted) <= trials:
        return ""
    return f"the attack is unreliable in {len(doubted)} of {trials} trials: {(broken or doubted)[0].reason}"


def _worst(pair: Pair) -> Estimates:
    return effects.robust(pair, "worst", effects.radius_of(pair))


def _among_right(pair: Pair) -> Estimates:
    return effects.robust_among_right(pair, effects.radius_of(pair))


def _each(**numbers: tuple[Measure, Quantity]) -> Mapping[str, Beside]:
    return {name: Beside(*number) for name, number in numbers.items()}


_geometry, _calibration = partial(partial, effects.mean, "geometry"), partial(partial, effects.mean, "calibration")
_log_geometry = partial(partial, effects.log_mean, "geometry")
CLAIMS: Mapping[str, Claim] = {
    "norm": Claim(
        "soft labels shrink feature vectors",
        "the mean length of the features, as a ratio to the baseline's",
        _log_geometry("test/norm"),
        CHANGE,
        -1,
        "geometry",
        beside=_each(
            product_of_norms=(_log_geometry("test/weighted_norm"), CHANGE),
            centred_logit_norm=(_log_geometry("test/logit_norm"), CHANGE),
        ),
    ),
    "cosine": Claim(
        "soft labels turn features toward the center of their class, the point of least loss",
        "the mean cosine of the features to the center of their class, less the baseline's",
        _geometry("test/center_cosine"),
        COSINE,
        +1,
        "geometry",
        beside=_each(
            center_cosine_centred=(_geometry("test/center_cosine_centred"), COSINE),
            mean_cosine=(_geometry("test/mean_cosine"), COSINE),
            weight_cosine=(_geometry("test/weight_cosine"), COSINE),
        ),
    ),
    "cone": Claim(
        "decision regions are cones around the origin, with or without soft labels",
        "how far 95 % of the features can be shrunk before their prediction changes, as a ratio to the same of random "
        "features of equal length, against a half",
        effects.cone,
        TIMES,
        -1,
        "geometry",
        bound=float(np.log(0.5)),
        smallest=False,
        unjudged=_by_construction,
        beside=_each(ten_times_the_bias=(partial(effects.cone, control="_bias10"), TIMES)),
        of_all=True,
    ),
    "calibration_before": Claim(
        "soft labels are better calibrated, before temperature scaling",
        "the debiased calibration error, less the baseline's",
        effects.calibration,
        POINTS,
        -1,
        "reliability",
        beside=_each(nll=(_calibration("test/nll"), NATS), brier=(_calibration("test/brier"), COSINE)),
    ),
    "calibration_after": Claim(
        "soft labels are better calibrated, after temperature scaling",
        "the debiased calibration error after temperature scaling, less the baseline's",
        effects.calibration_after,
        POINTS,
        -1,
        "reliability",
        beside=_each(nll_ts=(effects.refinement, NATS), brier_ts=(_calibration("test/brier_ts"), COSINE)),
    ),
    "robustness": Claim(
        "soft labels are more robust to attacks",
        "the share of test images that the whole suite leaves right at the judged radius, less the baseline's",
        _worst,
        POINTS,
        +1,
        "robust_bars",
        unjudged=_unreliable,
        beside=_each(among_right=(_among_right, POINTS)),
    ),
    "temperature": Claim(
        "shrinking features acts as temperature scaling does: their length explains confidence",
        "what is left of half the distance between the confidence gaps when the baseline's features have the soft "
        "label's mean length",
        effects.half_closed,
        POINTS,
        +1,
        "scaling",
        smallest=False,
        unjudged=_nothing_to_close,
        beside=_each(
            distance_before=(lambda pair: effects.gaps(pair)[0], POINTS),
            distance_after=(lambda pair: effects.gaps(pair)[1], POINTS),
        ),
    ),
    "mechanism": Claim(
        "features nearer to their center are harder to attack",
        "the rank correlation, over images, of the cosine to the center with the smallest radius that fools, given the "
        "length of the features",
        lambda pair: effects.mechanism(pair, "norm"),
        COSINE,
        +1,
        "within",
        unjudged=_unreliable,
        beside=_each(
            raw=(effects.mechanism, COSINE),
            given_the_margin_too=(lambda pair: effects.mechanism(pair, "norm", "logit_margin"), COSINE),
        ),
    ),
    "origin": Claim(
        "attacks move the features of soft labels toward the origin",
        "the cosine of the way that features move with the way to the origin, less the baseline's, and less that of "
        "noise of the same length",
        lambda pair: effects.moved(pair, "radial_cosine"),
        COSINE,
        +1,
        "displacement",
        unjudged=_unreliable,
        beside=_each(
            change_of_length=(lambda pair: effects.moved(pair, "norm_change")[0], COSINE),
            change_of_length_beyond_noise=(lambda pair: effects.moved(pair, "norm_change")[1], COSINE),
        ),
    ),
    "accuracy": Claim(
        "soft labels are more accurate",
        "the share of test images that are right, less the baseline's",
        _calibration("test/correct"),
        POINTS,
        +1,
        "seeds",
        unjudged=_no_headroom,
    ),
}
