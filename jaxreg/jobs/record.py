"""What a workdir records of its study: one config for ever, and what made its numbers."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from jaxreg.config import Plain
from jaxreg.runtime.files import read_json, write_json
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import ClaimsSpec, SpecError, require

FREE = (
    "execution",
    "probes",
    "launch",
    "claims",
)  # what may change between two runs of one workdir: it trains nothing anew
_PACKAGES = ("jaxreg", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "tensorflow-datasets")


def settle(workdir: Workdir, config: Plain, sweep: list[Plain]) -> None:
    """Writes config.json, or checks that it describes the same training as the one that is there.

    That of one of the jobs of a study is its launcher's to write, who may have done so since this process read it.
    Raises: SpecError: with every difference, if it does not.
    """
    new = {"config": config, "sweep": sweep}
    if workdir.config.exists():
        old = workdir.read_config()
        found = [d for d in differences(flat(old), flat(new)) if d.split(".")[1].split(":")[0] not in FREE]
        if found:
            shown = "; ".join(found)
            raise SpecError(f"{workdir} holds another study ({shown}): restore the config or choose another --workdir.")
        if "trials" in config:
            return
    write_json(workdir.config, new)


def fix_claims(workdir: Workdir, spec: ClaimsSpec) -> None:
    """Writes what will be judged, with its digest and date, before training; later runs leave it as it is."""
    if not workdir.claims.exists():
        fixed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_json(workdir.claims, {"digest": spec.digest, "fixed": fixed, "claims": dataclasses.asdict(spec)})


def fixed(workdir: Workdir) -> str | None:
    """The digest of what was to be judged when training began; None where none was written."""
    return str(read_json(workdir.claims)["digest"]) if workdir.claims.exists() else None


def settle_data(workdir: Workdir, name: str, contents: Mapping[str, str]) -> None:
    """Writes data.json, or checks that the splits of a dataset have the content that is written there.

    Raises: SpecError: naming the first split that has another one: its numbers would stand beside those of the other.
    """
    held = read_json(workdir.data) if workdir.data.exists() else {}
    before = held.get(name, {})
    changed = [split for split, content in contents.items() if before.get(split, content) != content]
    changed += [split for split in before if split not in contents]
    if changed:
        split = changed[0]
        was, now = before[split][:8], contents.get(split, "nothing")[:8]
        rule = f"{workdir} holds a study of other examples: split {split!r} of {name} has changed"
        raise SpecError(f"{rule} ({was} -> {now}): put its files back, or choose another --workdir.")
    if before != contents:
        write_json(workdir.data, held | {name: dict(contents)})


def check_alike(workdirs: Sequence[Workdir]) -> None:
    """Raises SpecError where two workdirs know a dataset by one name and hold other examples of it.

    Their numbers would be compared as if they were of the same images.
    """
    known: dict[str, tuple[Workdir, Plain]] = {}
    for workdir in workdirs:
        for name, contents in (read_json(workdir.data) if workdir.data.exists() else {}).items():
            first, held = known.setdefault(name, (workdir, contents))
            changed = [split for split in held if contents.get(split) != held[split]]
            rule = f"{first} and {workdir} hold other examples of {name}: split {changed[:1]} differs"
            require(not changed, f"{rule}: report them apart, or train one of them again on the data of the other.")


def differences(old: Plain, new: Plain) -> list[str]:
    """Every key of two flat dicts whose values differ, with both."""
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in changed]


def flat(tree: Any, prefix: str = "") -> Plain:
    """Nested dicts and lists of dicts as one dict of dotted keys; `json` round trip first, as the file has it."""
    tree = json.loads(json.dumps(tree))
    if isinstance(tree, dict) and tree:
        pairs = ((f"{prefix}{key}", value) for key, value in tree.items())
    elif isinstance(tree, list) and any(isinstance(value, dict | list) for value in tree):
        pairs = ((f"{prefix}{place}", value) for place, value in enumerate(tree))
    else:
        return {prefix.rstrip("."): tree}
    return {k: v for key, value in pairs for k, v in flat(value, f"{key}.").items()}


class Provenance:
    """provenance.json: what code, versions and devices made the numbers, and how long each stage took."""

    def __init__(self, workdir: Workdir, precision: str) -> None:
        self.path = workdir.provenance
        before = read_json(self.path) if self.path.exists() else {"runs": [], "wall_seconds": {}}
        now = _this_run() | {"precision": precision}
        self.facts: Plain = {**now, "wall_seconds": before["wall_seconds"], "runs": [*before["runs"], now]}
        write_json(self.path, self.facts)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the wall time of a stage, summed over the runs that it took."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = self.facts["wall_seconds"]
            seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - started, 3)
            write_json(self.path, self.facts)


def _this_run() -> Plain:
    devices = jax.devices()
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(["python -m jaxreg", *sys.argv[1:]]),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": sys.version.split()[0], **_versions()},
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _git(*words: str) -> str | None:
    """What git says of the checkout that this package runs from; None where it runs from no checkout.

    An installation may lie under another project's repository, whose commit says nothing of it.
    """
    folder = Path(__file__).parent
    if words[0] != "ls-files" and not _git("ls-files", Path(__file__).name):
        return None
    try:
        told = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() if told.returncode == 0 else None
