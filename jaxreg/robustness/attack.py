"""The table of attacks, and the call that runs one on any `logits_fn(x_BHWC) -> logits_BK`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg.rng import example_keys
from jaxreg.robustness import fab, gradient, loop, minimal, noise, square, strongest
from jaxreg.robustness.balls import NORMS, Norm
from jaxreg.robustness.border import check_examples, check_inputs, check_labels, check_logits
from jaxreg.robustness.losses import check_classes, number_of


class Attack(NamedTuple):
    """What tells one attack from another. `step_size` is in units of the radius; 0 `targets` means untargeted."""

    method: str
    loss: str = "ce"
    steps: int = 20
    step_size: float = 0.125
    random_start: bool = True
    restarts: int = 1
    targets: int = 0
    adaptive: bool = False  # APGD


_APGD = Attack("gradient", loss="ce", steps=100, step_size=2.0, adaptive=True)
ATTACKS: dict[str, Attack] = {
    "fgsm": Attack("gradient", steps=1, step_size=1.0, random_start=False),
    "bim": Attack("gradient", steps=10, step_size=0.1, random_start=False),
    "pgd_ce": Attack("gradient", loss="ce"),
    "pgd_margin": Attack("gradient", loss="margin"),
    "pgd_dlr": Attack("gradient", loss="dlr"),
    "apgd_ce": _APGD,
    "apgd_dlr": _APGD._replace(loss="dlr"),
    "apgd_t": _APGD._replace(loss="targeted_dlr", targets=9),
    "fab_t": Attack("fab", steps=100, random_start=False, targets=9),
    "square": Attack("square", loss="margin", steps=5000),
    "noise": Attack("noise", steps=20),
    "minimal": Attack("minimal", loss="margin", steps=100, random_start=False),
}
METHODS: dict[str, Callable[[Norm], loop.Method]] = {
    "gradient": gradient.method,
    "fab": fab.method,
    "square": square.method,
    "noise": noise.method,
    "minimal": minimal.method,
    "strongest": strongest.method,  # of no attack in the table: it says nothing about which examples are robust
}


class Attacked(NamedTuple):
    """Adversarial examples [E, N, H, W, C] (no E where eps was one number), robust [E, N], smallest fooling radius [N].

    `robust` holds where no evaluated point of the ball was misclassified; a wrong clean prediction is not robust (its
    smallest radius is -1; inf where nothing fooled). `evaluations`: passes through the network spent on examples.
    """

    adversarial: Array
    robust: Array
    smallest: Array
    evaluations: Array


def check(attack: Attack, norm: str, classes: int) -> None:
    """Raises ValueError for settings that cannot run."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {list(NORMS)}, got {norm!r}.")
    if attack.steps < 1:
        raise ValueError(f"steps must be at least 1, got {attack.steps}.")
    if attack.restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {attack.restarts}.")
    if attack.step_size <= 0:
        raise ValueError(f"step_size must be above 0 radii, got {attack.step_size}.")
    if not 0 <= attack.targets < classes:
        raise ValueError(f"targets must be in [0, {classes}) for {classes} classes, got {attack.targets}.")
    number_of(attack.loss)
    check_classes(attack.loss, classes)
    aims = attack.method == "fab" or attack.loss.startswith("targeted")
    if aims and not attack.targets:
        what = "method 'fab'" if attack.method == "fab" else f"loss {attack.loss!r}"
        raise ValueError(f"the {what} needs targets, got 0: set targets to 1 or more (at most {classes - 1}).")


def settings_of(attack: Attack) -> loop.Settings:
    """The numbers of an attack that are traced."""
    sizes = float(attack.step_size), float(attack.random_start), float(attack.adaptive)
    return loop.Settings(number_of(attack.loss), attack.steps, *sizes)


def passes_of(attack: Attack) -> int:
    """Restarts times targets."""
    return attack.restarts * max(attack.targets, 1)


def targets_of(logits_NK: Array, labels_N: Array, attack: Attack, most: int | None = None) -> Array:
    """The class each pass aims at, [N, P]: the likeliest wrong classes of the clean image, restart by restart."""
    most = passes_of(attack) if most is None else most
    if not attack.targets:
        return jnp.zeros((len(labels_N), most), jnp.int32) + labels_N[:, None]
    is_label_NK = jax.nn.one_hot(labels_N, logits_NK.shape[1], dtype=bool)
    order_NK = jnp.argsort(jnp.where(is_label_NK, -jnp.inf, logits_NK), axis=1, descending=True)
    ranks_P = jnp.arange(most) % attack.targets
    return order_NK[:, ranks_P].astype(jnp.int32)


def named(attack: Attack | str) -> Attack:
    """An attack by its name in the table.

    Raises: ValueError: for an unknown name.
    """
    if isinstance(attack, Attack):
        return attack
    if attack not in ATTACKS:
        raise ValueError(f"Unknown attack {attack!r}; known: {sorted(ATTACKS)}.")
    return ATTACKS[attack]


def run_attack(
    logits_fn: loop.Logits,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    eps: Array | np.ndarray | float,
    attack: Attack | str = "pgd_ce",
    *,
    key: Array,
    norm: Norm = "linf",
    ids: Array | np.ndarray | None = None,
    slots: int = 256,
    early_exit: bool = True,
) -> Attacked:
    """Attacks `images` [N, H, W, C] in [0, 1] at radius `eps`: one number, or radii [E] that share one batch.

    Pure: may be jitted, with `eps` traced. Randomness is a function of `key` and an example's `ids` [N] (default: its
    place; equal ids draw equal numbers) alone, so results depend neither on `slots` (the batch that runs at once) nor
    on the order of examples. Outside jit examples and radii are padded, inertly: few sizes compile (`capacity`).

    Raises: ValueError: images that are not float32 in [0, 1], eps below 0, labels or ids that do not fit, an attack
      that cannot run, a `logits_fn` that returns probabilities (values are seen where concrete, as outside jit).
    """
    images, labels, attack = jnp.asarray(images), jnp.asarray(labels), named(attack)
    ids = None if ids is None else jnp.asarray(ids)
    radii_E = jnp.atleast_1d(jnp.asarray(eps, jnp.promote_types(images.dtype, jnp.float32)))
    check_inputs(images, radii_E)
    check_examples(images, labels, ids)
    count, radii = len(images), len(radii_E)
    tracing = any(isinstance(value, jax.core.Tracer) for value in (images, labels, radii_E, key))
    forward, whole = (clean_logits, attacked) if tracing else (clean_logits_jit, attacked_jit)
    ids = jnp.arange(count, dtype=jnp.uint32) if ids is None else ids.astype(jnp.uint32)
    if not tracing:
        images, labels, ids = (filled(a, capacity(count), fill) for a, fill in ((images, 0), (labels, -1), (ids, 0)))
        radii_E = filled(radii_E, 1 << (radii - 1).bit_length(), -1)
    clean_NK = forward(logits_fn, images, min(slots, len(images)))
    check_logits(clean_NK[:count])
    check_labels(labels, clean_NK.shape[1])
    check(attack, norm, clean_NK.shape[1])
    numbers = settings_of(attack), evaluations_of(attack), early_exit
    shape = attack._replace(loss="ce", steps=1, step_size=1.0, random_start=False, adaptive=False)
    labels = labels.astype(jnp.int32)
    found = whole(shape, norm, logits_fn, slots, images, labels, clean_NK, key, ids, radii_E, *numbers)
    return cut(found, count, radii if np.ndim(eps) else None)


def capacity(count: int) -> int:
    """Examples that a program holds, at least `count`: eight sizes between one power of two and the next.

    So the number of compilations grows with the logarithm of N, and padding is at most an eighth.
    """
    step = max(1, (1 << (count - 1).bit_length()) // 8)
    return -(-count // step) * step


def filled(rows: Array, count: int, fill: float) -> Array:
    """The rows, filled up to `count` of them."""
    missing = count - len(rows)
    return jnp.pad(rows, [(0, missing), *[(0, 0)] * (rows.ndim - 1)], constant_values=fill) if missing else rows


def cut(found: Attacked, count: int, radii: int | None) -> Attacked:
    """What was found of the first `count` examples and `radii` (None: of the first radius alone)."""
    if found.robust.shape[1] > count:
        found = found._replace(
            adversarial=found.adversarial[:, :count], robust=found.robust[:, :count], smallest=found.smallest[:count]
        )
    which = 0 if radii is None else slice(radii)
    if radii == len(found.robust):
        return found
    return found._replace(adversarial=found.adversarial[which], robust=found.robust[which])


def clean_logits(logits_fn: loop.Logits, images: Array, batch_size: int) -> Array:
    """Logits [N, K], a batch at a time."""
    return lax.map(lambda x_HWC: logits_fn(x_HWC[None])[0], images, batch_size=batch_size)


def attacked(
    shape: Attack,
    norm: Norm,
    logits_fn: loop.Logits,
    slots: int,
    images: Array,
    labels: Array,
    clean_NK: Array,
    key: Array,
    ids: Array,
    radii_E: Array,
    settings: loop.Settings,
    evaluations: Array | int,
    early_exit: Array | bool,
) -> Attacked:
    """An attack whose numbers are traced; of `shape` only the method, restarts and targets are used."""
    examples = examples_of(images, labels, clean_NK, key, ids, shape)
    place_E = jnp.arange(len(radii_E))
    before_EE = (radii_E[:, None] > radii_E) | (radii_E[:, None] == radii_E) & (place_E[:, None] > place_E)
    rank_E = jnp.sum(before_EE, axis=1)  # of each radius among all: a sort is slow to compile
    sorted_E = jnp.zeros_like(radii_E).at[rank_E].set(radii_E)
    eps_EN = jnp.broadcast_to(sorted_E[:, None], (len(radii_E), len(images)))
    most = min(slots, eps_EN.size * passes_of(shape))
    numbers = settings, evaluations, passes_of(shape), early_exit
    found = search(shape.method, norm, logits_fn, examples, eps_EN, *numbers, most)
    return Attacked(found.adversarial_ENHWC[rank_E], found.robust_EN[rank_E], found.broken_N, found.evaluations)


# One program per (method, restarts, targets, norm, function, array shapes): a function made anew for each call compiles
# anew; losses, steps, step sizes and radii do not, nor does another number of examples or radii of the same capacity.
clean_logits_jit = jax.jit(clean_logits, static_argnums=(0, 2))
attacked_jit = jax.jit(attacked, static_argnums=(0, 1, 2, 3))


def search(
    method: str,
    norm: Norm,
    logits_fn: loop.Logits,
    examples: loop.Examples,
    eps_EN: Array,
    settings: loop.Settings,
    evaluations: Array | int,
    passes: Array | int,
    early_exit: Array | bool,
    slots: int,
) -> loop.Found:
    """`loop.run` by the name of a method: all numbers traced, so attacks of one method share one program."""
    limits: Any = {"evaluations": evaluations, "passes": passes, "slots": slots, "early_exit": early_exit}
    return loop.run(METHODS[method](norm), logits_fn, examples, eps_EN, settings, **limits)


search_jit = jax.jit(search, static_argnames=("method", "norm", "logits_fn", "slots"))


def examples_of(images: Array, labels: Array, clean_NK: Array, key: Array, ids: Array, attack: Attack) -> loop.Examples:
    """The examples of an attack, with keys, targets, and the misclassified ones marked as broken."""
    wrong_N = (jnp.argmax(clean_NK, axis=1) != labels) | ~jnp.all(jnp.isfinite(clean_NK), axis=1)
    broken_N = jnp.where(wrong_N, loop.WRONG, jnp.inf).astype(images.dtype)
    keys_NP = pass_keys(key, ids, passes_of(attack))
    return loop.Examples(images, labels, keys_NP, targets_of(clean_NK, labels, attack), broken_N)


@functools.partial(jax.jit, static_argnames=("passes",))
def pass_keys(key: Array, ids_N: Array, passes: int) -> Array:
    """A key for each pass of each example, a function of `key`, the example's id and the pass alone: [N, P]."""
    return jax.vmap(lambda one: example_keys(one, jnp.arange(passes, dtype=jnp.uint32)))(example_keys(key, ids_N))


def evaluations_of(attack: Attack) -> int:
    """Points an attack looks at in one pass: its start and one after each step."""
    return attack.steps + 1
