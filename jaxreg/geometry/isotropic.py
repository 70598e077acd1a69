"""What any feature of the same length would show: the measures of cones on random directions."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg import rng
from jaxreg.arithmetic import standard
from jaxreg.geometry import cones
from jaxreg.models.functional import Head
from jaxreg.runtime.passes import each


@standard
def random_features(
    norm_N: Shaped[Array, " N"], key_ids_N: Shaped[Array, " N"], seed: Array | int, width: int
) -> Shaped[Array, "N D"]:
    """Features of given lengths in uniform directions, each a function of the seed and its example's id alone.

    A normal vector over its length. At one seed the directions are the same for every trial.
    """
    keys_N = rng.example_keys(rng.key_of(seed, rng.Stream.RANDOM_FEATURE), key_ids_N)
    drawn_ND = jax.vmap(lambda key: jax.random.normal(key, (width,)))(keys_N)
    return norm_N[:, None] * drawn_ND / jnp.linalg.norm(drawn_ND, axis=1, keepdims=True)


def measure_trial(
    trial: tuple[Shaped[Array, " N"], Head, Array], key_ids_N: Shaped[Array, " N"]
) -> Mapping[str, Array]:
    """`shrinkable` of random features with the lengths of a trial's own: arrays [N], `t_star_random` and so on."""
    norm_N, head, seed = trial
    width = head.kernel.shape[0]

    def of_piece(norm_B: Array, ids_B: Array) -> dict[str, Array]:
        drawn_BD = random_features(norm_B, ids_B, seed, width)
        return {
            "t_star_random": cones.shrinkable(drawn_BD, *head),
            "t_star_random_bias10": cones.shrinkable(drawn_BD, head.kernel, cones.MORE_BIAS * head.bias),
        }

    return each(of_piece, {"": (norm_N, key_ids_N)})[""]
