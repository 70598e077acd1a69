"""What benchmarks/attacks.py compares: an arm takes weights and options, and returns logits and run(row) -> fooled [N].

An arm imports its packages itself: no environment has all of them.
"""

import numpy as np
from attack_problem import torch_network, tree

ROWS = ("pgd10", "pgd40", "apgd100", "radii", "radii_exit", "ensemble")
RANDOM = ("radii", "radii_exit", "ensemble")  # rows with random starts
RESTARTS, RADII = 5, 8
EARLY = 2  # the ensemble's radius over the usual one: most examples break early


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
    from jaxreg.robustness.attacks import suite

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
