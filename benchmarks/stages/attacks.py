"""PGD-20 and APGD-T on a trained ResNet-18, against torchattacks and pyautoattack: masks first, then seconds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.robustness import ATTACKS, run_attack
from stages import networks, torch_training
from stages.report import Options, Report, timed

EPS, STEPS = 2 / 255, 20
ATTACKED = {
    "pgd_20": ATTACKS["pgd_ce"]._replace(steps=STEPS, step_size=2.5 / STEPS, random_start=False),
    "apgd_t": ATTACKS["apgd_t"]._replace(steps=STEPS),
}


def run(report: Report, options: Options) -> None:
    """A row an attack and package: seconds, robust accuracy, and the share of masks that differ from jaxreg's."""
    dataset = networks.loaded(options)
    program = networks.in_float32(networks.program_of(options, "resnet18", 1, 10_000, 8 if options.tiny else 128))
    apply, *stacks = networks.trained(program, dataset, 1 if options.tiny else 20)
    params, stats = jax.tree.map(lambda a: a[0], stacks)
    x, y = networks.test_images(dataset, 8 if options.tiny else 500)

    def make() -> Any:
        return torch_training.as_torch(*stacks, dataset, program.model.name)

    def logits_fn(images: Any) -> Any:
        return apply(params, stats, images, train=False)[0]

    report.row(what="network", clean_accuracy=float(np.mean(jnp.argmax(logits_fn(x), 1) == y)), examples=len(x))
    peers = {"pgd_20": ("torchattacks", torch_pgd), "apgd_t": ("pyautoattack", torch_apgd)}
    for name, attack in ATTACKED.items():
        attack = attack._replace(steps=2) if options.tiny else attack
        if not report.fits(0 if options.tiny else 15, attack=name, package="jaxreg"):
            return
        found: dict[str, Any] = {}
        taken = timed(lambda a=attack, f=found: f.update(mask=attacked(logits_fn, x, y, a)), 1)
        report.row(attack=name, package="jaxreg", **taken._asdict(), robust=float(found["mask"].mean()))
        package, peer = peers[name]
        given = make, x, y, attack.steps
        report.compare(lambda p=peer, g=given, f=found: compared(p, g, f["mask"]), attack=name, package=package)


def attacked(logits_fn: Any, x: np.ndarray, y: np.ndarray, attack: Any) -> np.ndarray:
    """Which examples withstand."""
    return np.asarray(run_attack(logits_fn, x, y, EPS, attack, key=jax.random.key(0)).robust)


def compared(peer: Callable[..., Any], given: tuple[Any, ...], mask: np.ndarray) -> dict[str, Any]:
    """Seconds of a peer, and where its mask differs: it alone fooled, or jaxreg alone."""
    import torch

    make, x, y, steps = given
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = make().to(device).to(memory_format=torch.channels_last)
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy()).to(device).to(memory_format=torch.channels_last)
    labels, found = torch.tensor(y).long().to(device), {}
    attack = peer(net, device, steps)

    def once() -> None:
        with torch.enable_grad():
            adversarial = attack(images, labels)
        found["robust"] = (net(adversarial).argmax(1) == labels).cpu().numpy()

    taken, robust = timed(once, 1), found["robust"]
    alone = {"it_alone": float(np.mean(mask & ~robust)), "jaxreg_alone": float(np.mean(~mask & robust))}
    return {**taken._asdict(), "robust": float(robust.mean()), **alone}


def torch_pgd(net: Any, device: str, steps: int) -> Any:
    """torchattacks.PGD from the clean images."""
    import torchattacks

    return torchattacks.PGD(net, eps=EPS, alpha=2.5 * EPS / steps, steps=steps, random_start=False)


def torch_apgd(net: Any, device: str, steps: int) -> Any:
    """APGD-T of pyautoattack alone: nine targets."""
    from pyautoattack import AutoAttack

    standard = AutoAttack(net, norm="Linf", eps=EPS, seed=0, device=device)
    standard.attacks_to_run = ["apgd-t"]
    part = standard.apgd_targeted
    part.n_iter, part.n_restarts = steps, 1
    part.n_iter_2, part.n_iter_min = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
    part.size_decr = max(int(0.03 * steps), 1)

    def attack(x: Any, y: Any) -> Any:
        found = standard.run_standard_evaluation(x, y, batch_size=len(x))
        return found[0] if isinstance(found, tuple) else found

    return attack
