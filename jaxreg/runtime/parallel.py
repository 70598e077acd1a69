"""The one file that knows devices: trials over a ("trial", "data") mesh, one program for all of them.

The trial axis is manual (`shard_map`): no collective crosses it. The data axis is left to the compiler, which splits
each trial's batch over it and reduces gradients and BatchNorm statistics within the trial's own devices.

The mesh spans all processes of a job. Each holds the same stacks on its host, places the part of its own devices, and
gets back the whole: what a trial is given and what comes out of it does not depend on where it ran.
"""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from jax import Array, lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg.runtime.compiling import Effort, options
from jaxreg.spec import SpecError, require

Tree = Any
ACCELERATORS = ("jax_cuda13_plugin", "jax_cuda12_plugin", "jax_rocm7_plugin", "libtpu")
Local = Literal["map", "vmap", "place"]
SUM = -1  # in place of an axis: a result that is summed over devices
GATHERED = 2**28  # bytes that a device holds for other processes at once


def use_cpu_devices(count: int) -> None:
    """Splits a CPU into `count` virtual devices (0: one a core); without effect once a device was used.

    Trials on different cores ran 1.35 times faster than the same trials with all cores on each. Where there is nothing
    but a CPU, programs are compiled at LLVM's level 1, a third less time to compile, and no slower (docs/measured.md);
    and LAPACK gets a device's share of the cores: eigenvalues of two trials at once took five times as long with all
    cores for each.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = count or cores
    if not any(importlib.util.find_spec(plugin) for plugin in ACCELERATORS):
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
        importlib.import_module("scipy.linalg.lapack")  # whose library XLA calls; only a loaded one can be told
        threads = int(os.environ.get("NPROC", cores))  # as XLA counts them
        threadpoolctl.threadpool_limits(max(1, threads // devices), user_api="blas")
    with contextlib.suppress(RuntimeError):  # the devices of this process are fixed already
        jax.config.update("jax_num_cpu_devices", devices)


def found_devices() -> list[jax.Device]:
    """The devices of this machine, and of the job's others.

    Raises: SpecError: if JAX is told to take a backend that is not there.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter for a backend whose plugin is not installed
        asked = os.environ.get("JAX_PLATFORMS", "")
        told = f"JAX_PLATFORMS={asked} names a backend that is not there" if asked else "no backend starts"
        said = f" ({' '.join(str(error).split())[:200]})" if str(error) else ""
        raise SpecError(f"{told}{said}: unset it, or install the backend, such as jax[cuda13].") from error


def make_mesh(data: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh ("trial", "data") over `devices` (default: all), `data` of them to each trial.

    Raises: SpecError: if `data` does not divide the number of devices.
    """
    devices = found_devices() if devices is None else devices
    require(len(devices) % data == 0, f"execution.data_devices must divide the {len(devices)} devices, got {data}.")
    shape = (len(devices) // data, data)
    return jax.make_mesh(shape, ("trial", "data"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def shape_only(devices: int, data: int) -> Any:
    """The shape of a mesh of devices that this process need not have: for estimates."""
    return AbstractMesh((devices // data, data), ("trial", "data"))


def padded(count: int, mesh: Mesh) -> int:
    """The number of trials after padding `count` to a multiple of the mesh's trial axis."""
    rows = mesh.shape["trial"]
    return -(-count // rows) * rows


def put_trials(tree: Tree, mesh: Mesh) -> Tree:
    """Places stacks [T, ...] on the mesh, trials side by side, padded with copies of the last trial.

    Placed first, the arguments of a program have the sharding of its results: it compiles once, not twice.
    """
    sharding = NamedSharding(mesh, P("trial"))

    def put(leaf: Array | np.ndarray) -> Array:
        missing = padded(leaf.shape[0], mesh) - leaf.shape[0]
        if missing:
            leaf = np.concatenate([leaf, np.repeat(np.asarray(leaf[-1:]), missing, 0)])
        return _place(leaf, sharding)

    return jax.tree.map(put, tree)


def put_shared(tree: Tree, mesh: Mesh) -> Tree:
    """Places arrays that all trials read: a copy on every device."""
    return jax.tree.map(lambda leaf: _place(leaf, NamedSharding(mesh, P())), tree)


def _place(leaf: Any, sharding: NamedSharding) -> Array:
    """The array that every process has a copy of, each on its own devices the part that is theirs."""
    if sharding.is_fully_addressable or (isinstance(leaf, Array) and not leaf.is_fully_addressable):
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def split_batch(mesh: Mesh) -> Callable[[Tree], Tree]:
    """A function that spreads the first axis of a trial's batch over its devices; nothing where it has one."""
    if mesh.shape["data"] == 1:
        return lambda tree: tree
    return lambda tree: jax.tree.map(lambda a: lax.with_sharding_constraint(a, P("data")), tree)


def per_trial(
    fn: Callable[..., Tree], mesh: Mesh, local: Local = "map", donate: bool = False, effort: Effort = "full"
) -> Callable[..., Tree]:
    """Lifts `fn(one, shared)` to `(stacked, shared)`: stacks [T, ...] over the mesh, compiled once.

    Trials on one device run one after another (`map`) or batched (`vmap`, where a measurement says so: a vmapped
    convolution is a grouped one, slow on CPU and GPU). By `place` they run one after another too, but `fn` is given all
    stacks of its device and which trial is meant, `fn((stacks, t), shared)`: a trial's own stack would be a copy of it.
    With `donate` the stacks' memory is reused for the results. `effort` of compiling: "cheap" for what runs once.
    """

    def body(stacked: Tree, shared: Tree) -> Tree:
        # Without the cast the gradient of a shared input would be SUMMED over trials: one adversary for all of them.
        shared = jax.tree.map(lambda a: lax.pcast(a, ("trial",), to="varying"), shared)
        if local == "vmap":
            return jax.vmap(lambda one: fn(one, shared))(stacked)
        if local == "place":
            trials = jax.tree.leaves(stacked)[0].shape[0]
            return lax.map(lambda t: fn((stacked, t), shared), lax.pcast(jnp.arange(trials), ("trial",), to="varying"))
        return lax.map(lambda one: fn(one, shared), stacked)

    body.__name__ = _name(fn)  # of the program, where programs are listed
    specs = (P("trial"), P())
    mapped = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=P("trial"), axis_names={"trial"})
    kind = mesh.devices.flat[0].platform if isinstance(mesh, Mesh) else jax.default_backend()
    compiled = jax.jit(mapped, donate_argnums=(0,) if donate else (), compiler_options=options(effort, kind))

    def place(tree: Tree, spec: P) -> Tree:
        sharding = NamedSharding(mesh, spec)
        return tree if sharding.is_fully_addressable else jax.tree.map(lambda a: _place(a, sharding), tree)

    def call(stacked: Tree, shared: Tree) -> Tree:
        with jax.set_mesh(mesh):
            return compiled(*map(place, (stacked, shared), specs))

    def lower(stacked: Tree, shared: Tree, platforms: tuple[str, ...] | None = None) -> jax.stages.Lowered:
        with jax.set_mesh(mesh):  # `platforms`: others than that of the mesh, whose devices need not be here
            return compiled.trace(stacked, shared).lower(lowering_platforms=platforms)

    call.lower = lower  # type: ignore[attr-defined]
    return call


def _name(fn: Callable[..., Tree]) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__name__", type(fn).__name__)


def per_example(
    fn: Callable[..., Tree], devices: Sequence[jax.Device], axes: Tree, effort: Effort = "full"
) -> Callable[..., Tree]:
    """Compiles `fn(rows, *shared)` for rows [N, ...] that are dealt out to devices: row n goes to device n mod D.

    Each device runs `fn` on its own rows, and no collective ties it to another: one whose rows are easy is done early.
    `axes` says of each result where its axis of rows is, or `SUM`: a number that is summed over devices. N must be a
    multiple of D.
    """
    count = len(devices)
    mesh = jax.make_mesh((count,), ("example",), axis_types=(AxisType.Auto,), devices=devices)

    def body(rows: Tree, shared: Tree) -> Tree:
        shared = jax.tree.map(lambda a: lax.pcast(a, ("example",), to="varying"), shared)
        found = fn(jax.tree.map(lambda a: a[:, 0], rows), *shared)
        return jax.tree.map(lambda a, axis: jnp.expand_dims(a, axis + 1), found, axes)

    outs = jax.tree.map(lambda axis: P(*[None] * (axis + 1), "example"), axes)
    mapped = jax.shard_map(body, mesh=mesh, in_specs=(P(None, "example"), P()), out_specs=outs)
    compiled = jax.jit(mapped, compiler_options=options(effort, devices[0].platform))

    def joined(part: Array, axis: int) -> Array:
        if axis == SUM:
            return part.sum()
        return part.reshape(*part.shape[:axis], -1, *part.shape[axis + 2 :])

    def placed(rows: Tree, shared: Tree) -> tuple[Tree, Tree]:
        own, everywhere = NamedSharding(mesh, P(None, "example")), NamedSharding(mesh, P())
        dealt = jax.tree.map(lambda a: jax.device_put(a.reshape(-1, count, *a.shape[1:]), own), rows)
        return dealt, jax.tree.map(lambda a: jax.device_put(a, everywhere), shared)

    def call(rows: Tree, *shared: Tree) -> Tree:
        return jax.tree.map(joined, compiled(*placed(rows, shared)), axes)

    call.lower = lambda rows, *shared: compiled.lower(*placed(rows, shared))  # type: ignore[attr-defined]
    return call


def fetch(tree: Tree, count: int | None = None) -> Tree:
    """Copies stacks to the host as NumPy arrays, without padding trials beyond `count`; on every process, all of them.

    With several processes all of them must call it, in the same order.
    """
    whole = jax.tree.map(np.asarray, jax.device_get(jax.tree.map(_whole, tree)))
    return whole if count is None else jax.tree.map(lambda a: a[:count], whole)


def _whole(array: Array | np.ndarray) -> Array | np.ndarray:
    if not isinstance(array, Array) or array.is_fully_addressable:
        return array
    assert isinstance(array.sharding, NamedSharding), array.sharding  # all stacks come from this file
    flat = array.reshape(array.shape[0], -1)
    rows, total = flat.shape
    columns = max(1, min(total, GATHERED // (rows * flat.dtype.itemsize)))
    block = _block(NamedSharding(array.sharding.mesh, P()), columns)
    whole = np.empty((rows, total), flat.dtype)
    for low in range(0, total, columns):
        low = min(low, total - columns)  # the last block may overlap the one before: all have one shape
        whole[:, low : low + columns] = block(flat, low).addressable_data(0)
    return whole.reshape(array.shape)


@functools.cache
def _block(everywhere: NamedSharding, columns: int) -> Callable[[Array, int], Array]:
    """(array [T, M], low) -> its columns from `low` on, copied to every device."""
    return jax.jit(lambda a, low: lax.dynamic_slice_in_dim(a, low, columns, 1), out_shardings=everywhere)


def ask_all(flag: bool) -> Callable[[], bool]:
    """Starts to ask whether `flag` is set in any process; what it returns waits for the answer, the same for all."""
    if jax.process_count() == 1:
        return lambda: flag
    mesh = make_mesh()
    own = _place_own(np.full(1, flag, np.int32), mesh)
    total = _summed(NamedSharding(mesh, P()))(own)
    return lambda: bool(np.asarray(total.addressable_data(0)))


def _place_own(one: np.ndarray, mesh: Mesh) -> Array:
    return jax.make_array_from_callback((mesh.size,), NamedSharding(mesh, P("trial")), lambda index: one)


@functools.cache
def _summed(everywhere: NamedSharding) -> Callable[[Array], Array]:
    return jax.jit(jnp.sum, out_shardings=everywhere)
