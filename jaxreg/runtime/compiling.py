"""What compiling costs: effort where it pays, and compiled programs kept from one process to the next."""

import contextlib
import functools
import hashlib
import os
import platform
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxreg.spec import require

Effort = Literal["full", "quick", "cheap"]
VARIABLE = "JAXREG_COMPILATION_CACHE"  # a directory, or "off"; a config that names one goes before it
LIMIT = 2**30  # bytes of kept programs: the ones that were used longest ago go first
LEAST_SECONDS = 0.1  # of compiling: what takes less is not worth a file
# On a CPU, for what runs once: LLVM does little, and XLA's older emitters of fusions compile faster.
CHEAP = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
# For what somebody waits for: half the time to compile, and up to a tenth slower (docs/measured.md).
QUICK = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}

P = ParamSpec("P")
R = TypeVar("R")
_settled: list[str] = []  # what this process has said once about kept programs


def options(effort: Effort, kind: str) -> dict[str, Any] | None:
    """The compiler's options for a kind of device ("cpu", "gpu", "tpu"): less effort is worth having on a CPU alone.

    A level of optimization in XLA_FLAGS goes before "quick". What this version of XLA does not know is left out.
    """
    said = "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", "")
    if kind != "cpu" or effort == "full" or (effort == "quick" and said):
        return None
    wanted = CHEAP if effort == "cheap" else QUICK
    return {name: value for name, value in wanted.items() if _is_known(name, value)}


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    """Whether this version's compiler has an option: the flags of XLA come and go with its versions."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError:
            return False
    return True


def cheaply(fn: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """`jax.jit(fn, **how)` of a function that runs once or twice: compiled with little effort where that helps.

    The device is looked for at the first call. Not to be called inside another jit.
    """

    @functools.cache
    def compiled() -> Any:
        return jax.jit(fn, compiler_options=options("cheap", jax.default_backend()), **how)

    @functools.wraps(fn)
    def call(*args: Any, **named: Any) -> Any:
        return compiled()(*args, **named)

    return call


def kept(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn`, before whose first call programs are kept for processes to come, unless somebody has decided on that.

    Then that is so for all programs of the process: JAX knows one folder. `VARIABLE` moves or ends it; `keep`, a folder
    of the user's own and `jax_enable_compilation_cache` go before it.
    """

    @functools.wraps(fn)
    def call(*args: P.args, **named: P.kwargs) -> R:
        if not _settled:
            _keep_once()
        return fn(*args, **named)

    return call


def _keep_once() -> None:
    folder, allowed = (
        getattr(jax.config, f"jax_{name}") for name in ("compilation_cache_dir", "enable_compilation_cache")
    )
    if folder or not allowed:
        _settled.append("by the user")
    elif keep():
        compilation_cache.reset_cache()  # JAX looks for a folder once, when the first program of a process is compiled


def keep(place: str = "", remote: bool = False) -> Path | None:
    """Keeps compiled programs on disk, for processes to come; returns the folder, None where nothing is kept.

    `place` is a directory or "off"; "" means `VARIABLE`, and without it a private folder below the user's cache
    directory, but nothing for a `remote` workdir, whose hosts come and go. JAX's own variable is left to rule.

    Raises: SpecError: for a named directory that cannot be written.
    """
    _settled.append(place)
    named = place or os.environ.get(VARIABLE, "")
    if named == "off" or "JAX_COMPILATION_CACHE_DIR" in os.environ or (remote and not named):
        return None
    folder = (Path(named).expanduser() if named else _of_user()) / _machine()
    private = _is_private(folder)
    rule = f"{'execution.compilation_cache' if place else VARIABLE} must be a directory that only you can write"
    require(private or not named, f'{rule}, got {named}: name another, or "off".')
    if not private:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", LIMIT)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return folder


def _of_user() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(home) / "jaxreg" / "programs"


def _machine() -> str:
    """A name for processors on which the same machine code runs: homes are shared by machines of several kinds."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else [platform.processor()]
    flags = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}) or lines
    return f"{platform.machine()}-{hashlib.sha256(chr(10).join(flags).encode()).hexdigest()[:12]}"


def _is_private(folder: Path) -> bool:
    """Makes the folder, for its owner alone. Whether it is ours, nobody else can write it, and we can.

    A program that someone else put there would be run.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        owned = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        return owned and not others and os.access(folder, os.W_OK | os.X_OK)
    return False
