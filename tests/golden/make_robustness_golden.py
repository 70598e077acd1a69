"""Records what pyautoattack 0.2.0 (torch 2.13.0, CPU) does on a small network: tests/golden/robustness_autoattack.npz.

    pip install torch==2.13.0 numpy tqdm && pip install --no-deps pyautoattack==0.2.0     (an environment of its own)
    python tests/golden/make_robustness_golden.py

Weights, images and starting points are drawn by NumPy and stored, so that another implementation can start from them.
APGD runs in float64 and float32, FAB in float32 (the package casts its input). Images have one channel: NCHW = NHWC.
"""

import pathlib

import numpy as np
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_projections import projection_l2, projection_linf
from pyautoattack.fab_pt import FABAttack_PT

COUNT, SIDE, WIDTH, CLASSES = 16, 6, 24, 5
EPS = {"linf": 0.02, "l2": 0.1}
STEPS = (7, 40)
LOSSES = ("ce", "dlr", "targeted_dlr")
MANY, WHOLE_EPS = 3000, {"linf": 0.03, "l2": 0.15}
NORMS = {"linf": "Linf", "l2": "L2"}


def draw() -> dict[str, np.ndarray]:
    """Weights, images, and starting points on the sphere of each norm."""
    rng = np.random.default_rng(11)
    d = SIDE * SIDE
    out = {"w1": rng.normal(size=(d, WIDTH)) * 0.5, "b1": rng.normal(size=WIDTH) * 0.1}
    out |= {"w2": rng.normal(size=(WIDTH, CLASSES)) * 0.7, "x": rng.uniform(0, 1, (COUNT, SIDE, SIDE, 1))}
    direction = rng.normal(size=out["x"].shape)
    sizes = np.sqrt((direction**2).sum((1, 2, 3), keepdims=True))
    noise = rng.uniform(-1, 1, out["x"].shape)
    out["start_linf"] = np.clip(out["x"] + EPS["linf"] * noise / np.abs(noise).max((1, 2, 3), keepdims=True), 0, 1)
    out["start_l2"] = np.clip(out["x"] + EPS["l2"] * direction / sizes, 0, 1)
    return out


def network(data: dict[str, np.ndarray], dtype: torch.dtype):
    """tanh network over NCHW images."""
    w1, b1, w2 = (torch.tensor(data[name], dtype=dtype) for name in ("w1", "b1", "w2"))
    return lambda x: torch.tanh((x.flatten(1) - 0.5) @ w1 + b1) @ w2


def nchw(x: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Images as the package wants them."""
    return torch.tensor(x.transpose(0, 3, 1, 2), dtype=dtype)


def apgd(data: dict[str, np.ndarray], dtype: torch.dtype, name: str) -> dict[str, np.ndarray]:
    """Robust mask, best loss and best point of single runs from the stored starts."""
    torch.set_default_dtype(dtype)
    model, x, out = network(data, dtype), nchw(data["x"], dtype), {}
    logits = model(x)
    y, target = logits.argmax(1), logits.argsort(1)[:, -2]
    out["labels"], out["targets"] = y.numpy(), target.numpy()
    for norm, their in NORMS.items():
        for steps in STEPS:
            for loss in LOSSES:
                kind = {"n_iter": steps, "norm": their, "eps": EPS[norm], "device": "cpu"}
                attack = (
                    APGDAttack_targeted(model, **kind) if "targeted" in loss else APGDAttack(model, loss=loss, **kind)
                )
                attack.init_hyperparam(x)
                attack.y_target = target
                best, robust, best_loss, _ = attack.attack_single_run(x, y, x_init=nchw(data[f"start_{norm}"], dtype))
                key = f"apgd/{name}/{norm}/{loss}/{steps}"
                out[f"{key}/robust"] = robust.numpy().astype(bool)
                out[f"{key}/loss"] = best_loss.detach().numpy()
                out[f"{key}/best"] = best.detach().numpy().transpose(0, 2, 3, 1)
    return out


def end_to_end() -> dict[str, np.ndarray]:
    """Whole runs from the clean images in float32: half of the images are such that two losses disagree on them.

    Images whose mask differs in float64 are left out: rounding decides them.
    """
    rng = np.random.default_rng(23)
    d = SIDE * SIDE
    data = {"w1": rng.normal(size=(d, WIDTH)), "b1": rng.normal(size=WIDTH) * 0.1}
    data |= {"w2": rng.normal(size=(WIDTH, CLASSES)), "x": rng.uniform(0, 1, (MANY, SIDE, SIDE, 1))}
    single, double = (whole_runs(data, dtype) for dtype in (torch.float32, torch.float64))
    sure = np.all([single[name] == double[name] for name in single], axis=0)
    pairs = [(f"{norm}/{one}", f"{norm}/{other}") for norm in NORMS for one, other in (LOSSES[:2], LOSSES[1:])]
    chosen = [np.flatnonzero(sure & (single[one] != single[other]))[:8] for one, other in pairs]
    kept = np.unique(np.concatenate([*chosen, np.flatnonzero(sure)[:24]]))
    data["x"] = data["x"][kept]
    out = {f"whole/{name}": value for name, value in data.items()}
    return out | {f"whole/{name}/robust": mask[kept] for name, mask in single.items()}


def whole_runs(data: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Robust masks by norm and loss."""
    torch.set_default_dtype(dtype)
    model, x, out = network(data, dtype), nchw(data["x"], dtype), {}
    y, target = model(x).argmax(1), model(x).argsort(1)[:, -2]
    for norm, their in NORMS.items():
        for loss in LOSSES:
            kind = {"n_iter": 20, "norm": their, "eps": WHOLE_EPS[norm], "device": "cpu"}
            attack = APGDAttack_targeted(model, **kind) if "targeted" in loss else APGDAttack(model, loss=loss, **kind)
            attack.init_hyperparam(x)
            attack.y_target = target
            robust = attack.attack_single_run(x, y, x_init=x.clone())[1]
            out[f"{norm}/{loss}"] = robust.numpy().astype(bool)
    return out


def fab(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Distances of the adversaries of single targeted runs, second to fourth class."""
    torch.set_default_dtype(torch.float32)
    model, x, out = network(data, torch.float32), nchw(data["x"], torch.float32), {}
    for norm, their in NORMS.items():
        for rank in (2, 3, 4):
            attack = FABAttack_PT(model, norm=their, n_iter=20, eps=EPS[norm], device="cpu", targeted=True)
            attack.target_class = rank
            adversarial = attack.attack_single_run(x, model(x).argmax(1), is_targeted=True)
            delta = (adversarial - x).flatten(1)
            out[f"fab/{norm}/{rank}"] = (delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)).detach().numpy()
    return out


def projections() -> dict[str, np.ndarray]:
    """Smallest moves within the box onto hyperplanes, some out of reach."""
    torch.set_default_dtype(torch.float64)
    rng = np.random.default_rng(5)
    points, w = rng.uniform(0, 1, (40, 12)), rng.normal(size=(40, 12))
    b = (w * points).sum(1) + rng.normal(size=40) * np.repeat([0.1, 1.0, 3.0, 10.0], 10)
    args = [torch.tensor(a) for a in (points, w, b)]
    out = {"projection/points": points, "projection/w": w, "projection/b": b}
    return out | {"projection/linf": projection_linf(*args).numpy(), "projection/l2": projection_l2(*args).numpy()}


def main() -> None:
    data = draw()
    results = apgd(data, torch.float64, "float64") | apgd(data, torch.float32, "float32") | fab(data) | projections()
    results |= end_to_end()
    path = pathlib.Path(__file__).parent / "robustness_autoattack.npz"
    np.savez_compressed(path, **data, **results)
    robust = {k: float(v.mean()) for k, v in results.items() if k.endswith("robust")}
    print(path.stat().st_size, robust)
    print({k: np.round(np.sort(v), 3) for k, v in results.items() if k.startswith("fab")})


if __name__ == "__main__":
    main()
