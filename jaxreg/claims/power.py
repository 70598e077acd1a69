"""How many seeds a study needs for each claim: from how effects scattered in a finished study."""

import importlib.resources
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxreg.claims.endpoints import CLAIMS
from jaxreg.claims.judgement import Judgement, smallest_of
from jaxreg.setting import Setting
from jaxreg.spec import ClaimsSpec
from jaxreg.statistics import Components, Plan, plan
from jaxreg.statistics.crossed import Sample
from jaxreg.statistics.estimates import TEST
from jaxreg.statistics.planning import MOST, POWER, power

FILE = "components.json"
ATTACKED = ("robustness", "mechanism", "origin")  # claims on attacked images


class Scatter(NamedTuple):
    """How one claim about one setting scattered: the components of each of its parts."""

    claim: str
    setting: Setting
    parts: tuple[Components, ...]


class Needed(NamedTuple):
    """Seeds that one claim about one setting needs, and the power of the study as it stands."""

    claim: str
    setting: str
    smallest: float
    plan: Plan
    power: float


def scatters(found: Iterable[Judgement]) -> list[Scatter]:
    """The components of all judged claims."""
    return [Scatter(one.claim, one.setting, one.components) for one in found if one.verdict and one.components]


def as_json(found: Sequence[Scatter]) -> str:
    """The same as a text that `from_json` reads."""
    lines = [
        {"claim": one.claim, **one.setting._asdict(), "parts": [_plain(part) for part in one.parts]}
        for one in found
        if all(part.samples for part in one.parts)  # not of a single seed
    ]
    return json.dumps(lines, indent=1)


def _plain(part: Components) -> dict[str, Any]:
    return {"seeds": part.seeds, "samples": {name: sample._asdict() for name, sample in part.samples.items()}}


def from_json(text: str) -> list[Scatter]:
    """What `as_json` wrote."""
    return [
        Scatter(one["claim"], Setting(one["regularizer"], one["hyperparameters"]), tuple(map(_parts, one["parts"])))
        for one in json.loads(text)
    ]


def _parts(given: Mapping[str, Any]) -> Components:
    return Components(given["seeds"], {name: Sample(**sample) for name, sample in given["samples"].items()})


def shipped() -> list[Scatter]:
    """The components of the digits study of `configs/digits.py:claims`."""
    return from_json((importlib.resources.files("jaxreg.claims") / FILE).read_text(encoding="utf-8"))


def needed(
    spec: ClaimsSpec,
    like: Sequence[Scatter],
    settings: Sequence[Setting],
    seeds: int,
    images: int,
    attacked: int,
    size: int,
) -> list[Needed]:
    """What every claim about every judged setting needs, scattering like the setting of its regularizer in `like`.

    `images`, `attacked`: test examples, and those of them that are attacked; `size`: of the family.
    """
    found = []
    for name in CLAIMS:
        smallest = smallest_of(name, spec)
        for setting in settings if smallest is not None else ():
            one = _nearest(like, name, setting)
            if one is not None and smallest is not None:
                count = attacked if name in ATTACKED else images
                parts = [_at(part, count) for part in one.parts]
                chance = min(power(part, seeds, smallest, 0.05 / size) for part in parts) if seeds > 1 else 0.0
                found.append(Needed(name, setting.label, smallest, plan(parts, smallest, size), chance))
    return found


def _nearest(like: Sequence[Scatter], claim: str, setting: Setting) -> Scatter | None:
    own = [one for one in like if one.claim == claim]
    of = [one for one in own if one.setting.regularizer == setting.regularizer]
    same = [one for one in of if one.setting.own == setting.own]
    return next(iter([*same, *of, *own]), None)


def _at(part: Components, count: int) -> Components:
    """The same with so many test examples; of what is compared on fewer examples than there were, that share."""
    sizes = {name: sample._replace(size=count) if name == TEST else sample for name, sample in part.samples.items()}
    return part._replace(samples=sizes)


def as_text(found: Sequence[Needed], seeds: int) -> str:
    """A line a claim and setting: the smallest effect, this study's chance to find it, and the seeds that would."""
    if not found:
        return ""
    heads = ("claim", "setting", "matters from", f"power, n = {seeds}", "seeds to find it", "seeds to find none")
    body = [_cells(one) for one in found]
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (heads, *body)]
    rule = f"(power {POWER:g}, at most {MOST} seeds; all judgements together keep 5 %)"
    return "\n".join([line.rstrip() for line in lines] + [rule])


def _cells(one: Needed) -> tuple[str, ...]:
    found = str(one.plan.find) if one.plan.find else f"> {MOST}" + _images(one.plan)
    same = str(one.plan.equivalent) if one.plan.equivalent else f"> {MOST}"
    smallest = CLAIMS[one.claim].quantity.size(one.smallest)
    return one.claim, one.setting, smallest, f"{one.power:.2f}", found, same


def _images(planned: Plan) -> str:
    return f": needs {planned.examples:,} images" if planned.examples else ": not decidable"
