"""What a planned study can decide: the power of each claim, before anything is trained."""

from collections.abc import Sequence

from jaxreg.claims import family, power
from jaxreg.jobs import preflight
from jaxreg.runtime.workdir import Workdir
from jaxreg.setting import Setting
from jaxreg.spec import StudySpec, require
from jaxreg.training.program import programs_of


def power_of(study: StudySpec, like: Workdir | None) -> str:
    """The table of `power.as_text`, from a finished study's components or the shipped ones; empty without soft labels.

    Raises: SpecError: if the finished study has none.
    """
    settings = list(dict.fromkeys(trial.setting for trial in study.trials))
    soft = family.judged(settings, study.claims)
    if not soft:
        return ""
    counts = [preflight.check(program).counts["test"] for program in programs_of(study)]
    attacked = study.probes.settings["robustness"].examples
    images, seeds = min(counts), min(_seeds(study, setting) for setting in soft)
    size = family.size_of(len(soft), sum(family.is_reference(setting, settings) for setting in settings))
    found = power.needed(study.claims, _like(like), soft, seeds, images, min(attacked or images, images), size)
    of = str(like) if like else "the digits study that is shipped (name another with --like=DIR)"
    return f"what this study can decide, if effects scatter as in {of}:\n{power.as_text(found, seeds)}"


def _seeds(study: StudySpec, setting: Setting) -> int:
    return sum(trial.setting == setting for trial in study.trials)


def _like(study: Workdir | None) -> Sequence[power.Scatter]:
    if study is None:
        return power.shipped()
    path = study.report / "tables" / power.FILE
    require(
        path.exists(), f"--like={study} has no {path.name}: make its report first, python -m jaxreg report {study}."
    )
    return power.from_json(path.read_text())
