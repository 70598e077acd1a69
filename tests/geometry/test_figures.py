import numpy as np
import pandas as pd
import pytest

from jaxreg.geometry import figures, scaling


def frame(metrics, steps=(0,)):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"regularizer": r, "seed": s, "step": t, "split": split, "metric": m, "value": 1 + rng.random()}
            for r in ("none", "mixup")
            for s in range(3)
            for t in steps
            for m, split in metrics.items()
        ]
    )


def test_over_training_draws_the_mean_of_the_seeds():
    rows = frame(dict.fromkeys(figures.OVER_TRAINING, "train"), steps=(0, 5, 50))
    figure = figures.over_training(rows)
    axis = figure.axes[1]
    assert axis.get_title(loc="left") == "cosine to the center"
    drawn = axis.lines[1].get_xydata()
    chosen = rows[(rows["metric"] == "center_cosine") & (rows["regularizer"] == "mixup")]
    expected = chosen.groupby("step")["value"].mean()
    np.testing.assert_allclose(drawn, np.stack([expected.index, expected], 1))
    figure.canvas.draw()


def test_over_training_leaves_out_what_was_not_measured():
    assert len(figures.over_training(frame({"nc1": "train", "feature_norm": "train"}, steps=(0, 1))).axes) == 2


def test_scaling_draws_every_scale():
    names = {f"scaled_{m}/{s:.3g}": "test" for m in ("ece", "nll") for s in scaling.SCALES}
    names |= {"best_scale": "validation", "ece_best_scale": "test", "nll_best_scale": "test"}
    figure = figures.scaling(frame(names))
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), scaling.SCALES, rtol=0.01)
    figure.canvas.draw()


@pytest.mark.parametrize("log", [(), ("norm",)])
def test_histograms_hold_all_mass(log):
    rng = np.random.default_rng(1)
    values = {"norm": {"none": [rng.random(50), rng.random(50)], "mixup": [np.append(rng.random(50), 0)]}}
    figure = figures.histograms(values, log=log)
    (axis,) = figure.axes
    for drawn in axis.patches:
        density, edges, _ = drawn.get_data()
        width = np.diff(np.log10(edges) if log else edges)
        np.testing.assert_allclose((density * width).sum(), 1)
    figure.canvas.draw()
