"""A study's directory: every path in it by name, and one process at a time.

Nothing else spells a path of a workdir, and nothing searches by patterns: any legal name of a folder works.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from etils import epath

from jaxreg.runtime.files import read_json, unwritable
from jaxreg.runtime.paths import literal
from jaxreg.spec import SpecError

try:
    import fcntl
except ImportError:  # Windows: no advisory locks, so no second process is refused
    fcntl = None  # type: ignore[assignment]

IN_USE = "is in use by process"
LOCK = ".lock"


class Workdir(os.PathLike[str]):
    """The named paths of a workdir, or of a study of jobs, each of which is a workdir of its own."""

    def __init__(self, root: epath.PathLike) -> None:
        self.root = literal(root)

    def __fspath__(self) -> str:
        return os.fspath(self.root)

    __str__ = __fspath__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workdir) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.root.name

    @property
    def config(self) -> epath.Path:
        """The config and the sweep that are trained here."""
        return self.root / "config.json"

    @property
    def plan(self) -> epath.Path:
        """The config and the sweep that were launched last, of a study of jobs."""
        return self.root / "plan.json"

    @property
    def provenance(self) -> epath.Path:
        """What code, versions and devices made the numbers."""
        return self.root / PROVENANCE

    @property
    def data(self) -> epath.Path:
        """What examples are trained and measured on: a fingerprint of each split of each dataset."""
        return self.root / "data.json"

    @property
    def claims(self) -> epath.Path:
        """What is judged, as it was fixed before training."""
        return self.root / "claims.json"

    @property
    def done(self) -> epath.Path:
        """Written last, by a run that finished everything: the probes that it measured."""
        return self.root / "done.json"

    @property
    def results(self) -> epath.Path:
        """One row a number."""
        return self.root / "results.parquet"

    @property
    def conditions(self) -> epath.Path:
        """One row a trial, probe and condition: what the numbers were measured with."""
        return self.root / "conditions.parquet"

    @property
    def report(self) -> epath.Path:
        """The page; figures and tables lie in folders beside it."""
        return self.root / "report"

    @property
    def data_cache(self) -> epath.Path:
        """Decoded data, shared with the workdirs beside this one."""
        return self.root.parent / "data_cache"

    @property
    def jobs(self) -> epath.Path:
        """The folder of the jobs of a study."""
        return self.root / "jobs"

    @property
    def log(self) -> epath.Path:
        """What a job printed that a local launcher ran."""
        return self.root / "log.txt"

    @property
    def slurm_job(self) -> epath.Path:
        """The Slurm job that last had this one."""
        return self.root / "slurm.json"

    @property
    def deaths(self) -> epath.Path:
        """A byte for each time that its process died since Slurm was given it."""
        return self.root / "deaths"

    @property
    def slurm_logs(self) -> epath.Path:
        """The folder of what Slurm's jobs print."""
        return self.root / "slurm"

    @property
    def jobs_cache(self) -> epath.Path:
        """Decoded data, shared by the jobs of a study."""
        return self.jobs / "data_cache"

    def checkpoints(self, program: str) -> epath.Path:
        """All trials of a program, by step."""
        return self.root / "checkpoints" / program

    def snapshots(self, program: str) -> epath.Path:
        """Parameters of a program at a schedule of steps."""
        return self.root / "snapshots" / program

    def curve(self, program: str) -> epath.Path:
        """The table of training curves of a program."""
        return self.root / "curves" / f"{program}.parquet"

    def events(self, trial: str) -> epath.Path:
        """TensorBoard's folder of a trial."""
        return self.root / "curves" / "tensorboard" / trial

    def predictions(self, trial: str, split: str) -> epath.Path:
        """Logits, features, labels and ids of a split; of `head` the last layer."""
        return self.root / "predictions" / trial / f"{split}.npz"

    def arrays(self, probe: str, trial: str) -> epath.Path:
        """The per-example arrays that a probe leaves of a trial."""
        return self.root / "probes" / probe / f"{trial}.npz"

    def rows(self, probe: str, program: str) -> epath.Path:
        """The rows that a probe leaves of a program."""
        return self.root / "probes" / probe / f"{program}.parquet"

    def marker(self, probe: str, program: str) -> epath.Path:
        """Written last, of a probe that has measured a program: its settings and conditions."""
        return self.root / "probes" / probe / f"{program}.json"

    def calls(self, probe: str) -> epath.Path:
        """The folder of finished calls of a probe that can be interrupted."""
        return self.root / "probes" / probe / "finished"

    def export(self, trial: str, name: str) -> epath.Path:
        """Adversarial examples for another toolbox."""
        return self.root / "exports" / trial / f"{name}.npz"

    def curves(self) -> list[epath.Path]:
        """The tables of training curves that are there."""
        return [path for path in _files(self.root / "curves") if path.suffix == ".parquet"]

    def probed(self, suffix: str) -> list[epath.Path]:
        """The files of one kind that probes left, by probe and name."""
        return [path for folder in _files(self.root / "probes") for path in _files(folder) if path.suffix == suffix]

    def measured(self, probe: str) -> list[str]:
        """The trials of which a probe left arrays."""
        return [path.stem for path in _files(self.root / "probes" / probe) if path.suffix == ".npz"]

    def members(self) -> list["Workdir"]:
        """The jobs of a study that have a config, in the order in which they were made."""
        return [Workdir(path) for path in _files(self.jobs) if Workdir(path).config.exists()]

    def step(self, program: str) -> int:
        """The last step of a program that is saved."""
        return max((int(path.name) for path in _files(self.checkpoints(program)) if path.name.isdigit()), default=0)

    def read_config(self) -> dict[str, Any]:
        """The config and the sweep that are trained here, as `{"config": ..., "sweep": ...}`."""
        found: dict[str, Any] = read_json(self.config)
        return found


PROVENANCE = "provenance.json"


def _files(folder: epath.Path) -> list[epath.Path]:
    """What lies in a folder, by name; nothing that is hidden, nothing where there is none."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if not path.name.startswith(".")), key=lambda path: path.name)


@contextlib.contextmanager
def claim(folder: epath.PathLike) -> Iterator[None]:
    """Holds a folder for this process; the operating system lets go of it however the process ends.

    Raises: SpecError: if another process holds it. Remote paths (gs://) have no such lock and are not checked.
    """
    folder = epath.Path(folder)
    if fcntl is None or "://" in str(folder):
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = open(Path(folder) / LOCK, "a+")  # noqa: PTH123, SIM115  (a lock needs a descriptor of this file)
    except OSError as error:
        raise unwritable(folder, error) from error
    with opened as file:
        if not _locked(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise SpecError(f"{folder} {IN_USE} {holder}: wait for it, or choose another --workdir.")
        with contextlib.suppress(OSError):  # a full disk: nobody learns who holds it, held it is
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _locked(file: IO[str]) -> bool:
    """Takes the lock; waits a moment for one who only looks whether it is taken."""
    for patience in (0.1, 0.3, 0.0):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(patience)
    return False


def is_claimed(folder: epath.PathLike) -> bool:
    """Whether a process holds the folder; remote paths have no lock, so nobody is seen to hold one."""
    lock = epath.Path(folder) / LOCK
    if fcntl is None or "://" in str(lock) or not lock.exists():
        return False
    with Path(lock).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
