"""Geometry in float64 NumPy, one example at a time where a formula has a case: what the probe is compared with."""

import itertools

import numpy as np


def angle(a, b):
    """Of two vectors, by the arc cosine."""
    return np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))


def margin(h, kernel, bias, c):
    """The least turn of h, at its length, to a tie of class c with another; below 0 where c is not the largest."""
    r, found = np.linalg.norm(h), []
    for j in set(range(len(bias))) - {c}:
        v, beta = kernel[:, c] - kernel[:, j], bias[c] - bias[j]
        reach = r * np.linalg.norm(v)
        far = abs(beta) >= reach
        turn = np.pi * (1 if beta >= 0 else -1) if far else np.arccos(-beta / reach) - np.arccos(v @ h / reach)
        found.append(turn)
    return min(found)


def last_change(h, kernel, bias):
    """The largest t > 0 at which the prediction of t h changes, by the lines that cross the last one; or 0."""
    slopes = h @ kernel
    last = max(range(len(bias)), key=lambda k: (slopes[k], bias[k]))
    crossings = [(bias[j] - bias[last]) / (slopes[last] - slopes[j]) for j in range(len(bias)) if j != last]
    return max(0, *crossings)


def first_change(h, kernel, bias):
    """The t < 1, coming from 1, at which the prediction of t h changes, or 0: by all crossings of two lines below 1."""
    slopes = h @ kernel
    crossings = {1.0, 0.0}
    for i in range(len(bias)):
        for j in range(i):
            t = (bias[j] - bias[i]) / (slopes[i] - slopes[j])
            crossings |= {t} if 0 < t < 1 else set()
    ends = sorted(crossings)[::-1]
    for high, low in itertools.pairwise(ends):  # between two crossings nothing changes
        if np.argmax((high + low) / 2 * slopes + bias) != np.argmax(slopes + bias):
            return high
    return 0.0


def turned(h, center, by):
    """h turned toward the center by an angle, no further than onto it: the great circle through both, by sines."""
    whole = angle(h, center)
    by = min(by, whole)
    unit, goal = h / np.linalg.norm(h), center / np.linalg.norm(center)
    return np.linalg.norm(h) * (np.sin(whole - by) * unit + np.sin(by) * goal) / np.sin(whole)


def calibration(logits, labels):
    """ECE in 15 bins (l, u], NLL in nats, accuracy, mean confidence less accuracy."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    confidence, right = p.max(1), p.argmax(1) == labels
    place = np.clip(np.ceil(confidence * 15) - 1, 0, 14)
    ece = sum(abs(np.sum((right - confidence)[place == m])) for m in range(15)) / len(labels)
    means = {"accuracy": right.mean(), "confidence_gap": confidence.mean() - right.mean()}
    return {"ece": ece, "nll": -np.log(p[np.arange(len(labels)), labels]).mean(), **means}


def collapse(features, labels, kernel, predictions):
    """NC1-NC4 by their definitions in float64, S_B and S_W written out."""
    classes = labels.max() + 1
    means = np.stack([features[labels == k].mean(0) for k in range(classes)])
    spread = means - means.mean(0)
    between = spread.T @ spread / classes
    within = (features - means[labels]).T @ (features - means[labels]) / len(features)
    values, axes = np.linalg.eigh(between)
    top = np.argsort(values)[::-1][: classes - 1]
    inverse = axes[:, top] @ np.diag(1 / values[top]) @ axes[:, top].T
    lengths = np.linalg.norm(spread, axis=1)
    cosines = (spread / lengths[:, None]) @ (spread / lengths[:, None]).T
    off = cosines[~np.eye(classes, dtype=bool)]
    distances = np.linalg.norm(features[:, None] - means, axis=-1)
    covariance = np.cov(features.T, bias=True)
    share = np.linalg.eigvalsh(covariance) / np.trace(covariance)
    return {
        "nc1": np.trace(within @ inverse) / classes,
        "nc2_norm": lengths.std() / lengths.mean(),
        "nc2_angle": np.abs(off + 1 / (classes - 1)).mean(),
        "nc3": np.linalg.norm(kernel.T / np.linalg.norm(kernel) - spread / np.linalg.norm(spread)),
        "nc4": np.mean(distances.argmin(1) != predictions),
        "within_class_variance": np.trace(within),
        "within_class_share": np.trace(within) / (np.trace(within) + np.trace(between)),
        "effective_rank": np.exp(-np.sum(share * np.log(share))),
    }
