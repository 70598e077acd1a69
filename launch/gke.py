"""Runs a study on GKE as a JobSet: a TPU slice, or nodes with GPUs. `kubectl` and JobSet must be installed.

    python launch/gke.py --config=configs/cifar10.py --workdir=gs://BUCKET/cifar10 --image=IMAGE \
        --accelerator=tpu-v5-lite-podslice --topology=4x4 --dry_run | kubectl apply --dry_run=server -f -
    python launch/gke.py ... --accelerator=nvidia-h100-80gb --nodes=2 --gpus=8

IMAGE has jaxreg with the extras `gcs` and `tpu` or `cuda13`, and the config file below its working directory. All pods
are one job over all chips. Exit code 75 and the loss of a node restart it without end, anything else `--max_restarts`
times; it goes on from the checkpoints in the workdir. The cluster holds one JobSet of a name: delete it to start anew.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from absl import flags

import accelerators
import cloud
from jaxreg import commands
from jaxreg.runtime import START_AGAIN
from jaxreg.spec import require

TEMPLATES = Path(__file__).parent / "gke"
APPLY = ("kubectl", "apply", "-f", "-")


def launch(argv: Sequence[str]) -> int:
    """Hands the JobSet to the cluster that `kubectl` speaks to."""
    values = cloud.define(argv)
    flags.DEFINE_string("accelerator", "", "Label of the nodes, such as tpu-v5-lite-podslice.", flag_values=values)
    flags.DEFINE_string("topology", "", "Of a TPU slice, such as 4x4.", flag_values=values)
    flags.DEFINE_integer("nodes", 1, "Nodes with GPUs.", flag_values=values)
    flags.DEFINE_integer("gpus", 8, "GPUs of one node.", flag_values=values)
    flags.DEFINE_string("image", "", "Container image.", flag_values=values)
    flags.DEFINE_string("namespace", "default", "Of the JobSet.", flag_values=values)
    flags.DEFINE_string(
        "service_account", "", "Kubernetes service account that may use the bucket.", flag_values=values
    )
    flags.DEFINE_integer("max_restarts", 3, "After failures that are no preemption.", flag_values=values)
    asked = cloud.asked(values, argv)
    text = manifest(asked, values)
    if values.dry_run:
        print(f"# {' '.join(APPLY)}\n{text}")
        return 0
    require(shutil.which("kubectl") is not None, "there is no kubectl here: install it and `get-credentials` first.")
    done = subprocess.run(APPLY, input=text, text=True, check=False).returncode == 0
    cure = f"if another one of this name is there, `kubectl delete jobset {asked.name}`, or choose another --name"
    require(done, f"the cluster did not take the JobSet {asked.name}: its own words are above; {cure}.")
    return 0


def manifest(asked: cloud.Asked, values: flags.FlagValues) -> str:
    """The JobSet as YAML.

    Raises: SpecError: for nodes that GKE does not have.
    """
    require(bool(values.image), "--image is missing: name a container image with jaxreg and the config file.")
    require(values.max_restarts >= 0, f"--max_restarts must be at least 0, got {values.max_restarts}.")
    known = accelerators.SLICES.keys() | set(accelerators.GPUS)
    fits = values.accelerator in known
    require(fits, f"--accelerator={values.accelerator!r} is unknown to GKE; known: {', '.join(sorted(known))}.")
    kind, nodes = _tpu(values) if values.accelerator in accelerators.SLICES else _gpu(values)
    escaped = [word.replace("$(", "$$(") for word in ["python", *asked.command]]  # Kubernetes would expand $(...)
    return _template(f"{kind}.yaml.j2").render(
        name=asked.name,
        command=escaped,
        environment=asked.environment,
        requeue=START_AGAIN,
        nodes=nodes,
        **{key: values[key].value for key in ("image", "namespace", "service_account", "max_restarts", "spot")},
    )


def _tpu(values: flags.FlagValues) -> tuple[str, accelerators.Slice]:
    return "tpu", accelerators.tpu_slice(values.accelerator, values.topology)


def _gpu(values: flags.FlagValues) -> tuple[str, accelerators.Slice]:
    require(not values.topology, f"--topology={values.topology!r} is of TPU slices: GPUs take --nodes and --gpus.")
    for name in ("nodes", "gpus"):
        require(values[name].value > 0, f"--{name} must be at least 1, got {values[name].value}.")
    return "gpu", accelerators.Slice(values.accelerator, "", values.nodes, values.gpus)


def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    made: dict[str, Any] = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=loader, autoescape=False, **made).get_template(name)


if __name__ == "__main__":
    sys.exit(commands.launched(launch, sys.argv))
