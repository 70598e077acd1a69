"""The robustness probe: a suite of attacks at several radii on all trials of a program, and the verdict on it."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from jaxreg.arithmetic import single
from jaxreg.checks import check_attack_inputs, check_attacked_labels, check_radii, check_raw_logits
from jaxreg.measured import Measured
from jaxreg.robustness import controls, finished_calls, flips, rows, suites, verdict_checks
from jaxreg.robustness.attacks import ATTACKS, Attack, Suite, check, suite
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.rows import Findings
from jaxreg.robustness.suites import Report
from jaxreg.robustness.trial import Apply
from jaxreg.robustness.trials import GROUP, Evaluation, Networks, Program, capacity, worst
from jaxreg.runtime import parallel
from jaxreg.runtime.compiling import kept
from jaxreg.runtime.precision import careful

Tree = Any


class SuiteProgress(NamedTuple):
    """Where an evaluation stands: calls done, and how many of all examples x trials nothing has fooled so far."""

    attack: str
    done: int
    calls: int
    robust: int
    examples: int


Show = Callable[[SuiteProgress], None]


@kept
@single
@careful
def measure(
    apply: Apply,
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
    mesh: Any = None,
    local: parallel.Local = "map",
    chunk: int = 512,
    slots: int | None = None,
    keep: str = "worst",
    sources: np.ndarray | None = None,
    effort: verdict_checks.Effort | None = None,
    finished: epath.PathLike | None = None,
    progress: Show | None = None,
) -> list[Measured]:
    """Attacks `images` [N, H, W, C] (float32 in [0, 1]) with every attack of a suite at every radius, trial by trial.

    Args:
      params, stats: stacks [T, ...] of what `apply` takes.
      key_ids: integers [N], from which alone (and `seed`) an example's random numbers come.
      trials: how many of the stacked trials to report (default: all); the rest is padding.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
      local: whether trials of one device run one after another ("map") or batched ("vmap").
      chunk, slots: examples a call, and how many attacks run at once (64 on a CPU, else 256); they change no number.
      keep: whose adversarial examples to return: "worst" (of all attacks) or "all" (of each attack, too).
      sources: for each trial the trial whose adversaries to try on it (the baseline at its seed; itself: none).
      effort: of the checks behind the verdict; None: no verdict.
      finished: a folder that keeps finished calls, so that an interrupted evaluation goes on where it stopped.
    Returns: for each trial the rows robust_accuracy/ATTACK/EPS, robust_accuracy/worst/EPS (of the suite),
      robust_accuracy/noise/EPS and, with sources, robust_accuracy/transfer/EPS (both beside the worst case, not in it),
      attacked_METRIC/strongest/EPS and attacked_METRIC/worst/EPS (calibration at the points of the highest loss that
      PGD-CE ends with, and at the first points that fooled, just past the boundary), min_eps/median, verdict/CHECK and
      verdict (0 reliable, 1 suspect, 2 broken); mask_flips/ATTACK/EPS (the share of a mask that turns when all stored
      examples are looked at again at the highest precision); and arrays with first axis N: robust/ATTACK/EPS,
      adversarial/worst/EPS, adversarial_logits/worst/EPS, adversarial_logits/strongest/EPS, min_eps; and radii [E], as
      EPS rounds them, norm.
    Raises: ValueError: images outside [0, 1], labels or ids that do not fit, a radius below 0, an unknown suite, an
      attack that cannot run; without a verdict also a trial that returns probabilities.
    """
    examples = np.asarray(images), np.asarray(labels), np.asarray(key_ids)
    radii, count = np.unique(np.asarray(epsilons, np.float32)), len(jax.tree.leaves(params)[0])
    check_radii(radii, norm)
    check_attack_inputs(*examples)
    mesh = parallel.make_mesh() if mesh is None else mesh
    networks = Networks(apply, parallel.put_trials((params, stats), mesh), mesh, local, capacity(len(images), chunk))
    program = "" if finished is None else finished_calls.described(apply, networks.models, norm, images.shape[1:])
    kept = functools.partial(finished_calls.remembered, folder=finished, program=program)
    evaluation = _evaluation(networks, examples, radii, norm, seed, kept)
    chosen = _checked_suite(suite_name, evaluation, verdict=effort is not None)
    # Few slots waste little at the end of a queue; a CPU is as quick with 64 images a pass as with more.
    slots = slots or (64 if jax.default_backend() == "cpu" else 256)
    evaluation = evaluation.with_calls(_attacks_of(chosen, effort, evaluation.clean.shape[2]), slots, kept)
    trials = count if trials is None else trials
    report = _reporter(chosen, evaluation, trials, progress)
    findings = _find(evaluation, chosen, sources, report)
    findings = findings._replace(flips=flips.recomputed(evaluation, findings.everything))
    if effort is not None:
        checks = verdict_checks.gather(evaluation, findings, effort)
        findings = findings._replace(checks=checks, checked=min(effort.examples, len(images)))
    return rows.measured(findings, evaluation, trials, split, keep)


def _evaluation(
    networks: Networks,
    examples: tuple[np.ndarray, np.ndarray, np.ndarray],
    radii: np.ndarray,
    norm: Norm,
    seed: int,
    kept: Callable[..., Program],
) -> Evaluation:
    """The evaluation with its clean logits; one that was interrupted goes on with those it began with."""
    images, labels, ids = examples
    forward = kept("clean", lambda _, shared: networks.logits_of_all(shared), rebuild=np.asarray)
    clean_TNK = forward(networks.models, images)
    check_attacked_labels(labels, clean_TNK.shape[2])
    return Evaluation(networks, images, labels.astype(np.int32), ids.astype(np.uint32), clean_TNK, radii, norm, seed)


def _checked_suite(suite_name: str | Suite, evaluation: Evaluation, verdict: bool) -> Suite:
    """The suite, all of whose attacks can run; a verdict says of single trials that they return probabilities."""
    classes = evaluation.clean.shape[2]
    chosen = suite(suite_name, classes) if isinstance(suite_name, str) else suite_name
    for attack in chosen.attacks.values():
        check(attack, evaluation.norm, classes)
    for logits_NK in () if verdict else evaluation.clean:
        check_raw_logits(logits_NK)
    return chosen


def _attacks_of(chosen: Suite, effort: verdict_checks.Effort | None, classes: int) -> list[Attack]:
    """Every attack that will run."""
    attacks = [*chosen.attacks.values(), controls.STRONGEST]
    if chosen.minimal_steps:
        attacks.append(ATTACKS["minimal"])
    return attacks + list(verdict_checks.attacks_needed(effort, classes).values() if effort else ())


def _find(evaluation: Evaluation, chosen: Suite, sources: np.ndarray | None, report: Report) -> Findings:
    """All attacks and controls, in the order that every process of a job runs them."""
    outcomes, near = suites.run(evaluation, chosen, report)
    overall, steps = worst(list(outcomes.values())), chosen.minimal_steps
    min_eps_TN = suites.minimal_radii(evaluation, near, steps, report) if chosen.searches else None
    highest = evaluation.attack(controls.STRONGEST, report=functools.partial(report, "strongest")).adversarial
    logits = evaluation.logits(overall.adversarial), evaluation.logits(highest)
    tried = {"noise": controls.noise(evaluation)}
    if sources is not None:
        sources = np.concatenate([sources, np.arange(len(sources), evaluation.networks.trials)])  # padding: itself
        tried["transfer"] = controls.outcome_at(evaluation, highest[sources])
    return Findings(outcomes, overall, *logits, tried, sources, min_eps_TN)


def _reporter(chosen: Suite, evaluation: Evaluation, trials: int, show: Show | None) -> Report:
    """Counts finished calls, and the examples of real trials that nothing has fooled at the largest radius so far."""
    count, radii = len(evaluation.labels), evaluation.radii
    chunks, groups = -(-count // evaluation.networks.chunk), -(-len(radii) // GROUP)
    searched = [max(1, attack.targets) for attack in chosen.attacks.values() if attack.method == "minimal"]
    attacks = len(chosen.attacks) - len(searched) + 1  # that of the highest loss
    calls = chunks * (groups * attacks + sum(searched) + bool(chosen.minimal_steps))
    robust, done = ~wrong(evaluation.clean[:trials], evaluation.labels), itertools.count(1)

    def report(name: str, examples: slice, smallest: np.ndarray) -> None:
        robust[:, examples] &= smallest[:trials] > radii[-1]
        if show:
            show(SuiteProgress(name, next(done), calls, int(np.sum(robust)), robust.size))

    return report
