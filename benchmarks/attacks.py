"""Attacks on the same weights: jaxreg against torchattacks, foolbox (PyTorch, JAX), ART and pyautoattack.

    python benchmarks/attacks.py --torch_python=/path/to/python             everything (hours: 100 steps on a ResNet-20)
    python benchmarks/attacks.py --tiny --torch_python=/path/to/python      does it run?
    python benchmarks/attacks.py --models=cnn8 --rows=pgd10,radii           some of it

Each arm is a process of its own on the same pinned cores, in its own environment (`--torch_python`: one with torch,
torchattacks, foolbox, adversarial-robustness-toolbox, pyautoattack; `--foolbox_jax_path`: a folder with foolbox, put
before this environment's packages), since the packages cannot share one. All read the same weights, images and labels
from one file; logits are compared first. Nobody stops early but in `radii_exit` and `ensemble`. An arm's time is
printed only if its masks agree: what it fools and jaxreg does not must be at most 1 % of the examples, 3 % where starts
are random (jaxreg also counts points on the way, so it may fool more, which is shown). PyTorch runs with channels_last
and without, the faster one counts. The first run, with compilation, is apart; then median and minimum of `--repeats`
runs. A ratio above 1 means jaxreg is faster.
radii: eight at once with five restarts each, every one to its end; radii_exit: the same where whoever can may leave out
what no longer matters (jaxreg does; the others know no such thing). ensemble: the standard one on a set where most
examples break early.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

MODELS = {
    "cnn8": ("cnn", (8, 8, 1), 0.08),
    "cnn32": ("cnn", (32, 32, 3), 2 / 255),
    "resnet20": ("resnet20", (32, 32, 3), 1 / 255),
}
ROWS = ("pgd10", "pgd40", "apgd100", "radii", "radii_exit", "ensemble")
ARMS = {
    "jaxreg": ROWS,
    "torchattacks": ("pgd10", "pgd40", "radii", "radii_exit"),
    "foolbox_torch": ("pgd10", "pgd40", "radii", "radii_exit"),
    "foolbox_jax": ("pgd10", "pgd40", "radii", "radii_exit"),
    "art": ("pgd10", "pgd40", "radii", "radii_exit"),
    "pyautoattack": ("apgd100", "ensemble"),
}
RANDOM = ("radii", "radii_exit", "ensemble")  # rows with random starts
RESTARTS, RADII = 5, 8
EARLY = 2  # the ensemble's radius over the usual one: most examples break early


# --- what is attacked ---
def make_problem(name: str, count: int, path: pathlib.Path) -> None:
    """Weights (trained briefly on what the images are: digits, or noise around class templates), images, labels."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxreg import models

    kind, shape, eps = MODELS[name]
    rng = np.random.default_rng(0)
    if shape == (8, 8, 1):
        from sklearn.datasets import load_digits

        digits = load_digits()
        x, y = (digits.images / 16).astype(np.float32)[..., None], digits.target
    else:
        y = rng.integers(0, 10, 2000)
        templates = rng.uniform(0.3, 0.7, (10, *shape))
        x = np.clip(templates[y] + 0.15 * rng.normal(size=(2000, *shape)), 0, 1).astype(np.float32)
    model = models.make(kind, classes=10, image_shape=shape, mean=x.mean((0, 1, 2)), std=x.std((0, 1, 2)))
    params, stats = model.init(jax.random.key(0))
    optimizer = optax.adam(2e-3)

    @jax.jit
    def step(params, stats, state, x, y):
        def loss(params):
            logits, _, new = model.apply(params, stats, x, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new

        grads, new = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), new, state

    state = optimizer.init(params)
    for _ in range(200):
        rows = rng.integers(0, len(x), 64)
        params, stats, state = step(params, stats, state, jnp.asarray(x[rows]), jnp.asarray(y[rows]))
    leaves = {f"params/{'/'.join(map(_key, p))}": leaf for p, leaf in jax.tree_util.tree_leaves_with_path(params)}
    leaves |= {f"stats/{'/'.join(map(_key, p))}": leaf for p, leaf in jax.tree_util.tree_leaves_with_path(stats)}
    rows = rng.permutation(len(x))[:count]
    logits = model.apply(params, stats, jnp.asarray(x[rows]), train=False)[0]
    extra = {"x": x[rows], "y": y[rows], "logits": logits, "mean": x.mean((0, 1, 2)), "std": x.std((0, 1, 2))}
    np.savez(path, **extra, eps=eps, kind=kind, **{k: np.asarray(v) for k, v in leaves.items()})


def _key(entry) -> str:
    return str(entry.key)


def tree(data: dict, prefix: str) -> dict:
    """The nested dict stored under a prefix."""
    out: dict = {}
    for name, leaf in data.items():
        if name.startswith(prefix + "/"):
            *path, last = name.split("/")[1:]
            place = out
            for part in path:
                place = place.setdefault(part, {})
            place[last] = leaf
    return out


# --- the network in PyTorch, from the same weights ---
def torch_network(data: dict):
    """The same function over NCHW images in [0, 1]."""
    import torch
    import torch.nn.functional as F

    params, stats, kind = tree(data, "params"), tree(data, "stats"), str(data["kind"])

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convs, self.norms = torch.nn.ModuleDict(), torch.nn.ModuleDict()
            self.register_buffer("mean", torch.tensor(data["mean"]).view(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(data["std"]).view(1, -1, 1, 1))
            self.head = torch.nn.Linear(*params["head"]["kernel"].shape)
            self.head.weight.data = torch.tensor(params["head"]["kernel"].T.copy())
            self.head.bias.data = torch.tensor(params["head"]["bias"])

        def conv(self, key, weights, stride=1):
            o, i, k = weights.shape[3], weights.shape[2], weights.shape[0]
            layer = torch.nn.Conv2d(i, o, k, stride, bias=False, padding=k // 2)
            layer.weight.data = torch.tensor(weights.transpose(3, 2, 0, 1).copy())
            self.convs[key] = layer

        def norm(self, key, p, s):
            layer = torch.nn.BatchNorm2d(len(p["scale"]), eps=1e-5)
            layer.weight.data, layer.bias.data = torch.tensor(p["scale"]), torch.tensor(p["bias"])
            layer.running_mean, layer.running_var = torch.tensor(s["mean"]), torch.tensor(s["var"])
            self.norms[key] = layer

    class Cnn(Net):
        def __init__(self):
            super().__init__()
            for i in sorted(params["convs"]):
                self.conv(i, params["convs"][i]["kernel"])
                self.norm(i, params["norms"][i], stats["norms"][i])

        def forward(self, x):
            x = (x - self.mean) / self.std
            for i in self.convs:
                x = F.max_pool2d(F.relu(self.norms[i](self.convs[i](x))), 2)
            return self.head(x.mean((2, 3)))

    class ResNet(Net):
        def __init__(self):
            super().__init__()
            self.conv("stem", params["stem"]["kernel"])
            self.norm("stem", params["norm"], stats["norm"])
            self.blocks = []
            for i, stage in params["stages"].items():
                for j, block in stage.items():
                    key, saved, stride = f"{i}_{j}", stats["stages"][i][j], 2 if i != "0" and j == "0" else 1
                    self.blocks.append((key, "shortcut" in block))
                    for n, s in (("1", stride), ("2", 1)):
                        self.conv(key + n, block["conv" + n]["kernel"], s)
                        self.norm(key + n, block["norm" + n], saved["norm" + n])
                    if "shortcut" in block:
                        self.conv(key + "s", block["shortcut"]["conv"]["kernel"], stride)
                        self.norm(key + "s", block["shortcut"]["norm"], saved["shortcut"]["norm"])

        def forward(self, x):
            x = F.relu(self.norms["stem"](self.convs["stem"]((x - self.mean) / self.std)))
            for key, changes in self.blocks:
                y = F.relu(self.norms[key + "1"](self.convs[key + "1"](x)))
                y = self.norms[key + "2"](self.convs[key + "2"](y))
                x = F.relu(y + (self.norms[key + "s"](self.convs[key + "s"](x)) if changes else x))
            return self.head(x.mean((2, 3)))

    return (Cnn if kind == "cnn" else ResNet)().eval().requires_grad_(False)


# --- the arms: each returns run(row) -> fooled mask ---
def steps_of(row: str) -> int:
    """Steps of a row at fixed steps."""
    return {"pgd10": 10, "pgd40": 40, "radii": 10, "radii_exit": 10, "apgd100": 100}[row]


def radii_of(eps: float) -> list[float]:
    """Eight radii up to twice the usual one."""
    return [eps * (i + 1) / 4 for i in range(RADII)]


def arm_jaxreg(data: dict, options: dict):
    """One compiled program per row."""
    import jax
    import jax.numpy as jnp

    from jaxreg import models
    from jaxreg.robustness import ATTACKS, run_attack, run_suite
    from jaxreg.robustness.suites import suite

    if not options["gpu"]:  # one device a core, as a study has: XLA runs most convolutions on one core of a device
        jax.config.update("jax_num_cpu_devices", len(options["cores"]))
    x, y, eps = jnp.asarray(data["x"]), jnp.asarray(data["y"], jnp.int32), float(data["eps"])
    shape = tuple(data["x"].shape[1:])
    model = models.make(str(data["kind"]), classes=10, image_shape=shape, mean=data["mean"], std=data["std"])
    params, stats = (jax.tree.map(jnp.asarray, tree(data, name)) for name in ("params", "stats"))

    def logits_fn(x):
        return model.apply(params, stats, x, train=False)[0]

    on = {"slots": options["slots"], "devices": jax.devices()}
    key = jax.random.key(0)

    def plain(row):
        steps = steps_of(row)
        base = ATTACKS["apgd_ce"] if row == "apgd100" else ATTACKS["pgd_ce"]
        size = base.step_size if row == "apgd100" else 2.5 / steps
        attack = base._replace(steps=steps, step_size=size, random_start=row in RANDOM)
        if row in RANDOM:
            attack = attack._replace(restarts=RESTARTS)
        radii = radii_of(eps) if row in RANDOM else eps
        found = run_attack(logits_fn, x, y, radii, attack, key=key, early_exit=row == "radii_exit", **on)
        return np.asarray(~found.robust)

    def ensemble(row):
        del row
        chosen = suite("autoattack", 10)
        cut = {name: a._replace(steps=min(a.steps, options["ensemble_steps"])) for name, a in chosen.attacks.items()}
        robust = run_suite(logits_fn, x, y, EARLY * eps, chosen._replace(attacks=cut), key=key, **on).robust
        return ~robust

    return np.asarray(logits_fn(x)), lambda row: (ensemble if row == "ensemble" else plain)(row)


def torch_data(data: dict, options: dict):
    """The network and the images in PyTorch, channels_last if asked for."""
    import torch

    torch.set_num_threads(len(options["cores"]))
    device = "cuda" if options["gpu"] else "cpu"
    layout = torch.channels_last if options["channels_last"] else torch.contiguous_format
    net = torch_network(data).to(device).to(memory_format=layout)
    x = torch.tensor(data["x"].transpose(0, 3, 1, 2).copy()).to(device).to(memory_format=layout)
    return torch, net, x, torch.tensor(data["y"]).long().to(device), float(data["eps"])


def batched(attack, x, y, size: int):
    """Batches of the usual size."""
    import torch

    return torch.cat([attack(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)])


def over_radii(eps: float, one):
    """Eight radii, five restarts each: fooled [8, N] if any restart fools."""
    return np.stack([np.any([one(e) for _ in range(RESTARTS)], axis=0) for e in radii_of(eps)])


def pgd_rows(eps: float, one):
    """row -> fooled, of an arm whose `one` attacks once: (eps, steps, whether it starts at random) -> fooled [N]."""

    def run(row):
        steps = steps_of(row)
        return over_radii(eps, lambda e: one(e, steps, True)) if row in RANDOM else one(eps, steps, False)

    return run


def arm_torchattacks(data: dict, options: dict):
    """torchattacks.PGD."""
    _, net, x, y, eps = torch_data(data, options)
    import torchattacks

    def one(e, steps, start):
        attack = torchattacks.PGD(net, eps=e, alpha=2.5 * e / steps, steps=steps, random_start=start)
        adversarial = batched(attack, x, y, options["slots"])
        return (net(adversarial).argmax(1) != y).cpu().numpy()

    return net(x).detach().cpu().numpy(), pgd_rows(eps, one)


def arm_foolbox_torch(data: dict, options: dict):
    """foolbox.attacks.LinfPGD on PyTorch."""
    _, net, x, y, eps = torch_data(data, options)
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=(0, 1), device=x.device)

    def one(e, steps, start):
        attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / steps, steps=steps, random_start=start)
        adversarial = batched(lambda a, b: attack(model, a, b, epsilons=e)[1], x, y, options["slots"])
        return (net(adversarial).argmax(1) != y).cpu().numpy()

    return net(x).detach().cpu().numpy(), pgd_rows(eps, one)


def arm_foolbox_jax(data: dict, options: dict):
    """foolbox.attacks.LinfPGD on a jitted JAX model (the attack itself cannot be jitted)."""
    import foolbox
    import jax
    import jax.numpy as jnp

    from jaxreg import models

    shape = tuple(data["x"].shape[1:])
    network = models.make(str(data["kind"]), classes=10, image_shape=shape, mean=data["mean"], std=data["std"])
    params, stats = (jax.tree.map(jnp.asarray, tree(data, name)) for name in ("params", "stats"))
    logits_fn = jax.jit(lambda x: network.apply(params, stats, x, train=False)[0])
    x, y, eps, size = jnp.asarray(data["x"]), jnp.asarray(data["y"]), float(data["eps"]), options["slots"]
    model = foolbox.JAXModel(logits_fn, bounds=(0, 1))

    def one(e, steps, start):
        attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / steps, steps=steps, random_start=start)
        parts = [attack(model, x[i : i + size], y[i : i + size], epsilons=e)[1] for i in range(0, len(x), size)]
        return np.asarray(logits_fn(jnp.concatenate(parts)).argmax(1) != y)

    return np.asarray(logits_fn(x)), pgd_rows(eps, one)


def arm_art(data: dict, options: dict):
    """art.attacks.evasion.ProjectedGradientDescent on PyTorch."""
    torch, net, x, y, eps = torch_data(data, options)
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        net, torch.nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=10, clip_values=(0.0, 1.0)
    )

    def one(e, steps, start):
        how = {"eps": e, "eps_step": 2.5 * e / steps, "max_iter": steps, "num_random_init": int(start)}
        attack = ProjectedGradientDescentPyTorch(classifier, batch_size=options["slots"], verbose=False, **how)
        adversarial = torch.tensor(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(x.device)
        return (net(adversarial).argmax(1) != y).cpu().numpy()

    return net(x).detach().cpu().numpy(), pgd_rows(eps, one)


def arm_pyautoattack(data: dict, options: dict):
    """The reference implementation: one APGD-CE run from the clean images, and the standard ensemble."""
    _, net, x, y, eps = torch_data(data, options)
    from pyautoattack import AutoAttack
    from pyautoattack.autopgd_base import APGDAttack

    def apgd(a, b):
        attack = APGDAttack(net, n_iter=100, norm="Linf", eps=eps, loss="ce", device=str(x.device))
        attack.init_hyperparam(a)
        return attack.attack_single_run(a, b, x_init=a)[3]

    def run(row):
        if row == "apgd100":
            adversarial = batched(apgd, x, y, options["slots"])
        else:
            standard = AutoAttack(net, norm="Linf", eps=EARLY * eps, seed=0, device=str(x.device))
            steps = options["ensemble_steps"]
            standard.apgd.n_restarts, standard.square.n_queries = 1, min(5000, steps)
            for part in (standard.apgd, standard.apgd_targeted, standard.fab):
                part.n_iter = min(100, steps)
            for part in (standard.apgd, standard.apgd_targeted):
                part.n_iter_2, part.n_iter_min = max(int(0.22 * part.n_iter), 1), max(int(0.06 * part.n_iter), 1)
                part.size_decr = max(int(0.03 * part.n_iter), 1)
            adversarial = standard.run_standard_evaluation(x, y, batch_size=options["slots"])
            adversarial = adversarial[0] if isinstance(adversarial, tuple) else adversarial
        return (net(adversarial).argmax(1) != y).cpu().numpy()

    return net(x).detach().cpu().numpy(), run


# --- one arm in its own process ---
def worker(options: dict) -> None:
    """Runs one arm on one row; writes times, mask, logits and versions."""
    os.sched_setaffinity(0, options["cores"])
    if options["arm"] in ("jaxreg", "foolbox_jax") and not options["gpu"]:
        os.environ["JAX_PLATFORMS"] = "cpu"
    with np.load(options["problem"]) as stored:
        data = dict(stored)
    logits, run = globals()[f"arm_{options['arm']}"](data, options)
    times = []
    for _ in range(options["repeats"] + 1):
        begin = time.perf_counter()
        fooled = run(options["row"])
        times.append(time.perf_counter() - begin)
    packages = [name for name in ("jax", "torch", options["arm"].split("_")[0]) if name in sys.modules]
    versions = {name: getattr(sys.modules[name], "__version__", "") for name in packages}
    np.savez(options["out"], fooled=fooled, logits=logits, times=times, versions=json.dumps(versions))


def call(arm: str, row: str, problem: str, args: argparse.Namespace, channels_last: bool) -> dict | None:
    """One worker; None if the arm is not installed (its last line of output is shown)."""
    out = f"{problem}.{arm}.{row}.npz"
    options = {
        "arm": arm, "row": row, "problem": problem, "out": out, "cores": args.cores, "slots": args.batch,
        "repeats": args.repeats, "gpu": args.gpu, "channels_last": channels_last, "ensemble_steps": args.ensemble_steps,
    }  # fmt: skip
    ours, path = arm in ("jaxreg", "foolbox_jax"), os.environ.get("PYTHONPATH", "")
    python = sys.executable if ours else args.torch_python
    extra = args.foolbox_jax_path if arm == "foolbox_jax" else ""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in (path, extra) if p)}
    command = [python, __file__, "--worker", json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {arm}: does not run here ({done.stderr.strip().splitlines()[-1][:120]})")
        return None
    with np.load(out) as stored:
        return dict(stored)


# --- the table ---
def compare(name: str, row: str, problem: str, args: argparse.Namespace, ran: dict) -> None:
    """One row of one model: jaxreg first, then every other arm with its ratio. `ran`: by arm and row, of this model."""
    own = call("jaxreg", row, problem, args, False)
    if own is None:
        raise SystemExit("jaxreg itself must run.")
    base = show(name, row, "jaxreg", own, own)
    ran |= {(arm, "radii_exit"): found for (arm, of), found in ran.items() if of == "radii"}  # without an exit the same
    for arm in (arm for arm, rows in ARMS.items() if row in rows and arm != "jaxreg"):
        layouts = (False, True) if arm not in ("foolbox_jax",) else (False,)
        if (arm, row) not in ran:
            ran[arm, row] = [found for last in layouts if (found := call(arm, row, problem, args, last)) is not None]
        runs = ran[arm, row]
        if runs:
            show(name, row, arm, min(runs, key=lambda found: np.median(found["times"][1:])), own, base)


def show(name: str, row: str, arm: str, found: dict, own: dict, base: float | None = None) -> float:
    """Prints a line; refuses a time where logits or masks do not agree."""
    off = float(np.abs(found["logits"] - own["logits"]).max() / np.abs(own["logits"]).max())
    missed, more = (float(np.mean(m)) for m in (found["fooled"] & ~own["fooled"], own["fooled"] & ~found["fooled"]))
    middle, least = statistics.median(found["times"][1:]), min(found["times"][1:])
    line = f"{name:9s} {row:9s} {arm:14s} fooled {found['fooled'].mean():6.1%}"
    if off > 1e-3 or missed > (0.03 if row in RANDOM else 0.01):
        print(f"{line}  NOT COMPARABLE: logits differ by {off:.1e}, it alone fools {missed:.1%}")
        return middle
    ratio = "" if base is None else f"  ratio {middle / base:5.2f}{'' if middle > base else '  BEHIND'}"
    first = f"first {found['times'][0]:7.2f} s  median {middle:7.3f}  min {least:7.3f}"
    print(f"{line}  {first}{ratio}  jaxreg alone fools {more:.1%}  {found['versions']}", flush=True)
    return middle


def hardware(cores: list[int]) -> str:
    """What this runs on."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    kind = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    return f"{kind or platform.processor() or platform.machine()}, cores {cores}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", default="")
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--foolbox_jax_path", default="")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ensemble_steps", type=int, default=5000, help="cut the ensemble's steps and queries to this")
    parser.add_argument("--cores", type=lambda text: [int(c) for c in text.split(",")], default=None)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.worker:
        worker(json.loads(args.worker))
        return
    if args.tiny:
        args.count, args.batch, args.repeats, args.ensemble_steps = 32, 16, 1, 5
    args.cores = args.cores or sorted(os.sched_getaffinity(0))
    print(hardware(args.cores))
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            problem = pathlib.Path(folder) / f"{name}.npz"
            make_problem(name, args.count, problem)
            ran: dict = {}
            for row in args.rows.split(","):
                compare(name, row, str(problem), args, ran)


if __name__ == "__main__":
    main()
