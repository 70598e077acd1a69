"""The geometry of many trials: jaxreg against loops over trials in NumPy/SciPy and in PyTorch.

    python benchmarks/geometry.py                                        64 trials x 10,000 examples x 512 x 100
    python benchmarks/geometry.py --trials 2 --examples 200 --width 16 --classes 5 --peer_trials 1
    python benchmarks/geometry.py --memory                               memory of the whole probe at N, 2N, 4N

Two sets of numbers, in one pass over a trial each: `core` is t* and the angular margin of every example and the
minimal-loss point of every class; `all` adds norms, cosines to three kinds of center, plain and centred, and neural
collapse. All values of the first `--peer_trials` trials are compared before anything is timed, and a difference beyond
`LIMITS` ends the run. jaxreg takes all trials in one call, placed as a study places them; a peer (geometry_peers.py)
loops over `--peer_trials` of them, and its seconds are those times trials / peer trials, `trials_measured` beside
them. Times are medians of `--repeats` runs after a first one; jaxreg's first run, with compilation, is given apart.
PyTorch is left out if not installed.

The floor of the full size, worked out beforehand: reading the features once is 64 x 10,000 x 512 x 4 B = 1.3 GB; W h is
2 x 64 x 10,000 x 512 x 100 = 66 GFLOP. The centers of a trial take, a step, two products of 100 x 100 x 100 in the
reduced basis: 4 MFLOP, hence 0.3 TFLOP for 64 trials at a thousand steps. `all` adds three times W h (means,
nearest means, predictions) and the covariance, 2 x 64 x 10,000 x 512 x 512 = 336 GFLOP, most of the work.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import geometry_peers as peers
import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from jaxreg import parallel
from jaxreg.geometry import centers, chunks, collapse, cones, cosines, margins, norms, probe, trial
from jaxreg.geometry.examples import Head

LIMITS = {"t_star": 1e-3, "centers": 2e-4, "nc4": 1e-3}  # relative to the largest value; t* divides by differences
LIMIT = 5e-4  # of the others
SETS = ("core", "all")


def make_trial(seed: int, args: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Features around the rows of a random head after a ReLU, labels, kernel, bias: float32."""
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((args.width, args.classes), np.float32) / np.float32(np.sqrt(args.width))
    labels = np.arange(args.examples) % args.classes
    noise = rng.standard_normal((args.examples, args.width), np.float32)
    features = np.maximum(4 * kernel.T[labels] + np.float32(0.3) * noise + np.float32(0.2), 0)
    return features, labels, kernel, np.float32(0.05) * rng.standard_normal(args.classes, np.float32)


# --- jaxreg -----------------------------------------------------------------------------------------------------------
def product(one: tuple[jax.Array, Head], labels_N: jax.Array) -> jax.Array:
    """The largest logit of each example [N]: less than this no way to cones and margins takes."""
    features_ND, head = one
    return jnp.max(features_ND @ head.kernel_DK + head.bias_K, 1)


def core(one: tuple[jax.Array, Head], labels_N: jax.Array) -> dict[str, jax.Array]:
    """t* [N], margins [N], centers [K, D], and the KKT residual and steps of the centers."""
    features_ND, head = one
    apart_KK = margins.distances(head.kernel_DK)

    def examples(features_BD: jax.Array) -> dict[str, jax.Array]:
        predictions_B = jnp.argmax(features_BD @ head.kernel_DK + head.bias_K, 1)
        return {
            "t_star": cones.cone(features_BD, *head).breakpoint,
            "margin": margins.angular_margin(features_BD, *head, predictions_B, apart_KK),
        }

    with jax.default_matmul_precision("highest"):
        solved = centers.minimal_loss_points(*head, jnp.mean(norms.norm(features_ND)))
        return {
            **chunks.each(examples, {"": (features_ND,)})[""],
            "centers": solved.points,
            "kkt_residual": solved.residual.max(),
            "center_steps": solved.steps,
        }


def everything(one: tuple[jax.Array, Head], labels_N: jax.Array) -> dict[str, jax.Array]:
    """`core`, norms [N], cosines [N], collapse."""
    features_ND, head = one
    found = core(one, labels_N)
    with jax.default_matmul_precision("highest"):
        means_KD = norms.class_means(features_ND, labels_N, len(head.bias_K))
        points_KD = found["centers"]
        vectors = cosines.ClassVectors(points_KD, head.kernel_DK.T, means_KD, points_KD, features_ND.mean(0))

        def examples(features_BD: jax.Array, labels_B: jax.Array) -> dict[str, jax.Array]:
            near = cosines.label_cosines(features_BD, labels_B, vectors)
            return {
                **{name.replace("_cosine", ""): value for name, value in near.items() if "soft" not in name},
                "norm": norms.norm(features_BD),
                "predicted": jnp.argmax(features_BD @ head.kernel_DK + head.bias_K, 1),
            }

        near = chunks.each(examples, {"": (features_ND, labels_N)})[""]
        of_train = features_ND, labels_N, head.kernel_DK, near.pop("predicted"), means_KD
        return {**found, **near, **collapse.collapse(*of_train)._asdict()}


# --- measuring --------------------------------------------------------------------------------------------------------
def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `repeats` runs."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def say(**found: Any) -> None:
    """One line of JSON."""
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}), flush=True)


def check_equal(peer: str, ours: dict[str, np.ndarray], theirs: list[dict[str, np.ndarray]]) -> None:
    """Prints the largest difference of each number, relative to its largest value; ends the run at one too large."""
    apart = {name: max(_apart(name, ours[name][t], one[name]) for t, one in enumerate(theirs)) for name in theirs[0]}
    say(equal=peer, trials=len(theirs), **apart)
    wrong = [name for name, value in apart.items() if not value <= LIMITS.get(name, LIMIT)]
    if wrong:
        raise SystemExit(f"{peer} and jaxreg differ in {', '.join(wrong)}: nothing was timed.")


def _apart(name: str, mine: np.ndarray, other: np.ndarray) -> float:
    if name == "t_star":  # near a tie of slopes t* has no digits in float32
        usual = other <= np.quantile(other, 0.99)
        mine, other = mine[usual], other[usual]
    return float(np.abs(mine - other).max() / max(np.abs(other).max(), 1e-6))


def compare(args: argparse.Namespace) -> None:
    """Equal values first, then times."""
    trials = [make_trial(seed, args) for seed in range(args.trials)]
    mesh = parallel.make_mesh()
    stacks = [np.stack([one[i] for one in trials]) for i in (0, 2, 3)]
    given = parallel.put_trials((stacks[0], Head(*stacks[1:])), mesh)
    labels = parallel.put_shared(trials[0][1].astype(np.int32), mesh)
    some = trials[: args.peer_trials]
    mine = {}
    for name, fn in zip(("floor", *SETS), (product, core, everything)):
        program = parallel.per_trial(fn, mesh)
        begin = time.perf_counter()
        values = parallel.fetch(program(given, labels), args.trials)
        first = time.perf_counter() - begin
        mine[name] = seconds(lambda p=program: jax.block_until_ready(p(given, labels)), args.repeats)
        say(name="jaxreg", set=name, seconds=mine[name], first_run=first, trials_measured=args.trials)
    say(kkt_residual=float(values["kkt_residual"].max()), center_steps=int(values["center_steps"].max()))
    compare_with("numpy/scipy", args, some, values, mine, lambda a: a, numpy_sets())
    compare_torch(args, some, values, mine)


def numpy_sets() -> dict[str, Callable[..., Any]]:
    """By set: the function of one trial."""
    return {"core": peers.numpy_core, "rest": peers.numpy_rest}


def compare_torch(args: argparse.Namespace, some: Any, values: Any, mine: dict[str, float]) -> None:
    """The same against PyTorch, on its accelerator where it finds one."""
    try:
        import torch
    except ImportError:
        say(name="torch", skipped="not installed: pip install torch")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved = [tuple(torch.from_numpy(a).to(device) for a in one) for one in some]
    sets = {
        "core": lambda one: peers.torch_core(torch, one),
        "rest": lambda one, points: peers.torch_rest(torch, one, points),
    }
    say(torch=torch.__version__, device=device, threads=torch.get_num_threads())
    compare_with("torch", args, moved, values, mine, lambda a: a.cpu().numpy(), sets)


def compare_with(
    peer: str,
    args: argparse.Namespace,
    some: list[Any],
    values: dict[str, np.ndarray],
    mine: dict[str, float],
    host: Callable[[Any], np.ndarray],
    sets: dict[str, Callable[..., Any]],
) -> None:
    """One peer: equal values, then its seconds for both sets, and how many times slower that is."""

    def one_core(one: Any) -> dict[str, Any]:
        return {name: host(a) for name, a in sets["core"](one).items()}

    def one_all(one: Any) -> dict[str, Any]:
        found = sets["core"](one)
        return {name: host(a) for name, a in {**found, **sets["rest"](one, found["centers"])}.items()}

    check_equal(peer, values, [one_all(one) for one in some])
    for name, fn in zip(SETS, (one_core, one_all)):
        with threadpool_limits(len(os.sched_getaffinity(0))):  # what jaxreg gave to one device, a peer may use whole
            taken = seconds(lambda f=fn: [f(one) for one in some], args.repeats)
        whole = taken / len(some) * args.trials
        times = {"seconds": whole, "trials_measured": len(some), "times_slower": whole / mine[name]}
        say(name=peer, set=name, **times)


def memory(args: argparse.Namespace) -> None:
    """What the compiled program of the whole probe takes on a device, as the number of examples doubles twice.

    `working_MiB` is what it needs beyond its inputs and results; one trial a device, so that a trial's own is seen.
    """
    mesh = parallel.make_mesh()
    count = mesh.shape["trial"]
    kernel, bias = np.zeros((count, args.width, args.classes), np.float32), np.zeros((count, args.classes), np.float32)
    for factor in (1, 2, 4):
        labels = np.zeros(factor * args.examples, np.int32)
        features = np.zeros((count, len(labels), args.width), np.float32)
        given = parallel.put_trials(({"train": features}, Head(kernel, bias), np.zeros(count, np.float32)), mesh)
        shared = parallel.put_shared(({"train": labels}, np.float32(0)), mesh)
        compiled = probe._program(trial.measure_placed, mesh).lower(given, shared).compile()
        used = compiled.memory_analysis()
        sizes = {"inputs": used.argument_size_in_bytes, "results": used.output_size_in_bytes}
        sizes |= {"working": used.temp_size_in_bytes}
        say(name="probe", examples=len(labels), **{f"{name}_MiB": size / 2**20 for name, size in sizes.items()})


def main() -> None:
    """Parses sizes, says on what it runs, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"trials": 64, "examples": 10_000, "width": 512, "classes": 100, "repeats": 3, "peer_trials": 4}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    parallel.use_cpu_devices(0)
    versions = {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}
    devices = {"device": jax.devices()[0].device_kind, "devices": len(jax.devices())}
    say(**vars(args), **versions, machine=platform.machine(), **devices)
    memory(args) if args.memory else compare(args)


if __name__ == "__main__":
    main()
