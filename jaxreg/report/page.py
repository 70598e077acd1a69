"""One self-contained page from one or several workdirs: `report/index.html`, its figures and its tables."""

import base64
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from etils import epath

from jaxreg.claims import summary
from jaxreg.probes import PROBES, Section
from jaxreg.report import figures, tables
from jaxreg.report.claimed import Claimed
from jaxreg.report.data import StudyData, load
from jaxreg.report.figures import counts
from jaxreg.report.tables import claims as claim_table
from jaxreg.runtime.files import write_whole
from jaxreg.runtime.workdir import Workdir

TRAINING = Section("training", "Training curves", "no curves were kept")
SECTIONS = (*dict.fromkeys(probe.section for probe in PROBES.values()), TRAINING)


def build(
    workdirs: Sequence[epath.PathLike],
    out: epath.PathLike | None = None,
    claimed: Claimed | None = None,
    data: StudyData | None = None,
) -> epath.Path:
    """Writes the report of one or several workdirs and returns the path of its page.

    Args:
        workdirs: each holds results.parquet; probes/, curves/, config.json, provenance.json if there are any.
        out: the folder to write to; by default `report` in the first workdir.
        claimed: the claims, judged; the page is without them where they are left out.
        data: of the workdirs, where somebody has loaded them.
    Raises: ValueError: if a workdir holds no results.
    """
    data = load(workdirs) if data is None else data
    folder = epath.Path(out) if out is not None else Workdir(workdirs[0]).report
    shown = data.limited()
    with figures.drawing(shown, folder / "figures") as drawn:
        files = tables.save(data, folder / "tables")  # while the last figures are printed
    write_whole(folder / "index.html", render(shown, drawn, files, claimed, left_out(data, shown)).encode())
    return folder / "index.html"


def render(
    data: StudyData,
    drawn: Sequence[figures.Drawn],
    files: Sequence[str],
    claimed: Claimed | None = None,
    limit: str = "",
) -> str:
    """Returns the page as HTML: every value escaped, every picture inside it; `limit` says what it leaves out."""
    return _template().render(
        title=" + ".join(data.config),
        css=_resource("style.css"),
        data=data,
        counts=counts.counts(data),
        limit=limit,
        sections=SECTIONS,
        drawn=drawn,
        names={figure.name for figure in drawn},
        png=lambda figure: base64.b64encode(figure.png).decode(),
        main=tables.MAIN.printed(data),
        printed=tables.printed(data),
        trials=tables.trial_lines(data),
        claimed=claimed,
        claims=[] if claimed is None else summary.lines(claimed.table),
        claim_table=claim_table,
        files=files,
        provenance={study: flat(_without(values, "command", "runs")) for study, values in data.provenance.items()},
        commands={study: values.get("command") for study, values in data.provenance.items()},
        conditions=conditions(data),
        runs={study: _json(values.get("runs", [])) for study, values in data.provenance.items()},
        config={study: _json(config) for study, config in data.config.items()},
    )


def conditions(data: StudyData) -> list[tuple[str, str]]:
    """Returns as (probe and condition, values) what the probes ran with; of one that differs, every value."""
    found: dict[str, list[str]] = {}
    for probe, condition, value in data.conditions[["probe", "condition", "value"]].drop_duplicates().to_numpy():
        found.setdefault(f"{probe}: {condition}", []).append(value)
    return [(name, ", ".join(values)) for name, values in found.items()]


def left_out(data: StudyData, shown: StudyData) -> str:
    """Returns as a sentence that only some of the settings are shown; empty where all are."""
    if shown is data:
        return ""
    one, all_ = len(shown.settings), f"{len(data.settings):,} settings of {len(data.trials):,} trials"
    told = f"Figures, tables and the list of trials show {one} of {all_}, of each regularizer the first"
    return f"{told}; the claims are tested on all, and the CSV files hold all."


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) if value else ""


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("index.html.j2"))


def _resource(name: str) -> str:
    return (importlib.resources.files("jaxreg.report") / name).read_text(encoding="utf-8")


def flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested values as (dotted name, text) pairs, for a table of two columns."""
    pairs: list[tuple[str, str]] = []
    for name, value in nested.items():
        inner = isinstance(value, Mapping)
        pairs += flat(value, f"{prefix}{name}.") if inner else [(f"{prefix}{name}", _text(value))]
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, float) and np.isfinite(value):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
