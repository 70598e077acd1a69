"""What each suite leaves standing on a trained study, by regularizer, and in how many seconds.

    python -m jaxreg predict --config=configs/digits.py --workdir=runs/digits
    python benchmarks/strength.py --config=configs/digits.py --workdir=runs/digits
    python benchmarks/strength.py --config=... --workdir=... --arms=quick,strong --radii=0.02,0.05     some of it

Arms: suites by name, `exhaustive` (margin APGD of 100 steps: 20 restarts, then 9 targets x 5 restarts, with random
numbers of its own; compilation included), and `pyautoattack` (its standard, in the environment of `--torch_python`; cnn
only). A cell is the worst case in percent, the mean over seeds; seconds are of processors, without compilation (the
second of two runs), for all trials, radii and the search for minimal radii where the suite has one.
"""

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np


def torch_worker(path: str) -> None:
    """pyautoattack's standard on one network, radius by radius: writes the masks [E, N] and processor seconds."""
    import torch
    from attack_problem import torch_network
    from pyautoattack import AutoAttack

    with np.load(path) as stored:
        data = dict(stored)
    net = torch_network(data)
    x, y = torch.tensor(data["x"].transpose(0, 3, 1, 2).copy()), torch.tensor(data["y"]).long()
    begin, masks = time.process_time(), []
    for eps in data["radii"]:
        attack = AutoAttack(net, norm="Linf", eps=float(eps), version="standard", device="cpu", verbose=False)
        found = attack.run_standard_evaluation(x, y, bs=len(x))
        masks.append((net(found).argmax(1) == y).numpy())
    np.savez(path + ".out.npz", robust=np.array(masks), seconds=time.process_time() - begin)


def pyautoattack(problem, args) -> tuple[np.ndarray, float]:
    """The masks [T, E, N] of all trials, each in a process of its own, and the seconds of all."""
    from jaxreg.runtime import parallel

    params, stats = parallel.fetch(problem.weights)
    masks, seconds = [], 0.0
    for t in range(len(problem.settings)):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/problem.npz"
            own = {"params": leaf_table(params, t), "stats": leaf_table(stats, t)}
            leaves = {f"{kind}/{name}": leaf for kind, table in own.items() for name, leaf in table.items()}
            np.savez(
                path, kind="cnn", x=problem.images, y=problem.labels, radii=args.radii, **problem.moments, **leaves
            )
            subprocess.run([args.torch_python, __file__, "--worker", path], check=True, capture_output=True)
            with np.load(path + ".out.npz") as found:
                masks.append(found["robust"])
                seconds += float(found["seconds"])
    return np.array(masks), seconds


def leaf_table(tree, t: int) -> dict[str, np.ndarray]:
    """The leaves of trial `t` by their paths."""
    import jax

    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(step.key) for step in path): np.asarray(leaf[t]) for path, leaf in paths}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Trained networks and what they are attacked on."""

    apply: object
    weights: tuple
    moments: dict
    settings: list
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    mesh: object


def load(args) -> Problem:
    """The trials of a study's one program."""
    from jaxreg import config, config_file
    from jaxreg.jobs import record
    from jaxreg.runtime import parallel
    from jaxreg.runtime.preemption import Preemption
    from jaxreg.runtime.workdir import Workdir
    from jaxreg.study import StudyProgram
    from jaxreg.training.program import Run, programs_of

    study = config.resolve(*config_file.load(args.config))
    program, workdir, mesh = programs_of(study)[0], Workdir(args.workdir), parallel.make_mesh()
    run = Run(workdir, mesh, study.execution, Preemption(), study.probes.settings["geometry"].snapshots)
    trained = StudyProgram(program, study, run, record.Provenance(workdir, study.execution.precision)).trained
    moments = {"mean": np.float32(trained.dataset.mean), "std": np.float32(trained.dataset.std)}
    settings = [str(trial.setting.regularizer) for trial in program.trials]
    examples = trained.examples("test", args.count)
    return Problem(trained.fixed.model.apply, trained.weights, moments, settings, *examples, mesh)


def attacked(problem: Problem, name: str, radii: np.ndarray) -> tuple[np.ndarray, float]:
    """The worst case [T, E, N] of a suite, and the processor seconds of its second run."""
    from jaxreg.robustness import ATTACKS, EXHAUSTIVE, suites
    from jaxreg.robustness.attacks import suite
    from jaxreg.robustness.trials import Evaluation, Networks, capacity, worst

    networks = Networks(problem.apply, problem.weights, problem.mesh, "map", capacity(len(problem.images), 512))
    clean = networks.logits_of_all(problem.images)
    chosen = EXHAUSTIVE if name == "exhaustive" else suite(name, clean.shape[2])
    draw = 3 if name == "exhaustive" else 0
    labels, ids = problem.labels.astype(np.int32), problem.ids.astype(np.uint32)
    evaluation = Evaluation(networks, problem.images, labels, ids, clean, radii, draw=draw)
    evaluation = evaluation.with_calls([*chosen.attacks.values(), ATTACKS["minimal"]], 64)

    def run() -> np.ndarray:
        outcomes, near = suites.run(evaluation, chosen, lambda *told: None)
        suites.minimal_radii(evaluation, near, chosen.minimal_steps, lambda *told: None)
        return worst(list(outcomes.values())).robust

    run() if name != "exhaustive" else None
    begin = processors()
    return run(), processors() - begin


def processors() -> float:
    """Seconds of processors so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints a line a suite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits.py")
    parser.add_argument("--workdir", default="runs/digits")
    parser.add_argument("--arms", default="quick,strong,autoattack,exhaustive")
    parser.add_argument("--radii", type=lambda text: np.float32(text.split(",")), default=np.float32([0.05, 0.1]))
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--worker", default="")
    args = parser.parse_args()
    if args.worker:
        torch_worker(args.worker)
        return
    import jax

    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    jax.config.update("jax_default_matmul_precision", "highest")
    problem = load(args)
    columns = [(name, e) for name in dict.fromkeys(problem.settings) for e in range(len(args.radii))]
    print("| suite |", " | ".join(f"{name} {args.radii[e]:.3g}" for name, e in columns), "| seconds |")
    for arm in args.arms.split(","):
        found = pyautoattack(problem, args) if arm == "pyautoattack" else attacked(problem, arm, args.radii)
        own = {name: [t for t, other in enumerate(problem.settings) if other == name] for name, _ in columns}
        cells = [f"{100 * found[0][own[name], e].mean():.1f}" for name, e in columns]
        print(f"| {arm} |", " | ".join(cells), f"| {found[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
