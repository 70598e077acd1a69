"""Does length explain calibration, and direction the margin? Give those of another trial to a baseline.

The two trials share a seed: `baseline` is the one without a regularizer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.arithmetic import standard
from jaxreg.calibration import metrics
from jaxreg.geometry import cosines, margins, scaling
from jaxreg.models.functional import Head
from jaxreg.runtime.passes import Placed, Rows, Tree, each, total


class Change(NamedTuple):
    """What the baseline is given: its features times `scale`, or turned by `turn` radians toward their centers."""

    scale: Array
    turn: Array


@standard
def turn_toward(
    features_ND: Shaped[Array, "N D"], centers_ND: Shaped[Array, "N D"], turn: Array | float
) -> Shaped[Array, "N D"]:
    """Turns each h toward its center by `turn` radians (away below 0) at its own length; at most onto the center.

    In the plane of h and c: |h| (cos(t) h/|h| + sin(t) e), e the unit part of c orthogonal to h, t = min(turn, angle).
    """
    length_N1 = jnp.linalg.norm(features_ND, axis=1, keepdims=True)
    unit_ND = features_ND / jnp.where(length_N1 > 0, length_N1, 1)
    aside_ND = centers_ND - jnp.sum(centers_ND * unit_ND, 1, keepdims=True) * unit_ND
    aside_N1 = jnp.linalg.norm(aside_ND, axis=1, keepdims=True)
    angle_N1 = jnp.minimum(turn, cosines.angle(features_ND, centers_ND))[:, None]
    across_ND = aside_ND / jnp.where(aside_N1 > 0, aside_N1, 1)
    return length_N1 * (jnp.cos(angle_N1) * unit_ND + jnp.sin(angle_N1) * across_ND)


def intervene(
    features_ND: Rows, labels_N: Shaped[Array, " N"], head: Head, centers_KD: Shaped[Array, "K D"], change: Change
) -> dict[str, Array]:
    """ECE, NLL, accuracy, confidence gap and mean signed label margin of the baseline, changed in two ways.

    Returns: scalars `norm_swap_METRIC` at another length, and `turn_METRIC` in another direction.
    """
    head, centers_KD = Head(*map(jnp.asarray, head)), jnp.asarray(centers_KD)  # NumPy's take no traced label as index
    apart_KK = margins.distances(head.kernel)

    def sums(counts_B: Array, features_BD: Array, labels_B: Array) -> tuple[scaling.Sums, Array]:
        turned_BD = turn_toward(features_BD, centers_KD[labels_B], change.turn)

        def one(changed_BD: Array) -> tuple[scaling.Sums, Array]:
            margins_B = margins.angular_margin(changed_BD, *head, labels_B, apart_KK)
            logits_BK = head.logits(changed_BD)
            return scaling.sums_of(counts_B, logits_BK, labels_B), jnp.sum(counts_B * margins_B)

        return jax.lax.map(one, jnp.stack([change.scale * features_BD, turned_BD]))

    calibrated, margin_2 = total(sums, features_ND, labels_N)
    both = scaling.calibration(calibrated) | {"margin": margin_2 / len(labels_N)}
    return {f"{done}_{name}": value[i] for i, done in enumerate(("norm_swap", "turn")) for name, value in both.items()}


def swapped(features_ND: Rows, labels_N: Shaped[Array, " N"], head: Head, scale: Array) -> dict[str, Array]:
    """Each example of the baseline at another length: `norm_swap_confidence` and `norm_swap_correct` [N]."""

    def of_piece(features_BD: Array, labels_B: Array) -> dict[str, Array]:
        each_B = metrics.examples(head.logits(scale * features_BD), labels_B)
        return {"norm_swap_confidence": each_B.confidence, "norm_swap_correct": each_B.correct > 0}

    return each(of_piece, {"": (features_ND, labels_N)})[""]


def measure_placed(
    stacks: tuple[Tree, Array], labels_N: Shaped[Array, " N"]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`intervene` and `swapped` on one of the baselines whose stacks are given, read where they lie."""
    (features_TND, *rest), trial = stacks
    head, centers_KD, change = jax.tree.map(lambda a: a[trial], rest)
    with jax.default_matmul_precision("highest"):
        features_ND = Placed(features_TND, trial)
        found = intervene(features_ND, labels_N, head, centers_KD, change)
        return found, swapped(features_ND, labels_N, head, change.scale)


def share_closed(before: float, after: float, goal: float, noise: float) -> float:
    """(before - after) / (before - goal): the share of a gap that an intervention closes; nan below `noise`."""
    gap = before - goal
    return (before - after) / gap if abs(gap) > noise else float("nan")
