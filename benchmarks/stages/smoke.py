"""Does the device compute what a CPU does? One compilation a program; what is left out of CUDA graphs."""

import collections
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxreg import config, data
from jaxreg.calibration import Logits, evaluate
from jaxreg.robustness import ATTACKS, probe
from jaxreg.robustness.attacks import Suite
from jaxreg.runtime import parallel
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import ExecutionSpec
from jaxreg.training.loop import dispatches
from jaxreg.training.program import Run, fixed_parts, programs_of, settings_of
from jaxreg.training.step import init_state
from stages.report import Options, Report

TOLERANCES = {"loss": 1e-3, "logits": 1e-2, "nll": 1e-3, "flips": 0.02}  # relative to the largest; of masks, a share
STEPS, DISPATCHES, EXAMPLES = 2, 3, 64
OPCODE = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = \S.*? ([a-z][\w\-]*)\(")
HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast"}  # no work of the device


def run(report: Report, options: Options) -> None:
    """A tiny study on this device and on a CPU, at the highest precision."""
    device = jax.devices()[0]
    report.row(what="machine", device=device.device_kind, platform=device.platform, jax=jax.__version__)
    with jax.default_matmul_precision("highest"):
        own = tiny_study(device, report)
        other = tiny_study(jax.devices("cpu")[0], None) if device.platform != "cpu" else own
    for name, allowed in TOLERANCES.items():
        apart = float(np.mean(own[name] != other[name])) if name == "flips" else difference(own[name], other[name])
        report.row(what="equal to a CPU", number=name, apart=apart, allowed=allowed, holds=bool(apart <= allowed))
    report.row(what="CUDA graphs", **graphs(own["lowered"], options.out / "xla", device.platform))


def tiny_study(device: Any, report: Report | None) -> dict[str, Any]:
    """Loss of every step, logits, NLL and masks of four trials on digits; and the lowered training program."""
    program = programs_of(config.resolve(described()))[0]
    dataset = data.load("digits", validation=100)
    mesh = parallel.make_mesh(devices=[device])
    fixed = fixed_parts(program, dataset, mesh)
    settings = parallel.put_trials(settings_of(program, fixed), mesh)
    carry = (parallel.per_trial(lambda seed, _: init_state(seed, fixed), mesh)(settings.seed, ()), settings)
    run = Run(Workdir("."), mesh, ExecutionSpec(steps_per_dispatch=STEPS), Preemption())
    losses, compilations = [], []
    for _, dispatch in dispatches(program, dataset, fixed, run, (), 0):
        with counted(compilations):
            carry, metrics = dispatch(carry)
            losses.append(parallel.fetch(metrics.loss))
    if report:
        report.row(what="compilations of the training program", dispatches=len(losses), compilations=len(compilations))
    test = dataset.splits["test"][:EXAMPLES]
    given = np.asarray(test.images, np.float32) / np.float32(dataset.scale), test.labels, test.key_ids
    weights = carry[0].params, carry[0].stats
    suite = Suite({"pgd": ATTACKS["pgd_ce"]._replace(steps=5, random_start=False)})
    found = probe.measure(fixed.model.apply, *weights, *given, suite_name=suite, epsilons=(0.05,), mesh=mesh)
    forward = parallel.per_trial(lambda one, x: fixed.model.apply(*one, x, train=False)[0], mesh)
    logits = parallel.fetch(forward(weights, given[0]))
    halves = {"validation": slice(EXAMPLES // 2), "test": slice(EXAMPLES // 2, None)}
    parts = {name: Logits(logits[:, rows], test.labels[rows], test.ids[rows]) for name, rows in halves.items()}
    numbers = evaluate(parts, mesh=mesh)["test"]
    masks = np.stack([one.arrays["robust/pgd/0.05"] for one in found])
    steps, resident = dispatch.args
    return {
        "loss": np.concatenate(losses, 1),
        "logits": logits,
        "nll": numbers["nll"],
        "flips": masks,
        "lowered": steps.lower(carry, resident),
    }


def described() -> dict[str, Any]:
    """Four trials of a small network, three dispatches."""
    return {
        "study": "smoke",
        "dataset": {"name": "digits", "validation": 100, "augment": ["pad_crop"], "padding": 1},
        "model": {"name": "cnn", "widths": [8]},
        "regularizers": [["none", {}], ["mixup+label_smoothing", {"alpha": 0.5}]],
        "seeds": 2,
        "batch_size": 32,
        "steps": STEPS * DISPATCHES,
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.0},
        "probes": {"robustness": {"suite": "pgd", "norm": "linf", "epsilons": [0.05], "examples": EXAMPLES}},
        "execution": {},
    }


class counted:
    """Adds an entry to `found` for each compilation within it."""

    def __init__(self, found: list[str]) -> None:
        self._found = found

    def _listen(self, event: str, seconds: float, **_: Any) -> None:
        if "backend_compile" in event:
            self._found.append(event)

    def __enter__(self) -> None:
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)


def difference(own: Any, other: Any) -> float:
    """The largest, relative to the largest value."""
    own, other = np.asarray(own, np.float64), np.asarray(other, np.float64)
    return float(np.abs(own - other).max() / max(np.abs(other).max(), 1e-30))


def graphs(lowered: Any, dump: pathlib.Path, platform: str) -> dict[str, Any]:
    """What XLA put into CUDA graphs (command buffers) and what not, by opcode, as its text and its dump say."""
    if platform not in ("gpu", "cuda"):
        return {"left_out": f"no CUDA device, but {platform}"}
    inside, outside = split_by_graph(lowered.compile().as_text())
    kinds: collections.Counter[str] = collections.Counter()
    files = sorted(path for path in dump.iterdir() if "thunk" in path.name) if dump.is_dir() else []
    for path in files[-4:]:
        kinds.update(re.findall(r"\bk[A-Z]\w+", path.read_text(errors="replace")))
    counts = {"inside": dict(inside), "outside": dict(outside), "thunks": dict(kinds)}
    return {**counts, "files": [path.name for path in files[-4:]]}


def split_by_graph(text: str) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """Opcodes of a compiled module within computations named command_buffer, and in those that run one by one."""
    inside: collections.Counter[str] = collections.Counter()
    outside: collections.Counter[str] = collections.Counter()
    for name, opcode in instructions(text):
        if opcode not in FREE and "fused" not in name:
            (inside if "command_buffer" in name else outside)[opcode] += 1
    return inside, outside


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The computation and the opcode of each instruction of an HLO module."""
    name = ""
    for line in text.splitlines():
        if header := HEADER.match(line):
            name = header[1]
        elif found := OPCODE.match(line):
            yield name, found[1]
