"""Logits and labels that are drawn, and the softmax in float64."""

import numpy as np


def draw(seed, size, classes=5, scale=2.0, temperature=1.0):
    """Logits [N, K], and labels drawn from softmax(logits / temperature)."""
    random = np.random.default_rng(seed)
    logits = (scale * random.normal(size=(size, classes))).astype(np.float32)
    gumbel = random.gumbel(size=logits.shape)
    return logits, np.argmax(logits / temperature + gumbel, -1).astype(np.int32)


def softmax(logits):
    """In float64."""
    wide = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return wide / wide.sum(-1, keepdims=True)
