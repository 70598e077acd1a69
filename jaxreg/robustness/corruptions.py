"""CORRUPTIONS: ten of the fifteen common corruptions of CIFAR-10-C, on the device, seeded by example, and their probe.

Left out, since they cannot be computed faithfully here: glass blur (swaps pixels one after another, each depending on
the last), motion blur and snow (ImageMagick's motion blur), frost (needs photographs), JPEG (needs a codec).

References: Hendrycks and Dietterich, 2019, https://arxiv.org/abs/1903.12261; severities as in the code that made
CIFAR-10-C. Sizes in pixels are meant for images of 32 x 32.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.arithmetic import single, standard
from jaxreg.checks import check_attack_inputs
from jaxreg.measured import Measured, Row, share_row
from jaxreg.names import MetricName, named
from jaxreg.rng import Stream, example_keys, key_of, own_key
from jaxreg.robustness import attacked_calibration, warps
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.trial import Apply
from jaxreg.robustness.trials import Networks, capacity
from jaxreg.runtime import parallel
from jaxreg.runtime.precision import careful

Tree = Any
SEVERITIES = 5


class Corruption(NamedTuple):
    """`apply(key, x_HWC, *levels[severity - 1])`: one image in [0, 1], its key, and the numbers of a severity.

    `number`: of its stream of random numbers, never to change, whatever the table. `traced`: the numbers of a severity
    are data, so all severities share one program; else they are structure.
    """

    number: int
    apply: Callable[..., Array]
    levels: tuple[tuple[Any, ...], ...]
    traced: bool = True


def gaussian_noise(key: Array, x_HWC: Shaped[Array, "H W C"], sd: float) -> Array:
    """x + sd n, n standard normal."""
    return x_HWC + sd * jax.random.normal(key, x_HWC.shape, x_HWC.dtype)


def shot_noise(key: Array, x_HWC: Shaped[Array, "H W C"], photons: float) -> Array:
    """Poisson(x photons) / photons."""
    return jax.random.poisson(key, x_HWC * photons).astype(x_HWC.dtype) / photons


def impulse_noise(key: Array, x_HWC: Shaped[Array, "H W C"], amount: float) -> Array:
    """A share of the values becomes 0 or 1, each half the time."""
    hit, salt = jax.random.uniform(key, (2, *x_HWC.shape), x_HWC.dtype)
    return jnp.where(hit <= amount, (salt <= 0.5).astype(x_HWC.dtype), x_HWC)


def defocus_blur(key: Array, x_HWC: Shaped[Array, "H W C"], radius: float, alias: float) -> Array:
    """A disk, itself blurred a little; borders mirrored."""
    del key
    return warps.filtered(x_HWC, warps.disk(radius, alias))


def zoom_blur(key: Array, x_HWC: Shaped[Array, "H W C"], largest: float) -> Array:
    """The mean of the image and its zooms by 1, 1.01, ... below `largest`."""
    del key
    rows_FHH, columns_FWW = (warps.zooms(side, largest) for side in x_HWC.shape[:2])
    zoomed = jnp.einsum("fij,jkc,flk->ilc", rows_FHH, x_HWC, columns_FWW, precision="highest")
    return (x_HWC + zoomed) / (len(rows_FHH) + 1)


def fog(key: Array, x_HWC: Shaped[Array, "H W C"], amount: float, decay: float) -> Array:
    """A fractal landscape of brightness, added; the image's maximum kept."""
    h, w, _ = x_HWC.shape
    plasma_HW = warps.plasma(key, 1 << (max(h, w) - 1).bit_length(), decay)[:h, :w]
    top = jnp.max(x_HWC)
    return (x_HWC + amount * plasma_HW[..., None]) * top / (top + amount)


def brightness(key: Array, x_HWC: Shaped[Array, "H W C"], amount: float) -> Array:
    """Raises V of HSV, hue and saturation kept: every channel by the factor of the largest."""
    del key
    value = jnp.max(x_HWC, axis=2, keepdims=True)
    raised = jnp.clip(value + amount, 0, 1)
    return jnp.where(value > 0, x_HWC * raised / jnp.maximum(value, 1e-12), raised)


def contrast(key: Array, x_HWC: Shaped[Array, "H W C"], factor: float) -> Array:
    """Shrinks toward the mean of each channel."""
    del key
    mean = jnp.mean(x_HWC, axis=(0, 1), keepdims=True)
    return (x_HWC - mean) * factor + mean


def elastic_transform(
    key: Array, x_HWC: Shaped[Array, "H W C"], strength: float, smooth: float, affine: float
) -> Array:
    """A random affine map of three points, then smoothed random displacements; numbers in units of the side."""
    side = x_HWC.shape[0]
    keys = jax.random.split(key)
    mapped = warps.affine(keys[0], x_HWC, affine * side)
    return warps.displaced(keys[1], mapped, strength * side, smooth * side)


def pixelate(key: Array, x_HWC: Shaped[Array, "H W C"], share: float) -> Array:
    """Shrinks by box averages and enlarges again."""
    del key
    rows, columns = (warps.boxes(side, int(side * share)) for side in x_HWC.shape[:2])
    return jnp.einsum("ij,jkc,lk->ilc", rows, x_HWC, columns, precision="highest")


def _one(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(0, gaussian_noise, _one(0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(1, shot_noise, _one(500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(2, impulse_noise, _one(0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(
        3, defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), traced=False
    ),
    "zoom_blur": Corruption(4, zoom_blur, _one(1.06, 1.11, 1.16, 1.21, 1.26), traced=False),
    "fog": Corruption(5, fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption(6, brightness, _one(0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(7, contrast, _one(0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        8,
        elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        traced=False,
    ),
    "pixelate": Corruption(9, pixelate, _one(0.95, 0.9, 0.85, 0.75, 0.65), traced=False),
}
LEFT_OUT = ("glass_blur", "motion_blur", "snow", "frost", "jpeg_compression")


@standard
def corrupt(
    images: Array | np.ndarray, name: str, severity: int, *, key: Array, ids: Array | np.ndarray | None = None
) -> Array:
    """Corrupts images [N, H, W, C] in [0, 1], rounded down to 256 levels as stored images are.

    Draws are a function of `key` and an example's id (default: its place) alone, and the same at every severity.

    Raises: ValueError: for an unknown name, a severity outside 1 to 5, images that are not float32 in [0, 1].
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"Unknown corruption {name!r}; known: {sorted(CORRUPTIONS)} (not here: {list(LEFT_OUT)}).")
    if not isinstance(severity, int | np.integer) or severity not in range(1, SEVERITIES + 1):
        raise ValueError(f"severity must be 1 to {SEVERITIES}, got {severity}.")
    images = jnp.asarray(images)
    ids = jnp.arange(len(images), dtype=jnp.uint32) if ids is None else jnp.asarray(ids, jnp.uint32)
    check_attack_inputs(images, None, ids)
    chosen = CORRUPTIONS[name]
    keys = example_keys(jax.random.fold_in(own_key(key), chosen.number), ids)
    level = chosen.levels[severity - 1]
    if chosen.traced:
        return _corrupted(images, keys, tuple(map(float, level)), name, ())
    return _corrupted(images, keys, (), name, level)


@functools.partial(jax.jit, static_argnames=("name", "structure"))
def _corrupted(images_NHWC: Array, keys_N: Array, numbers: Any, name: str, structure: tuple[float, ...]) -> Array:
    apply = CORRUPTIONS[name].apply
    out = jax.vmap(lambda key, x_HWC: apply(key, x_HWC, *numbers, *structure))(keys_N, images_NHWC)
    return jnp.floor(jnp.clip(out, 0, 1) * 255 + 1e-4) / 255  # 1e-4: a level that rounding left just below itself


@single
@careful
def measure(
    apply: Apply,
    params: Tree,
    stats: Tree,
    images: np.ndarray,
    labels: np.ndarray,
    key_ids: np.ndarray,
    *,
    names: tuple[str, ...] = tuple(CORRUPTIONS),
    severities: tuple[int, ...] = tuple(range(1, SEVERITIES + 1)),
    seed: int = 0,
    split: str = "test",
    trials: int | None = None,
    mesh: Any = None,
    local: parallel.Local = "map",
    chunk: int = 512,
) -> list[Measured]:
    """Accuracy of all trials on images [N, H, W, C] in [0, 1], corrupted by every family and severity, for all alike.

    Args: as of `probe.measure`.
    Returns: for each trial the rows corruption_accuracy/NAME/SEVERITY, corruption_METRIC/NAME/SEVERITY (calibration),
      the mean of each over families and severities (.../mean), and arrays corruption_logits/NAME/SEVERITY [N, K].
    Raises: ValueError: for an unknown family or severity.
    """
    mesh = parallel.make_mesh() if mesh is None else mesh
    count = len(jax.tree.leaves(params)[0]) if trials is None else trials
    networks = Networks(apply, parallel.put_trials((params, stats), mesh), mesh, local, capacity(len(images), chunk))
    key, logits = key_of(seed, Stream.CORRUPTION), {}
    for name in names:
        for severity in severities:
            x = np.asarray(corrupt(images, name, severity, key=key, ids=key_ids))
            logits[f"{name}/{severity}"] = networks.logits_of_all(x)
    stacked = np.stack(list(logits.values()), axis=1)[:count]
    confidence_T = attacked_calibration.rows(stacked, labels, key_ids, "corruption", list(logits), split, seed)
    each = zip(stacked, confidence_T)
    return [_measured(dict(zip(logits, one)), rows, np.asarray(labels), split) for one, rows in each]


def _measured(logits: dict[str, np.ndarray], confidence: list[Row], labels: np.ndarray, split: str) -> Measured:
    right = {name: ~wrong(one, labels) for name, one in logits.items()}
    rows = [share_row(split, named("corruption_accuracy", name), mask) for name, mask in right.items()] + confidence
    arrays = {named("corruption_logits", name): one for name, one in logits.items()}
    return Measured([*rows, *_means(rows, split, len(labels))], arrays)


def _means(rows: list[Row], split: str, count: int) -> list[Row]:
    """Of every metric; the range of a noise floor as if noise moved all families and severities together: no less."""
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(MetricName.parse(row.metric).metric, []).append(row)

    def mean(metric: str, same: list[Row]) -> Row:
        fields = ("value", "low", "high") if metric.endswith("_floor") else ("value",)
        value, *ends = (float(np.mean([getattr(row, field) for row in same])) for field in fields)
        return Row(split, named(metric, "mean"), value, count, *ends)

    return [mean(metric, same) for metric, same in by_metric.items()]
