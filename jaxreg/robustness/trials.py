"""Trained trials under attack: their networks, examples and radii, and one attack on all of them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.rng import Stream, key_of
from jaxreg.robustness import trial
from jaxreg.robustness.attacks import Attack, numbers_of, passes_of
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.loop import Attacked
from jaxreg.robustness.method import AttackNumbers
from jaxreg.robustness.trial import AttackedExamples, Prior, filled
from jaxreg.runtime import parallel

Tree = Any
Outcome = Attacked  # of all trials: every array with a first axis T
Program = Callable[[Tree, Tree], Any]  # of stacks [T, ...] and what all trials share
Report = Callable[[slice, np.ndarray], None]  # (examples of a finished call, their smallest fooling radii [T, n])
GROUP = 4  # radii in one call


@dataclasses.dataclass(frozen=True)
class Networks:
    """Trained networks: stacks [T, ...] on the mesh. `chunk`: examples in a call of any of their programs."""

    apply: trial.Apply
    models: trial.Models
    mesh: Any
    local: parallel.Local = "map"
    chunk: int = 512

    @property
    def trials(self) -> int:
        """Stacked trials, padding included."""
        return int(jax.tree.leaves(self.models)[0].shape[0])

    def program(self, fn: Callable[..., Tree], *fixed: Any) -> Program:
        """`fn(*fixed, one, shared)` for all trials."""
        return parallel.per_trial(functools.partial(fn, *fixed), self.mesh, self.local)

    @functools.cached_property
    def forward(self) -> Program:
        """((models, x [T, M, H, W, C]), anything) -> logits [T, M, K]."""
        return self.program(trial.forward_trial, self.apply)

    def logits(self, x_TNHWC: np.ndarray) -> np.ndarray:
        """Logits [T, N, K] of each trial at its own images, chunk by chunk in one program."""
        count, parts = x_TNHWC.shape[1], []
        for low in range(0, count, self.chunk):
            part = filled(x_TNHWC[:, low : low + self.chunk], self.chunk, 0, axis=1)
            parts.append(parallel.fetch(self.forward((self.models, part), np.zeros(1, np.int32))))
        return np.concatenate(parts, axis=1)[:, :count]

    def logits_of_all(self, images: np.ndarray) -> np.ndarray:
        """Logits [T, N, K] of all trials at the same images."""
        return self.logits(np.broadcast_to(images, (self.trials, *images.shape)))


def capacity(count: int, most: int) -> int:
    """Examples in a call: a power of two that holds `count`, at most `most`."""
    return min(most, max(8, 1 << (count - 1).bit_length()))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Networks, the examples and radii they are attacked at, and the compiled attacks.

    images [N, H, W, C] in [0, 1]; clean: their logits [T, N, K]; radii [E], ascending; calls: by method, the program
    ((models, `Prior`), (examples, numbers, bits of the key)) -> `Outcome`; draw: which of many sets of random numbers.
    """

    networks: Networks
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    clean: np.ndarray
    radii: np.ndarray
    norm: Norm = "linf"
    seed: int = 0
    draw: int = 0
    calls: Mapping[str, Program] = dataclasses.field(default_factory=dict)

    def part(self, rows: slice) -> Self:
        """The same with some of the examples."""
        images, labels, ids = self.images[rows], self.labels[rows], self.ids[rows]
        return dataclasses.replace(self, images=images, labels=labels, ids=ids, clean=self.clean[:, rows])

    def with_calls(
        self, attacks: Sequence[Attack], slots: int, keep: Callable[[str, Program], Program] = lambda _, call: call
    ) -> Self:
        """The same with a program for each method of `attacks`, with room for their passes; `keep` wraps each."""
        passes: dict[str, int] = {}
        for one in attacks:
            passes[one.method] = max(passes.get(one.method, 1), passes_of(one))
        calls, together = {}, self.networks.local == "vmap"
        for method, most in passes.items():
            shape = trial.Shape(method, self.norm, most, slots, batched=together)
            calls[method] = keep(method, self.networks.program(trial.attack_trial, shape, self.networks.apply))
        return dataclasses.replace(self, calls=calls)

    @property
    def key(self) -> Array:
        """Random numbers of attacks are a function of this key, the example's id and the pass."""
        return key_of(self.seed, Stream.ATTACK, self.draw)

    def logits(self, x_TENHWC: np.ndarray) -> np.ndarray:
        """The logits [T, E, N, K] of each trial at its own points of every radius."""
        return np.stack([self.networks.logits(x_TENHWC[:, e]) for e in range(x_TENHWC.shape[1])], axis=1)

    def attack(
        self,
        attack: Attack,
        radii: np.ndarray | None = None,
        *,
        broken: np.ndarray | None = None,
        starts: np.ndarray | None = None,
        early_exit: bool = True,
        target: int | None = None,
        report: Report = lambda rows, smallest: None,
    ) -> Outcome:
        """One attack on all trials and examples, at the radii of the evaluation, or at radii [T, E, N], ascending.

        Args:
          broken: [T, N] as `Attacked.smallest`: what is known before the attack.
          starts: [T, N, H, W, C]: where a search for minimal radii begins, if not at the images.
          early_exit: False: no radius spares another.
          target: one pass alone, at the wrong class of this rank, 0 the likeliest (default: all passes of the attack).
        """
        shape = self.networks.trials, len(self.radii), len(self.labels)
        eps_TEN = np.broadcast_to(self.radii[:, None], shape) if radii is None else np.asarray(radii, np.float32)
        broken_TN = np.full(eps_TEN[:, 0].shape, np.inf, np.float32) if broken is None else broken
        given = numbers_of(attack, early_exit)
        given = given if target is None else given._replace(first_target=target, passes=1)
        numbers = AttackNumbers._make(TYPES[type(value)](value) for value in given)
        chunks = []
        for low in range(0, len(self.labels), self.networks.chunk):
            rows = slice(low, min(low + self.networks.chunk, len(self.labels)))
            part, starts_TC = self.part(rows), None if starts is None else starts[:, rows]
            prior = Prior(part.clean, eps_TEN[:, :, rows], broken_TN[:, rows], starts_TC)
            finished = functools.partial(report, rows)
            chunks.append(part._chunk(self.calls[attack.method], prior, numbers, finished))
        return _joined(Attacked(2, 2, 1, 2, parallel.SUM), chunks)

    def _chunk(
        self, call: Program, prior: Prior, numbers: AttackNumbers, finished: Callable[[np.ndarray], None]
    ) -> Outcome:
        """One attack on the examples of one chunk, a group of radii at a time."""
        count, radii, room = len(self.labels), prior.radii.shape[1], self.networks.chunk
        images, labels, ids = filled(self.images, room, 0), filled(self.labels, room, -1), filled(self.ids, room, 0)
        examples, bits = AttackedExamples(images, labels, ids), np.asarray(jax.random.key_data(self.key))
        clean, broken = (filled(a, room, 0, axis=1) for a in (prior.clean, prior.broken))
        starts = None if prior.starts is None else filled(prior.starts, room, 0, axis=1)
        groups = []
        for low in range(0, radii, GROUP):
            eps_TEC = filled(filled(prior.radii[:, low : low + GROUP], GROUP, -1, axis=1), room, -1, axis=2)
            one = self.networks.models, Prior(clean, eps_TEC, broken, starts)
            groups.append(parallel.fetch(call(one, (examples, numbers, bits))))
            broken = groups[-1].smallest
            finished(broken[:, :count])
        whole = _joined(Attacked(1, 1, 1, 1, parallel.SUM), groups)
        adversarial, robust, hits = (a[:, :radii, :count] for a in (whole.adversarial, whole.robust, whole.hits))
        return Outcome(carried(robust, adversarial), robust, broken[:, :count], hits, whole.evaluations)


TYPES = {bool: np.bool_, int: np.int32, float: np.float32}  # of an attack's numbers


def _joined(axes: Attacked, parts: Sequence[Outcome]) -> Outcome:
    """The arrays of all parts, side by side along an axis or summed."""

    def join(axis: int, *arrays: np.ndarray) -> np.ndarray:
        return np.sum(arrays, axis=0) if axis == parallel.SUM else np.concatenate(arrays, axis)

    return jax.tree.map(join, axes, *parts)


def carried(
    robust_TEN: Shaped[np.ndarray, "T E N"], adversarial_TENHWC: Shaped[np.ndarray, "T E N H W C"]
) -> np.ndarray:
    """The adversary of an example's smallest fooling radius, at that radius and all larger ones."""
    place_E1 = np.arange(robust_TEN.shape[1])[:, None]
    first_T1N = np.argmax(~robust_TEN, axis=1)[:, None]
    return at_radius(adversarial_TENHWC, np.where(robust_TEN, place_E1, first_T1N))


def at_radius(x_TENHWC: Shaped[np.ndarray, "T E N H W C"], place_TMN: Shaped[np.ndarray, "T M N"]) -> np.ndarray:
    """Of each example the points at M of the radii, by their places: [T, M, N, H, W, C]."""
    return np.take_along_axis(x_TENHWC, place_TMN[(..., *(None,) * (x_TENHWC.ndim - 3))], axis=1)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Robust only against all; the adversary of the first attack, in the suite's order, that fools."""
    robust_ATEN = np.stack([outcome.robust for outcome in outcomes])
    first_TEN = np.argmax(~robust_ATEN, axis=0)
    adversarial = outcomes[0].adversarial.copy()
    for a, outcome in enumerate(outcomes):
        adversarial[first_TEN == a] = outcome.adversarial[first_TEN == a]
    smallest = np.min([outcome.smallest for outcome in outcomes], axis=0)
    hits = np.any([outcome.hits for outcome in outcomes], axis=0)
    evaluations = np.sum([outcome.evaluations for outcome in outcomes], axis=0)
    return Outcome(adversarial, np.all(robust_ATEN, axis=0), smallest, hits, evaluations)
