"""The robustness probe: a suite of attacks at several radii on all trials of a program, and the verdict on it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from jaxreg.measured import Measured
from jaxreg.names import radius_texts
from jaxreg.robustness import attacked_calibration, controls, finished_calls, trial, verdict_checks
from jaxreg.robustness import rows as summary
from jaxreg.robustness.attacks import ATTACKS, Suite, check, suite
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.border import check_inputs, check_logits
from jaxreg.robustness.trials import Bench, Data, Outcome, capacities, capacity, logits, run_attack

Tree = Any


class Progress(NamedTuple):
    """Where an evaluation stands: calls done, and how many of all examples x trials nothing has fooled so far."""

    attack: str
    done: int
    calls: int
    robust: int
    examples: int


def measure(
    per_trial: trial.PerTrial,
    apply: trial.Apply,
    params: Tree,
    stats: Tree,
    images: np.ndarray,
    labels: np.ndarray,
    key_ids: np.ndarray,
    *,
    suite_name: str | Suite,
    epsilons: tuple[float, ...],
    norm: Norm = "linf",
    seed: int = 0,
    split: str = "test",
    trials: int | None = None,
    chunk: int = 512,
    slots: int | None = None,
    keep: str = "worst",
    sources: np.ndarray | None = None,
    effort: verdict_checks.Effort | None = None,
    finished: epath.PathLike | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Measured]:
    """Attacks `images` [N, H, W, C] (float32 in [0, 1]) with every attack of a suite at every radius, trial by trial.

    Args:
      per_trial: lifts fn(one_trial, shared) to stacks [T, ...]; `params` and `stats` are such stacks.
      key_ids: uint32 [N], from which alone (and `seed`) an example's random numbers come.
      trials: how many of the stacked trials are real; the rest is padding.
      chunk, slots: examples a call, and how many attacks run at once (64 on a CPU, else 256); they change no number.
      keep: whose adversarial examples to return: "worst" (of all attacks) or "all" (of each attack, too).
      sources: for each stacked trial the trial whose adversaries to try on it (the baseline at its seed; itself: none).
      effort: of the checks behind the verdict; None: no verdict.
      finished: a folder that keeps finished calls, so that an interrupted evaluation goes on where it stopped.
    Returns: for each trial the rows robust_accuracy/ATTACK/EPS, robust_accuracy/worst/EPS (of the suite),
      robust_accuracy/noise/EPS and, with sources, robust_accuracy/transfer/EPS (both beside the worst case, not in it),
      attacked_METRIC/strongest/EPS and attacked_METRIC/worst/EPS (calibration at the points of the highest loss that
      PGD-CE ends with, and at the first points that fooled, just past the boundary), min_eps/median, verdict/CHECK and
      verdict (0 reliable, 1 suspect, 2 broken); and arrays with first axis N: robust/ATTACK/EPS, adversarial/worst/EPS,
      adversarial_logits/worst/EPS, adversarial_logits/strongest/EPS, min_eps; and radii [E], as EPS rounds them, norm.
    Raises: ValueError: images outside [0, 1], a radius below 0, an unknown suite, an attack that cannot run; without
      a verdict also a trial that returns probabilities.
    """
    radii = np.unique(np.asarray(epsilons, np.float32))
    check_inputs(images, radii)
    bench = _bench(per_trial, apply, (params, stats), capacity(len(images), chunk), seed, norm)
    data = _data(bench, images, labels, key_ids)
    chosen = _checked_suite(suite_name, norm, data)
    if effort is None:  # else the verdict says so, and other trials keep their numbers
        for logits_NK in data.clean:
            check_logits(logits_NK)
    # Few slots waste little at the end of a queue; a CPU is as quick with 64 images a pass as with more.
    slots = slots or (64 if jax.default_backend() == "cpu" else 256)
    bench = _with_programs(bench, functools.partial(trial.attack_program, apply, per_trial), chosen, effort, slots)
    program = trial.described(apply, (params, stats), norm, data.images.shape[1:]) if finished is not None else ""
    kept = {name: finished_calls.remembered(call, finished, name, program) for name, call in bench.attack.items()}
    bench = bench._replace(attack=kept)
    count = bench.trials if trials is None else trials
    report = _reporter(chosen, data, bench.chunk, radii, count, progress)
    outcomes = run_suite(bench, chosen, radii, data, report)
    worst = summary.worst(list(outcomes.values()))
    smallest = _search(bench, chosen, radii, data, worst, report) if chosen.minimal_steps else None
    highest = controls.strongest(bench, data, radii, functools.partial(report, "strongest"))
    shown, sure = (_at_each(bench, points) for points in (worst.adversarial, highest))
    beside, left_out = _beside(bench, data, highest, sources, radii)
    found = summary.Findings(outcomes | beside, worst, shown, sure, left_out, smallest, None, 0)
    if effort is not None:
        diagnose = trial.diagnosis_program(apply, per_trial)
        checks = verdict_checks.gather(
            bench, diagnose, data, radii, outcomes, worst, shown, beside.get("transfer"), effort
        )
        found = found._replace(checks=_own(checks, left_out), checked=min(effort.examples, len(images)))
    doubt = _confidence_rows(sure[:count], shown[:count], data, radii, split, seed)
    found_T = [summary.measured(found, t, radii, norm, split, keep) for t in range(count)]
    return [one._replace(rows=one.rows + more) for one, more in zip(found_T, doubt)]


def _beside(
    bench: Bench, data: Data, highest_TENHWC: np.ndarray, sources_T: np.ndarray | None, radii: np.ndarray
) -> tuple[dict[str, Outcome], dict[str, np.ndarray]]:
    """The controls, beside the worst case and not in it, and [T] which trials one of them says nothing about."""
    noise = {"noise": controls.noise(bench, data, radii)}
    if sources_T is None:
        return noise, {}
    transfer = controls.transfer(bench, data, highest_TENHWC, np.asarray(sources_T), radii)
    return noise | {"transfer": transfer}, {"transfer": np.asarray(sources_T) == np.arange(bench.trials)}


def _own(checks_T: list[dict[str, Any]], left_out: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The checks of each trial, without those that say nothing about it."""
    return [{k: v for k, v in c.items() if k not in left_out or not left_out[k][t]} for t, c in enumerate(checks_T)]


def _confidence_rows(
    strongest_TENK: np.ndarray, worst_TENK: np.ndarray, data: Data, radii: np.ndarray, split: str, seed: int
) -> list[list[Any]]:
    """For each trial the rows attacked_METRIC/KIND/EPS from its logits at the points of each kind."""
    names = [f"{kind}/{text}" for kind in ("strongest", "worst") for text in radius_texts(radii)]
    both = np.concatenate([strongest_TENK, worst_TENK], axis=1)
    return attacked_calibration.rows(both, data.labels, data.ids, "attacked", names, split, seed)


def _checked_suite(suite_name: str | Suite, norm: Norm, data: Data) -> Suite:
    """The suite, all of whose attacks can run on so many classes."""
    classes = data.clean.shape[2]
    chosen = suite(suite_name, classes) if isinstance(suite_name, str) else suite_name
    for attack in chosen.attacks.values():
        check(attack, norm, classes)
    return chosen


def _at_each(bench: Bench, x_TENHWC: np.ndarray) -> np.ndarray:
    """The logits [T, E, N, K] of each trial at its own points of every radius."""
    return np.stack([logits(bench, x_TENHWC[:, e]) for e in range(x_TENHWC.shape[1])], axis=1)


def _bench(
    per_trial: trial.PerTrial, apply: trial.Apply, models: tuple[Tree, Tree], chunk: int, seed: int, norm: Norm
) -> Bench:
    return Bench(models, trial.logits_program(apply, per_trial), {}, {}, chunk, seed, norm)


def _data(bench: Bench, images: np.ndarray, labels: np.ndarray, key_ids: np.ndarray) -> Data:
    images = np.asarray(images, np.float32)
    clean = logits(bench, np.broadcast_to(images, (bench.trials, *images.shape)))
    return Data(images, np.asarray(labels, np.int32), np.asarray(key_ids, np.uint32), clean)


def _with_programs(
    bench: Bench, program: Callable[..., Any], chosen: Suite, effort: verdict_checks.Effort | None, slots: int
) -> Bench:
    attacks = {**chosen.attacks, "strongest": controls.STRONGEST}
    if chosen.minimal_steps:
        attacks["minimal"] = ATTACKS["minimal"]
    if effort is not None:
        attacks |= {f"check_{name}": attack for name, attack in verdict_checks.attacks_needed(effort).items()}
    passes = capacities(attacks)
    return bench._replace(attack={method: program(method, bench.norm, slots) for method in passes}, passes=passes)


def run_suite(bench: Bench, chosen: Suite, radii: np.ndarray, data: Data, report: Any) -> dict[str, Outcome]:
    """Every attack of a suite, in order; in a cascade each starts from what the ones before it broke."""
    outcomes: dict[str, Outcome] = {}
    broken = trial.unbroken(data.clean, data.labels)
    for name, attack in chosen.attacks.items():
        outcomes[name] = run_attack(bench, attack, radii, data, broken, report=functools.partial(report, name))
        if chosen.cascade:
            broken = outcomes[name].smallest
    return outcomes


def _search(bench: Bench, chosen: Suite, radii: np.ndarray, data: Data, worst: Outcome, report: Any) -> np.ndarray:
    """The minimal radius [T, N]: searched below the smallest radius that fooled, or up to twice the largest tried."""
    attack = ATTACKS["minimal"]._replace(steps=chosen.minimal_steps)
    far = min(2 * radii[-1], 1.0) if bench.norm == "linf" else 2 * radii[-1]
    limit = np.where(np.isfinite(worst.smallest) & (worst.smallest > 0), worst.smallest, np.float32(far))
    broken = trial.unbroken(data.clean, data.labels)
    known = worst.robust[:, -1, :, None, None, None]
    starts = np.where(known, data.images, summary.nearest(worst))
    shown = functools.partial(report, "minimal")
    found = run_attack(bench, attack, limit[:, None], data, broken, report=shown, starts=starts)
    return summary.minimal_radii(found, worst, data.images, broken, bench.norm)


def _reporter(
    chosen: Suite, data: Data, chunk: int, radii: np.ndarray, trials: int, progress: Callable[[Progress], None] | None
) -> Callable[[str, slice, np.ndarray], None]:
    """Counts calls, and what stands at the largest radius against all of them, in the trials that are no padding."""
    chunks, groups = -(-len(data.labels) // chunk), -(-len(radii) // trial.GROUP)
    calls = chunks * (groups * (len(chosen.attacks) + 1) + bool(chosen.minimal_steps))
    standing, done = ~wrong(data.clean[:trials], data.labels), {"calls": 0}

    def report(name: str, rows: slice, smallest: np.ndarray) -> None:
        done["calls"] += 1
        standing[:, rows] &= smallest[:trials] > radii[-1]
        if progress:
            progress(Progress(name, done["calls"], calls, int(np.sum(standing)), standing.size))

    return report
