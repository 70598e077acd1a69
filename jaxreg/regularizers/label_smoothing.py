"""Label smoothing: part of each target goes to all classes alike."""

from jax import Array

from jaxreg.regularizers.regularizer import Hyper, Number, Regularizer


def smooth(targets_BK: Array, hyper: Hyper) -> Array:
    """Mixes targets with the uniform distribution over all K classes, the label's own included.

    y'_k = (1 - epsilon) y_k + epsilon / K, so CE(p, y') = CE(p, y) + epsilon (z_y - mean z). Spreading epsilon' over
    the other K-1 classes instead is the same with epsilon' = epsilon (K-1) / K.

    References: Szegedy et al., 2016, https://arxiv.org/abs/1512.00567, section 7.
    """
    epsilon = hyper["epsilon"]
    return (1 - epsilon) * targets_BK + epsilon / targets_BK.shape[-1]


label_smoothing = Regularizer(
    numbers={"epsilon": Number(0.1, "[0, 1)")}, soften=smooth, smoothing=lambda hyper: hyper["epsilon"]
)
