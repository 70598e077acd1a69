"""The REGULARIZERS table, and sums of its entries such as `mixup+label_smoothing`."""

from collections.abc import Mapping

from jaxreg.regularizers import confidence_penalty, cutmix, label_smoothing, mixup, mixup_cutmix
from jaxreg.regularizers.regularizer import Hyper, Mix, Number, Regularizer

__all__ = [
    "REGULARIZERS",
    "Hyper",
    "Mix",
    "Number",
    "Regularizer",
    "complete",
    "compose",
    "has_floor",
    "is_soft",
    "smoothing_of",
]

REGULARIZERS: Mapping[str, Regularizer] = {
    "none": Regularizer(),
    "label_smoothing": label_smoothing.label_smoothing,
    "mixup": mixup.mixup,
    "cutmix": cutmix.cutmix,
    "mixup_cutmix": mixup_cutmix.mixup_cutmix,
    "confidence_penalty": confidence_penalty.confidence_penalty,
}

_IDLE = Regularizer()


def compose(name: str) -> Regularizer:
    """The regularizer called `name`, or the sum of several: each part may bring one of mix, soften and loss.

    Raises: ValueError: if a part is unknown, or two parts bring the same kind of function or hyperparameter.
    """
    whole = _IDLE
    for part in name.split("+"):
        if part not in REGULARIZERS:
            raise ValueError(f"Unknown regularizer {part!r}; known: {sorted(REGULARIZERS)}, and sums with '+'.")
        whole = _join(name, whole, REGULARIZERS[part])
    return whole


def _join(name: str, left: Regularizer, right: Regularizer) -> Regularizer:
    fields = {}
    for kind in ("mix", "soften", "loss"):
        mine, theirs, idle = (getattr(r, kind) for r in (left, right, _IDLE))
        if mine is not idle and theirs is not idle:
            raise ValueError(f"regularizer {name!r} has two parts that {kind}; a sum takes one of each kind.")
        fields[kind] = theirs if mine is idle else mine
    both = sorted(left.numbers.keys() & right.numbers.keys())
    if both:
        raise ValueError(f"regularizer {name!r} has two parts with a hyperparameter {both[0]!r}: rename one of them.")
    smoothing = left.smoothing or right.smoothing
    return Regularizer(numbers={**left.numbers, **right.numbers}, smoothing=smoothing, **fields)


def is_soft(name: str) -> bool:
    """Whether the regularizer, or a part of the sum, trains on soft labels: it mixes examples or softens targets.

    An unknown part, of results that another version left, counts as one that does not.
    """
    parts = [REGULARIZERS.get(part, _IDLE) for part in name.split("+")]
    return any(part.mix is not _IDLE.mix or part.soften is not _IDLE.soften for part in parts)


def smoothing_of(name: str, hyper: Mapping[str, float]) -> float | None:
    """The epsilon of the targets (1 - epsilon) y + epsilon / K that unmixed labels become; None for another form."""
    whole = compose(name)
    if whole.soften is _IDLE.soften:
        return 0.0
    return None if whole.smoothing is None else float(whole.smoothing(hyper))


def has_floor(name: str) -> bool:
    """Whether the loss is the cross-entropy to a known target of the label alone, whose entropy is then its floor."""
    whole = compose(name)
    known = whole.soften is _IDLE.soften or whole.smoothing is not None
    return known and whole.mix is _IDLE.mix and whole.loss is _IDLE.loss


def complete(name: str, given: Mapping[str, float]) -> dict[str, float]:
    """All hyperparameters of the regularizer `name`: those `given`, checked, and defaults for the rest.

    Raises: ValueError: if one is unknown or out of its interval.
    """
    numbers = compose(name).numbers
    for key, value in given.items():
        if key not in numbers:
            raise ValueError(f"regularizer {name!r} has no hyperparameter {key!r}; it has {sorted(numbers)}.")
        if not isinstance(value, int | float) or not numbers[key].contains(float(value)):
            raise ValueError(f"{key} of {name!r} must be in {numbers[key].interval}, got {value!r}.")
    return {key: float(given.get(key, number.default)) for key, number in sorted(numbers.items())}
