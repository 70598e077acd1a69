"""What `plan` says that a study can decide."""

import shutil

import pytest

from jaxreg import claims, config_file
from jaxreg import config as configs
from jaxreg.claims import power
from jaxreg.jobs.powered import power_of
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import SpecError
from support.checkout import ROOT


@pytest.fixture(scope="module")
def study():
    plain, sweep = config_file.load(str(ROOT / "configs" / "digits.py"))
    return configs.resolve(plain, sweep)


def test_every_claim_with_a_smallest_effect_has_its_power_from_the_shipped_study(study):
    told = power_of(study, None)
    for name, claim in claims.CLAIMS.items():
        assert told.count(f"\n{name} ") == (3 if claim.smallest else 0)
    assert "power, n = 5" in told
    assert "the digits study that is shipped" in told


def test_power_comes_from_the_study_that_is_named(study, tmp_path):
    like = Workdir(tmp_path / "finished")
    with pytest.raises(SpecError, match=r"has no components.json: make its report first"):
        power_of(study, like)
    folder = like.report / "tables"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "jaxreg" / "claims" / power.FILE, folder / power.FILE)
    told = power_of(study, like)
    assert str(like) in told
    assert told.splitlines()[1:] == power_of(study, None).splitlines()[1:]
