"""What a study is, frozen: plain dataclasses that check themselves. `config.py` makes them from a config file."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxreg.setting import Setting


class SpecError(ValueError):
    """A config that cannot run: one line that names the value, the rule and the cure."""


def require(holds: bool, message: str) -> None:
    """Raises `SpecError(message)` unless `holds`."""
    if not holds:
        raise SpecError(message)


def check_positive(owner: str, spec: Any, *names: str) -> None:
    """Raises SpecError unless the named fields of `spec` are above 0; messages call them OWNER + NAME."""
    for name in names:
        value = getattr(spec, name)
        require(value > 0, f"{owner}{name} must be above 0, got {value}.")


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raises SpecError if a value stands in a list twice: its numbers would have one name."""
    twice = next((value for value in values if values.count(value) > 1), None)
    require(twice is None, f"{name} has {twice!r} twice: name each once.")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises SpecError unless `value` is one of the known ones."""
    require(value in known, f"Unknown {name} {value!r}; known: {sorted(known)}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A dataset by name, its held-out validation split, and the augmentation of training images."""

    name: str
    validation: int | float | None = None  # examples, or a share of train; None: the dataset's own, or a tenth
    data_dir: str = ""  # of TFDS datasets; empty means TFDS_DATA_DIR
    augment: tuple[str, ...] = ()
    padding: int = 4  # pixels added on each side by pad_crop
    cutout_size: int = 8  # side of the erased square, pixels
    residency: Literal["device", "stream"] = "device"

    def __post_init__(self) -> None:
        held = 1 if self.validation is None else self.validation
        number = isinstance(held, int | float) and not isinstance(held, bool)
        require(number, f"dataset.validation must be a number, got {held!r}.")
        require(held > 0, f"dataset.validation must be above 0, got {held}: temperature needs it.")
        check_choice("dataset.residency", self.residency, ("device", "stream"))
        require(self.padding >= 0, f"dataset.padding must be 0 or more pixels, got {self.padding}.")
        require(self.cutout_size >= 0, f"dataset.cutout_size must be 0 or more pixels, got {self.cutout_size}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A network from the MODELS table, and the type it computes in (parameters and logits stay float32)."""

    name: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    options: tuple[tuple[str, Any], ...] = ()  # of this network alone, such as the widths of the small cnn

    def __post_init__(self) -> None:
        check_choice("model.dtype", self.dtype, ("float32", "bfloat16"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer and its schedule. Numbers are traced values of the trial; names and `nesterov` are structure."""

    learning_rate: float
    name: Literal["sgd", "adamw", "nadamw"] = "sgd"
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_steps: int = 0
    momentum: float = 0.9
    nesterov: bool = True  # of sgd; of the others always False
    b1: float = 0.9
    b2: float = 0.999
    boundaries: tuple[float, ...] = (0.5, 0.75)  # shares of training after which the step schedule decays
    decay: float = 0.1  # its factor

    def __post_init__(self) -> None:
        check_choice("optimizer.name", self.name, ("sgd", "adamw", "nadamw"))
        object.__setattr__(self, "nesterov", self.nesterov and self.name == "sgd")
        check_choice("optimizer.schedule", self.schedule, ("cosine", "step", "constant"))
        check_positive("optimizer.", self, "learning_rate", "decay")
        require(self.weight_decay >= 0, f"optimizer.weight_decay must be 0 or more, got {self.weight_decay}.")
        require(self.warmup_steps >= 0, f"optimizer.warmup_steps must be 0 or more, got {self.warmup_steps}.")
        for name in ("momentum", "b1", "b2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"optimizer.{name} must be in [0, 1), got {value}.")
        inside = all(0 < share < 1 for share in self.boundaries)
        require(inside, f"optimizer.boundaries are shares of training in (0, 1), got {self.boundaries}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegularizerSpec:
    """A regularizer from the table (or a sum such as `mixup+label_smoothing`) with all its hyperparameters."""

    name: str
    hyperparameters: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """All that determines one trained network."""

    dataset: DatasetSpec
    model: ModelSpec
    optimizer: OptimizerSpec
    batch_size: int
    steps: int
    regularizer: RegularizerSpec
    seed: int
    control: tuple[tuple[str, Any], ...] = ()  # what its setting alone overrides of the optimizer, by dotted key
    overrides: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self) -> None:
        check_positive("", self, "batch_size", "steps")
        require(0 <= self.seed < 2**32, f"a seed must be in [0, 2^32), got {self.seed}.")
        warmup = self.optimizer.warmup_steps
        require(warmup < self.steps, f"optimizer.warmup_steps must be below steps = {self.steps}, got {warmup}.")

    @functools.cached_property
    def id(self) -> str:
        """A readable name that ends in the hash of everything that determines the trial."""
        fields = dataclasses.asdict(self)
        del fields["overrides"], fields["dataset"]["data_dir"]  # where the files lie changes nothing
        if not self.control:
            del fields["control"]  # what was trained before there were any keeps its name
        return f"{self.regularizer.name}-s{self.seed}-{digest(fields)}"

    @property
    def setting(self) -> Setting:
        """The trial without its seed: the regularizer's hyperparameters, the sweep's overrides and its own.

        `per_batch` is named only where it is on: it is off in nearly every study.
        """
        shown = {k: v for k, v in self.regularizer.hyperparameters if k != "per_batch" or v}
        if self.control:
            return Setting.control(self.regularizer.name, shown | dict(self.control), dict(self.overrides))
        return Setting.of(self.regularizer.name, shown | dict(self.overrides))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbesSpec:
    """What is measured on trained trials. Changing it measures again; it never trains again."""

    settings: Mapping[str, Any]  # by the name of a probe that has any: its dataclass
    only: tuple[str, ...] = ()  # the probes to run; empty: all of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionSpec:
    """How a study runs. Nothing here changes its numbers by more than rounding."""

    data_devices: int = 1  # devices that share each trial's batch; the others hold other trials
    cpu_devices: int = 0  # virtual devices where only a CPU is found; 0 means one a core
    local_trials: Literal["map", "vmap", "auto"] = "map"  # several trials on one device; auto: the faster one
    precision: Literal["default", "high", "highest"] = "highest"  # of products in all that follows training
    steps_per_dispatch: int = 10
    dispatches_per_checkpoint: int = 10
    keep_checkpoints: int = 2
    eval_batch_size: int = 256
    distributed: str = ""  # one process; "auto", "slurm" or "HOST:PORT,PROCESSES,INDEX": one of a job's
    compilation_cache: str = ""  # a directory, or "off"; "" is a private one below the user's cache directory
    heartbeat_seconds: int = 60  # of silence after which a process counts as dead, and the job ends

    def __post_init__(self) -> None:
        names = ("data_devices", "steps_per_dispatch", "dispatches_per_checkpoint", "keep_checkpoints")
        check_positive("execution.", self, *names, "eval_batch_size", "heartbeat_seconds")
        require(self.cpu_devices >= 0, f"execution.cpu_devices must be 0 (one a core) or more, got {self.cpu_devices}.")
        check_choice("execution.local_trials", self.local_trials, ("map", "vmap", "auto"))
        check_choice("execution.precision", self.precision, ("default", "high", "highest"))
        rule = "execution.distributed must be '', 'auto', 'slurm' or HOST:PORT,PROCESSES,INDEX with INDEX < PROCESSES"
        require(_is_place(self.distributed), f"{rule}, got {self.distributed!r}.")


def _is_place(distributed: str) -> bool:
    found = re.fullmatch(r"[^,\s]+:\d+,(\d+),(\d+)", distributed)
    return distributed in ("", "auto", "slurm") if found is None else int(found[2]) < int(found[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """How a study is cut into jobs. Which job a trial is in changes none of its numbers."""

    devices: int = 1  # of one job: GPUs, TPU chips, or CPU cores
    jobs: int = 0  # new trials are spread over; 0: as few as memory and hours allow
    memory_gib: float = 0.0  # of one device; 0: no limit
    hours: float = 0.0  # of training in one job, at the measured step time; 0: no limit
    slurm: tuple[tuple[str, Any], ...] = ()  # options of sbatch, named as submitit names them

    def __post_init__(self) -> None:
        check_positive("launch.", self, "devices")
        for name in ("jobs", "memory_gib", "hours"):
            value = getattr(self, name)
            require(value >= 0, f"launch.{name} must be 0 (no limit) or more, got {value}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimsSpec:
    """What is judged, fixed before any result: a setting a method, a radius, and the smallest effects that matter."""

    primary: tuple[Any, ...] = ()  # as in `regularizers`; empty: of each soft regularizer the first
    radius: float = 0.0  # of the judged robust accuracy; 0: the first of probes.robustness.epsilons above 0
    norm: float = 0.05  # share of the feature norm
    cosine: float = 0.01
    calibration_before: float = 0.01  # of the debiased calibration error
    calibration_after: float = 0.005
    robustness: float = 0.02  # of the share of images
    mechanism: float = 0.1  # of a correlation
    origin: float = 0.02  # of a cosine
    accuracy: float = 0.005

    def __post_init__(self) -> None:
        require(self.radius >= 0, f"claims.radius must be 0 (the first radius attacked) or more, got {self.radius}.")
        sizes = [field.name for field in dataclasses.fields(self) if field.name not in ("primary", "radius")]
        check_positive("claims.", self, *sizes)

    @property
    def digest(self) -> str:
        """Hex digits that change with whatever is fixed here."""
        return digest(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """All the trials of one config file, how they run, and what is measured on them."""

    name: str
    trials: tuple[TrialSpec, ...]
    probes: ProbesSpec
    execution: ExecutionSpec
    launch: LaunchSpec = LaunchSpec()
    claims: ClaimsSpec = ClaimsSpec()


def digest(fields: Any, length: int = 10) -> str:
    """Hex digits of a hash of plain data, equal on every machine."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:length]
