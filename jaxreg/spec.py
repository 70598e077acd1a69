"""What a study is, frozen: plain dataclasses that check themselves. `config.py` makes them from a config file."""

import dataclasses
import functools
import hashlib
import json
import re
from typing import Any, Literal

from jaxreg.setting import Setting


class SpecError(ValueError):
    """A config that cannot run: one line that names the value, the rule and the cure."""


def require(holds: bool, message: str) -> None:
    """Raises `SpecError(message)` unless `holds`."""
    if not holds:
        raise SpecError(message)


def _positive(owner: str, spec: Any, *names: str) -> None:
    for name in names:
        value = getattr(spec, name)
        require(value > 0, f"{owner}{name} must be above 0, got {value}.")


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    require(value in known, f"Unknown {name} {value!r}; known: {sorted(known)}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A dataset by name, its held-out validation split, and the augmentation of training images."""

    name: str
    validation: int | float  # examples, or a share of train below 1
    data_dir: str = ""  # of TFDS datasets; empty means TFDS_DATA_DIR
    augment: tuple[str, ...] = ()
    padding: int = 4  # pixels added on each side by pad_crop
    cutout_size: int = 8  # side of the erased square, pixels
    residency: Literal["device", "stream"] = "device"

    def __post_init__(self) -> None:
        number = isinstance(self.validation, int | float) and not isinstance(self.validation, bool)
        require(number, f"dataset.validation must be a number, got {self.validation!r}.")
        require(
            self.validation > 0, f"dataset.validation must be above 0, got {self.validation}: temperature needs it."
        )
        _choice("dataset.residency", self.residency, ("device", "stream"))
        require(self.padding >= 0, f"dataset.padding must be 0 or more pixels, got {self.padding}.")
        require(self.cutout_size >= 0, f"dataset.cutout_size must be 0 or more pixels, got {self.cutout_size}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A network from the MODELS table, and the type it computes in (parameters and logits stay float32)."""

    name: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    options: tuple[tuple[str, Any], ...] = ()  # of this network alone, such as the widths of the small cnn

    def __post_init__(self) -> None:
        _choice("model.dtype", self.dtype, ("float32", "bfloat16"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer and its schedule. Numbers are traced values of the trial; names and `nesterov` are structure."""

    name: Literal["sgd", "adamw"]
    learning_rate: float
    weight_decay: float
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_steps: int = 0
    momentum: float = 0.9
    nesterov: bool = True
    b1: float = 0.9
    b2: float = 0.999
    boundaries: tuple[float, ...] = (0.5, 0.75)  # shares of training after which the step schedule decays
    decay: float = 0.1  # its factor

    def __post_init__(self) -> None:
        _choice("optimizer.name", self.name, ("sgd", "adamw"))
        _choice("optimizer.schedule", self.schedule, ("cosine", "step", "constant"))
        _positive("optimizer.", self, "learning_rate", "decay")
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
    overrides: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self) -> None:
        _positive("", self, "batch_size", "steps")
        require(0 <= self.seed < 2**32, f"a seed must be in [0, 2^32), got {self.seed}.")
        warmup = self.optimizer.warmup_steps
        require(warmup < self.steps, f"optimizer.warmup_steps must be below steps = {self.steps}, got {warmup}.")

    @functools.cached_property
    def id(self) -> str:
        """A readable name that ends in the hash of everything that determines the trial."""
        fields = dataclasses.asdict(self)
        del fields["overrides"], fields["dataset"]["data_dir"]  # where the files lie changes nothing
        return f"{self.regularizer.name}-s{self.seed}-{digest(fields)}"

    @property
    def setting(self) -> Setting:
        """The trial without its seed: the regularizer's hyperparameters and the sweep's overrides.

        `per_batch` is named only where it is on: it is off in nearly every study.
        """
        shown = {k: v for k, v in self.regularizer.hyperparameters if k != "per_batch" or v}
        return Setting.of(self.regularizer.name, shown | dict(self.overrides))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationSpec:
    """The calibration probe: resamples of the bootstrap intervals and of the noise floor."""

    bootstrap: int = 200
    human_labels: str | None = None  # a .npz of counts aligned by id

    def __post_init__(self) -> None:
        _positive("probes.calibration.", self, "bootstrap")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessSpec:
    """The robustness probe: a named suite of attacks at several radii of one norm."""

    suite: str
    norm: Literal["linf", "l2"]
    epsilons: tuple[float, ...]
    examples: int  # of the test split; 0 means all
    verdict: bool = True  # whether to check how far the numbers can be relied on

    def __post_init__(self) -> None:
        _choice("probes.robustness.norm", self.norm, ("linf", "l2"))
        require(bool(self.epsilons), "probes.robustness.epsilons is empty: name at least one radius.")
        for epsilon in self.epsilons:
            require(epsilon >= 0, f"probes.robustness.epsilons must be 0 or more, got {epsilon}.")
            inside = self.norm == "l2" or epsilon <= 1
            require(inside, f"an linf radius must be in [0, 1], as the images are, got {epsilon}: 8/255, not 8?")
        require(self.examples >= 0, f"probes.robustness.examples must be 0 (all) or more, got {self.examples}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorruptionsSpec:
    """The corruptions probe: families of CIFAR-C on the first `examples` of test (0: all); off without any."""

    families: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    examples: int = 0

    def __post_init__(self) -> None:
        inside = all(1 <= severity <= 5 for severity in self.severities) and bool(self.severities)
        require(inside, f"probes.corruptions.severities are numbers from 1 to 5, got {self.severities}.")
        require(self.examples >= 0, f"probes.corruptions.examples must be 0 (all) or more, got {self.examples}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometrySpec:
    """The geometry probe: radius of the class centers; 0 means each trial's mean feature norm."""

    radius: float = 0.0
    train_examples: int = 0  # un-augmented train images to look at, for class means and collapse; 0 means all
    snapshots: int | tuple[int, ...] = 8  # steps to look at over training: how many, or which; 0 means none
    snapshot_examples: int = 1000  # un-augmented train images to look at there; 0 means all

    def __post_init__(self) -> None:
        require(
            self.train_examples >= 0,
            f"probes.geometry.train_examples must be 0 (all) or more, got {self.train_examples}.",
        )
        _check_snapshots(self.snapshots)
        require(
            self.snapshot_examples >= 0,
            f"probes.geometry.snapshot_examples must be 0 (all) or more, got {self.snapshot_examples}.",
        )
        require(self.radius >= 0, f"probes.geometry.radius must be 0 (the mean norm) or more, got {self.radius}.")


def _check_snapshots(wanted: Any) -> None:
    steps = wanted if isinstance(wanted, tuple) else (wanted,)
    whole = all(isinstance(step, int) and not isinstance(step, bool) and step >= 0 for step in steps)
    name = "probes.geometry.snapshots"
    require(whole, f"{name} must be a number of snapshots or a list of steps, got {wanted!r}.")
    require(wanted != 1, f"{name} must be 0 (none), 2 (the first and last step) or more, got 1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbesSpec:
    """What is measured on trained trials. Changing it measures again; it never trains again."""

    calibration: CalibrationSpec
    robustness: RobustnessSpec
    geometry: GeometrySpec
    corruptions: CorruptionsSpec = CorruptionsSpec()
    only: tuple[str, ...] = ()  # the probes to run; empty: all of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionSpec:
    """How a study runs. Nothing here changes its numbers by more than rounding."""

    data_devices: int = 1  # devices that share each trial's batch; the others hold other trials
    cpu_devices: int = 0  # virtual devices where only a CPU is found; 0 means one a core
    local_trials: Literal["map", "vmap"] = "map"  # several trials on one device
    steps_per_dispatch: int = 10
    dispatches_per_checkpoint: int = 10
    keep_checkpoints: int = 2
    eval_batch_size: int = 256
    distributed: str = ""  # one process; "auto", "slurm" or "HOST:PORT,PROCESSES,INDEX": one of a job's
    heartbeat_seconds: int = 60  # of silence after which a process counts as dead, and the job ends

    def __post_init__(self) -> None:
        names = ("data_devices", "steps_per_dispatch", "dispatches_per_checkpoint", "keep_checkpoints")
        _positive("execution.", self, *names, "eval_batch_size", "heartbeat_seconds")
        require(self.cpu_devices >= 0, f"execution.cpu_devices must be 0 (one a core) or more, got {self.cpu_devices}.")
        _choice("execution.local_trials", self.local_trials, ("map", "vmap"))
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
        _positive("launch.", self, "devices")
        for name in ("jobs", "memory_gib", "hours"):
            value = getattr(self, name)
            require(value >= 0, f"launch.{name} must be 0 (no limit) or more, got {value}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """All the trials of one config file, how they run, and what is measured on them."""

    name: str
    trials: tuple[TrialSpec, ...]
    probes: ProbesSpec
    execution: ExecutionSpec
    launch: LaunchSpec = LaunchSpec()


def digest(fields: Any, length: int = 10) -> str:
    """Hex digits of a hash of plain data, equal on every machine."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:length]
