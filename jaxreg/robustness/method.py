"""What an attack is to the loop that runs it: a start and a step, both of one row a slot."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Tree = Any
Logits = Callable[[Array], Array]
WRONG = -1.0  # the radius that "fools" an example misclassified without any attack


class Settings(NamedTuple):
    """The numbers of an attack, traced: attacks that differ only here share one program."""

    loss: Array | int  # place in LOSSES
    steps: Array | int
    step_size: Array | float  # in units of the radius
    random_start: Array | float  # 1: from a random point, 0: from the clean image
    adaptive: Array | float = 0.0  # 1: momentum, and a step that is halved where progress stalls


class Examples(NamedTuple):
    """What is attacked. `targets_NP`: the class pass p aims at. `broken_N`: smallest radius known to fool, or inf.

    `starts_NHWC`: where a search for minimal radii begins, if not at the images.
    """

    images_NHWC: Array
    labels_N: Array
    keys_NP: Array  # one for each pass
    targets_NP: Array
    broken_N: Array
    starts_NHWC: Array | None = None


class Row(NamedTuple):
    """What one slot works on."""

    clean_BHWC: Array
    label_B: Array
    target_B: Array
    eps_B: Array
    key_B: Array
    start_BHWC: Array | None = None


class Step(NamedTuple):
    """One evaluation: the state with the next point, the point looked at, whether it is misclassified.

    `over_B`, where a method sets it: there is nothing left to look for.
    """

    state: Tree
    x_BHWC: Array
    fooled_B: Array
    over_B: Array | None = None


class Method(NamedTuple):
    """An attack's start and its step; all state is per slot, first axis B, derived from the row.

    `look`, where a step costs more: the point looked at and whether it is misclassified, for the last evaluation.
    """

    start: Callable[[Row, Settings], Tree]
    step: Callable[[Logits, Row, Tree, Array, Settings], Step]  # (logits_fn, row, state, k_B, settings)
    look: Callable[[Logits, Row, Tree], tuple[Array, Array]] | None = None
