"""What can be asked for: TPU slices by the names of the TPU API and of GKE, and GPUs of GKE.

Sources: cloud.google.com/tpu/docs/runtimes, .../tpu/docs/v5e, .../kubernetes-engine/docs/concepts/plan-tpus and
.../kubernetes-engine/docs/how-to/gpus.
"""

import math
import re
from typing import NamedTuple

from jaxreg.spec import require

RUNTIMES = {  # of the TPU API, by the family in the accelerator's name
    "v6e": "v2-alpha-tpuv6e",
    "v5p": "v2-alpha-tpuv5",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v4": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v2": "tpu-ubuntu2204-base",
}
PER_CHIP = ("v6e", "v5litepod")  # their sizes count chips, those of the others TensorCores, two a chip
SIZES = (1, 4, 8, 16, 32, 64, 128, 256)
SLICES = {  # of GKE: how many numbers a topology has
    "tpu-v6e-slice": 2,
    "tpu-v5-lite-podslice": 2,
    "tpu-v5p-slice": 3,
    "tpu-v4-podslice": 3,
}
ONE_HOST = ("1x1", "2x2", "2x4")  # 2-D slices of one machine; larger ones are of machines with 4 chips
CHIPS = 4
GPUS = (
    "nvidia-b200",
    "nvidia-h200-141gb",
    "nvidia-h100-mega-80gb",
    "nvidia-h100-80gb",
    "nvidia-a100-80gb",
    "nvidia-tesla-a100",
    "nvidia-l4",
    "nvidia-tesla-v100",
    "nvidia-tesla-t4",
)


class Slice(NamedTuple):
    """A TPU slice of GKE."""

    accelerator: str
    topology: str
    hosts: int
    chips: int  # of one host


def runtime(accelerator: str) -> str:
    """The software version of a TPU of the TPU API, such as v5litepod-16.

    Raises: SpecError: if there is no such TPU.
    """
    family, _, size = accelerator.partition("-")
    known = ", ".join(f"{name}-N" for name in RUNTIMES)
    require(family in RUNTIMES and size.isdigit(), f"--accelerator={accelerator!r} is no TPU; known: {known}.")
    fits = int(size) in SIZES if family in PER_CHIP else int(size) > 0 and int(size) % 8 == 0
    sizes = f"one of {SIZES}" if family in PER_CHIP else "a multiple of 8 (TensorCores, two a chip)"
    require(fits, f"--accelerator={accelerator!r} has no such size: N of {family}-N is {sizes}.")
    return RUNTIMES[family]


def tpu_slice(accelerator: str, topology: str) -> Slice:
    """A TPU slice of GKE by its node labels, such as tpu-v5-lite-podslice and 4x4.

    Raises: SpecError: if there is no such slice.
    """
    require(accelerator in SLICES, f"--accelerator={accelerator!r} is no TPU slice; known: {', '.join(SLICES)}.")
    sides = re.fullmatch(r"\d+(x\d+)*", topology) and [int(side) for side in topology.split("x")]
    count, example = SLICES[accelerator], "4x4" if SLICES[accelerator] == 2 else "2x2x4"
    shape = f"--topology={topology!r} must be {count} numbers for {accelerator}, such as {example}."
    require(bool(sides) and len(sides or ()) == count, shape)
    chips = math.prod(sides or ())
    if topology in ONE_HOST:
        return Slice(accelerator, topology, 1, chips)
    require(chips > 0 and chips % CHIPS == 0, f"--topology={topology!r} must be of whole machines of {CHIPS} chips.")
    return Slice(accelerator, topology, chips // CHIPS, CHIPS)
