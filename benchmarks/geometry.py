"""The geometry of many trials: jaxreg against loops over trials in NumPy/SciPy and in PyTorch.

    python benchmarks/geometry.py                                        64 trials x 10,000 examples x 512 x 100
    python benchmarks/geometry.py --trials 2 --examples 200 --width 16 --classes 5 --peer_trials 1
    python benchmarks/geometry.py --sets probe                           one set alone, or a list: core,all,probe
    python benchmarks/geometry.py --memory                               memory of the whole probe at N, 2N, 4N

Sets of numbers. `core` is t* and the angular margin of every example and the minimal-loss point of every class; `all`
adds norms, cosines to three kinds of center, plain and centred, and neural collapse; both are one pass over a trial.
All values of the first `--peer_trials` trials are compared before a peer is timed, and a difference beyond `LIMITS`
ends the run. jaxreg takes all trials in one call, placed as a study places them; a peer (geometry_peers.py)
loops over `--peer_trials` of them, and its seconds are those times trials / peer trials, `trials_measured` beside
them. Times are medians of `--repeats` runs after a first one; jaxreg's first run, with compilation, is given apart.
A peer's seconds are the better of one thread and all cores: BLAS threads that wait for each other slow small products
down. PyTorch is left out if not installed.

`probe` is all that a study's geometry probe returns: one call of `jaxreg.geometry.measure` on half of the examples as
train, a quarter as validation and a quarter as test, with label smoothing 0.1 of each second trial, and interventions
on trial 0 as the baseline of every trial, itself included, so that each trial is the same work. Its seconds are those
of the call: the copy of features from host memory to devices, both programs, and the rows and their intervals, made on
the host. A peer (geometry_whole_peers.py) makes the same rows and arrays from features where it wants them. Every row,
with its interval, and every array is compared, by `WHOLE_LIMITS`, before anything of the set is timed.

The floor of the full size, worked out beforehand: reading the features once is 64 x 10,000 x 512 x 4 B = 1.3 GB; W h is
2 x 64 x 10,000 x 512 x 100 = 66 GFLOP. The centers of a trial take, a step, two products of 100 x 100 x 100 in the
reduced basis: 4 MFLOP, hence 0.3 TFLOP for 64 trials at a thousand steps. `all` adds three times W h (means,
nearest means, predictions) and the covariance, 2 x 64 x 10,000 x 512 x 512 = 336 GFLOP, most of the work.
"""

import argparse
import fnmatch
import functools
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import geometry_peers as peers
import geometry_whole_peers as whole
import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from jaxreg.calibration.metrics import predicted
from jaxreg.geometry import centers, collapse, cones, cosines, margins, norms, probe, trial
from jaxreg.measured import Measured
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel, passes

LIMITS = {"t_star": 1e-3, "centers": 2e-4, "nc4": 1e-3}  # relative to the largest value; t* divides by differences
LIMIT = 5e-4  # of the others
WHOLE_LIMITS = {  # of `probe`, by the first pattern that a name matches
    "*/center_residual*": 1e-5,  # absolute: zero at the optimum, and jaxreg stops below 5e-6
    "*/cone_breakpoint*": 2e-3,  # divides by a difference of slopes: in float32 NumPy's largest t* is 4e-4 off
    "*/cone_radius*": 2e-3,  # t* again
    "*/norm_swap_*_share": 2e-3,  # divides by the gap between two trials
    "*/turn_*_share": 2e-3,
    "*_margin*": 5e-4,  # peers take arc cosines, which lose half of their digits near parallel
    "*soft_center*": 5e-4,  # flat: the cross-entropy to a soft target curves by smoothing / K only
    "*best_scale*": 5e-4,  # flat: PyTorch's NLL in float32 is the same within 3e-4 of the best
    "*temperature*": 5e-4,
}
WHOLE_LIMIT = 1e-4  # of the others
SETS = ("core", "all", "probe")
CORES = len(os.sched_getaffinity(0))


def make_trial(seed: int, args: argparse.Namespace, noise: float = 0.3) -> tuple[np.ndarray, ...]:
    """Features around the rows of a random head after a ReLU, labels, kernel, bias: float32."""
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((args.width, args.classes), np.float32) / np.float32(np.sqrt(args.width))
    labels = np.arange(args.examples) % args.classes
    around = np.float32(noise) * rng.standard_normal((args.examples, args.width), np.float32)
    features = np.maximum(4 * kernel.T[labels] + around + np.float32(0.2), 0)
    return features, labels, kernel, np.float32(0.05) * rng.standard_normal(args.classes, np.float32)


def make_whole(seed: int, args: argparse.Namespace) -> whole.Trial:
    """The same in splits, half of it train. Trials differ in length, noise, smoothing; a tenth of labels is wrong."""
    features, labels, kernel, bias = make_trial(seed, args, 0.3 + 0.1 * (seed % 3))
    features *= np.float32(1 + 0.25 * (seed % 4))
    wrong = np.random.default_rng(0).random(args.examples) < 0.1
    labels = np.where(wrong, (labels + 1) % args.classes, labels)
    half, last = args.examples // 2, args.examples - args.examples // 4
    places = {"train": slice(half), "validation": slice(half, last), "test": slice(last, None)}
    return whole.Trial({k: (features[at], labels[at]) for k, at in places.items()}, kernel, bias, 0.1 * (seed % 2))


# --- jaxreg -----------------------------------------------------------------------------------------------------------
def product(one: tuple[jax.Array, Head], labels_N: jax.Array) -> jax.Array:
    """The largest logit of each example [N]: less than this no way to cones and margins takes."""
    features_ND, head = one
    return jnp.max(features_ND @ head.kernel + head.bias, 1)


def core(one: tuple[jax.Array, Head], labels_N: jax.Array) -> dict[str, jax.Array]:
    """t* [N], margins [N], centers [K, D], and the KKT residual and steps of the centers."""
    features_ND, head = one
    apart_KK = margins.distances(head.kernel)

    def examples(features_BD: jax.Array) -> dict[str, jax.Array]:
        predictions_B = predicted(features_BD @ head.kernel + head.bias)
        return {
            "t_star": cones.cone(features_BD, *head).breakpoint,
            "margin": margins.angular_margin(features_BD, *head, predictions_B, apart_KK),
        }

    with jax.default_matmul_precision("highest"):
        solved = centers.minimal_loss_points(*head, jnp.mean(norms.norm(features_ND)))
        return {
            **passes.each(examples, {"": (features_ND,)})[""],
            "centers": solved.points,
            "kkt_residual": solved.residual.max(),
            "center_steps": solved.steps,
        }


def everything(one: tuple[jax.Array, Head], labels_N: jax.Array) -> dict[str, jax.Array]:
    """`core`, norms [N], cosines [N], collapse."""
    features_ND, head = one
    found = core(one, labels_N)
    with jax.default_matmul_precision("highest"):
        means_KD = norms.class_means(features_ND, labels_N, len(head.bias))
        points_KD = found["centers"]
        vectors = cosines.ClassVectors(points_KD, head.kernel.T, means_KD, points_KD, features_ND.mean(0))

        def examples(features_BD: jax.Array, labels_B: jax.Array) -> dict[str, jax.Array]:
            near = cosines.label_cosines(features_BD, labels_B, vectors)
            return {
                **{name.replace("_cosine", ""): value for name, value in near.items() if "soft" not in name},
                "norm": norms.norm(features_BD),
                "predicted": predicted(features_BD @ head.kernel + head.bias),
            }

        near = passes.each(examples, {"": (features_ND, labels_N)})[""]
        of_train = features_ND, labels_N, head.kernel, near.pop("predicted"), means_KD
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
    """`core` and `all`: equal values first, then times."""
    trials = [make_trial(seed, args) for seed in range(args.trials)]
    mesh = parallel.make_mesh()
    stacks = [np.stack([one[i] for one in trials]) for i in (0, 2, 3)]
    given = parallel.put_trials((stacks[0], Head(*stacks[1:])), mesh)
    labels = parallel.put_shared(trials[0][1].astype(np.int32), mesh)
    some = trials[: args.peer_trials]
    mine = {}
    for name, fn in {"floor": product, "core": core, "all": everything}.items():
        if name not in ("floor", *args.sets):
            continue
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


def find_torch() -> tuple[Any, str]:
    """PyTorch and the accelerator that it finds, else the CPU; None if it is not installed."""
    try:
        import torch
    except ImportError:
        say(name="torch", skipped="not installed: pip install torch")
        return None, ""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    say(torch=torch.__version__, device=device, threads=torch.get_num_threads())
    return torch, device


def compare_torch(args: argparse.Namespace, some: Any, values: Any, mine: dict[str, float]) -> None:
    """The same against PyTorch, on its accelerator where it finds one."""
    torch, device = find_torch()
    if torch is None:
        return
    moved = [tuple(torch.from_numpy(a).to(device) for a in one) for one in some]
    sets = {
        "core": lambda one: peers.torch_core(torch, one),
        "rest": lambda one, points: peers.torch_rest(torch, one, points),
    }
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

    chosen = {name: fn for name, fn in {"core": one_core, "all": one_all}.items() if name in args.sets}
    largest = list(chosen.values())[-1]
    check_equal(peer, values, [largest(one) for one in some])
    for name, fn in chosen.items():
        taken = seconds_of_peer(lambda f=fn: [f(one) for one in some], args.repeats)
        say_peer(peer, name, taken, len(some), args, mine[name])


def seconds_of_peer(run: Callable[[], Any], repeats: int) -> float:
    """`seconds` with one thread or with all cores, whichever is less."""
    taken = []
    for threads in sorted({1, CORES}):
        with threadpool_limits(threads):
            taken.append(seconds(run, repeats))
    return min(taken)


def say_peer(peer: str, name: str, taken: float, measured: int, args: argparse.Namespace, mine: float) -> None:
    """The seconds of all trials, and how many times those of jaxreg they are."""
    whole_run = taken / measured * args.trials
    say(name=peer, set=name, seconds=whole_run, trials_measured=measured, times_slower=whole_run / mine)


# --- the whole probe --------------------------------------------------------------------------------------------------
def compare_probe(args: argparse.Namespace) -> None:
    """`probe`: every row and array is equal first, then times."""
    trials = [make_whole(seed, args) for seed in range(args.trials)]
    given = stacked(trials)
    some = trials[: args.peer_trials]
    begin = time.perf_counter()
    ours = [named(one) for one in measure(given)[: len(some)]]
    first = time.perf_counter() - begin
    finders = whole_peers(some)
    for peer, find in finders.items():
        check_whole(peer, ours, find())
    mine = seconds(lambda: measure(given), args.repeats)
    say(name="jaxreg", set="probe", seconds=mine, first_run=first, trials_measured=args.trials)
    for peer, find in finders.items():
        say_peer(peer, "probe", seconds_of_peer(find, args.repeats), len(some), args, mine)


def stacked(trials: list[whole.Trial]) -> dict[str, Any]:
    """What `jaxreg.geometry.measure` takes: stacks in host memory."""
    labels = {name: labels for name, (_, labels) in trials[0].splits.items()}
    splits = {k: probe.Features(np.stack([one.splits[k][0] for one in trials]), labels[k]) for k in labels}
    heads = {"kernel_TDK": np.stack([one.kernel for one in trials]), "bias_TK": np.stack([one.bias for one in trials])}
    return {"splits": splits, **heads, "smoothing_T": [one.smoothing for one in trials], "baselines": [0] * len(trials)}


def measure(given: dict[str, Any]) -> list[Measured]:
    """The call of a study."""
    return probe.measure(**given)


def named(measured: Measured) -> whole.Numbers:
    """Rows by SPLIT/METRIC as [value, low, high], nan without an interval, and arrays by SPLIT/METRIC[]."""
    rows = {f"{row.split}/{row.metric}": np.array([row.value, row.low, row.high], float) for row in measured.rows}
    return rows | {f"{name}[]": array for name, array in measured.arrays.items()}


def whole_peers(some: list[whole.Trial]) -> dict[str, Callable[[], list[whole.Numbers]]]:
    """By peer: what finds the numbers of all these trials."""
    found: dict[str, Any] = {"numpy/scipy": lambda: loop(some, some, whole.numpy_probe, whole.numpy_pair)}
    torch, device = find_torch()
    if torch is not None:
        moved = [whole.to_torch(torch, device, one) for one in some]
        parts = functools.partial(whole.torch_probe, torch), functools.partial(whole.torch_pair, torch)
        found["torch"] = lambda: loop(some, moved, *parts)
    return found


def loop(
    some: list[whole.Trial],
    moved: list[whole.Trial],
    of_trial: Callable[..., whole.Found],
    of_pair: Callable[..., whole.Numbers],
) -> list[whole.Numbers]:
    """A peer's loop over trials, the first of them the baseline of each; `moved` are those that it reads."""
    found = [of_trial(one) for one in moved]
    base = found[0]
    return [whole.numbers(one, own, base, of_pair(moved[0], base, own)) for one, own in zip(some, found)]


def check_whole(peer: str, ours: list[whole.Numbers], theirs: list[whole.Numbers]) -> None:
    """Prints how much was compared and what came nearest to its limit; ends the run at a number beyond it."""
    lacking, unknown = (sorted(set(a) - set(b)) for a, b in ((ours[0], theirs[0]), (theirs[0], ours[0])))
    names = [name for name in ours[0] if name in theirs[0]]
    apart = {k: max(_whole_apart(k, mine[k], other[k]) for mine, other in zip(ours, theirs)) for k in names}
    used = {name: value / whole_limit(name) for name, value in apart.items()}
    nearest = {name: f"{apart[name]:.2g} of {whole_limit(name):g}" for name in sorted(used, key=used.__getitem__)[-5:]}
    sizes = {"names": len(names), "values": sum(np.size(mine[name]) for mine in ours for name in names)}
    say(equal=peer, set="probe", trials=len(ours), **sizes, no_peer=lacking, not_in_jaxreg=unknown, nearest=nearest)
    wrong = [name for name in names if not used[name] <= 1] + unknown
    if wrong:
        raise SystemExit(f"{peer} and jaxreg differ in {', '.join(wrong)}: nothing of the whole probe was timed.")


def whole_limit(name: str) -> float:
    """The largest difference that a number may have."""
    return next((value for pattern, value in WHOLE_LIMITS.items() if fnmatch.fnmatch(name, pattern)), WHOLE_LIMIT)


def _whole_apart(name: str, mine: Any, other: Any) -> float:
    """The largest difference, relative to the largest value but of residuals; nan must stand in the same places."""
    mine, other = np.asarray(mine, float), np.asarray(other, float)
    if mine.shape != other.shape or np.any(np.isnan(mine) != np.isnan(other)):
        return float("inf")
    largest = 1.0 if "residual" in name else max(np.nanmax(np.abs(other), initial=0), 1e-6)
    return float(np.nanmax(np.abs(mine - other), initial=0) / largest)


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


def chosen_sets(text: str) -> tuple[str, ...]:
    """The sets of a list with commas."""
    names = tuple(text.split(","))
    unknown = sorted(set(names) - set(SETS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown set {unknown[0]!r}; known: {', '.join(SETS)}.")
    return names


def main() -> None:
    """Parses sizes, says on what it runs, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"trials": 64, "examples": 10_000, "width": 512, "classes": 100, "repeats": 3, "peer_trials": 4}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sets", type=chosen_sets, default=SETS, help="of core, all and probe, with commas")
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    parallel.use_cpu_devices(0)
    versions = {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}
    devices = {"device": jax.devices()[0].device_kind, "devices": len(jax.devices())}
    say(**vars(args), **versions, machine=platform.machine(), **devices)
    if args.memory:
        return memory(args)
    if {"core", "all"} & set(args.sets):
        compare(args)
    if "probe" in args.sets:
        compare_probe(args)


if __name__ == "__main__":
    main()
