"""One step of one trial: a pure function of its state, its traced settings and a batch."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxreg.models import Model
from jaxreg.regularizers.apply import Choice, RegularizerFunctions, loss_of, mix_batch
from jaxreg.rng import Stream, example_keys, key_of
from jaxreg.training.optimizer import Numbers, Optimizer


@flax.struct.dataclass
class TrainState:
    """All of a trial that changes; float32 trees unless said otherwise."""

    step: Array  # int32 []
    params: Any
    stats: Any
    opt_state: Any
    failed: Array  # int32 []: the step whose loss or gradient was not finite, -1 while there is none


@flax.struct.dataclass
class Settings:
    """All of a trial that is given: traced, so that settings and seeds share one program."""

    seed: Array  # uint32 []
    choice: Choice
    optimizer: Numbers


@flax.struct.dataclass
class Batch:
    """Training images as stored, their labels (int32) and what their random draws are keyed by (uint32)."""

    images: Array
    labels: Array
    key_ids: Array


@flax.struct.dataclass
class Metrics:
    """What one step says of itself: float32 [] each; NaN once a trial is frozen."""

    loss: Array
    accuracy: Array  # on the dominant label of mixed targets
    grad_norm: Array
    learning_rate: Array


class Fixed(NamedTuple):
    """All of a step that is fixed before it is compiled."""

    model: Model
    optimizer: Optimizer
    regularizers: RegularizerFunctions
    augment: Callable[[Array, Array], Array]  # keys_B, x_BHWC -> x_BHWC
    split_batch: Callable[[Any], Any]  # spreads a batch over the devices of its trial
    classes: int
    scale: float  # stored images / scale lie in [0, 1]


def init_state(seed: Array, fixed: Fixed) -> TrainState:
    """The state of an untrained trial, a function of its seed alone."""
    params, stats = fixed.model.init(key_of(seed, Stream.INIT))
    zero = (seed * 0).astype(jnp.int32)
    return TrainState(zero, params, stats, fixed.optimizer.init(params), zero - 1)


def inputs_of(state: TrainState, settings: Settings, batch: Batch, fixed: Fixed) -> tuple[Array, Array]:
    """Augmented and mixed images [B,H,W,C] and soft targets [B,K]."""
    keys = {name: key_of(settings.seed, name, state.step) for name in (Stream.AUGMENT, Stream.MIX, Stream.PARTNER)}
    x_BHWC = batch.images.astype(jnp.float32) / fixed.scale
    x_BHWC = fixed.augment(example_keys(keys[Stream.AUGMENT], batch.key_ids), x_BHWC)
    targets_BK = jax.nn.one_hot(batch.labels, fixed.classes)
    draws = (keys[Stream.MIX], keys[Stream.PARTNER])
    return mix_batch(fixed.regularizers, settings.choice, draws, x_BHWC, targets_BK)


def train_step(state: TrainState, settings: Settings, batch: Batch, *, fixed: Fixed) -> tuple[TrainState, Metrics]:
    """One optimizer step. Where the loss or the gradient is not finite the trial stays frozen as it was before."""
    x_BHWC, targets_BK = fixed.split_batch(inputs_of(state, settings, batch, fixed))

    def mean_loss(params: Any) -> tuple[Array, tuple[Any, Array]]:
        logits_BK, _, stats = fixed.model.apply(params, state.stats, x_BHWC, train=True)
        loss_B = loss_of(fixed.regularizers, settings.choice, logits_BK, targets_BK)
        return loss_B.mean(), (stats, (logits_BK.argmax(-1) == targets_BK.argmax(-1)).mean())

    (loss, (stats, accuracy)), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    grad_norm = optax.tree.norm(grads)
    params, opt_state = fixed.optimizer.update(grads, state.opt_state, state.params, settings.optimizer, state.step)
    healthy = jnp.isfinite(loss) & jnp.isfinite(grad_norm) & (state.failed < 0)
    moved = TrainState(state.step, params, stats, opt_state, state.failed)
    state = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), moved, state)
    failed = jnp.where(healthy | (state.failed >= 0), state.failed, state.step)
    rate = fixed.optimizer.learning_rate(settings.optimizer, state.step)
    metrics = Metrics(loss, accuracy, grad_norm, rate)
    metrics = jax.tree.map(lambda m: jnp.where(healthy, m, jnp.nan), metrics)
    return dataclasses.replace(state, step=state.step + 1, failed=failed), metrics


def orders(state: TrainState, settings: Settings, count: int, epoch_steps: int, steps: int) -> Array:
    """The permutations [E, N] of the examples in the epochs that the next `steps` steps may touch, one an epoch.

    Drawn once for all of these steps; those of an epoch that they do not reach are not drawn at all.
    """
    first, last = state.step // epoch_steps, (state.step + steps - 1) // epoch_steps

    def order(epoch: Array) -> Array:
        def drawn() -> Array:
            return jax.random.permutation(key_of(settings.seed, Stream.ORDER, epoch), count) + 0 * epoch

        return lax.cond(epoch <= last, drawn, lambda: jnp.arange(count) + 0 * epoch)  # 0: both vary over the mesh

    most = (steps + epoch_steps - 2) // epoch_steps + 1
    return jnp.stack([order(first + ahead) for ahead in range(most)])


def take_batch(state: TrainState, orders_EN: Array, first: Array, data: Batch, batch_size: int) -> Batch:
    """The trial's own batch of this step from data on the device, without a ragged tail; row 0 is of epoch `first`."""
    epoch, position = jnp.divmod(state.step, data.labels.shape[0] // batch_size)
    index_B = lax.dynamic_slice(orders_EN, (epoch - first, position * batch_size), (1, batch_size))[0]
    return jax.tree.map(lambda a: a[index_B], data)


Carry = tuple[TrainState, Settings]


def resident_steps(one: Carry, data: Batch, *, fixed: Fixed, batch_size: int, steps: int) -> tuple[Carry, Metrics]:
    """`steps` steps in one dispatch over data held on the device; metrics stacked [steps]."""
    count = data.labels.shape[0]
    orders_EN = orders(*one, count, count // batch_size, steps)
    first = one[0].step // (count // batch_size)

    def body(carry: Carry, _: None) -> tuple[Carry, Metrics]:
        state, settings = carry
        batch = take_batch(state, orders_EN, first, data, batch_size)
        state, metrics = train_step(state, settings, batch, fixed=fixed)
        return (state, settings), metrics

    return lax.scan(body, one, length=steps)


def streamed_steps(one: Carry, data: Batch, *, fixed: Fixed) -> tuple[Carry, Metrics]:
    """As many steps as `data` [S, B, ...] has batches; all trials see the same batches, augmented each for itself."""

    def body(carry: Carry, batch: Batch) -> tuple[Carry, Metrics]:
        state, settings = carry
        state, metrics = train_step(state, settings, batch, fixed=fixed)
        return (state, settings), metrics

    return lax.scan(body, one, data)
