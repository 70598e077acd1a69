"""Does confidence separate right from wrong predictions? Risk against coverage (AURC), and AUROC."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration.ranking import Ranking, rank, running_total


def aurc(
    confidence_N: Shaped[Array, " N"],
    correct_N: Shaped[Array, " N"],
    mask_N: Shaped[Array, " N"],
    ranking: Ranking | None = None,
) -> Array:
    """Area under the risk-coverage curve: mean over n of the error rate among the n most confident, in [0, 1].

    Within a group of ties the expectation over their orders is taken, so the order of the examples changes nothing.
    `ranking` is the one of the confidences, where it is known already.

    References: Geifman, Uziel and El-Yaniv, 2019, https://arxiv.org/abs/1805.08206.
    """
    low_N, high_N, order_N = rank(confidence_N, mask_N) if ranking is None else ranking
    wrong_N = ((1 - correct_N) * mask_N)[order_N]
    errors = running_total(wrong_N)
    low_N, high_N = low_N[order_N], high_N[order_N]
    position_N = jnp.arange(len(wrong_N))
    share_N = (position_N - low_N) / jnp.maximum(high_N - low_N, 1)
    below_N = errors[low_N] + share_N * (errors[high_N] - errors[low_N])
    covered_N = jnp.sum(mask_N) - position_N
    risk_N = (errors[-1] - below_N) / jnp.maximum(covered_N, 1)
    return jnp.sum(jnp.where(covered_N > 0, risk_N, 0.0)) / jnp.sum(mask_N)


def auroc(
    confidence_N: Shaped[Array, " N"],
    correct_N: Shaped[Array, " N"],
    mask_N: Shaped[Array, " N"],
    ranking: Ranking | None = None,
) -> Array:
    """P(a correct prediction is more confident than a wrong one), ties half: in [0, 1]; NaN without both kinds.

    Ties are those of float32: confidences that differ in the eighth digit may be equal or not.

    The mean over wrong ones of the share of correct ones above them. (Sums of ranks, the usual form, are near N^2 / 2,
    and in float32 leave nothing of a few errors.)
    """
    low_N, high_N, order_N = rank(confidence_N, mask_N) if ranking is None else ranking
    right_N, wrong_N = correct_N * mask_N, (1 - correct_N) * mask_N
    rights = running_total(right_N[order_N])
    above_N = rights[-1] - (rights[low_N] + rights[high_N]) / 2
    return jnp.sum(wrong_N * (above_N / rights[-1])) / jnp.sum(wrong_N)


def influence(
    correct_N: Shaped[Array, " N"], mask_N: Shaped[Array, " N"], ranking: Ranking, risk: Array, area: Array
) -> Array:
    """Returns values [2, N] of examples whose means are AURC `risk` and AUROC `area`, and weighted means replicates.

    Each is the number plus the influence of the example on it: what weighting it more would change, to first order.
    AUROC: the share of the other kind that is on the right side of it; 0 where it is undefined. AURC: the area
    under the errors within a coverage t, over t. A group of ties from coverage a to b shares its errors evenly, each of
    them worth m, the mean of -ln t over (a, b]; an example moves b of its group, and a and b of all less confident.

    References: DeLong, DeLong and Clarke-Pearson, 1988, doi:10.2307/2531595, for AUROC.
    """
    low_N, high_N, order_N = ranking
    right_N, wrong_N = correct_N * mask_N, (1 - correct_N) * mask_N
    count, right, wrong = jnp.sum(mask_N), jnp.sum(right_N), jnp.sum(wrong_N)
    wrongs = running_total(wrong_N[order_N])
    below_N = (wrongs[low_N] + wrongs[high_N]) / 2  # ties half, as in AUROC
    ranks_below_N = (low_N + high_N) / 2.0
    beside_N = right_N / right * below_N / wrong + wrong_N / wrong * (1 - (ranks_below_N - below_N) / right)
    own = beside_N * count - area * (right_N * count / right + wrong_N * count / wrong - 1)
    auroc_N = jnp.where(right * wrong > 0, own, 0.0)
    moved_N = _moved(wrong_N, wrongs, ranking, count) * mask_N
    return jnp.stack([moved_N + risk - jnp.sum(moved_N) / count, auroc_N]) * mask_N[None]


def _moved(wrong_N: Array, wrongs: Array, ranking: Ranking, count: Array) -> Array:
    """The influence [N] on AURC of `count` examples, up to a constant; `wrongs`: running totals of wrong ones."""
    low_N, high_N, order_N = ranking
    size_N, until_N = jnp.maximum(high_N - low_N, 1) / count, jnp.maximum(count - low_N, 1) / count
    from_N = jnp.maximum(count - high_N, 0) / count
    steep_N = jnp.where(from_N > 0, jnp.log1p(size_N / jnp.where(from_N > 0, from_N, 1)) / size_N, 0)  # ln(b/a) / (b-a)
    slack_N = 1 - from_N * steep_N  # m + ln b, without cancellation
    own_group_N = (wrongs[high_N] - wrongs[low_N]) * slack_N / size_N
    others_N = running_total((wrong_N * steep_N)[order_N])[low_N]
    return wrong_N * (slack_N - jnp.log(until_N)) - (own_group_N + others_N) / count
