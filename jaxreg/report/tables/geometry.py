"""The tables of geometry: the regime of the trials, how directions agree, what cones and classes look like."""

from jaxreg.report.tables.columns import Column, Doubt, SettingTable

TRAIN = "train"
UNKNOWN = "n/a"  # a floor that the targets do not tell
EXACT = 1e-5  # up to this KKT residual a point of least loss counts as found
FREE, INSIDE, SOFT, FAR = (
    Doubt(f"center_residual{kind}", EXACT, "‡", TRAIN) for kind in ("", "_nonnegative", "_soft", "_far")
)


def _table(name: str, title: str, columns: tuple[Column, ...], note: str) -> SettingTable:
    return SettingTable(name, title, "geometry", lambda frame, split: columns, lambda split, shown: note)


TABLES = (
    _table(
        "regime",
        "In which regime the trials are",
        (
            Column("train_accuracy", "train accuracy %", 2, 100, TRAIN),
            Column("train_nll", "train NLL", 4, 1, TRAIN),
            Column("train_loss", "train loss", 4, 1, TRAIN, absent=UNKNOWN),
            Column("train_loss_floor", "its floor", 4, 1, TRAIN, form="{mean}", absent=UNKNOWN),
            Column("width", "D", 0, 1, TRAIN, form="{mean}"),
            Column("classes", "K", 0, 1, TRAIN, form="{mean}"),
            Column("common_mode", "common mode", 3),
            Column("feature_norm", "norm", 2),
            Column("feature_rms", "RMS", 3),
            Column("best_scale", "best s", 2, 1, "validation"),
            Column("best_scale_at_bracket", "s at bracket %", 0, 100, "validation", form="{mean}"),
        ),
        "Of un-augmented train images: accuracy, NLL, the loss (CE to the trial's own soft targets) and its floor, the "
        "entropy of these targets; n/a: mixed targets, or another loss than CE. D: width of the features, K: classes. "
        "Common mode: the share of the squared length that all features have in common, which moves every plain "
        "cosine. Best s: of features times s for NLL on validation; at bracket: share of the trials whose search ended "
        "at 0.01 or 100",
    ),
    _table(
        "directions",
        "Which directions agree",
        (
            Column("center_cosine", "h, center", 3, doubt=FREE),
            Column("weight_cosine", "h, row of W", 3),
            Column("mean_cosine", "h, class mean", 3),
            Column("soft_center_cosine", "h, soft center", 3, doubt=SOFT),
            Column("nonnegative_center_cosine", "h, center ≥ 0", 3, doubt=INSIDE),
            Column("center_cosine_centred", "h, center −", 3, doubt=FREE),
            Column("weight_cosine_centred", "h, row −", 3),
            Column("mean_cosine_centred", "h, mean −", 3),
            Column("center_weight_agreement", "center, row", 3, 1, TRAIN, doubt=FREE),
            Column("center_mean_agreement", "center, mean", 3, 1, TRAIN, doubt=FREE),
            Column("weight_mean_agreement", "row, mean", 3, 1, TRAIN),
            Column("center_far_agreement", "center, at ∞", 3, 1, TRAIN, doubt=FAR),
            Column("center_nonnegative_agreement", "center, ≥ 0", 3, 1, TRAIN, doubt=INSIDE),
            Column("center_residual", "KKT", 1, 1, TRAIN, form="{most}", kind="e", doubt=FREE),
        ),
        "Mean cosines, of features h to what may be called the center of their class, and of these to each other. "
        "Center: the point of least loss at the mean norm; soft center: that of the trial's own soft target; at ∞: as "
        "the norm grows without bound; ≥ 0: within the positive orthant. −: less the mean feature of train, which is "
        "what the common mode adds to the plain ones. KKT: the residual of the centers, 0 for the exact point of least "
        "loss, the largest over classes and trials; ‡: that of the points that a number is about is above 1e-5 in "
        "some trial",
    ),
    _table(
        "cones",
        "Cones and collapse",
        (
            Column("cone_by_construction", "b = 0", 0, 1, TRAIN, form="{mean}", words={"0": "no", "1": "yes"}),
            Column("cone_fraction", "cone fraction %", 2, 100),
            Column("cone_radius/q50", "t*|h| 50 %", 2),
            Column("cone_radius/q95", "t*|h| 95 %", 2),
            Column("angular_margin", "margin (rad)", 3),
            Column("nc1", "NC1", 3, 1, TRAIN),
            Column("nc2_norm", "NC2 norm", 3, 1, TRAIN),
            Column("nc2_angle", "NC2 angle", 3, 1, TRAIN),
            Column("nc3", "NC3", 3, 1, TRAIN),
            Column("nc4", "NC4", 3, 1, TRAIN),
            Column("within_class_share", "within-class %", 2, 100, TRAIN),
            Column("effective_rank", "eff. rank", 1, 1, TRAIN),
        ),
        "b = 0: the last layer has no bias, and its regions are cones by construction. Cone fraction: share of "
        "examples whose prediction is final along their ray; t*|h|: the distance from the origin at which it becomes "
        "final, what 50 % and 95 % of the examples stay below. NC: neural collapse of un-augmented train images, 0 "
        "where it is complete; within-class: share of their variance that lies within classes; effective rank: of "
        "their covariance",
    ),
)
