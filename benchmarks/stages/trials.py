"""Many ResNets on one device: one after another, as grouped convolutions, as batched products, against PyTorch."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax.numpy as jnp
from jax import Array, lax

from jaxreg.models import conv
from stages import networks, torch_training
from stages.report import Options, Report

BATCH, STEPS = 128, 5
WAYS = ("map", "vmap", "products")
# The most telling first: what a short run leaves out stands at the end.
ORDER = (
    *(("resnet20", 16, way) for way in (*WAYS, "torch")),
    *(("resnet18", 4, way) for way in (*WAYS, "torch")),
    *((model, count, way) for count in (32, 1, 4, 16) for model in ("resnet20", "resnet18") for way in WAYS),
)
GUESS = 20.0  # seconds that a program takes to compile and be timed, until one was seen


def run(report: Report, options: Options) -> None:
    """A row a network, number of trials and way, in order, as many as fit."""
    dataset, longest, seen = networks.loaded(options), 0.0 if options.tiny else GUESS, set()
    for model, count, way in [("resnet20", 2, way) for way in (*WAYS, "torch")] if options.tiny else ORDER:
        what = {"model": model, "trials": count, "way": way}
        if (model, count, way) in seen or not report.fits(1.3 * longest, **what):
            continue
        seen.add((model, count, way))
        begun = report.spent()
        if way == "torch":
            torch_training.compare(report, options, model, count, dataset)
        else:
            report.row(**what, **of_way(options, model, count, way, dataset))
        longest = max(longest if longest != GUESS else 0.0, report.spent() - begun)
    report.row(what="fastest", **fastest(report.rows))


def of_way(options: Options, model: str, count: int, way: str, dataset: Any) -> dict[str, Any]:
    """Seconds a step of all trials, images a second and share of peak."""
    batch, steps = (8, 1) if options.tiny else (BATCH, STEPS)
    program = networks.program_of(options, model, count, 10_000, batch)
    with as_products() if way == "products" else contextlib.nullcontext():
        first, seconds = networks.step_seconds(program, dataset, "map" if way == "map" else "vmap", steps)
    share = networks.share_of_peak(program, seconds)
    return {"first": first, "step_of_all": seconds, "images_a_second": count * batch / seconds, "share_of_peak": share}


def fastest(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By network the way of jaxreg with the most images a second, at the most trials where several were timed."""
    found: dict[str, Any] = {}
    for model in ("resnet20", "resnet18"):
        timed = [r for r in rows if r.get("model") == model and r.get("way") in WAYS and "images_a_second" in r]
        most = max((sum(r["trials"] == one["trials"] for r in timed) for one in timed), default=0)
        whole = [r for r in timed if sum(o["trials"] == r["trials"] for o in timed) == most]
        if whole:
            found[model] = max(whole, key=lambda r: r["images_a_second"])["way"]
    return found


@contextlib.contextmanager
def as_products() -> Iterator[None]:
    """Convolutions of the models as slices and one matrix product: of trials in a batch, a batched product."""
    with mock.patch.object(conv, "canonical_conv", sliced_conv):
        yield


def sliced_conv(x: Array, kernel: Array, strides: tuple[int, ...], pads: conv.Pads) -> Array:
    """The same numbers as `native_conv`: the slices of all places of the kernel side by side, times the kernel."""
    rows, columns, inputs, outputs = kernel.shape
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    sides = [(n - k) // s + 1 for n, k, s in zip(padded.shape[1:3], kernel.shape[:2], strides)]

    def place(i: int, j: int) -> Array:
        ends = [low + (count - 1) * s + 1 for low, count, s in zip((i, j), sides, strides)]
        return lax.slice(padded, (0, i, j, 0), (len(x), *ends, inputs), (1, *strides, 1))

    parts = jnp.concatenate([place(i, j) for i in range(rows) for j in range(columns)], axis=-1)
    return parts @ kernel.reshape(-1, outputs)
