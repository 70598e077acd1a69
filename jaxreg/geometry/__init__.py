"""The space before the last layer: norms, class centers, cones, margins, collapse, and what explains what.

Features h are the input of the last layer, `logits = h @ kernel_DK + bias_K`.

from jaxreg import geometry
geometry.measure_network(features, kernel, bias, labels).numbers    of one network: arrays [N, D], [D, K], [K] and [N]
geometry.cone(features, kernel, bias).breakpoint                    one measure alone, to be jitted as you like
geometry.measure(splits, kernels, biases)                           of many networks, with intervals and interventions

`splits` is {"train": Features(features, labels), ...}, features [T, N, D] of T networks, or a sequence of [N, D].
"""

from jaxreg.geometry.centers import max_margin_directions, minimal_loss_points
from jaxreg.geometry.collapse import effective_rank
from jaxreg.geometry.cones import cone, shrinkable
from jaxreg.geometry.cosines import angle, cosine
from jaxreg.geometry.displacement import measure_displacement
from jaxreg.geometry.interventions import turn_toward
from jaxreg.geometry.isotropic import random_features
from jaxreg.geometry.margins import angular_margin, logit_margin, rival_angles
from jaxreg.geometry.network import Network, measure_network, neural_collapse
from jaxreg.geometry.norms import class_means, common_mode, norm, rms
from jaxreg.geometry.over_training import measure_snapshots
from jaxreg.geometry.probe import Features, measure

__all__ = [
    "Features",
    "Network",
    "angle",
    "angular_margin",
    "class_means",
    "common_mode",
    "cone",
    "cosine",
    "effective_rank",
    "logit_margin",
    "max_margin_directions",
    "measure",
    "measure_displacement",
    "measure_network",
    "measure_snapshots",
    "minimal_loss_points",
    "neural_collapse",
    "norm",
    "random_features",
    "rival_angles",
    "rms",
    "shrinkable",
    "turn_toward",
]
