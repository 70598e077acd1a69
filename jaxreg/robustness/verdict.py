"""The reliability verdict: what a robust accuracy is worth, with the number and the reason of every check."""

from collections.abc import Mapping
from typing import NamedTuple

WORDS = ("reliable", "suspect", "broken")


class Check(NamedTuple):
    """A number that must not exceed `limit`; what it means where it does (with {value} filled in as a text)."""

    limit: float
    word: str  # of the verdict where it fails
    means: str
    share: bool = True  # whether the number is a share of examples (shown in percent)


class FailedCheck(NamedTuple):
    """A check that failed, in plain words."""

    name: str
    value: float
    word: str
    reason: str


class Verdict(NamedTuple):
    """One of `WORDS`, the first reason for it (empty if reliable), and every failed check in the order of `CHECKS`."""

    word: str
    reason: str
    failed: tuple[FailedCheck, ...]


SHARE = 0.05  # of examples: what steps or another loss may still find
STANDING = 0.05  # of the examples left standing: what restarts may still find

# In the order of causes: a cause stands before the effects it has on later checks.
CHECKS: dict[str, Check] = {
    "probabilities": Check(
        0.5, "broken", "the model returns probabilities for {value} of the images: attacks need raw logits"
    ),
    "not_finite": Check(0.0, "broken", "logits of {value} of the images are no numbers"),
    "not_deterministic": Check(
        1e-4,
        "broken",
        "two passes over the same images differ by {value} of the largest logit: a random draw is left on",
    ),
    "batch_dependent": Check(
        1e-3, "broken", "logits change by {value} with the rest of their batch: dropout or batch statistics are left on"
    ),
    "input_quantised": Check(
        0.5, "broken", "tiny noise changes no logit of {value} of the images: the input is quantised, gradients mislead"
    ),
    "gradient_zero": Check(
        0.2, "broken", "the gradient of the margin is exactly 0 on {value} of the images: it is stopped on its way"
    ),
    "gradient_wrong": Check(
        0.3, "broken", "on {value} of the images the gradient is not the function's slope: it is masked or replaced"
    ),
    "ce_gradient_zero": Check(
        0.1,
        "broken",
        "the CE gradient is exactly 0 on {value} of the images: logits so large saturate float32, CE fails",
    ),
    "audit_excess": Check(1e-6, "broken", "an adversarial example leaves its ball by {value}", share=False),
    "audit_outside": Check(0.0, "broken", "an adversarial example leaves [0, 1] by {value}", share=False),
    "audit_mismatch": Check(0.0, "broken", "a fresh forward pass contradicts the mask of {value} of the examples"),
    "precision": Check(
        0.01, "suspect", "looked at again at the highest precision {value} of a mask turn: attack at a higher precision"
    ),
    "zero_radius": Check(
        0.0, "broken", "at radius 0 the mask differs from the clean prediction on {value} of the images"
    ),
    "large_radius": Check(
        SHARE, "broken", "{value} stay robust at a radius that holds every image: the attack does not work"
    ),
    "rises_with_radius": Check(SHARE, "suspect", "robust accuracy rises by {value} as the radius grows"),
    "black_box": Check(
        SHARE, "suspect", "Square, blind to gradients, breaks {value} of the examples that the gradient attacks left"
    ),
    "transfer": Check(
        SHARE, "suspect", "adversaries of another trial break {value} of the examples that withstood their own"
    ),
    "ce_overstates": Check(
        SHARE, "suspect", "the worst case is {value} below the CE attacks: the CE loss is flat, its numbers overstate"
    ),
    "steps": Check(SHARE, "suspect", "twice the steps break another {value} of the examples: it had not converged"),
    "restarts": Check(
        STANDING,
        "suspect",
        "restarts at every target break {value} of what the suite left standing: it overstates, take a stronger suite",
    ),
}


def judge(numbers: Mapping[str, float]) -> Verdict:
    """The verdict on the numbers of some or all `CHECKS`.

    Raises: ValueError: for a number that no check knows.
    """
    unknown = sorted(set(numbers) - set(CHECKS))
    if unknown:
        raise ValueError(f"Unknown checks {unknown}; known: {sorted(CHECKS)}.")
    failed = tuple(_failed(name, numbers[name]) for name in CHECKS if not numbers.get(name, 0) <= CHECKS[name].limit)
    word = max((f.word for f in failed), key=WORDS.index, default=WORDS[0])
    reason = next((f.reason for f in failed if f.word == word), "")
    return Verdict(word, reason, failed)


def _failed(name: str, value: float) -> FailedCheck:
    check = CHECKS[name]
    text = f"{100 * value:.3g} %" if check.share else f"{value:.3g}"
    return FailedCheck(name, value, check.word, check.means.format(value=text))
