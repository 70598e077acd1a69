"""What benchmarks/attacks.py attacks: a small trained network, images and labels in one file, in JAX and in PyTorch."""

import pathlib

import numpy as np

MODELS = {
    "cnn8": ("cnn", (8, 8, 1), 0.08),
    "cnn32": ("cnn", (32, 32, 3), 2 / 255),
    "resnet20": ("resnet20", (32, 32, 3), 1 / 255),
}


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
