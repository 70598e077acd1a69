"""What an attack is to the loop that runs it: a start and a step, both of one row of the queue in each slot."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Tree = Any
Logits = Callable[[Array], Array]


class AttackNumbers(NamedTuple):
    """The numbers of an attack, traced: attacks that differ only here share one program."""

    loss: Array | int  # place in LOSSES
    steps: Array | int
    step_size: Array | float  # in units of the radius
    random_start: Array | float  # 1: from a random point, 0: from the clean image
    adaptive: Array | float = 0.0  # 1: momentum, and a step that is halved where progress stalls
    targets: Array | int = 0  # 0: untargeted
    passes: Array | int = 1  # restarts times targets
    early_exit: Array | bool = True  # False: nothing is skipped, and every row runs to its end
    first_target: Array | int = 0  # the rank of the wrong class that the first pass aims at
    highest: Array | bool = False  # True: gradient ascent to the point of the highest loss; nothing counts as fooled

    @property
    def evaluations(self) -> Array | int:
        """Points that one pass looks at: its start, and one after each step."""
        return self.steps + 1


class QueueRow(NamedTuple):
    """What each slot works on: one example at one radius in one pass."""

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

    start: Callable[[QueueRow, AttackNumbers], Tree]
    step: Callable[[Logits, QueueRow, Tree, Array, AttackNumbers], Step]  # (logits_fn, row, state, k_B, numbers)
    look: Callable[[Logits, QueueRow, Tree], tuple[Array, Array]] | None = None
