"""The table in the terminal: the numbers by hand, n, and 120 columns."""

import json

import numpy as np
import pandas as pd
import pytest

from jaxreg import results
from jaxreg.report import text
from jaxreg.report.tables import MAIN, calibration, main
from support import measured_study


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    workdir = measured_study.write(tmp_path_factory.mktemp("text") / "study", arrays=False, curves=False)
    return results.read(workdir / "results.parquet")


def by_hand(frame, setting, metric, split="test"):
    name, hyperparameters = setting
    rows = frame[(frame["regularizer"] == name) & (frame["metric"] == metric) & (frame["split"] == split)]
    value = [v for v, h in zip(rows["value"], rows["hyperparameters"]) if json.loads(h) == hyperparameters]
    mean = sum(value) / len(value)
    return mean, (sum((v - mean) ** 2 for v in value) / (len(value) - 1)) ** 0.5


FLOORS = {"ece": 0.02, "ece_ts": 0.015}  # upper ends, the same for all settings


def mark(frame, setting, metric):
    """What stands behind a number whose difference to the baseline is inside the noise floor."""
    if metric not in FLOORS or setting == measured_study.SETTINGS[0]:
        return ""
    difference = by_hand(frame, setting, metric)[0] - by_hand(frame, measured_study.SETTINGS[0], metric)[0]
    return "≈" if abs(difference) <= FLOORS[metric] else ""


def test_some_differences_are_noise_and_some_are_not(frame):
    assert {mark(frame, setting, "ece_ts") for setting in measured_study.SETTINGS[1:]} == {"≈", ""}


def test_the_table_of_calibration_shows_ece_with_interval_and_floor(frame):
    found = text.printed(calibration.TABLES[0], frame)
    assert max(map(len, found.splitlines())) <= 120
    mean, _ = by_hand(frame, measured_study.SETTINGS[0], "ece")
    assert f"{100 * mean:.2f} [{100 * mean - 0.4:.2f}, {100 * mean + 0.4:.2f}] 0.50–2.00" in " ".join(found.split())
    assert "2.50 [1.00, 5.00]≈ 0.40–1.50" in " ".join(found.split())  # 1 % from the baseline, floor up to 1.5 %
    assert "4.50 [1.00, 5.00] 0.40–1.50" in " ".join(found.split())
    assert text.printed(calibration.TABLES[0], frame[frame["probe"] != "calibration"]) == ""


def test_a_temperature_at_its_bracket_is_marked(frame):
    rows = frame[frame["metric"] == "temperature"]
    hit = rows["trial"] == rows["trial"].iloc[0]
    flags = rows.assign(metric="temperature_at_bracket", value=hit.astype(float))
    assert "†" not in text.printed(calibration.TABLES[0], frame).split("\n\n")[0].rsplit("---", 1)[0]
    body = text.printed(calibration.TABLES[0], pd.concat([frame, flags])).rsplit("---", 1)[0]
    assert body.count("†") == 1


@pytest.mark.parametrize("setting", measured_study.SETTINGS)
def test_table_equals_mean_and_sd_by_hand(frame, setting):
    """Also keeps two strengths of one regularizer apart: each has its own line with its own numbers."""
    flat = " ".join(text.printed(MAIN, frame).split())
    expected = [3]
    for metric, digits, scale in (
        ("accuracy", 2, 100),
        ("nll", 3, 1),
        ("nll_ts", 3, 1),
        ("ece", 2, 100),
        ("ece_ts", 2, 100),
        ("robust_accuracy/worst/0.1", 1, 100),
        ("feature_norm", 2, 1),
        ("center_cosine", 3, 1),
    ):
        mean, sd = by_hand(frame, setting, metric)
        expected.append(f"{mean * scale:.{digits}f}±{sd * scale:.{digits}f}" + mark(frame, setting, metric))
    assert " ".join(map(str, expected)) in flat


def test_table_fits_a_terminal_and_names_every_setting(frame):
    table = text.printed(MAIN, frame)
    assert max(map(len, table.splitlines())) <= 120
    assert "label_smoothing" in table
    assert "epsilon=0.3" in table
    assert "radius 0.1" in table


def test_one_seed_has_no_sd(frame):
    body = text.printed(MAIN, frame[frame["seed"] == 0]).split("---\n")[1]
    assert "±" not in body
    assert "label_smoothing(epsilon=0.1)" in body


def test_a_missing_number_lowers_its_own_n(frame):
    lost = (frame["regularizer"] == "mixup") & (frame["metric"] == "nll") & (frame["seed"] == 1)
    (line,) = [line for line in text.printed(MAIN, frame[~lost]).splitlines() if line.startswith("mixup")]
    assert line.count("(n=2)") == 1


def test_two_studies_are_not_averaged(frame):
    table = text.printed(MAIN, pd.concat([frame, frame.assign(study="cifar10", value=frame["value"] / 2)]))
    assert "digits: none" in table
    assert "cifar10: none" in table


def test_an_empty_study_has_no_table(frame):
    assert text.printed(MAIN, frame.iloc[:0]) == ""


@pytest.mark.parametrize(
    ("attacked", "shown"),
    [
        ({("worst", "0.1"): 0.2, ("pgd", "0.1"): 0.2, ("fgsm", "0.1"): 0.4}, "worst/0.1"),
        ({("pgd", "0.1"): 0.3, ("pgd_l2", "0.1"): 0.2, ("square", "0.1"): 0.1}, "pgd_l2/0.1"),
        ({("square", "0.1"): 0.1}, "square/0.1"),
        ({("pgd", "0.05"): 0.5, ("pgd", "0.1"): 0.3, ("pgd", "0.2"): 0.0}, "pgd/0.1"),
        ({("pgd", "0"): 0.9, ("pgd", "0.05"): 0.5, ("pgd", "0.1"): 0.3, ("fgsm", "0.05"): 0.6}, "pgd/0.05"),
    ],
)
def test_the_robust_accuracy_shown_first(frame, attacked, shown):
    rows = pd.concat(
        [frame.iloc[:1].assign(metric=f"robust_accuracy/{a}/{e}", value=v) for (a, e), v in attacked.items()]
    )
    assert main.headline_robust(rows, "test") == f"robust_accuracy/{shown}"


def test_no_attack_no_robust_column(frame):
    rows = frame[~frame["metric"].str.startswith("robust")]
    assert main.headline_robust(rows, "test") is None
    assert "robust" not in text.printed(MAIN, rows)


def test_infinity_is_printed(frame):
    rows = frame.assign(value=np.where(frame["metric"] == "nll", np.inf, frame["value"]))
    assert "inf" in text.printed(MAIN, rows)
