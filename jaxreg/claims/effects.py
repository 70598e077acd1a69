"""What a pair of settings differs by: the estimates that claims are judged on, and those shown beside them."""

import numpy as np

from jaxreg.claims.trials import Pair, Trials, Unmeasured, enough
from jaxreg.names import named, radius_texts
from jaxreg.statistics import Estimates, combined, influence

LEAST = 1e-9  # of a factor by which a feature can shrink: below it nothing changes the prediction
QUANTILE = 0.95


def mean(probe: str, name: str, pair: Pair) -> Estimates:
    """The difference of the means of a number of every test example."""
    return _mean(pair.own, probe, name) - _mean(pair.base, probe, name)


def log_mean(probe: str, name: str, pair: Pair) -> Estimates:
    """The logarithm of the ratio of the means."""
    own, base = (_log_mean(_finite(side.array(probe, name), name), name) for side in pair)
    return own - base


def _log_mean(values_SN: np.ndarray, name: str) -> Estimates:
    if not (values_SN.mean(1) > 0).all():
        raise Unmeasured(f"{name} is 0 in a trial")
    return influence.log_mean(values_SN)


def _mean(side: Trials, probe: str, name: str) -> Estimates:
    return influence.mean(_finite(side.array(probe, name), name))


def _finite(values_SN: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values_SN).all():
        raise Unmeasured(f"{name} could not be computed for {int((~np.isfinite(values_SN)).any(0).sum())} images")
    return values_SN


def cone(pair: Pair, control: str = "") -> Estimates:
    """log of the 95 % quantile of t* over that of random features of equal length; control "_bias10": of both with ten
    times the bias.
    """
    own, other = (
        influence.log_quantile(np.maximum(_finite(pair.own.array("geometry", name), name), LEAST), QUANTILE)
        for name in (f"test/t_star{control}", f"test/t_star_random{control}")
    )
    return own - other


def calibration(pair: Pair) -> Estimates:
    """The difference of the debiased calibration errors."""
    own, base = (
        influence.debiased_ece(side.array("calibration", "test/confidence"), side.array("calibration", "test/correct"))
        for side in pair
    )
    return own - base


def calibration_after(pair: Pair) -> Estimates:
    """The same, each at the temperature of its own validation split, whose examples count too."""
    own, base = (influence.tempered_ece(_tempered(side)) for side in pair)
    return own - base


def refinement(pair: Pair) -> Estimates:
    """The difference of the NLLs after temperature scaling: what no temperature can mend."""
    own, base = (influence.tempered_nll(_tempered(side)) for side in pair)
    return own - base


def _tempered(side: Trials) -> influence.Tempered:
    return influence.Tempered.fitted(*side.predicted("test"), *side.predicted("validation"))


def robust(pair: Pair, attack: str, radius: str) -> Estimates:
    """The difference of the shares of images that an attack of this radius leaves right."""
    return mean("robustness", named("robust", attack, radius), pair)


def robust_among_right(pair: Pair, radius: str) -> Estimates:
    """The same of the worst case, over images that are right without attack in both networks at every seed."""
    own_SN, base_SN = (side.array("robustness", named("robust", "worst", radius)) for side in pair)
    kept_N = enough(pair.right(own_SN.shape[1]))
    return influence.mean(own_SN[:, kept_N] - base_SN[:, kept_N])


def radius_of(pair: Pair) -> str:
    """The radius that is judged, as names spell it: of the config, else the first that was attacked.

    Raises: Unmeasured: if it was not attacked.
    """
    source = pair.own.source
    radii = source.array("robustness", pair.own.names[0], "radii")
    if radii is None:
        raise Unmeasured("no trial was attacked")
    texts, wanted = radius_texts(radii), source.spec.radius
    for text, radius in zip(texts, radii, strict=True):
        if radius > 0 and (not wanted or np.isclose(radius, wanted, rtol=1e-4)):
            return text
    raise Unmeasured(f"radius {wanted:g} was not attacked, only {', '.join(texts)}")


def gaps(pair: Pair) -> tuple[Estimates, Estimates]:
    """How far the soft label's confidence gap (confidence - accuracy) is from the baseline's: before, and after the
    baseline's features were given the soft label's mean norm. Both are counted in the direction of the first.
    """
    own, base = (_gap(side, "calibration", "confidence", "correct") for side in pair)
    swapped = _gap(pair.own, "geometry", "norm_swap_confidence", "norm_swap_correct")
    before, after = base - own, swapped - own
    sign = 1.0 if before.mean >= 0 else -1.0
    return before.scaled(sign), after.scaled(sign)


def _gap(side: Trials, probe: str, confidence: str, correct: str) -> Estimates:
    values_SN = side.array(probe, f"test/{confidence}") - side.array(probe, f"test/{correct}")
    return influence.mean(_finite(values_SN, confidence))


def half_closed(pair: Pair) -> list[Estimates]:
    """before / 2 - after and before / 2 + after: both above 0 where at least half of the distance is gone."""
    before, after = gaps(pair)
    return [combined((0.5, before), (-1.0, after)), combined((0.5, before), (1.0, after))]


def mechanism(pair: Pair, *given: str) -> Estimates:
    """The rank correlation of cosine and minimal radius over examples, given other numbers of theirs."""
    radius_SN = pair.own.array("robustness", "min_eps")
    count = radius_SN.shape[1]
    kept_N = enough(pair.right(count))
    far = 2 * np.max(radius_SN, initial=1.0, where=np.isfinite(radius_SN))
    names = ("test/center_cosine", *(f"test/{name}" for name in given))
    cosine_SN, *others = (_finite(pair.own.array("geometry", name)[:, :count][:, kept_N], name) for name in names)
    return influence.partial_rank(cosine_SN, np.where(np.isfinite(radius_SN), radius_SN, far)[:, kept_N], *others)


def moved(pair: Pair, name: str) -> list[Estimates]:
    """A number of the displacement under attack against that of the baseline, and of noise of the same length.

    Over images that are right without attack in both networks, and moved by every adversary, at every seed.
    """
    own, base = (side.array("displacement", f"test/adversarial_{name}") for side in pair)
    noise = pair.own.array("displacement", f"test/noise_{name}")
    kept_N = enough(np.isfinite(np.concatenate([own, base, noise])).all(0))
    return [influence.mean((own - other)[:, kept_N]) for other in (base, noise)]
