"""Everything about a program that can be wrong or large, found out before anything is decoded or compiled."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg import data, models, rng
from jaxreg.data import augment
from jaxreg.runtime import parallel
from jaxreg.spec import SpecError, require
from jaxreg.training.optimizer import make_optimizer
from jaxreg.training.program import Program


class Needs(NamedTuple):
    """What a program asks of the devices, in bytes a device."""

    state: int  # parameters, statistics and optimizer state of the trials of one device
    activations: int  # what one step keeps for its backward pass
    data: int  # training images held on the device


def check(program: Program) -> data.Description:
    """Describes the program's dataset.

    Raises: SpecError: if the dataset is not there, or the batch, the network or the augmentation does not fit it.
    """
    spec = program.dataset
    try:
        about = data.describe(spec.name, data_dir=spec.data_dir or None, validation=spec.validation)
        model = abstract_model(program, about)
        augment.check(spec.augment, about.image_shape, {"padding": spec.padding, "cutout_size": spec.cutout_size})
        jax.eval_shape(model.init, jax.eval_shape(lambda: rng.key(0)))
    except (ValueError, OSError) as error:
        raise SpecError(str(error)) from None
    for split, count in about.counts.items():
        require(count > 0, f"dataset {spec.name} has no {split} examples left: lower dataset.validation.")
    size, train = program.batch_size, about.counts["train"]
    require(size <= train, f"batch_size must be at most the {train} train examples of {spec.name}, got {size}.")
    return about


def annotated(program: Program) -> data.Dataset | None:
    """The program's dataset without its images; None where these would have to be decoded for it.

    Raises: SpecError: for labels or ids that cannot be used.
    """
    spec = program.dataset
    try:
        return data.annotated(spec.name, data_dir=spec.data_dir or None, validation=spec.validation)
    except (ValueError, OSError) as error:
        raise SpecError(str(error)) from None


def abstract_model(program: Program, about: data.Description) -> models.Model:
    """The program's network, normalised by nothing: for shapes alone."""
    channels = about.image_shape[-1]
    options: dict[str, Any] = dict(program.model.options)
    unit: dict[str, Any] = {"mean": [0.0] * channels, "std": [1.0] * channels}
    spec, shape = program.model, about.image_shape
    return models.make(spec.name, classes=about.num_classes, image_shape=shape, dtype=spec.dtype, **unit, **options)


def needs(program: Program, about: data.Description, mesh: parallel.Mesh, local: parallel.Local) -> Needs:
    """Estimates device memory from shapes: parameters and moments, residuals of one step, resident images."""
    model = abstract_model(program, about)
    optimizer = make_optimizer(program.trials[0].optimizer, program.steps)
    params, stats = jax.eval_shape(lambda: model.init(rng.key(0)))
    state = _bytes((params, stats, jax.eval_shape(optimizer.init, params)))
    images = jax.ShapeDtypeStruct((program.batch_size, *about.image_shape), jnp.float32)
    residuals = jax.eval_shape(functools.partial(_residuals, model), params, stats, images)
    trials = parallel.padded(len(program.trials), mesh) // mesh.shape["trial"]
    together = trials if local == "vmap" else 1
    resident = program.dataset.residency == "device"
    pixels = functools.reduce(int.__mul__, about.image_shape) * about.dtype.itemsize
    held = about.counts["train"] * pixels if resident else 0
    return Needs(trials * state, together * _bytes(residuals) // mesh.shape["data"], held)


def layers(program: Program, about: data.Description) -> str:
    """The network's layers with weights, equal neighbours counted, and its number of parameters."""
    params, _ = jax.eval_shape(lambda: abstract_model(program, about).init(rng.key(0)))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [_layer(leaf.shape) for path, leaf in leaves if path[-1].key == "kernel" and path[0].key != "head"]
    head = _layer(params["head"]["kernel"].shape)
    runs = [(name, len(list(same))) for name, same in itertools.groupby([*kernels, head])]
    told = ", ".join(name if count == 1 else f"{count} x {name}" for name, count in runs)
    total = sum(leaf.size for _, leaf in leaves)
    return f"{len(kernels) + 1}: {told}; {total:,} parameters"


def _layer(shape: tuple[int, ...]) -> str:
    """Such as `3x3 16->32`, or `64->10` of a linear one."""
    *window, inputs, outputs = shape
    return f"{'x'.join(map(str, window))} {inputs}->{outputs}".strip()


def _residuals(model: models.Model, params: Any, stats: Any, images: jax.Array) -> Any:
    """What the backward pass of the network needs from the forward pass."""
    return jax.vjp(lambda p: model.apply(p, stats, images, train=True)[0], params)[1]


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
