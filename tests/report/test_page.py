"""The page: whole, alone, honest about what is absent; and its files."""

import contextlib
import dataclasses
import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from etils import epath
from matplotlib.figure import Figure

from jaxreg.report import claimed, data, figures, page, palette, printer, tables
from jaxreg.report.figures import counts
from jaxreg.report.tables import calibration, geometry, interventions, verdicts
from jaxreg.robustness.verdict import CHECKS
from support import measured_study
from support.web_page import Page


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = measured_study.write(tmp_path_factory.mktemp("page") / "digits", eps=("0.02", "0.05", "0.1", "0.2"))
    loaded = data.load([workdir])
    page.build([workdir], claimed=claimed.judged(loaded), data=loaded)
    return workdir


@pytest.fixture(scope="module")
def seen(workdir):
    return Page(workdir / "report" / "index.html")


def test_verdicts_are_a_table_of_every_check(workdir, tmp_path):
    loaded = data.load([workdir])
    assert verdicts.numbers(loaded).empty  # nothing was checked
    first = loaded.frame.drop_duplicates(["study", "trial"])
    numbers = {"verdict/steps": 0.2, "verdict/zero_radius": 0.0}
    judged = [first.assign(probe="robustness", metric=name, value=value) for name, value in numbers.items()]
    checked = dataclasses.replace(loaded, frame=pd.concat([loaded.frame, *judged]))
    assert "verdicts.csv" in tables.save(checked, epath.Path(tmp_path))
    table = pd.read_csv(tmp_path / "verdicts.csv")
    assert len(table) == len(loaded.trials)
    assert set(table["verdict"]) == {"suspect"}
    assert table["reason"].str.startswith("twice the steps break another 20 %").all()
    assert set(table["steps"]) == {0.2}
    assert set(table.columns) == {"study", "trial", "setting", "seed", "verdict", "reason", *CHECKS}
    shown = page.render(checked, [], ["verdicts.csv"])
    assert 'href="tables/verdicts.csv"' in shown
    assert "3 suspect" in shown


def test_reliable_trials_need_no_reason(workdir):
    loaded = data.load([workdir])
    first = loaded.frame.drop_duplicates(["study", "trial"])
    frame = pd.concat([loaded.frame, first.assign(probe="robustness", metric="verdict/steps", value=0.0)])
    shown = page.render(dataclasses.replace(loaded, frame=frame), [], [])
    assert "3 reliable" in shown
    checked = dataclasses.replace(loaded, frame=frame)
    assert {line.cells[0] for line in verdicts.lines(checked)} == {"made_up_attacks"}
    assert "robustness of none by made_up_attacks: 3 reliable" in verdicts.text(checked)
    assert "suspect" not in shown


def test_what_the_probes_ran_with_is_in_the_tables_and_on_the_page(workdir, seen):
    table = pd.read_csv(workdir / "report" / "tables" / "conditions.csv", dtype=str)
    trials = len(data.load([workdir]).trials)
    wanted = {(probe, *pair) for probe, own in measured_study.CONDITIONS.items() for pair in own.items()}
    told = table.groupby(["probe", "condition", "value"]).size()
    assert dict(told) == dict.fromkeys(wanted, trials)
    assert "robustness: suite" in seen.text
    assert "made_up_attacks" in seen.text


def test_names_of_figures_and_tables_are_told_apart():
    modules = [getattr(figures, name) for name in dir(figures)]
    own = [name for module in modules for name in getattr(module, "FIGURES", ())]
    assert sorted(own) == sorted(figures.FIGURES)
    names = [table.name for table in tables.TABLES]
    assert len(set(names)) == len(names)
    sections = {section.key for section in page.SECTIONS}
    assert {maker.section for maker in figures.FIGURES.values()} | {
        table.section for table in tables.TABLES[1:]
    } <= sections


def test_every_section_is_there(seen):
    sections = [
        "claims",
        "main",
        "accuracy",
        "robustness",
        "geometry",
        "training",
        "trials",
        "failed",
        "reproduce",
        "config",
    ]
    assert [i for i in seen.ids if i in sections] == sections
    assert "Left out" not in seen.text


def test_the_page_stands_alone(workdir, seen):
    assert all(source.startswith("data:image/png;base64,") for source in seen.sources)
    assert not {"script", "link", "iframe", "object"} & set(seen.tags)
    assert not [link for link in seen.links if re.match(r"(?i)[a-z]+:|//", link)]
    text = (workdir / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://", text)


def test_local_links_lead_somewhere(workdir, seen):
    for link in seen.links:
        assert link[1:] in seen.ids if link.startswith("#") else (workdir / "report" / link).is_file(), link


def test_every_figure_is_there_as_png_and_pdf(workdir, seen):
    folder = workdir / "report" / "figures"
    assert {p.name for p in folder.iterdir()} == {f"{n}.{kind}" for n in figures.FIGURES for kind in ("png", "pdf")}
    assert len(seen.sources) == len(figures.FIGURES)
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in folder.glob("*.png"))
    assert all(path.read_bytes()[:5] == b"%PDF-" for path in folder.glob("*.pdf"))


def test_captions_and_pictures_tell_n(seen):
    assert seen.text.count("n = 3 trials a setting, 500 test examples a trial.") > len(figures.FIGURES) / 2
    assert seen.text.count("n = 3 trials a setting") + seen.text.count("One trial a setting, at most 150") >= len(
        figures.FIGURES
    )
    assert "figcaption" in seen.tags


def test_captions_tell_the_examples_of_their_own_metric(workdir):
    loaded = data.load([workdir])
    few = loaded.frame["metric"].str.startswith("robust_accuracy")
    other = dataclasses.replace(loaded, frame=loaded.frame.assign(n=loaded.frame["n"].mask(few, 250)))
    assert counts.counts(other, "robust_accuracy/") == "n = 3 trials a setting, 250 test examples a trial."
    assert counts.counts(other, "no_such_metric") == counts.counts(other, "") == "n = 3 trials a setting."
    assert counts.counts(other) == "n = 3 trials a setting, 500 test examples a trial."
    each = "n = 3 trials a setting; clean: 500 test examples; under attack: 250 test examples a trial."
    assert figures.FIGURES["mechanism"].told(other) == figures.FIGURES["robust_bars"].told(other) == each
    assert figures.FIGURES["mechanism"].told(loaded) == "n = 3 trials a setting, 500 test examples a trial."
    moved = "n = 3 trials a setting; left and middle: 200 test examples; right: 100 test examples a trial."
    assert figures.FIGURES["displacement"].told(loaded) == f"Radius 0.1. {moved}"
    assert "at most 150" in figures.FIGURES["maps"].told(loaded)


def test_provenance_command_and_claims_are_told(seen):
    assert measured_study.PROVENANCE["command"] in seen.text
    for fact in ("0123456789abcdef", "True", "0.10.2", "float32", "wall_seconds.train", "31.2", "2026-01-02T04:04:05Z"):
        assert fact in seen.text
    for word in ("supported", "not judged", "mean length of the features"):
        assert word in seen.text


def test_csv_numbers_equal_the_results(workdir):
    folder, frame = workdir / "report" / "tables", data.load([workdir]).frame
    assert {p.name for p in folder.iterdir()} == {
        *(f"{name}.csv" for name in ("main", "calibration", "differences", "summary", "trials", "interventions")),
        *("errors.csv", "regime.csv", "directions.csv", "cones.csv", "conditions.csv"),
    }
    main = pd.read_csv(folder / "main.csv", keep_default_na=False)
    line = main[(main["hyperparameters"] == '{"epsilon": 0.3}') & (main["metric"] == "nll")].iloc[0]
    value = frame[(frame["hyperparameters"] == '{"epsilon": 0.3}') & (frame["metric"] == "nll")]["value"].to_numpy()
    assert float(line["mean"]) == pytest.approx(value.sum() / 3, rel=1e-12)
    assert float(line["sd"]) == pytest.approx(np.sqrt(((value - value.mean()) ** 2).sum() / 2), rel=1e-12)
    trials = pd.read_csv(folder / "trials.csv")
    assert len(trials) == 12
    one = frame[(frame["trial"] == "mixup-3-2") & (frame["metric"] == "feature_norm")]["value"].item()
    assert trials.set_index("trial").loc["mixup-3-2", "test/feature_norm"] == one


def test_differences_are_paired_tests_with_the_floor(workdir):
    table = pd.read_csv(workdir / "report" / "tables" / "differences.csv")
    frame = data.load([workdir]).frame
    value = {name: frame[(frame["metric"] == "ece_ts") & (frame["regularizer"] == name)] for name in ("none", "mixup")}
    line = table[(table["metric"] == "ece_ts") & (table["regularizer"] == "mixup")].iloc[0]
    assert line["difference"] == pytest.approx(value["mixup"]["value"].mean() - value["none"]["value"].mean())
    assert (line["n"], line["floor"], line["inside_floor"]) == (3, 0.015, False)
    assert table[(table["metric"] == "ece_ts") & table["hyperparameters"].str.contains("0.1")]["inside_floor"].all()
    assert table[table["metric"] == "nll"]["floor"].isna().all()  # it is no error of calibration alone


def test_every_error_stands_beside_its_floor_with_a_mark_inside_it(workdir, seen):
    columns, lines = calibration.TABLES[1].lines(data.load([workdir]))
    assert [column.title for column in columns] == ["smECE", "floor"]
    assert [line.cells[1:] for line in lines] == [
        ["1.50 [1.00, 5.00]", "0.40–1.50"],
        ["2.50 [1.00, 5.00]≈", "0.40–1.50"],  # 1 % from the baseline
        ["3.50 [1.00, 5.00]", "0.40–1.50"],
        ["4.50 [1.00, 5.00]", "0.40–1.50"],
    ]
    assert "2.50≈ 1.00, 5.00" in " ".join(seen.text.split())


def test_what_people_say_of_the_examples_is_on_the_page(workdir):
    assert "ECE human" in (workdir / "report" / "index.html").read_text()


def test_one_colour_a_setting(workdir):
    loaded = data.load([workdir])
    colours = [line.colour for line in tables.MAIN.lines(loaded)[1]]
    assert len(set(colours)) == 4
    assert {line.colour for line in tables.trial_lines(loaded)} == set(colours)
    assert [look.colour for look in palette.looks(loaded).values()] == colours


def test_what_is_absent_is_left_out_in_one_sentence(tmp_path):
    workdir = measured_study.write(tmp_path / "w", seeds=1, arrays=False, curves=False)
    seen = Page(page.build([workdir], out=tmp_path / "elsewhere"))
    assert seen.text.count("Left out") == 1  # training
    assert "±" not in "".join(cell for line in tables.MAIN.lines(data.load([workdir]))[1] for cell in line.cells)
    assert not (workdir / "report").exists()
    assert not list((tmp_path / "elsewhere" / "figures").glob("curves.*"))


def test_names_are_text_never_markup(tmp_path):
    nasty = "<script>alert('ü & \u202e')</script>"
    workdir = measured_study.write(
        tmp_path / "w", settings=((nasty, {"<b>": 1.0}),), seeds=1, arrays=False, study=nasty
    )
    config = {"name": "</pre><img src=x onerror=1>", "ß": "日本"}
    (workdir / "config.json").write_text(json.dumps(config))
    loaded = data.load([workdir])
    seen = Page(page.render(loaded, [], [], claimed.judged(loaded)))
    assert not {"script", "img"} & set(seen.tags)
    assert nasty in seen.text
    assert "</pre><img src=x onerror=1>" in seen.text
    assert "日本" in seen.text


def test_studies_join_and_stay_apart(tmp_path):
    parts = [measured_study.write(tmp_path / name, seeds=2, arrays=False, study="digits") for name in ("one", "two")]
    joined = data.load(parts)
    assert list(joined.config) == ["digits [one]", "digits [two]"]
    assert len(joined.settings) == 2 * len(measured_study.SETTINGS)
    assert joined.settings[0] == "digits [one]: none"
    _, lines = tables.MAIN.lines(joined)
    assert [line.cells[0] for line in lines] == ["2"] * 8
    assert len(set(palette.looks(joined).values())) == 8  # same regularizer, same colour, another line
    assert len({look.colour for look in palette.looks(joined).values()}) == 4


def test_studies_attacked_at_different_radii_show_both(tmp_path):
    parts = [
        measured_study.write(
            tmp_path / name, settings=measured_study.SETTINGS[:2], seeds=1, arrays=False, study=name, eps=(eps,)
        )
        for name, eps in (("a", "0.1"), ("b", "0.03"))
    ]
    titles = [column.title for column in tables.MAIN.lines(data.load(parts))[0]]
    assert {"robust % 0.1", "robust % 0.03"} < set(titles)


def test_a_large_study_shows_some_settings_says_so_and_saves_all(tmp_path, monkeypatch):
    many = [(name, {"rate": i}) for name in ("none", "label_smoothing", "mixup") for i in range(3)]
    workdir = measured_study.write(tmp_path / "w", settings=many, seeds=2, arrays=False, curves=False)
    drawn = []
    monkeypatch.setattr(figures, "drawing", lambda shown, folder: contextlib.nullcontext(drawn.append(shown) or []))
    monkeypatch.setattr(data.StudyData.limited, "__defaults__", (6,))  # instead of 12
    html = Page(page.build([workdir]))
    two_each = [f"{name}(rate={i})" for name in ("none", "label_smoothing", "mixup") for i in range(2)]
    assert drawn[0].settings == two_each
    assert drawn[0].limited() is drawn[0]
    assert "show 6 of 9 settings of 18 trials" in html.text
    assert "mixup(rate=1)" in html.text
    assert "rate=2" not in html.text
    folder = workdir / "report" / "tables"
    assert len(pd.read_csv(folder / "trials.csv")) == 18
    assert pd.read_csv(folder / "summary.csv")["hyperparameters"].nunique() == 3


def test_failed_trials_are_named(tmp_path):
    workdir = measured_study.write(tmp_path / "w", seeds=2, arrays=False)
    path = workdir / "curves" / "program-0.parquet"
    curves = pd.read_parquet(path)
    broken = curves[curves["trial"] == "none-0-0"].assign(trial="mixup-lost")
    broken.loc[broken["step"] >= 270, "grad_norm"] = np.nan
    unmeasured = broken.assign(trial="mixup-waiting", grad_norm=1.0)
    pd.concat([curves, broken, unmeasured]).to_parquet(path)
    loaded = data.load([workdir])
    assert [(f.trial, f.reason) for f in loaded.failed] == [
        ("mixup-lost", "loss or gradient not finite by step 270"),
        ("mixup-waiting", "not measured"),
    ]
    assert "mixup-lost" in Page(page.render(loaded, [], [])).text


def test_a_study_where_every_trial_failed_still_has_a_page(tmp_path):
    workdir = measured_study.write(tmp_path / "w", settings=(), curves=False)
    assert "Main table" in Page(page.build([workdir])).text


def test_workdir_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"results\.parquet"):
        page.build([tmp_path])
    with pytest.raises(ValueError, match="at least one workdir"):
        data.load([])


def test_figures_are_the_same_twice(workdir, tmp_path):
    loaded = data.load([workdir])
    for n in ("1", "2"):
        figure, folder = figures.FIGURES["geometry"].make(loaded), data.epath.Path(tmp_path / n)
        folder.mkdir()
        with printer.Printer(str(folder), figures.STYLE) as printing:
            printing.save(figure, "g")
    for name in ("g.png", "g.pdf"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_printer_starts_without_the_rest_of_the_package(workdir):
    figure = pickle.dumps(figures.FIGURES["geometry"].make(data.load([workdir])))
    read = "import sys, pickle; from jaxreg.report import printer; pickle.load(sys.stdin.buffer)"
    show = "; print(*{'jax', 'jaxlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", read + show], input=figure, capture_output=True, check=True)
    assert done.stdout.split() == []


def test_a_printer_that_fails_says_why(tmp_path):
    with (
        pytest.raises(RuntimeError, match=r"(?s)printing figures failed: .*No such file"),
        printer.Printer(str(tmp_path / "absent"), {}) as printing,
    ):
        printing.save(Figure(), "g")


def test_interventions_are_told_with_the_share_that_they_close(tmp_path):
    study = data.load([measured_study.write(tmp_path / "digits", seeds=2)])
    table = interventions.numbers(study).set_index(["setting", "change", "metric"])
    row = table.loc["mixup(alpha=1)", "its mean norm", "ECE %"]
    np.testing.assert_allclose(row[["baseline", "changed", "own"]].astype(float), [10, 11.5, 13])
    assert row["closed"] == pytest.approx(0.5)
    assert not table.index.get_level_values("setting").isin(["none"]).any()
    told = next(line.cells for line in interventions.lines(study) if line.setting.startswith("mixup"))
    assert told[-2:] == ["50% [50%, 50%]", "2"]
    assert not table.loc["mixup(alpha=1)", "its mean norm", "ECE %"]["inside_floor"]


def test_no_share_is_minus_nothing(tmp_path):
    study = data.load([measured_study.write(tmp_path / "digits", seeds=2, arrays=False, curves=False)])
    moved = (study.frame["metric"] == "norm_swap_nll") & (study.frame["regularizer"] == "mixup")
    almost = study.frame["value"].where(~moved, 0.1 * 0.5 - 1e-5)  # past the baseline by a 3000th of the gap
    lines = interventions.lines(dataclasses.replace(study, frame=study.frame.assign(value=almost)))
    shares = [line.cells[-2] for line in lines]
    assert "0% [0%, 0%]" in shares
    assert not any("-0%" in share for share in shares)


def test_what_is_not_finite_leaves_the_means_of_interventions(tmp_path):
    study = data.load([measured_study.write(tmp_path / "digits", seeds=2, arrays=False, curves=False)])
    lost = (study.frame["metric"] == "turn_nll") & (study.frame["seed"] == 0)
    frame = study.frame.assign(value=study.frame["value"].mask(lost, -np.inf))
    table = interventions.numbers(dataclasses.replace(study, frame=frame)).set_index(["change", "metric"])
    assert set(table.loc[("its mean angle to the center", "NLL"), "n"]) == {1}
    assert np.isfinite(table.loc[("its mean angle to the center", "NLL"), "changed"].astype(float)).all()


def test_a_gap_inside_the_noise_has_no_share(tmp_path):
    study = data.load([measured_study.write(tmp_path / "digits", seeds=2, arrays=False, curves=False)])
    closed = interventions.numbers(study).set_index(["setting", "change", "metric"])[["closed", "least"]]
    assert closed.loc["label_smoothing(epsilon=0.1)", "its mean norm", "ECE %"].isna().all()  # 1 %, the floor is 2 %
    assert closed.loc["mixup(alpha=1)", "its mean norm", "ECE %"].notna().all()  # 3 %
    assert closed.loc["label_smoothing(epsilon=0.1)", "its mean norm", "NLL"].notna().all()  # no floor is known of it
    told = next(line.cells for line in interventions.lines(study) if line.setting == "label_smoothing(epsilon=0.1)")
    assert told[-2] == "–"
    assert told[-3] == "11.000≈"
    told = next(line.cells for line in interventions.lines(study) if line.setting == "mixup(alpha=1)")
    assert told[-3] == "13.000"
    unknown = dataclasses.replace(study, frame=study.frame[study.frame["metric"] != "ece_floor"])
    assert not any("≈" in cell for line in interventions.lines(unknown) for cell in line.cells)
    assert interventions.numbers(unknown)["inside_floor"].isna().all()


def test_a_sweep_is_compared_with_the_baseline_of_its_overrides(tmp_path):
    settings = [(name, {"rate": rate}) for rate in (0.1, 1.0) for name in ("none", "mixup")]
    study = data.load(
        [measured_study.write(tmp_path / "digits", settings=settings, seeds=2, arrays=False, curves=False)]
    )
    table = interventions.numbers(study)
    ece = table[(table["metric"] == "ECE %") & (table["change"] == "its mean norm")].set_index("setting")["baseline"]
    np.testing.assert_allclose(ece["mixup(rate=0.1)"], 10)  # made-up setting 0 is `none` at the first rate,
    np.testing.assert_allclose(ece["mixup(rate=1)"], 12)  # setting 2 is `none` at the second


def test_the_regime_and_the_tables_of_geometry(workdir, seen):
    tables_ = {table.name: table.lines(data.load([workdir])) for table in geometry.TABLES}
    assert set(tables_) == {"regime", "directions", "cones"} <= set(seen.ids)
    told = {
        name: [[c.title for c in heads], *(line.cells[1:] for line in lines)]
        for name, (heads, lines) in tables_.items()
    }
    regime = [dict(zip(told["regime"][0], line)) for line in told["regime"][1:]]
    assert [line["train loss"] for line in regime] == ["0.4000 ± 0.0000"] * 3 + ["n/a"]  # the last one mixes
    assert [line["its floor"] for line in regime] == ["0.0000", "0.2000", "0.4000", "0.6000"]
    assert (regime[0]["D"], regime[0]["K"], regime[0]["s at bracket %"]) == ("5", "3", "100")
    cones = [dict(zip(told["cones"][0], line)) for line in told["cones"][1:]]
    assert [line["b = 0"] for line in cones] == ["yes", "no", "no", "no"]
    saved = pd.read_csv(workdir / "report" / "tables" / "cones.csv")
    assert saved[saved["metric"] == "nc1"]["mean"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_the_largest_residual_of_the_centers_is_told_and_marked(workdir):
    study = data.load([workdir])
    far = study.frame[study.frame["metric"] == "center_residual"].assign(metric="center_residual_nonnegative")
    near = study.frame[study.frame["metric"] == "center_cosine"].assign(metric="nonnegative_center_cosine", value=0.7)
    larger = far.assign(value=np.where(far["trial"] == "none-0-2", 2e-5, 1e-7))

    def table(frame):
        (directions,) = [one for one in geometry.TABLES if one.name == "directions"]
        columns, lines = directions.lines(dataclasses.replace(study, frame=frame))
        return [dict(zip([column.title for column in columns], line.cells[1:])) for line in lines]

    plain, more = table(study.frame), table(pd.concat([study.frame, near, larger]))
    assert [line["KKT"] for line in plain] == ["1.0e-06", "1.0e-05", "1.0e-04‡", "1.0e-03‡"]
    assert ["‡" in line["h, center"] for line in plain] == [False, False, True, True]
    assert not any("‡" in line["h, row of W"] for line in plain)
    assert "h, center ≥ 0" not in plain[0]  # results from before there was such a number
    assert [line["h, center ≥ 0"] for line in more] == ["0.700 ± 0.000‡", *3 * ["0.700 ± 0.000"]]
