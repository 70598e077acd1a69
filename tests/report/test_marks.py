"""Differences of errors inside the noise floor are marked wherever a figure or a table shows them."""

import dataclasses

import pandas as pd
import pytest

from jaxreg.report import data, tables
from jaxreg.report.figures import attacked, calibration, corruptions, seeds
from jaxreg.report.tables import differences
from support import measured_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A made-up study, whose floors end at 2 %."""
    return data.load([measured_study.write(tmp_path_factory.mktemp("marks") / "digits")])


def with_errors(study, name, values):
    """The study with ECEs at NAME of the settings in order."""
    frame = study.frame.copy()
    for setting, value in zip(study.settings, values):
        frame.loc[(frame["metric"] == name) & (frame["setting"] == setting), "value"] = value
    return dataclasses.replace(study, frame=frame)


def test_corrupted_errors_inside_the_floor_are_marked(study):
    planted = with_errors(study, "corruption_ece/fog/3", [0.05, 0.06, 0.04, 0.09])
    planted = with_errors(planted, "corruption_ece/gaussian_noise/3", [0.05, 0.09, 0.09, 0.09])
    axis = corruptions.figure(planted).axes[1]
    marks = [text for text in axis.texts if text.get_text() == differences.MARK]
    shifts = list(corruptions._shifts(dict.fromkeys(study.settings)).values())
    assert sorted(mark.xy[0] for mark in marks) == pytest.approx(shifts[1:3])  # of fog, the first family
    floors = [line.get_ydata()[0] for line in axis.lines if line.get_marker() == "_"]
    assert floors == pytest.approx([2.0] * 2 * len(study.settings))


def test_attacked_errors_inside_the_floor_are_open_marks(study):
    planted = with_errors(study, "attacked_ece/strongest/0.1", [0.05, 0.06, 0.09, 0.09])
    planted = with_errors(planted, "attacked_ece/strongest/0.05", [0.05, 0.09, 0.09, 0.09])
    planted = with_errors(planted, "ece", [0.05, 0.09, 0.09, 0.045])
    axis = attacked.figure(planted).axes[0]
    open_ = [line.get_xydata()[0].tolist() for line in axis.lines if line.get_markerfacecolor() == "white"]
    assert sorted(open_) == [pytest.approx([0, 4.5]), pytest.approx([0.1, 6])]


def test_bars_and_large_marks_tell_which_differences_are_noise(study):
    planted = with_errors(study, "ece", [0.05, 0.06, 0.09, 0.04])
    planted = with_errors(planted, "ece_ts", [0.05, 0.09, 0.06, 0.09])  # the floor ends at 1.5 %
    axes = {axis.get_title(): axis for axis in seeds.figure(planted).axes}
    marked = {
        title: [round(text.xy[1]) for text in axis.texts if text.get_text() == differences.MARK]
        for title, axis in axes.items()
    }
    assert (marked["ECE %"], marked["ECE T %"]) == ([1, 3], [2])
    assert not any(places for title, places in marked.items() if "ECE" not in title)
    before, after = calibration.ece_against_accuracy(planted).axes
    for axis, open_ in ((before, [6.0, 4.0]), (after, [6.0])):
        large = [mark for mark in axis.collections if mark.get_sizes()[0] > 50]
        white = [mark.get_offsets()[0][1] for mark in large if mark.get_facecolor()[0][:3].tolist() == [1, 1, 1]]
        assert len(large) == 4
        assert white == pytest.approx(open_)


def test_what_is_marked_is_in_the_table_of_differences(study, tmp_path):
    tables.save(with_errors(study, "attacked_ece/strongest/0.1", [0.05, 0.06, 0.09, 0.09]), tmp_path)
    table = pd.read_csv(tmp_path / "differences.csv").set_index("metric")
    own = table.loc["attacked_ece/strongest/0.1"]
    assert own["inside_floor"].tolist() == [True, False, False]
    assert {"ece", "ece_ts", "smece"} <= set(table.index)
    assert not [name for name in table.index if name.startswith(("attacked_ece/worst", "corruption_ece/fog"))]
