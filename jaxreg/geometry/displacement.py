"""Where an attack moves features: toward the origin, toward or away from the label's center, toward the rival's."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg import statistics
from jaxreg.arithmetic import single
from jaxreg.calibration.metrics import predicted
from jaxreg.checks import Arrays, check_heads, check_labels, stacked_features
from jaxreg.geometry import cosines
from jaxreg.measured import Measured, Row, mean_row
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel
from jaxreg.runtime.compiling import Effort
from jaxreg.runtime.passes import Placed, Tree, each, trial_groups

ADVERSARIAL = "adversarial"


@single
def measure_displacement(
    clean_TND: Arrays | Sequence[Arrays],
    attacked_TND: Arrays | Sequence[Arrays],
    labels_N: Shaped[Arrays, " N"],
    kernel_TDK: Shaped[Arrays, "T D K"],
    bias_TK: Shaped[Arrays, "T K"],
    centers_TKD: Shaped[Arrays, "T K D"],
    *,
    differs_TN: np.ndarray | None = None,
    called: str = ADVERSARIAL,
    split: str = "test",
    mesh: parallel.Mesh | None = None,
) -> list[Measured]:
    """Measures the change of features [T, N, D] under attack, with one compiled program for all trials.

    Args:
      clean_TND, attacked_TND: stacks, or sequences of arrays [N, D], one a trial, that may be read when asked for.
      centers_TKD: of the classes, as `probe.measure` finds them.
      differs_TN: whether the attacked image is another one than the clean one; by default whether its features are.
      called: what names begin with, where images were moved by something else than an attack.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
    Returns: for each trial rows of the means (with intervals) over the examples that are right without attack and whose
      adversary is another image: an attack leaves the others where they are. Among them `adversarial_radial_cosine` and
      the shares of `displacement`. Arrays [N] named SPLIT/METRIC, nan for the other examples, and which of them the
      means are over as SPLIT/adversarial_counted.
    Raises: ValueError: if shapes disagree, a label is no class, or a number is not finite.
    """
    trials, *shape = _shape_of_both(clean_TND, attacked_TND)
    heads = check_heads(kernel_TDK, bias_TK, (trials,), shape[1])
    labels = check_labels(split, labels_N, heads.bias.shape[1], count=shape[0])
    expected = (trials, heads.bias.shape[1], shape[1])
    if np.shape(centers_TKD) != expected:
        raise ValueError(f"centers must be [T, K, D] = {expected}, got {np.shape(centers_TKD)}.")
    centers = np.asarray(centers_TKD, np.float32)

    def read(group: range) -> Tree:
        moved = (stacked_features(split, features, group, tuple(shape)) for features in (clean_TND, attacked_TND))
        return *moved, *jax.tree.map(lambda a: a[group], (heads, centers))

    groups = trial_groups(trials, 2 * math.prod(shape) * 4, mesh)
    found = groups.results(_program(groups.mesh, groups.effort), read, parallel.put_shared(labels, groups.mesh))
    differs = [moved_N for _, _, moved_N in found] if differs_TN is None else differs_TN
    return [_measured(arrays, right_N & own_N, called, split) for (arrays, right_N, _), own_N in zip(found, differs)]


def _shape_of_both(*features: Arrays | Sequence[Arrays]) -> tuple[int, ...]:
    clean, attacked = ((len(of_trials), *np.shape(of_trials[0])) for of_trials in features)
    if len(clean) != 3 or clean != attacked:
        rule = f"clean and attacked features must be [T, N, D] both, got {clean} and {attacked}"
        raise ValueError(f"{rule}: attack the same examples.")
    return clean


def _measured(arrays: dict[str, np.ndarray], counted_N: np.ndarray, called: str, split: str) -> Measured:
    rows = [mean_row(split, f"{called}_{name}", array[counted_N]) for name, array in arrays.items()]
    saved = {name: np.where(counted_N, array, np.float32(np.nan)) for name, array in arrays.items()}
    saved |= {"counted": counted_N}
    return Measured(rows, {f"{split}/{called}_{name}": array for name, array in saved.items()})


@functools.lru_cache(maxsize=4)
def _program(mesh: parallel.Mesh, effort: Effort) -> Callable[..., Tree]:
    return parallel.per_trial(_measure_placed, mesh, "place", effort=effort)


def _measure_placed(stacks: tuple[Tree, Array], labels_N: Array) -> tuple[dict[str, Array], Array, Array]:
    """One of the trials whose stacks are given; its features are read where they lie.

    Returns: `displacement` [N], and which examples are right without attack, and have other features under it.
    """
    (clean_TND, attacked_TND, *rest), trial = stacks
    head, centers_KD = jax.tree.map(lambda a: a[trial], rest)

    def of_piece(clean_BD: Array, attacked_BD: Array, labels_B: Array) -> tuple[dict[str, Array], Array, Array]:
        with jax.default_matmul_precision("highest"):
            right_B = predicted(head.logits(clean_BD)) == labels_B
            found = displacement(clean_BD, attacked_BD, labels_B, head, centers_KD)
            return found, right_B, jnp.any(clean_BD != attacked_BD, -1)

    return each(of_piece, {"": (Placed(clean_TND, trial), Placed(attacked_TND, trial), labels_N)})[""]


def displacement(
    clean_ND: Shaped[Array, "N D"],
    attacked_ND: Shaped[Array, "N D"],
    labels_N: Shaped[Array, " N"],
    head: Head,
    centers_KD: Shaped[Array, "K D"],
) -> dict[str, Array]:
    """Splits d = h(x_adv) - h(x) of each example into orthogonal parts and angles: arrays [N].

    Radial: along -h. Label: along the label's center less its radial part. Rival: along the center of the strongest
    other class under attack, less the parts before. Rest: what remains. The four shares of |d|^2 sum to 1, or are 0 for
    an example that did not move. `_part` is the signed length in units of features. Angles in radians.
    References: Park, Kim, Lee, arXiv:2410.03999: "toward the origin" is a radial cosine near 1.
    """
    moved_ND = attacked_ND - clean_ND
    logits_NK = head.logits(attacked_ND)
    itself_NK = labels_N[:, None] == jnp.arange(logits_NK.shape[1])[None]
    rivals_N = jnp.argmax(jnp.where(itself_NK, -jnp.inf, logits_NK), 1)
    frame = _frame(-clean_ND, centers_KD[labels_N], centers_KD[rivals_N])
    parts = {name: jnp.sum(moved_ND * axis, 1) for name, axis in zip(("radial", "label", "rival"), frame)}
    energy_N = jnp.sum(moved_ND**2, 1)
    shares = {name: part**2 / jnp.where(energy_N > 0, energy_N, 1) for name, part in parts.items()}
    shares["rest"] = jnp.maximum(jnp.where(energy_N > 0, 1, 0) - sum(shares.values()), 0)
    own_ND = centers_KD[labels_N]
    return {
        "radial_cosine": cosines.cosine(moved_ND, -clean_ND),
        **{f"{name}_part": part for name, part in parts.items()},
        **{f"{name}_share": share for name, share in shares.items()},
        "norm_change": jnp.linalg.norm(attacked_ND, axis=1) - jnp.linalg.norm(clean_ND, axis=1),
        "turn": cosines.angle(clean_ND, attacked_ND),
        "center_turn": cosines.angle(attacked_ND, own_ND) - cosines.angle(clean_ND, own_ND),
    }


def relation(cosine_N: Shaped[np.ndarray, " N"], radius_N: Shaped[np.ndarray, " N"], split: str = "test") -> Row:
    """Spearman's correlation over examples of the cosine to the class center with the smallest radius that fools.

    Over those that are right without attack: the radius of the others is 0, whatever their cosine. nan for a constant.
    """
    right_N = radius_N > 0
    value = statistics.rank_correlation(cosine_N[right_N], radius_N[right_N])
    return Row(split, "cosine_radius_correlation", value, int(right_N.sum()))


def _frame(*directions: Array) -> list[Array]:
    """Orthonormal directions [N, D] by Gram-Schmidt, in order; zero where one adds nothing to those before it."""
    frame: list[Array] = []
    for direction in directions:
        length = jnp.linalg.norm(direction, axis=1, keepdims=True)
        for _ in range(2):  # once more: in float32 one pass leaves a rest
            for axis in frame:
                direction = direction - jnp.sum(direction * axis, 1, keepdims=True) * axis
        rest = jnp.linalg.norm(direction, axis=1, keepdims=True)
        frame.append(jnp.where(rest > 1e-5 * length, direction / jnp.where(rest > 0, rest, 1), 0))
    return frame
