"""One job, many hosts: how a process joins, what process 0 does for all, and what all of them agree on.

Every process runs the same program over the same plan. Whatever a process reads to decide what comes next (is this
file there? was a stop asked for?) must be the same everywhere, or the processes wait for each other for ever: process 0
looks and tells the others. It alone writes, except for checkpoints, of which each process writes its own share.
"""

import hashlib
import json
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxreg.runtime import START_AGAIN
from jaxreg.spec import SpecError, require

T = TypeVar("T")
START_FACTOR = 5  # how much longer than for a heartbeat the processes wait for each other at the start
_BLOCK = 4096  # bytes told to the others at once: one size compiles once
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_GIVEN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_LOST = r"Gloo|nccl|Socket closed|Connection (closed|reset)|heartbeat|coordination|UNAVAILABLE|[Bb]arrier|preempted"


class Elsewhere(Exception):
    """Another process failed; its own log says why."""


def join(distributed: str, heartbeat_seconds: int) -> None:
    """Makes this process one of a job's; must come before any device is touched. Does nothing for "".

    Args:
      distributed: `ExecutionSpec.distributed`.
      heartbeat_seconds: how long a process may be silent, or late at the start, before the job ends.
    Raises: SpecError: if there is no such job to be found, or the others do not come.
    """
    if not distributed or jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # At the start hosts may come minutes apart, while images are pulled; a host that goes silent later is gone.
    limits: Any = {
        "initialization_timeout": START_FACTOR * heartbeat_seconds,
        "heartbeat_timeout_seconds": heartbeat_seconds,
        "shutdown_timeout_seconds": heartbeat_seconds,
    }
    try:
        jax.distributed.initialize(**_place(distributed), **limits)
    except (ValueError, RuntimeError) as error:
        cure = "start every process of the job, or leave execution.distributed empty for one process"
        raise SpecError(f"execution.distributed={distributed!r} finds no job ({_line(error)}): {cure}.") from None


def _place(distributed: str) -> dict[str, Any]:
    """The arguments of `jax.distributed.initialize` that say which process of which job this is."""
    if distributed == "slurm":
        missing = [name for name in _SLURM if name not in os.environ]
        require(not missing, f"execution.distributed='slurm' needs {', '.join(missing)}: start the job with srun.")
        return {"cluster_detection_method": "slurm"}
    if distributed == "auto":
        given = [os.environ.get(name, "") for name in _GIVEN]
        if not all(given):
            return {}  # a TPU pod, Slurm or MPI: JAX finds out
        distributed = ",".join(given)
    address, count, index = distributed.split(",")
    process = {"coordinator_address": address, "num_processes": int(count), "process_id": int(index)}
    return {**process, "cluster_detection_method": "deactivate"}


def count() -> int:
    """How many processes share the job."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return count() == 1 or jax.process_index() == 0


def on_first(fn: Callable[[], T]) -> T:
    """Runs `fn` on process 0 alone and returns to all what it returned there (plain data): a barrier, too.

    Raises: what `fn` raised on process 0, and `Elsewhere` on the others.
    """
    if count() == 1:
        return fn()
    error, told = None, b""
    if is_first():
        try:
            told = json.dumps({"value": fn()}).encode()
        except Exception as raised:
            error, told = raised, json.dumps({"error": f"process 0: {_line(raised)}"}).encode()
    heard = json.loads(_tell(told))
    if error is not None:
        raise error
    if "error" in heard:
        raise Elsewhere(heard["error"])
    return heard["value"]


def _tell(told: bytes) -> bytes:
    """What process 0 has to say, on all processes."""
    whole = len(told).to_bytes(4, "big") + told
    heard = _tell_block(whole[:_BLOCK])
    length = 4 + int.from_bytes(heard[:4], "big")
    for start in range(_BLOCK, length, _BLOCK):
        heard += _tell_block(whole[start : start + _BLOCK])
    return heard[4:length]


def _tell_block(block: bytes) -> bytes:
    padded = np.frombuffer(block.ljust(_BLOCK, b"\0"), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes()


def everywhere(fn: Callable[[], T]) -> T:
    """Runs `fn` on every process; where it fails on one of them, it fails on all.

    Raises: what `fn` raised here, or `Elsewhere`.
    """
    if count() == 1:
        return fn()
    error, value = None, None
    try:
        value = fn()
    except Exception as raised:
        error = raised
    held = _asked(error is None)
    if error is not None:
        raise error
    if not held.all():
        raise Elsewhere(f"process {int(np.argmin(held))} failed; its own log says why.")
    return value  # type: ignore[return-value]


def one_first(fn: Callable[[], T]) -> T:
    """Runs `fn` on process 0 and then, if it worked there, on the others; where it fails on one, it fails on all."""
    kept: list[T] = []
    on_first(lambda: kept.append(fn()))
    return everywhere(lambda: kept[0] if kept else fn())


def all_hold(holds: bool) -> bool:
    """Whether `holds` is true on every process."""
    return holds if count() == 1 else bool(_asked(holds).all())


def _asked(holds: bool) -> np.ndarray:
    """What each process answers, bool [processes]."""
    return np.asarray(multihost_utils.process_allgather(np.int32(holds))).reshape(-1) > 0


def check_alike(facts: Any) -> None:
    """Checks that every process has the same plain data and as many devices as the others.

    Raises: SpecError: naming a process that differs.
    """
    if count() == 1:
        return
    devices = Counter(device.process_index for device in jax.devices())
    require(len(set(devices.values())) == 1, f"every process needs as many devices, got {dict(devices)} by process.")
    text = json.dumps(facts, sort_keys=True).encode()
    digest = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), np.uint32)
    digests = multihost_utils.process_allgather(digest)
    other = (digests != digests[0]).any(1)
    found = f"process {int(np.argmax(other))} has another config, sweep or version than process 0"
    require(not other.any(), f"{found}: start every process with the same code and the same command.")


def abandon(error: Exception) -> None:
    """Ends this process at once after an unforeseen error, if others would wait for it: no farewell, they notice.

    Exit code 75 if the error is that another process is gone, else 1. Does nothing in a job of one process.
    """
    if count() == 1:
        return
    if is_loss(error):
        who = f"process {jax.process_index()} of {count()}"
        cure = "all finished work is saved; start the job again, with any number of processes"
        sys.stderr.write(f"error: {who} lost another one ({_line(error)}): {cure}.\n")
        _vanish(START_AGAIN)
    traceback.print_exception(error)
    _vanish(1)


def is_loss(error: Exception) -> bool:
    """Whether an error says that another process is gone."""
    # A jitted function called again raises what XLA reports as a ValueError that begins with the name of a status.
    reported = isinstance(error, ValueError) and re.match(r"[A-Z_]+: ", str(error))
    told = isinstance(error, jax.errors.JaxRuntimeError | TimeoutError) or reported
    return bool(told and re.search(_LOST, str(error)))


def _vanish(code: int) -> NoReturn:
    """Leaves without the barrier in which JAX would wait for a process that is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
