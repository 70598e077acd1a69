"""The confidence penalty: low entropy of the prediction costs."""

import jax
from jax import Array

from jaxreg.regularizers.regularizer import Hyper, Number, Regularizer, cross_entropy


def penalized(logits_BK: Array, targets_BK: Array, hyper: Hyper) -> Array:
    """CE(p, y') - beta H(p), H the entropy in nats: [B].

    References: Pereyra et al., 2017, https://arxiv.org/abs/1701.06548.
    """
    log_p_BK = jax.nn.log_softmax(logits_BK)
    entropy_B = -(jax.numpy.exp(log_p_BK) * log_p_BK).sum(-1)
    return cross_entropy(logits_BK, targets_BK, hyper) - hyper["beta"] * entropy_B


confidence_penalty = Regularizer(numbers={"beta": Number(0.1, "[0, inf)")}, loss=penalized)
