"""How often verdicts are right: simulated studies from how a real one scatters.

    python benchmarks/verdicts.py runs/digits-claims [--runs=10000]

The study is a finished one of many seeds (`make claims`). Of every judged claim and setting it takes the centred
differences of seeds, of images, and what is left of each seed and image, scaled to their variance components. A
simulated study draws seeds, images and rests from these, the same ones for all claims, adds a known effect, and goes
through the pipeline from estimates to verdicts. Beside it, a whole pipeline from per-example numbers: seeds of the
baseline against other seeds of the baseline, images drawn anew, which differ in nothing.

Printed: with no effect anywhere the chance of any supported or contradicted verdict in a study (at most 5.5 %);
coverage of single 95 % intervals by seeds and images; the chance of "supported" at +8 points of robust accuracy, and at
the smallest effect that matters with the seeds that `plan` names; the chance of "equivalent" without an effect there.
"""

import argparse
import functools
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from jaxreg.claims import endpoints, family
from jaxreg.claims.judgement import parts_of, smallest_of
from jaxreg.claims.trials import Pair, StudyNumbers, Unmeasured, pairs_of
from jaxreg.report import claimed, data
from jaxreg.statistics import Components, Estimates, decide, plan, spread
from jaxreg.statistics.estimates import TEST, of_values
from jaxreg.statistics.planning import POWER

ALPHA = 0.05
DIFFERENCES = ("norm", "cosine", "calibration_before", "calibration_after", "robustness", "accuracy")
LEVELS = ((5, 250), (5, 500), (10, 250), (10, 500))  # seeds, images


class Pool(NamedTuple):
    """What one part of an endpoint is drawn from: centred effects of seeds, of images, and of both, with no effect."""

    seeds: np.ndarray  # [S]
    images: np.ndarray  # [N]
    rest: np.ndarray  # [S, N]


class Endpoint(NamedTuple):
    """One judged claim about one setting."""

    claim: str
    setting: str
    pools: tuple[Pool, ...]
    components: tuple[Components, ...]
    smallest: float | None


def pool_of(estimates: Estimates) -> Pool:
    """The centred parts of an endpoint, scaled so that their mean squares are the variance components.

    A seed's own part is what its mean has beyond the scatter of images within it.
    """
    parts = spread(estimates).components.samples[TEST]
    psi_SN = estimates.influence[TEST]
    own_N, seed_S = psi_SN.mean(0), estimates.value_S - estimates.mean
    rest_SN = psi_SN - own_N
    return Pool(
        _scaled(seed_S, spread(estimates).components.seeds),
        _scaled(own_N, parts.examples),
        _scaled(rest_SN, parts.rest),
    )


def _scaled(values: np.ndarray, variance: float) -> np.ndarray:
    found = float(values.var())
    return values * np.sqrt(variance / found) if found > 0 else values


def drawn(pool: Pool, effect: float, seeds_S: np.ndarray, images_N: np.ndarray, cells_SN: np.ndarray) -> Estimates:
    """An endpoint of a simulated study with a known effect."""
    values_SN = pool.images[images_N % len(pool.images)] + pool.rest.flat[cells_SN % pool.rest.size]
    values_SN = values_SN + effect + smoothed(pool.seeds, seeds_S)[:, None]
    return of_values(values_SN.mean(1), values_SN)


def smoothed(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Draws from few values, with normal noise of Silverman's width, shrunk back to their variance.

    Of ten seeds five draws are often the same ones: without noise they would seem not to scatter.
    """
    width = (4 / (3 * len(values))) ** 0.2
    noise = np.random.default_rng(place.astype(np.uint64)).standard_normal(len(place))
    return (values[place % len(values)] + width * values.std() * noise) / np.sqrt(1 + width**2)


def places(rng: np.random.Generator, seeds: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which seeds, images and rests a simulated study draws, the same for all of its claims."""
    big = 2**31
    return rng.integers(0, big, seeds), rng.integers(0, big, images), rng.integers(0, big, (seeds, images))


def endpoints_of(source: StudyNumbers) -> list[Endpoint]:
    """Every judged claim and setting that was measured."""
    pairs = list(pairs_of(source))
    roles = family.roles(pairs, source.spec)
    found = []
    for name, claim in endpoints.CLAIMS.items():
        for pair in pairs:
            if roles[pair.own.setting] == family.PRIMARY:
                found += _endpoint(name, claim, pair, source)
    return found


def _endpoint(name: str, claim: endpoints.Claim, pair: Pair, source: StudyNumbers) -> list[Endpoint]:
    try:
        parts = parts_of(claim, pair)
    except Unmeasured as error:
        print(f"left out: {name} of {pair.own.setting.label}: {error}", file=sys.stderr)
        return []
    pools = tuple(pool_of(part) for part in parts)
    components = tuple(spread(part).components for part in parts)
    return [Endpoint(name, pair.own.setting.label, pools, components, smallest_of(name, source.spec))]


def null_studies(found: Sequence[Endpoint], runs: int, seeds: int, images: int, size: int) -> float:
    """The share of studies without any effect that have a supported or contradicted verdict."""
    rng, wrong = np.random.default_rng(seeds), 0
    for _ in range(runs):
        at = places(rng, seeds, images)
        verdicts = (decide([drawn(pool, 0.0, *at) for pool in one.pools], one.smallest, size).verdict for one in found)
        wrong += any(verdict in ("supported", "contradicted") for verdict in verdicts)
    return wrong / runs


def coverage(found: Sequence[Endpoint], runs: int, seeds: int, images: int) -> dict[str, float]:
    """The share of single 95 % intervals that hold the effect, by claim, over its settings and parts."""
    rng, hits = np.random.default_rng(seeds + images), {one.claim: [0, 0] for one in found}
    for _ in range(runs):
        at = places(rng, seeds, images)
        for one in found:
            for pool in one.pools:
                low, high = spread(drawn(pool, 0.0, *at)).interval()
                hits[one.claim][0] += low <= 0 <= high
                hits[one.claim][1] += 1
    return {claim: inside / total for claim, (inside, total) in hits.items()}


def chance(one: Endpoint, verdict: str, effect: float, runs: int, seeds: int, images: int, size: int) -> float:
    """How often an endpoint with this effect gets a verdict."""
    rng = np.random.default_rng(7)
    got = 0
    for _ in range(runs):
        at = places(rng, seeds, images)
        got += decide([drawn(pool, effect, *at) for pool in one.pools], one.smallest, size).verdict == verdict
    return got / runs


def pipeline(source: StudyNumbers, runs: int) -> tuple[float, int]:
    """Seeds of the baseline against others of its seeds, images drawn anew: the share of studies with a verdict.

    Every claim that is a difference from the baseline, judged from per-example numbers.
    """
    bases = [pair for pair in pairs_of(source) if pair.own.setting == pair.base.setting]
    names = bases[0].own.names
    half, rng, wrong = len(names) // 2, np.random.default_rng(0), 0
    for _ in range(runs):
        order = rng.permutation(len(names))
        sides = [tuple(names[i] for i in part) for part in (order[:half], order[half : 2 * half])]
        resampled = _resampled(source, rng)
        pair = Pair(*(bases[0].own._replace(names=side, source=resampled) for side in sides))
        found = [decide(parts_of(endpoints.CLAIMS[name], pair), None, len(DIFFERENCES)) for name in DIFFERENCES]
        wrong += any(one.verdict != "inconclusive" for one in found)
    return wrong / runs, half


def _resampled(source: StudyNumbers, rng: np.random.Generator) -> StudyNumbers:
    """The same study with test and validation images drawn anew, the same for all trials."""
    places_by_size: dict[int, np.ndarray] = {}

    def place(count: int) -> np.ndarray:
        if count not in places_by_size:
            places_by_size[count] = rng.integers(0, count, count)
        return places_by_size[count]

    def array(probe: str, trial: str, name: str) -> np.ndarray | None:
        found = _kept(source, probe, trial, name)
        return found if found is None or name == "radii" else found[place(len(found))]

    def predicted(trial: str, split: str) -> dict[str, np.ndarray]:
        held = _predicted(source, trial, split)
        return {name: values[place(len(values))] for name, values in held.items()}

    return source._replace(array=array, predicted=predicted)


_CACHE: dict[tuple[str, ...], Any] = {}


def _kept(source: StudyNumbers, probe: str, trial: str, name: str) -> Any:
    key = (probe, trial, name)
    if key not in _CACHE:
        _CACHE[key] = source.array(probe, trial, name)
    return _CACHE[key]


def _predicted(source: StudyNumbers, trial: str, split: str) -> dict[str, np.ndarray]:
    if (trial, split) not in _CACHE:
        held = source.predicted(trial, split) or {}
        _CACHE[trial, split] = {name: np.asarray(held[name]) for name in ("logits", "labels")}
    return _CACHE[trial, split]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--runs", type=int, default=10_000)
    given = parser.parse_args(argv)
    loaded = data.load([given.study])
    (study,) = loaded.config
    source = claimed.source(loaded, study)
    started, found = time.perf_counter(), endpoints_of(source)
    size = family.size(family.roles(list(pairs_of(source)), source.spec))
    print(f"{platform.platform()}, Python {platform.python_version()}, SciPy {scipy.__version__}")
    print(f"{study}: {len(found)} endpoints, a family of {size}, {given.runs} runs of each row\n")
    _print_nulls(found, given.runs, size)
    _print_coverage(found, max(given.runs // 5, 1))
    _print_power(found, max(given.runs // 10, 1), size)
    wrong, half = pipeline(source, max(given.runs // 20, 1))
    print(f"\nwhole pipeline, {half} seeds of none against {half} others: {100 * wrong:.1f} % have a verdict")
    print(f"{time.perf_counter() - started:.0f} s")


def _print_nulls(found: Sequence[Endpoint], runs: int, size: int) -> None:
    print("no effect anywhere: studies with a supported or contradicted verdict (aim: at most 5.5 %)")
    for seeds, images in LEVELS:
        print(f"  n = {seeds:2}, N = {images}: {100 * null_studies(found, runs, seeds, images, size):5.2f} %")


def _print_coverage(found: Sequence[Endpoint], runs: int) -> None:
    print("\ncoverage of single 95 % intervals, in % (aim: 93.5 to 96.5)")
    tables = {level: coverage(found, runs, *level) for level in LEVELS}
    print(f"  {'':20}" + "".join(f"n={n}, N={count}".rjust(14) for n, count in LEVELS))
    for claim in dict.fromkeys(one.claim for one in found):
        print(f"  {claim:20}" + "".join(f"{100 * tables[level][claim]:14.1f}" for level in LEVELS))


def _print_power(found: Sequence[Endpoint], runs: int, size: int) -> None:
    print("\nrobust accuracy + 8 points, n = 10, N = 500: chance of supported (aim: .85 for label smoothing and Mixup)")
    for one in found:
        if one.claim == "robustness":
            print(f"  {one.setting:40} {chance(one, 'supported', 0.08, runs, 10, 500, size):.2f}")
    print(f"\nat the seeds that `plan` names: supported at the smallest effect, equivalent at none (aim: {POWER})")
    for one in found:
        if one.smallest is not None:
            print(f"  {one.claim:20} {one.setting:40} " + _planned(one, runs, size))


def _planned(one: Endpoint, runs: int, size: int) -> str:
    planned = plan(one.components, one.smallest or 1.0, size)
    images = one.components[0].samples[TEST].size
    ask = functools.partial(chance, one, runs=runs, images=images, size=size)
    said = []
    for verdict, seeds, effect in (("supported", planned.find, one.smallest), ("equivalent", planned.equivalent, 0.0)):
        told = f"n = {seeds:2}: {ask(verdict=verdict, effect=effect, seeds=seeds):.2f}" if seeds else "not with 40"
        said.append(f"{verdict} {told}")
    return ", ".join(said)


if __name__ == "__main__":
    main()
