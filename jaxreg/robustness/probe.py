"""The robustness probe: a suite of attacks at several radii on all trials of a program."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxreg.probe import Measured
from jaxreg.robustness import programs, summary
from jaxreg.robustness.attack import ATTACKS, Attack, check, check_inputs, passes_of
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.suites import Suite, suite

Tree = Any


class Progress(NamedTuple):
    """Where an evaluation stands: examples x trials still robust at the largest radius, of how many attacked so far."""

    attack: str
    done: int  # calls
    calls: int
    robust: int
    examples: int


class Outcome(NamedTuple):
    """One attack on all trials: robust [T, E, N], adversarial [T, E, N, H, W, C], smallest fooling radius [T, N]."""

    robust: np.ndarray
    adversarial: np.ndarray
    smallest: np.ndarray
    evaluations: np.ndarray


class Bench(NamedTuple):
    """What stays fixed over an evaluation: the models, the programs, and the sizes of a call."""

    models: tuple[Tree, Tree]
    forward: Callable[[Tree, Tree], Array]
    attack: Mapping[str, Callable[[programs.Job, programs.Chunk], Any]]
    passes: Mapping[str, int]  # capacity of each method's program
    chunk: int
    seed: int


def measure(
    per_trial: programs.PerTrial,
    apply: programs.Apply,
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
    slots: int = 256,
    keep: str = "worst",
    progress: Callable[[Progress], None] | None = None,
) -> list[Measured]:
    """Attacks `images` [N, H, W, C] (float32 in [0, 1]) with every attack of a suite at every radius, trial by trial.

    Args:
      per_trial: lifts fn(one_trial, shared) to stacks [T, ...]; `params` and `stats` are such stacks.
      key_ids: uint32 [N], from which alone (and `seed`) an example's random numbers come.
      trials: how many of the stacked trials are real; the rest is padding.
      chunk, slots: examples a call, and how many attacks run at once; they change no number.
      keep: whose adversarial examples to return: "worst" (of all attacks) or "all" (of each attack, too).
    Returns: for each trial the rows robust_accuracy/ATTACK/EPS, robust_accuracy/worst/EPS, min_eps/median, and arrays
      with first axis N: robust/ATTACK/EPS, adversarial/worst/EPS, adversarial_logits/worst/EPS, min_eps.
    Raises: ValueError: images outside [0, 1], a radius below 0, an unknown suite, an attack that cannot run.
    """
    radii = np.unique(np.asarray(epsilons, np.float32))
    check_inputs(images, radii)
    data = np.asarray(images, np.float32), np.asarray(labels, np.int32), np.asarray(key_ids, np.uint32)
    forward = programs.logits_program(apply, per_trial)
    bench = Bench((params, stats), forward, {}, {}, min(chunk, _rounded(len(images))), seed)
    clean = _logits(bench, np.broadcast_to(data[0], (_stacked(params), *data[0].shape)))
    chosen = suite(suite_name, clean.shape[2]) if isinstance(suite_name, str) else suite_name
    for attack in chosen.attacks.values():
        check(attack, norm, clean.shape[2])
    bench = _with_attacks(bench, functools.partial(programs.attack_program, apply, per_trial), chosen, norm, slots)
    report = _reporter(chosen, len(images), bench.chunk, len(radii), progress)
    outcomes = run_suite(bench, chosen, radii, data, clean, report)
    worst = summary.worst(list(outcomes.values()))
    smallest = _search(bench, chosen, radii, norm, data, clean, worst, report) if chosen.minimal_steps else None
    shown = np.stack([_logits(bench, worst.adversarial[:, e]) for e in range(len(radii))], axis=1)
    found = summary.Findings(outcomes, worst, clean, shown, smallest)
    count = _stacked(params) if trials is None else trials
    return [summary.measured(found, t, radii, data[1], split, keep) for t in range(count)]


def _stacked(params: Tree) -> int:
    return jax.tree.leaves(params)[0].shape[0]


def _rounded(count: int) -> int:
    return max(8, 1 << (count - 1).bit_length())


def _with_attacks(bench: Bench, program: Callable[..., Any], chosen: Suite, norm: Norm, slots: int) -> Bench:
    passes: dict[str, int] = {"minimal": 1} if chosen.minimal_steps else {}
    for attack in chosen.attacks.values():
        passes[attack.method] = max(passes.get(attack.method, 1), passes_of(attack))
    return bench._replace(attack={method: program(method, norm, slots) for method in passes}, passes=passes)


def _logits(bench: Bench, x_TNHWC: np.ndarray) -> np.ndarray:
    """Logits [T, N, K] of each trial on its own images, chunk by chunk in one program."""
    count, parts = x_TNHWC.shape[1], []
    for low in range(0, count, bench.chunk):
        part = np.swapaxes(x_TNHWC[:, low : low + bench.chunk], 0, 1)
        part = np.swapaxes(programs.padded(part, bench.chunk, 0), 0, 1)
        logits = programs.host(bench.forward((*bench.models, part), np.zeros(1, np.int32)))
        parts.append(logits[:, : min(bench.chunk, count - low)])
    return np.concatenate(parts, axis=1)


def run_suite(
    bench: Bench, chosen: Suite, radii: np.ndarray, data: tuple[np.ndarray, ...], clean: np.ndarray, report: Any
) -> dict[str, Outcome]:
    """Every attack of a suite, in order; in a cascade each starts from what the ones before it broke."""
    outcomes: dict[str, Outcome] = {}
    broken = programs.unbroken(clean, data[1])
    for name, attack in chosen.attacks.items():
        outcomes[name] = run_attack(bench, name, attack, radii, data, clean, broken, report)
        if chosen.cascade:
            broken = outcomes[name].smallest
    return outcomes


def run_attack(
    bench: Bench,
    name: str,
    attack: Attack,
    radii: np.ndarray,
    data: tuple[np.ndarray, ...],
    clean: np.ndarray,
    broken: np.ndarray,
    report: Any,
) -> Outcome:
    """One attack on all trials and examples, at ascending radii [E] or radii of each trial and example [T, E, N]."""
    trials, count = broken.shape
    eps_TEN = np.broadcast_to(radii[None, :, None], (trials, len(radii), count)) if radii.ndim == 1 else radii
    chunks = [slice(low, min(low + bench.chunk, count)) for low in range(0, count, bench.chunk)]
    parts = [_attack_chunk(bench, name, attack, eps_TEN, data, clean, broken, part, report) for part in chunks]
    robust, adversarial = (np.concatenate([p[i] for p in parts], axis=2) for i in (0, 1))
    return Outcome(robust, adversarial, np.concatenate([p[2] for p in parts], axis=1), sum(p[3] for p in parts))


def _attack_chunk(
    bench: Bench,
    name: str,
    attack: Attack,
    eps_TEN: np.ndarray,
    data: tuple[np.ndarray, ...],
    clean: np.ndarray,
    broken: np.ndarray,
    part: slice,
    report: Any,
) -> tuple[np.ndarray, ...]:
    images, labels, ids = (programs.padded(a[part], bench.chunk, fill) for a, fill in zip(data, (0, -1, 0)))
    size = part.stop - part.start
    targets = programs.targets_of(clean[:, part], data[1][part], attack, bench.passes[attack.method])
    targets_TCP, broken_TC = _tail(targets, bench.chunk, 0), _tail(broken[:, part], bench.chunk, -1)
    keys = programs.keys_of(bench.seed, ids, bench.passes[attack.method])
    chunk, groups = programs.chunk_of(images, labels, keys, attack), []
    for low in range(0, eps_TEN.shape[1], programs.GROUP):
        wanted = eps_TEN[:, low : low + programs.GROUP, part]
        eps_TEC = np.full((len(targets), programs.GROUP, bench.chunk), -1, np.float32)
        eps_TEC[:, : wanted.shape[1], :size] = wanted
        job = programs.Job(*bench.models, targets_TCP, broken_TC, eps_TEC)
        found = programs.host(bench.attack[attack.method](job, chunk))
        broken_TC = found.broken_N
        robust, adversarial = (a[:, : wanted.shape[1], :size] for a in (found.robust_EN, found.adversarial_ENHWC))
        groups.append((robust, adversarial, found.evaluations))
        report(name, robust[:, -1])
    robust, adversarial = (np.concatenate([g[i] for g in groups], axis=1) for i in (0, 1))
    return robust, summary.carried(robust, adversarial), broken_TC[:, :size], sum(g[2] for g in groups)


def _tail(rows: np.ndarray, count: int, fill: float) -> np.ndarray:
    """[T, n, ...] filled up to [T, count, ...]."""
    return np.swapaxes(programs.padded(np.swapaxes(rows, 0, 1), count, fill), 0, 1)


def _search(
    bench: Bench,
    chosen: Suite,
    radii: np.ndarray,
    norm: Norm,
    data: tuple[np.ndarray, ...],
    clean: np.ndarray,
    worst: Outcome,
    report: Any,
) -> np.ndarray:
    """The minimal radius [T, N]: searched below the smallest radius that fooled, or up to twice the largest tried."""
    attack = ATTACKS["minimal"]._replace(steps=chosen.minimal_steps)
    far = min(2 * radii[-1], 1.0) if norm == "linf" else 2 * radii[-1]
    limit = np.where(np.isfinite(worst.smallest) & (worst.smallest > 0), worst.smallest, np.float32(far))
    broken = programs.unbroken(clean, data[1])
    found = run_attack(bench, "minimal", attack, limit[:, None], data, clean, broken, report)
    return summary.minimal_radii(found, worst, data[0], broken, norm)


def _reporter(
    chosen: Suite, count: int, chunk: int, radii: int, progress: Callable[[Progress], None] | None
) -> Callable[[str, np.ndarray], None]:
    chunks, groups = -(-count // chunk), -(-radii // programs.GROUP)
    calls = chunks * (groups * len(chosen.attacks) + bool(chosen.minimal_steps))
    done = {"calls": 0}

    def report(name: str, robust: np.ndarray) -> None:
        done["calls"] += 1
        if progress:
            progress(Progress(name, done["calls"], calls, int(np.sum(robust)), int(robust.size)))

    return report
