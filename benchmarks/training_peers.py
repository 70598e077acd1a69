"""What benchmarks/training.py compares with: the same training in PyTorch, one network after another."""

import math

import jax
import numpy as np
import torch
from stages import torch_training
from torch.nn.functional import cross_entropy, one_hot

LAYOUTS = {"torch": torch.contiguous_format, "torch, channels_last": torch.channels_last}


class Peer:
    """One trial: jaxreg's network, weights, optimizer, schedule and regularizer."""

    def __init__(self, trial, place, params, stats, dataset, layout):
        own = [jax.tree.map(lambda a: np.asarray(a)[place : place + 1], tree) for tree in (params, stats)]
        network = torch_training.as_torch(*own, dataset, trial.model.name)
        self.network = network.train().requires_grad_(True).to(memory_format=layout)
        self.regularizer, self.layout, numbers = trial.regularizer, layout, trial.optimizer
        kernels = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim < 2]
        groups = [{"params": kernels, "weight_decay": numbers.weight_decay}, {"params": others, "weight_decay": 0.0}]
        how = {"lr": numbers.learning_rate, "momentum": numbers.momentum, "nesterov": numbers.nesterov}
        self.optimizer = torch.optim.SGD(groups, **how)
        share = lambda step: 0.5 * (1 + math.cos(math.pi * min(step / trial.steps, 1)))  # noqa: E731
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, share)

    def step(self, x, targets):
        """Trains on a mixed batch; the loss."""
        self.optimizer.zero_grad()
        loss = cross_entropy(self.network(x.to(memory_format=self.layout)), targets)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def epoch(self, images, labels, size):
        """Trains on each image once, mixed by the trial's regularizer."""
        order = torch.randperm(len(images))
        for first in range(0, len(images) - size + 1, size):
            rows = order[first : first + size]
            self.step(*mixed(self.regularizer, images[rows], one_hot(labels[rows], 10).float()))

    @torch.no_grad()
    def predict(self, images):
        """Logits and features in evaluation mode."""
        seen = []
        hook = self.network.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        logits = self.network.eval()(images.to(memory_format=self.layout))
        hook.remove()
        return logits, seen[0]


def mixed(regularizer, x, targets):
    """What jaxreg does to a batch, with PyTorch's random numbers: every example has a weight of its own."""
    numbers, count = dict(regularizer.hyperparameters), len(x)
    if regularizer.name == "label_smoothing":
        return x, (1 - numbers["epsilon"]) * targets + numbers["epsilon"] / targets.shape[1]
    if regularizer.name == "none":
        return x, targets
    weight = torch.distributions.Beta(numbers["alpha"], numbers["alpha"]).sample((count,))
    partner = torch.randperm(count)
    mask = weight.view(-1, 1, 1, 1)
    if regularizer.name == "cutmix":
        mask = outside(weight, x.shape[2:])
        weight = mask.mean((1, 2, 3))
    share = weight[:, None]
    return mask * x + (1 - mask) * x[partner], share * targets + (1 - share) * targets[partner]


def outside(weight, shape):
    """1 outside of a box that leaves about `weight` of each image, 0 inside: [B, 1, H, W]."""
    sides = []
    for size in shape:
        half = (torch.sqrt(1 - weight) * size).int() // 2
        center, pixel = torch.randint(0, size, weight.shape), torch.arange(size)[None]
        sides.append((pixel >= (center - half)[:, None]) & (pixel < (center + half)[:, None]))
    return 1 - (sides[0][:, :, None] & sides[1][:, None, :])[:, None].float()


def images_of(split, scale):
    """NCHW in [0, 1], and labels."""
    images = np.asarray(split.images, np.float32).transpose(0, 3, 1, 2) / np.float32(scale)
    return torch.tensor(images), torch.tensor(np.asarray(split.labels)).long()


def measured(peer, images, labels, radius, attack):
    """Accuracy, ECE and robust accuracy of a network by torchmetrics and torchattacks; features are computed too."""
    import torchattacks
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, _ = peer.predict(images)
    error = multiclass_calibration_error(logits.softmax(1), labels, logits.shape[1], n_bins=15, norm="l1")
    how = {"eps": radius, "alpha": attack.step_size * radius, "steps": attack.steps, "random_start": True}
    attacked = torchattacks.PGD(peer.network, **how)(images, labels)
    with torch.no_grad():
        robust = (peer.network(attacked).argmax(1) == labels).float().mean()
    return {
        "accuracy": float((logits.argmax(1) == labels).float().mean()),
        "ece": float(error),
        "robust": float(robust),
    }
