"""What must hold of arrays before anything is measured: one error in one line, with place, value, rule and cure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.models.functional import Head

Arrays = np.ndarray | Array


def check_count(name: str, value: Any, least: int) -> None:
    """Raises ValueError unless `value` is a whole number from `least` on."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}.")


def plain(what: str, values: Any) -> np.ndarray:
    """An array on the host in the byte order of the machine.

    Raises: ValueError: for a traced one, for masked entries and for complex numbers: NumPy would drop mask and phase.
    """
    if _is_traced(values):
        raise ValueError(f"{what} are traced (jit, grad, vmap), but are measured on the host: call it outside.")
    if np.ma.is_masked(values):
        raise ValueError(f"{what} have {np.ma.count_masked(values)} masked entries: leave those examples out.")
    found = np.asarray(values)
    if found.dtype.kind == "c":
        raise ValueError(f"{what} must be real numbers, got {found.dtype}: give their real part, or their size.")
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def check_labels(
    place: str, labels_N: Arrays, classes: int, ids_N: np.ndarray | None = None, count: int | None = None
) -> np.ndarray:
    """The labels as int32. Raises ValueError unless there are any, as many as `count`, and each is one of the classes.

    `ids_N` name examples in messages; by default their numbers do.
    """
    labels = plain("labels", labels_N)
    if labels.ndim != 1 or labels.dtype.kind not in "iubf" or count not in (None, len(labels)):
        rule = "labels must be numbers of classes [N]" + ("" if count is None else f" = ({count},)")
        cure = "give each example its class, of one-hot rows the argmax"
        raise ValueError(f"{_at(place)}{rule}, got {labels.dtype} {labels.shape}: {cure}.")
    if len(labels) == 0:
        raise ValueError(f"{_at(place)}the split is empty: give it an example, or leave it out.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes) | (labels != np.floor(labels)))
    if len(wrong):
        example = f"example {wrong[0] if ids_N is None else ids_N[wrong[0]]}"
        rule = f"label must be a class 0 to {classes - 1}, got {labels[wrong[0]]}"
        raise ValueError(f"{_at(place, example)}{rule}: number the classes from 0, as the columns are.")
    return labels.astype(np.int32)


def check_ids(place: str, ids: Arrays | None, labels: Arrays) -> np.ndarray:
    """The ids of examples, their numbers without any. Raises ValueError unless each label has an id of its own."""
    shape = np.shape(labels)
    found = np.arange(np.size(labels)).reshape(shape) if ids is None else np.asarray(ids)
    if found.shape != shape:
        raise ValueError(f"{_at(place)}labels {shape} and ids {found.shape} must be [N] of the same examples.")
    unique, counts = np.unique(found, return_counts=True)
    if len(unique) < found.size:
        twice = f"example {unique[counts > 1][0]} comes {counts.max()} times"
        raise ValueError(f"{_at(place)}{twice}: ids must be different.")
    return found


def check_apart(examples: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises ValueError where a split shares examples with "validation": it is judged by them.

    `examples`: ids by name, and what is known of each example (labels, logits), first axes [N]. Splits that are
    numbered each from 0 share ids, not examples: then something that is known of them differs.
    """
    ids, *known = map(np.asarray, examples["validation"])
    for name in [name for name in examples if name != "validation"]:
        own_ids, *own = map(np.asarray, examples[name])
        both, here, there = np.intersect1d(ids, own_ids, return_indices=True)
        if len(both) and all(np.array_equal(a[here], b[there]) for a, b in zip(known, own)):
            raise ValueError(
                f"example {both[0]} is in validation and in {name} ({len(both)} are, with the same labels): "
                "what is fitted on one must be measured on others; give examples of both splits different ids."
            )


def checked_logits(
    place: str, logits_NK: Arrays, shape: tuple[int, ...], ids_N: np.ndarray | None = None
) -> np.ndarray:
    """The logits as float32; of wider ones the largest of the row is taken off first: an offset takes digits.

    Raises: ValueError: for another shape, for probabilities, or naming the first example not finite in float32.
    """
    given = plain("logits", logits_NK)
    _check_shape(place, "logits [N, K]", given, shape)
    if np.all(are_probabilities(given)):
        rule = "logits must be raw, got probabilities (rows are at least 0 and sum to 1)"
        raise ValueError(f"{_at(place)}{rule}: give what the last layer returns, or log(p).")
    with np.errstate(over="ignore", invalid="ignore"):
        near = given - given.max(-1, keepdims=True) if given.dtype.itemsize > 4 else given
        narrow = near.astype(np.float32, copy=False)
    if not np.isfinite(narrow).all():
        known_N = np.asarray(np.isfinite(narrow).all(1))
        raise ValueError(_not_finite(place, "example", "logit", given, known_N, "is too large for float32", ids_N))
    return narrow


def checked_features(place: str, features_ND: Arrays, shape: tuple[int, ...]) -> np.ndarray:
    """The features as float32. Raises ValueError: for another shape, or naming the first that has no length in it."""
    given = plain("features", features_ND)
    _check_shape(place, "features [N, D]", given, shape)
    return _with_lengths(place, "example", "feature", given)


def stacked_features(
    place: str, given: Arrays | Sequence[Arrays], chosen: Iterable[int], shape: tuple[int, ...], each: str = "trial"
) -> np.ndarray:
    """`checked_features` of the chosen ones of a sequence, stacked; it may read them from files when asked."""
    of = f"{place}, {each}" if place else each
    return np.stack([checked_features(f"{of} {i}", given[i], shape) for i in chosen])


def check_heads(kernels: Arrays, biases: Arrays, lead: tuple[int, ...], width: int) -> Head:
    """Last layers [*lead, D, K] and [*lead, K] as float32, of one network (no lead), of trials, or of their snapshots.

    Raises: ValueError: if shapes disagree, or naming the first class whose row has no length in float32.
    """
    kernel, bias = plain("kernels", kernels), plain("biases", biases)
    if kernel.ndim != len(lead) + 2 or kernel.shape[:-1] != (*lead, width) or kernel.shape[-1] < 2:
        rule = f"kernel must be [{', '.join(map(str, (*lead, width)))}, K] with at least 2 classes"
        cure = "stack one [D, K] a trial" if lead else "is it transposed, as PyTorch keeps it?"
        raise ValueError(f"{rule}, got {kernel.shape}: {cure}")
    if bias.shape != (*lead, kernel.shape[-1]):
        raise ValueError(f"bias must be {(*lead, kernel.shape[-1])}, got {bias.shape}: give zeros for a layer without.")
    for one in np.ndindex(lead):
        place = ", ".join(f"{name} {number}" for name, number in zip(("trial", "snapshot"), one))
        _with_lengths(place, "class", "kernel", kernel[one].T)
        _with_lengths(place, "class", "bias", bias[one][:, None])
    return Head(kernel.astype(np.float32), bias.astype(np.float32))


def _check_shape(place: str, what: str, given: np.ndarray, shape: tuple[int, ...]) -> None:
    if given.shape != shape:
        raise ValueError(f"{_at(place)}{what} must be {shape}, got {given.shape}: give each label its row.")


def _with_lengths(place: str, row: str, what: str, given: np.ndarray) -> np.ndarray:
    """Rows as float32, each checked: the sum of its squares must be finite in float32, or it has no length."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = given.astype(np.float32, copy=False)
        known_N = np.isfinite(np.einsum("ij,ij->i", narrow, narrow))
    if not known_N.all():
        raise ValueError(_not_finite(place, row, what, given, known_N, "is too large, its square is no float32"))
    return narrow


def _not_finite(
    place: str,
    row: str,
    what: str,
    given: np.ndarray,
    known_N: np.ndarray,
    too_large: str,
    ids_N: np.ndarray | None = None,
) -> str:
    """The message about the first row that float32 does not hold, with the number of all such rows."""
    wrong = np.flatnonzero(~known_N)
    values = given[wrong[0]]
    finite = np.isfinite(values)
    bad = values[np.abs(values).argmax()] if finite.all() else values[~finite][0]
    name = wrong[0] if ids_N is None else ids_N[wrong[0]]
    rule = f"{what} {bad} {too_large if finite.all() else 'is not finite'} ({len(wrong)} in all)"
    return f"{_at(place, f'{row} {name}')}{rule}: did training diverge? Leave it out."


def _at(*places: str) -> str:
    text = ", ".join(place for place in places if place)
    return f"{text}: " if text else ""


# --- attacks: values inside jit are not checked ---
ROUNDING = 1e-2  # how far from 1 the sum of probabilities may be: bfloat16 has eight bits


def check_radii(eps: Any, norm: str) -> None:
    """Raises ValueError unless radii are numbers, at least 0, and in linf at most 1, as images are."""
    if _is_traced(eps):
        return
    radii = np.asarray(eps)
    if radii.dtype.kind not in "iuf" or radii.ndim > 1 or not radii.size:
        raise ValueError(f"eps must be a number or a list of numbers, got {eps!r}: give 8 / 255, not text.")
    if not np.all((radii >= 0) & np.isfinite(radii)):
        raise ValueError(f"eps must be 0 or more and finite, got {eps}: it is the length of the largest change.")
    if norm == "linf" and np.max(radii) > 1:
        raise ValueError(f"eps must be at most 1 in linf, as images are, got {np.max(radii)}: give 8 / 255, not 8.")


def check_one_radius(eps: Any) -> None:
    """Raises ValueError for several radii where one is meant."""
    if np.ndim(eps):
        raise ValueError(f"eps must be one number, got {eps}: call it once for each, or run_attack with all of them.")


def check_reach(eps: Any, norm: str, shape: tuple[int, ...]) -> None:
    """Raises ValueError for an L2 radius beyond the diagonal of images [H, W, C]: its steps would be too long."""
    diagonal = math.sqrt(math.prod(shape))
    if norm == "l2" and not _is_traced(eps) and np.max(eps) > diagonal:
        rule = f"eps must be at most {diagonal:.4g} in l2, the diagonal of images {shape} in [0, 1]"
        raise ValueError(f"{rule}, got {np.max(eps):g}: divide a radius for images of 0 to 255 by 255.")


def check_devices(devices: Sequence[Any]) -> None:
    """Raises ValueError unless all are devices of JAX."""
    for device in devices:
        if not isinstance(device, jax.Device):
            raise ValueError(f"devices must be devices of JAX, got {device!r}: give jax.devices(), or some of them.")


def check_attack_inputs(
    images: Array | np.ndarray, labels: Array | np.ndarray | None, ids: Array | np.ndarray | None
) -> None:
    """Raises ValueError unless images are floats [N, H, W, C] in [0, 1], and each has its label and id.

    Labels and ids (None: there are none) are integers [N].
    """
    if images.dtype not in (jnp.float32, jnp.float64):
        cure = "divide by 255 as float32" if jnp.issubdtype(images.dtype, jnp.integer) else "cast within the model"
        raise ValueError(f"images must be float32 (or float64), to hold a radius to 1e-6, got {images.dtype}: {cure}.")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be [N, H, W, C] with at least one image, got the shape {images.shape}.")
    if images.shape[1] in (1, 3) and images.shape[3] == images.shape[2] > 4:
        cure = "transpose them to (0, 2, 3, 1), and back within logits_fn"
        raise ValueError(f"images must be [N, H, W, C], got the shape {images.shape}, channels first: {cure}.")
    for name, values in {"labels": labels, "ids": ids}.items():
        if values is None:
            continue
        if np.shape(values) != (len(images),):
            raise ValueError(f"{name} must be one for each of {len(images)} images, got the shape {np.shape(values)}.")
        if not jnp.issubdtype(values.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers, got {values.dtype}: cast them.")
    if _is_traced(images):
        return
    low, high = float(jnp.min(images)), float(jnp.max(images))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must lie in [0, 1], got [{low:g}, {high:g}]: divide by 255, normalise in the model.")


def check_attacked_labels(labels: Array | np.ndarray, classes: int) -> None:
    """Raises ValueError for a label that is no class; a label below 0 means that the example is not attacked."""
    if not _is_traced(labels) and int(jnp.max(labels)) >= classes:
        raise ValueError(f"labels must be below {classes}, the number of logits, got {int(jnp.max(labels))}.")


def check_raw_logits(logits: Array | np.ndarray) -> None:
    """Raises ValueError where the outputs [..., K] are probabilities: rows that sum to 1 with no entry below 0."""
    if not _is_traced(logits) and np.all(are_probabilities(logits)):
        raise ValueError("logits_fn returns probabilities (rows sum to 1): return raw logits, before the softmax.")


def are_probabilities(logits: Array | np.ndarray) -> np.ndarray:
    """Whether rows [..., K] of two or more classes are at least 0 and sum to 1, up to the rounding of bfloat16."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is no probability
        rows = np.asarray(logits).astype(np.float32, copy=False)
        total = rows.sum(-1)
    return (rows.shape[-1] > 1) & np.all(rows >= 0, axis=-1) & (np.abs(total - 1) < ROUNDING)


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)
