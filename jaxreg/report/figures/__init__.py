"""The figures of a report: one table of makers."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import matplotlib
from etils import epath
from matplotlib.figure import Figure

from jaxreg.report.data import StudyData
from jaxreg.report.figures import (
    attacked,
    calibration,
    corruptions,
    counts,
    curves,
    displacement,
    geometry,
    maps,
    mechanism,
    over_training,
    radii,
    robustness,
    scaling,
    seeds,
    within,
)
from jaxreg.report.figures.printer import Printer, uncollected
from jaxreg.report.palette import STYLE


class Maker(NamedTuple):
    """A figure of a section: `make` returns None where its data are missing; `caption` says how to read it."""

    section: str
    make: Callable[[StudyData], Figure | None]
    caption: str
    told: counts.Told = counts.counts  # the sentence behind it, on how many trials and examples the figure stands


FIGURES = {
    "seeds": Maker(
        "accuracy",
        seeds.figure,
        "Accuracy, NLL and ECE of every trial: a dot is a seed, a bar the mean of its setting. T: after "
        "temperature scaling fitted on validation. Grey: the 95 % range of the ECE that a perfectly calibrated network "
        "would show on so few examples; ≈: the difference to the baseline lies inside it. What is smaller than the "
        "spread of the dots is no difference either.",
    ),
    "reliability": Maker(
        "accuracy",
        calibration.reliability,
        "Reliability diagrams, seeds pooled. Circles: accuracy in 15 equal-width bins of confidence, their area the "
        "share of examples. Lines: the same without bins, before temperature scaling with its 95 % band over examples, "
        "and after it. On the diagonal confidence is deserved, below it the network is over-confident, above it "
        "under-confident. Below: the share of the predictions of all seeds together that have which confidence, before "
        "(filled, with their number) and after (dashed).",
    ),
    "confidence": Maker(
        "accuracy",
        calibration.histograms,
        "How many right and how many wrong predictions have which confidence, before temperature scaling, seeds "
        "pooled; the scale is logarithmic from one prediction upwards.",
    ),
    "ece_accuracy": Maker(
        "accuracy",
        calibration.ece_against_accuracy,
        "ECE against accuracy, before and after temperature scaling: small marks are seeds, large ones the mean of "
        "their setting. Dashes: the upper end of the 95 % range of the ECE that a perfectly calibrated network with "
        "the confidences of this setting shows at this n; open marks: the difference to the baseline lies inside it.",
    ),
    "robust_bars": Maker(
        "robustness",
        robustness.bars,
        "Accuracy without attack and under each attack at radius eps (input range [0, 1]): bars are means, dots "
        "are seeds. An example counts as robust only if it is right and no step of the attack fools it; 'worst' "
        "takes the worst of all attacks for each example.",
        told=counts.parts(clean="accuracy$", under_attack="robust_accuracy/"),
    ),
    "robust_curves": Maker(
        "robustness",
        robustness.curves,
        "Robust accuracy against the radius of the attack: mean over seeds, in a band from the lowest to the "
        "highest seed. A curve that does not fall to 0 at a large radius is a sign of a failing attack, not of "
        "robustness.",
        told=counts.over("robust_accuracy/"),
    ),
    "radii": Maker(
        "robustness",
        radii.curves,
        "The whole robustness curve, from the smallest radius that was seen to fool each example: mean over seeds, in "
        "a band from the lowest to the highest seed.",
        told=counts.over("min_eps"),
    ),
    "radii_histogram": Maker(
        "robustness",
        radii.histograms,
        "How many examples fall at which radius, seeds pooled.",
        told=counts.over("min_eps"),
    ),
    "attacked": Maker(
        "robustness",
        attacked.figure,
        "Calibration at the points where PGD on the cross-entropy, run to its end and not only until it fools, found "
        "the highest loss within each radius; raw logits, all examples; 0: clean images. A network that is fooled and "
        "stays sure has a large gap between its confidence and its accuracy. Means over seeds, in a band from the "
        "lowest to the highest seed. Dashes: the upper end of the 95 % range of the ECE that a perfectly calibrated "
        "network with these confidences shows at this n; open marks: the difference to the baseline lies inside it.",
        told=counts.parts(clean="ece$", under_attack="attacked_ece"),
    ),
    "corruptions": Maker(
        "robustness",
        corruptions.figure,
        "Accuracy and ECE (raw logits) on corrupted test images, by family, mean over the severities measured: dots "
        "are seeds, bars their mean. Thin dashes: the upper end of the 95 % range of the ECE that a perfectly "
        "calibrated network with these confidences shows at this n, mean over severities; ≈: the difference to the "
        "baseline lies inside it.",
        told=counts.over("corruption_accuracy/"),
    ),
    "geometry": Maker(
        "geometry",
        geometry.histograms,
        "Features before the last layer, as densities over examples with seeds pooled; thin vertical lines are "
        "means. Norm: the length of the feature. Cosine: between the feature and the point of least loss for its "
        "label (1 where it points straight at the center); a feature that is zero has none.",
        told=counts.over("feature_norm$"),
    ),
    "maps": Maker(
        "geometry",
        maps.figure,
        "Decision regions on planes of the space of features, of the first seed of each setting whose features are not "
        "all zero, every row on one scale: through the origin and two class centers; through three centers; along the "
        "two directions of most variance; through the origin in random directions. Colours are predicted classes, "
        "paler where the network is less sure; arrows point up the slope of the loss of the predicted class, where an "
        "attack pushes. Regions that are cones meet at the origin. Dots are examples of the plane's classes, "
        "projected. From class 10 on colours come again: numbers tell regions, markers tell examples apart.",
        told=counts.maps,
    ),
    "over_training": Maker(
        "geometry",
        over_training.figure,
        "How the geometry of un-augmented train images comes about: mean over seeds, in a band from the lowest to the "
        "highest seed. Cone fraction: share of examples whose prediction is final along their ray; t*: where along the "
        "ray it becomes final (1 is the feature itself, 0 the origin). A last layer whose bias is still zero, as at "
        "step 0, has cones by construction: fraction 1, t* 0. NC: neural collapse, 0 when complete.",
        told=counts.over("over_training/"),
    ),
    "maps_over_training": Maker(
        "geometry",
        maps.over_training,
        "Decision regions on the plane through the origin and the centers of classes 0 and 1 at steps of the training "
        "of one seed of each setting, drawn as above, with train images. Maps of one step have one scale, so that "
        "settings compare; each step has its own, told by its ticks. Where the bias is zero, as at step 0, regions "
        "are cones by construction.",
        told=counts.maps,
    ),
    "scaling": Maker(
        "geometry",
        scaling.figure,
        "Calibration of features times s, mean over seeds in a band from the lowest to the highest seed; dotted: "
        "logits times s, which is temperature 1/s. Where the two lie on each other, shrinking features is temperature "
        "scaling. Markers: each trial's best s for NLL on validation, where it lies within the scale; open ones on its "
        "edge: the search ended at its bracket, because validation has no mistake to learn from.",
    ),
    "displacement": Maker(
        "geometry",
        displacement.figure,
        "Where the worst attack moved features h (d: the displacement), of examples that are right without attack and "
        "whose image it changed. Left: the share of |d|² along the ray to the origin, along the label's center, along "
        "the center of the strongest rival (each less the ones before), and the rest. Middle: the same with their "
        "sign, in % of the mean norm of the same examples. Bars are means, dots are seeds. Right: the mean path of PGD "
        "on the first test images, mistakes included, from the clean images (open) to its last step (filled), thin "
        "lines are seeds; left is toward the origin, up is away from the label's center.",
        told=displacement.told,
    ),
    "mechanism": Maker(
        "geometry",
        mechanism.figure,
        "What goes with what over trials: robust accuracy against the mean cosine to the class center, ECE before "
        "temperature scaling against the mean norm over the root of the width. Dots are seeds, rings the mean of their "
        "setting, dashes the upper end of the noise floor of its ECE. Seeds of one setting lie together for many "
        "reasons: a relation between settings is not one within them.",
        told=counts.parts(clean="(?:center_cosine|feature_norm|ece)$", under_attack="robust_accuracy/"),
    ),
    "within": Maker(
        "geometry",
        within.figure,
        "What goes with what within a trial: the rank correlation, over its attacked examples that are right without "
        "attack, between the cosine to the label's center and the smallest radius that was seen to fool the example "
        "(above 0: the nearer to its center, the harder to fool). Small dots are trials; open marks the mean of their "
        "setting, lines its 95 % interval (t over trials).",
        told=counts.over("min_eps"),
    ),
    "curves": Maker(
        "training",
        curves.figure,
        "Training: mean over seeds, in a band from the lowest to the highest seed. Losses of different "
        "regularizers have different floors and must not be compared; accuracy under mixing is measured on the "
        "dominant label.",
        told=counts.over(""),
    ),
}


class Drawn(NamedTuple):
    """A figure as the page shows it."""

    name: str
    section: str
    caption: str
    path: epath.Path  # of its PNG

    @property
    def png(self) -> bytes:
        """Returns the picture; it is there once `drawing` is left."""
        return self.path.read_bytes()


@contextlib.contextmanager
def drawing(data: StudyData, folder: epath.Path) -> Iterator[list[Drawn]]:
    """Draws every figure whose data are there; leaving it waits until all are saved, as PNG and PDF under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE), uncollected(), Printer(str(folder), STYLE) as printer:
        drawn = []
        for name, maker in FIGURES.items():
            figure = maker.make(data)
            if figure is not None:
                printer.save(figure, name)
                caption = f"{maker.caption} {maker.told(data)}"
                drawn.append(Drawn(name, maker.section, caption, folder / f"{name}.png"))
        yield drawn
