"""What the report shows of the claims, and the files that it leaves of them."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest
from etils import epath

from jaxreg import claims, study
from jaxreg.jobs import record
from jaxreg.report import claimed, data, figures, page
from jaxreg.report.tables import claims as claim_table
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import ClaimsSpec
from support import measured_study
from support.claim_trials import study as made_up
from support.web_page import Page


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A made-up study after `report`, without its figures."""
    workdir = measured_study.write(tmp_path_factory.mktemp("claims") / "digits", seeds=3, curves=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "drawing", lambda shown, folder: contextlib.nullcontext([]))
        study.report([epath.Path(workdir)])
    return workdir


def test_the_file_of_claims_has_a_row_a_claim_and_setting_after_a_report(reported):
    folder = reported / "report" / "tables"
    table = pd.read_csv(folder / "claims.csv")
    assert set(table["claim"]) == set(claims.CLAIMS)
    norm = table[table["claim"] == "norm"]
    assert list(norm["setting"]) == ["label_smoothing(epsilon=0.1)", "label_smoothing(epsilon=0.3)", "mixup(alpha=1)"]
    assert list(norm["role"]) == ["primary", "another strength", "primary"]
    assert (norm["effect"].diff().dropna() < 0).all()  # log(10/11), log(9/11), log(8/11)
    saved = json.loads((folder / "claims.json").read_text())
    assert len(table) == sum(len(claim["rows"]) for claim in saved)
    assert norm["sentence"].tolist()[0] in (folder / "claims.txt").read_text()


def test_the_page_shows_every_judgement_and_links_its_numbers(reported):
    seen = Page(reported / "report" / "index.html")
    table = pd.read_csv(reported / "report" / "tables" / "claims.csv", keep_default_na=False)
    assert set(seen.links) >= {f"tables/{name}" for name in ("claims.csv", "claims.json", "claims.txt", "beside.csv")}
    assert set(seen.links) >= {f"#{claim_table.anchor(name)}" for name in claims.CLAIMS}
    for row in table.itertuples():
        assert row.text in seen.text
        assert row.reason in seen.text
    assert "made_up_attacks" in seen.text


def test_one_seed_is_judged_by_nothing(tmp_path):
    workdir = measured_study.write(tmp_path / "w", seeds=1, curves=False)
    loaded = data.load([workdir])
    seen = Page(page.render(loaded, [], [], claimed.judged(loaded)))
    assert "single seed" in seen.text
    assert "None" not in seen.text.split("Main table")[1].split()


def test_many_settings_are_cut_and_say_so():
    row = dict.fromkeys(("effect", "p"), float("nan")) | {"claim": "c", "n": 0, "examples": 0, "role": "control"}
    row |= dict.fromkeys(("text", "verdict", "reason", "needed"), "")
    table = pd.DataFrame([row | {"setting": str(i)} for i in range(claim_table.SHOWN + 7)])
    assert len(claim_table.lines(table, "c")) == claim_table.SHOWN
    assert claim_table.left_out(table, "c") == "7 more settings stand in claims.csv."
    assert claim_table.lines(table, "c")[0] == (["0", "", "–", "–", "–", "(control)", ""], "")
    assert claim_table.left_out(table, "d") == ""


def test_the_figure_of_every_claim_exists():
    assert {claim.figure for claim in claims.CLAIMS.values()} <= set(figures.FIGURES)


def test_the_grid_has_a_cell_a_judgement():
    source = made_up()
    table = claims.table(claims.judge(source), source.spec)
    cells = claim_table.grid(table)
    assert claim_table.settings(table) == ["none", "label_smoothing(epsilon=0.1)"]
    assert [cell is not None for cell in cells["cone"]] == [True, True]
    assert [cell is not None for cell in cells["norm"]] == [False, True]
    assert cells["norm"][1].verdict == "supported"
    beside = claim_table.beside(claims.beside(source), "mechanism")
    assert beside[0] == ["", "label_smoothing(epsilon=0.1)"]
    assert [line[0] for line in beside[1:]] == ["raw", "given the margin too"]


def test_what_is_judged_is_fixed_before_training(tmp_path):
    workdir = Workdir(measured_study.write(tmp_path / "w", seeds=2, curves=False))
    record.fix_claims(workdir, ClaimsSpec())
    record.fix_claims(workdir, ClaimsSpec(norm=0.5))
    assert record.fixed(workdir) == ClaimsSpec().digest != ClaimsSpec(norm=0.5).digest
    loaded = data.load([workdir])
    assert not any("changed after training" in note for note in claimed.judged(loaded).notes)
    for held in loaded.config.values():
        held["config"] = {"claims": {"norm": 0.5}}
    assert any("changed after training" in note for note in claimed.judged(loaded).notes)


def test_a_suite_that_overstates_says_by_how_much(tmp_path, monkeypatch):
    monkeypatch.setitem(measured_study.CONDITIONS["robustness"], "suite", "quick")
    notes = claimed.judged(data.load([measured_study.write(tmp_path / "w", seeds=2, curves=False)])).notes
    assert any("points more standing" in note for note in notes)


def test_logits_come_from_the_split_that_is_asked_for(tmp_path):
    workdir = Workdir(measured_study.write(tmp_path / "w", seeds=2, curves=False))
    loaded = data.load([workdir])
    (study_,), trial = loaded.config, loaded.members[0].trial
    source = claimed.source(loaded, study_)
    assert source.predicted(trial, "test") is None  # features alone were saved
    for place, split in enumerate(("test", "validation")):
        np.savez(workdir.predictions(trial, split), logits=np.full((3, 2), place), labels=np.zeros(3, int))
    assert [source.predicted(trial, split)["logits"][0, 0] for split in ("test", "validation")] == [0, 1]
