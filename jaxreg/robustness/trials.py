"""A bench of trials under attack: the models, the compiled programs, and one attack on all of them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg.robustness import trial
from jaxreg.robustness.attacks import Attack, passes_of
from jaxreg.robustness.balls import Norm

Tree = Any


Report = Callable[[slice, np.ndarray], None]  # (examples of a finished call, their smallest fooling radii [T, n])


def silent(rows: slice, smallest: np.ndarray) -> None:
    """Reports nothing."""


class Data(NamedTuple):
    """Images [N, H, W, C] in [0, 1], labels [N], ids [N], and the clean logits of each trial [T, N, K]."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    clean: np.ndarray

    def take(self, rows: slice) -> "Data":
        """Some of the examples."""
        return Data(self.images[rows], self.labels[rows], self.ids[rows], self.clean[:, rows])


class Outcome(NamedTuple):
    """One attack on all trials.

    robust [T, E, N]; adversarial [T, E, N, H, W, C]; smallest [T, N], the smallest fooling radius (-1: misclassified
    without attack, inf: none); hits [T, E, N], fooled at the radius itself; evaluations [T] of the network.
    """

    robust: np.ndarray
    adversarial: np.ndarray
    smallest: np.ndarray
    hits: np.ndarray
    evaluations: np.ndarray


class Bench(NamedTuple):
    """What stays fixed over an evaluation; `passes`: capacity of each method's program; `chunk`: examples a call."""

    models: tuple[Tree, Tree]
    forward: Callable[[Tree, Tree], Any]
    attack: Mapping[str, Callable[[trial.Job, trial.Chunk], Any]]
    passes: Mapping[str, int]
    chunk: int
    seed: int
    norm: Norm

    @property
    def trials(self) -> int:
        """Stacked trials, padding included."""
        return int(jax.tree.leaves(self.models)[0].shape[0])


def capacity(count: int, most: int) -> int:
    """Examples a call: a power of two that holds `count`, at most `most`."""
    return min(most, max(8, 1 << (count - 1).bit_length()))


def logits(bench: Bench, x_TNHWC: np.ndarray) -> np.ndarray:
    """Logits [T, N, K] of each trial on its own images, chunk by chunk in one program."""
    count, parts = x_TNHWC.shape[1], []
    for low in range(0, count, bench.chunk):
        part = _tail(x_TNHWC[:, low : low + bench.chunk], bench.chunk, 0)
        found = trial.host(bench.forward((*bench.models, part), np.zeros(1, np.int32)))
        parts.append(found[:, : min(bench.chunk, count - low)])
    return np.concatenate(parts, axis=1)


def run_attack(
    bench: Bench,
    attack: Attack,
    radii: np.ndarray,
    data: Data,
    broken: np.ndarray,
    early_exit: bool = True,
    report: Report = silent,
    starts: np.ndarray | None = None,
) -> Outcome:
    """One attack on all trials and examples, at ascending radii [E] or radii of each trial and example [T, E, N].

    `broken` [T, N] as in `Outcome.smallest`: what is known before. Without `early_exit` no radius spares another.
    `starts` [T, N, H, W, C]: where a search for minimal radii begins, if not at the images.
    """
    count = len(data.labels)
    eps_TEN = np.broadcast_to(radii[None, :, None], (bench.trials, len(radii), count)) if radii.ndim == 1 else radii
    chunks = [slice(low, min(low + bench.chunk, count)) for low in range(0, count, bench.chunk)]
    begin = [None if starts is None else starts[:, c] for c in chunks]
    parts = [
        _chunk(
            bench, attack, eps_TEN[:, :, c], data.take(c), broken[:, c], early_exit, functools.partial(report, c), first
        )
        for c, first in zip(chunks, begin)
    ]
    joined = [np.concatenate([part[i] for part in parts], axis=1 if i == 2 else 2) for i in range(4)]
    return Outcome(joined[0], joined[1], joined[2], joined[3], np.sum([part.evaluations for part in parts], axis=0))


def _chunk(
    bench: Bench,
    attack: Attack,
    eps_TEN: np.ndarray,
    data: Data,
    broken_TN: np.ndarray,
    early_exit: bool,
    report: Callable[[np.ndarray], None],
    starts: np.ndarray | None,
) -> Outcome:
    size, most = len(data.labels), bench.passes[attack.method]
    pad = [trial.padded(a, bench.chunk, fill) for a, fill in ((data.images, 0), (data.labels, -1), (data.ids, 0))]
    keys = trial.keys_of(bench.seed, pad[2], most)
    chunk = trial.chunk_of(pad[0], pad[1], keys, attack, early_exit)
    targets_TCP = _tail(trial.targets_of(data.clean, data.labels, attack, most), bench.chunk, 0)
    broken_TC, groups = _tail(broken_TN, bench.chunk, -1), []
    starts_TC = None if starts is None else _tail(starts, bench.chunk, 0)
    for low in range(0, eps_TEN.shape[1], trial.GROUP):
        wanted = eps_TEN[:, low : low + trial.GROUP]
        eps_TEC = np.full((bench.trials, trial.GROUP, bench.chunk), -1, np.float32)
        eps_TEC[:, : wanted.shape[1], :size] = wanted
        found = trial.host(
            bench.attack[attack.method](trial.Job(*bench.models, targets_TCP, broken_TC, eps_TEC, starts_TC), chunk)
        )
        broken_TC = found.broken_N
        shown = found.robust_EN, found.adversarial_ENHWC, found.pass_EN >= 0
        groups.append((*(a[:, : wanted.shape[1], :size] for a in shown), found.evaluations))
        report(broken_TC[:, :size])
    robust, adversarial, hits = (np.concatenate([group[i] for group in groups], axis=1) for i in range(3))
    evaluations = np.sum([group[3] for group in groups], axis=0)
    return Outcome(robust, carried(robust, adversarial), broken_TC[:, :size], hits, evaluations)


def carried(robust_TEN: np.ndarray, adversarial_TENHWC: np.ndarray) -> np.ndarray:
    """The adversary of an example's smallest fooling radius, at that radius and all larger ones."""
    own_E1 = np.arange(robust_TEN.shape[1])[:, None]
    first_T1N = np.argmax(~robust_TEN, axis=1)[:, None]
    from_TEN = np.where(robust_TEN, own_E1, first_T1N)
    spread = (..., *(None,) * (adversarial_TENHWC.ndim - 3))
    return np.take_along_axis(adversarial_TENHWC, from_TEN[spread], axis=1)


def _tail(rows: np.ndarray, count: int, fill: float) -> np.ndarray:
    """[T, n, ...] filled up to [T, count, ...]."""
    return np.swapaxes(trial.padded(np.swapaxes(rows, 0, 1), count, fill), 0, 1)


def capacities(attacks: Mapping[str, Attack]) -> dict[str, int]:
    """The passes each method's program must hold."""
    passes: dict[str, int] = {}
    for attack in attacks.values():
        passes[attack.method] = max(passes.get(attack.method, 1), passes_of(attack))
    return passes
