"""Folders of any name are reported: what tells two studies apart may hold what Matplotlib or HTML take for signs."""

import pytest

from jaxreg import study
from support import measured_study
from support.odd_names import ALL_AT_ONCE
from support.web_page import Page


@pytest.mark.slow
def test_two_studies_in_folders_of_odd_names(tmp_path, capsys):
    names = (ALL_AT_ONCE, "_<b>$\\frac{$")
    folders = [measured_study.write(tmp_path / name, settings=measured_study.SETTINGS[:2], seeds=2) for name in names]
    assert study.report(folders) == 0
    assert f"report: {folders[0]}" in capsys.readouterr().out
    page = Page(folders[0] / "report" / "index.html")
    assert all(name in page.text for name in names)
