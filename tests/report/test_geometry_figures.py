"""Figures of geometry: what they show, and what they make of trials whose features are dead, and of two classes."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from jaxreg import study
from jaxreg.report import data, figures, page
from jaxreg.report.figures import displacement, maps, within
from jaxreg.report.figures import geometry as histograms
from jaxreg.report.tables import geometry
from support import measured_study


def tables_of(workdir):
    """The cells of the table of cones, by setting and title."""
    columns, lines = geometry.TABLES[-1].lines(data.load([workdir]))
    return {line.setting: dict(zip([column.title for column in columns], line.cells[1:])) for line in lines}


FOUR = ("0.02", "0.05", "0.1", "0.2")  # radii: as many as a curve needs


@pytest.mark.filterwarnings("error")
def test_a_trial_of_dead_features_does_not_stop_a_report(tmp_path):
    workdir = measured_study.write(tmp_path / "digits", seeds=2, eps=FOUR)
    measured_study.kill(workdir, "mixup-3-0")
    study.report([epath.Path(workdir)])
    assert tables_of(workdir)["mixup(alpha=1)"]["b = 0"] == "no (n=1)"
    assert "nan" not in (workdir / "report" / "index.html").read_text().split("<h2>Main table")[1].split("<img")[0]
    assert "cosine" in (workdir / "report" / "tables" / "claims.txt").read_text()
    assert {path.stem for path in (workdir / "report" / "figures").glob("*.png")} == set(figures.FIGURES)


@pytest.mark.filterwarnings("error")
def test_nor_does_a_setting_without_a_living_trial(tmp_path):
    workdir = measured_study.write(tmp_path / "digits", seeds=2, eps=FOUR)
    for trial in ("none-0-0", "none-0-1", "mixup-3-1"):
        measured_study.kill(workdir, trial)
    page.build([workdir])
    assert {path.stem for path in (workdir / "report" / "figures").glob("*.png")} == set(figures.FIGURES)


@pytest.mark.filterwarnings("error")
def test_a_setting_without_a_living_trial_is_in_no_map_and_has_no_cosine(tmp_path):
    workdir = measured_study.write(tmp_path / "digits", seeds=2)
    measured_study.kill(workdir, "label_smoothing-1-0")
    for seed in range(2):
        measured_study.kill(workdir, f"mixup-3-{seed}")
    found = data.load([workdir])
    titles = [axis.get_title() for axis in maps.figure(found).axes if axis.get_title()]
    assert titles == ["none", "label_smoothing(epsilon=0.1)", "label_smoothing(epsilon=0.3)"]
    norm, cosine = histograms.histograms(found).axes
    assert (len(norm.patches), len(cosine.patches)) == (4, 3)


@pytest.mark.filterwarnings("error")
def test_two_classes_have_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(measured_study, "CENTERS", 8 * np.eye(2, 5))
    found = data.load([measured_study.write(tmp_path / "two", seeds=1)])
    rows = [axis.get_ylabel() for axis in maps.figure(found).axes if axis.get_ylabel()]
    assert rows == ["two centers", "most variance", "random"]
    assert maps.over_training(found) is not None


def test_signed_parts_stand_against_the_norm_of_the_examples_that_were_moved(tmp_path):
    workdir = measured_study.write(tmp_path / "digits", seeds=1)
    figure = displacement.figure(data.load([workdir]))
    shares, parts, path = figure.axes
    norm = np.load(workdir / "probes" / "geometry" / "mixup-3-0.npz")["test/norm"]
    heights = [bar.get_height() for bar in parts.patches]
    assert heights[-1] == pytest.approx(100 * 3.5 / norm[50:250].mean())
    assert all(title.endswith("eps 0.1") for title in (a.get_title(loc="left") or a.get_title() for a in figure.axes))
    assert len(shares.patches) == 16
    assert path.get_xlabel() == "feature norm"


def test_within_trials_shows_a_dot_a_trial_and_the_interval_of_the_claim(tmp_path):
    workdir = measured_study.write(tmp_path / "digits", seeds=3, curves=False)
    measured_study.kill(workdir, "none-0-1")
    (axis,) = within.figure(data.load([workdir])).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        "none",
        "label_smoothing(epsilon=0.1)",
        "label_smoothing(epsilon=0.3)",
        "mixup(alpha=1)",
    ]
    dots, interval, mean = axis.lines[3:6]
    values = dots.get_xdata()
    assert len(axis.lines[0].get_xdata()) == 2  # the dead trial has no correlation
    assert mean.get_xdata()[0] == pytest.approx(values.mean())
    half = 4.302653 * values.std(ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom
    np.testing.assert_allclose(interval.get_xdata(), [values.mean() - half, values.mean() + half], rtol=1e-5)


def test_without_cosines_and_radii_there_is_no_figure_within_trials(tmp_path):
    study = data.load([measured_study.write(tmp_path / "w", seeds=1, arrays=False)])
    frame = study.frame[study.frame["metric"] != "cosine_radius_correlation"]
    assert within.figure(dataclasses.replace(study, frame=frame)) is None
