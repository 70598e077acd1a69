"""What the report shows of the claims, and the files that it leaves of them."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest
from etils import epath

from jaxreg import claims, study
from jaxreg.report import data, figures, page
from jaxreg.report.tables import claims as claim_table
from support import measured_study
from support.web_page import Page


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A made-up study after `report`, without its figures."""
    workdir = measured_study.write(tmp_path_factory.mktemp("claims") / "digits", seeds=3, curves=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "drawing", lambda shown, folder: contextlib.nullcontext([]))
        study.report([epath.Path(workdir)])
    return workdir


def test_the_file_of_claims_has_a_row_a_test_after_a_report(reported):
    folder = reported / "report" / "tables"
    table = pd.read_csv(folder / "claims.csv")
    assert {"effect", "low", "high", "n", "p", "p_holm", "verdict", "test"} <= set(table.columns)
    saved = json.loads((folder / "claims.json").read_text())
    assert len(table) == sum(len(claim["tests"]) for claim in saved) > len(saved)
    norm = table[table["claim"] == "norm"]
    assert list(norm["setting"]) == ["label_smoothing(epsilon=0.1)", "label_smoothing(epsilon=0.3)", "mixup(alpha=1)"]
    np.testing.assert_allclose(norm["effect"], [-1, -2, -3], atol=0.2)
    assert norm["sentence"].tolist()[0] in (folder / "claims.txt").read_text()


def test_the_page_shows_and_links_every_test(reported):
    seen = Page(reported / "report" / "index.html")
    table = pd.read_csv(reported / "report" / "tables" / "claims.csv")
    assert set(seen.links) >= {f"tables/claims.{kind}" for kind in ("csv", "json", "txt")}
    for row in table.itertuples():
        assert row.said in seen.text
        assert f"[{row.low:.3g}, {row.high:.3g}]" in seen.text or np.isnan(row.low)
    assert seen.text.count("paired t") == (table["test"] == "paired t").sum()


def test_one_seed_says_no_verdict_and_never_none(tmp_path):
    workdir = measured_study.write(tmp_path / "w", seeds=1, arrays=False, curves=False)
    loaded = data.load([workdir])
    seen = Page(page.render(loaded, [], [], claims.with_tests(claims.evaluate(loaded.frame))))
    words = seen.text.split("Main table")[1].split()
    assert "None" not in words
    assert seen.text.count("no verdict") > 9


def test_many_tests_are_cut_and_say_so():
    test = dict.fromkeys(("effect", "low", "high", "p_holm", "verdict")) | {"n": 1, "test": "t"}
    claim = {"tests": [test | {"setting": str(i), "metric": "m", "said": ""} for i in range(claim_table.SHOWN + 7)]}
    shown = claim_table.lines(claim)
    assert len(shown) == claim_table.SHOWN
    assert shown[0] == (["0", "", "–", "–", "1", "t", "–", "no verdict"], "no verdict", "m")
    assert claim_table.left_out(claim) == "7 more tests stand in claims.csv."
    assert claim_table.left_out({"claim": "norm"}) == ""


def test_the_figure_of_every_claim_exists():
    assert {claim.figure for claim in claims.CLAIMS.values()} <= set(figures.FIGURES)
    assert set(claim_table.SHOWN_BY.values()) <= set(figures.FIGURES)


def test_a_claim_links_the_figures_of_its_tests_too(reported):
    saved = json.loads((reported / "report" / "tables" / "claims.json").read_text())
    shown = {claim["claim"]: claim_table.figures(claim, figures.FIGURES) for claim in saved}
    assert shown["mechanism"] == ["mechanism", "within"]
    assert shown["norm"] == ["geometry"]
    (mechanism,) = [claim for claim in saved if claim["claim"] == "mechanism"]
    assert claim_table.figures(mechanism, {"within"}) == ["within"]  # the other one was not drawn
    assert claim_table.figures({"claim": "norm"}, figures.FIGURES) == []
