"""Runs a study on a Cloud TPU slice, through queued resources; where Spot takes the slice away, it asks for another.

    python launch/tpu_pod.py --config=configs/cifar10.py --workdir=gs://BUCKET/cifar10 \
        --accelerator=v5litepod-16 --project=PROJECT --zone=us-west4-a --spot --dry_run

The working tree is copied to every host, which installs it and runs the same command: one job over all chips, which
goes on from the checkpoints in the workdir on whatever slice comes next. Start this again after its machine was off: it
finds the slice. `--keep` leaves the slice when all is done. Needs `gcloud`, and a service account that may write there.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

import accelerators
import cloud
from jaxreg import commands
from jaxreg.runtime import START_AGAIN
from jaxreg.spec import require

GONE = ("SUSPENDING", "SUSPENDED", "FAILED")  # of a queued resource: only deleting it helps
LOST = ("PREEMPTED", "TERMINATED", "")  # of its node; "": there is none
FORGOTTEN = ("NOT_FOUND", "was not found")
PAUSE = 30.0  # seconds between two looks at a queue
ARCHIVE = "jaxreg.tar.gz"
# A process may have outlived the connection that started it: it saves and ends before the next one starts.
# Python of the TPU images is too old for jax; the lock file holds versions that were tested together.
INSTALL = (
    "if [ -e jaxreg.pid ]",
    "then kill $(cat jaxreg.pid) || true",
    "timeout 300 tail --pid=$(cat jaxreg.pid) -f /dev/null || true",
    "rm jaxreg.pid",
    "fi",
    "rm -rf jaxreg && mkdir jaxreg && tar -xzf jaxreg.tar.gz -C jaxreg && cd jaxreg",
    "python3 -m pip install --user --quiet uv",
    "~/.local/bin/uv venv --quiet --python 3.12 .venv",
    "~/.local/bin/uv pip install --quiet --python .venv/bin/python --constraint requirements.lock -e '.[tpu,gcs]'",
)


class Pod:
    """One slice: the words of every `gcloud` command about it."""

    def __init__(self, name: str, project: str, zone: str) -> None:
        self.name, self.where = name, [f"--project={project}", f"--zone={zone}"]

    def create(self, accelerator: str, spot: bool) -> list[str]:
        """Asks for the slice."""
        kind = [f"--accelerator-type={accelerator}", f"--runtime-version={accelerators.runtime(accelerator)}"]
        return [*self._queued("create"), f"--node-id={self.name}", *kind, *(["--spot"] if spot else [])]

    def delete(self) -> list[str]:
        """Gives it back, whatever it does."""
        return [*self._queued("delete"), "--force", "--quiet"]

    def state(self) -> list[str]:
        """Tells how far the request is."""
        return [*self._queued("describe"), "--format=value(state.state)"]

    def node(self) -> list[str]:
        """Tells the state of the machines."""
        return [*self._machine("describe", self.name), "--format=value(state)"]

    def copy(self, archive: str) -> list[str]:
        """Copies a file to every machine."""
        return [*self._machine("scp", archive, f"{self.name}:{ARCHIVE}"), "--worker=all"]

    def ssh(self, script: str) -> list[str]:
        """Runs a script on every machine."""
        return [*self._machine("ssh", self.name), "--worker=all", f"--command={script}"]

    def _queued(self, verb: str) -> list[str]:
        return ["gcloud", "compute", "tpus", "queued-resources", verb, self.name, *self.where]

    def _machine(self, verb: str, *words: str) -> list[str]:
        return ["gcloud", "compute", "tpus", "tpu-vm", verb, *words, *self.where]


def archive(path: str) -> list[str]:
    """Packs the files that git knows or does not ignore, and its history, so that results name their commit."""
    tar = f"tar --create --gzip --null --files-from=- --file={shlex.quote(path)} .git"
    return ["sh", "-c", f"git ls-files -z --cached --others --exclude-standard | {tar}"]


def install(pod: Pod, path: str) -> list[list[str]]:
    """Brings the archive to every host and makes an environment of it."""
    return [pod.copy(path), pod.ssh("; ".join(["set -e", *INSTALL]))]


def script(asked: cloud.Asked) -> str:
    """What every host runs."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in asked.environment.items()]
    command = " ".join(["exec env", *variables, ".venv/bin/python", shlex.join(asked.command)])
    return f"echo $$ > jaxreg.pid; cd jaxreg && {command}"


def launch(argv: Sequence[str]) -> int:
    """Asks for the slice, waits for it, runs the study on it, and again on another one until it ends."""
    values = cloud.define(argv)
    flags.DEFINE_string("accelerator", "", "TPU type and size, such as v5litepod-16.", flag_values=values)
    flags.DEFINE_string("project", "", "Google Cloud project.", flag_values=values)
    flags.DEFINE_string("zone", "", "Its zone, such as us-west4-a.", flag_values=values)
    flags.DEFINE_integer(
        "retries", 2, "How often a study that died on a sound slice is started again.", flag_values=values
    )
    flags.DEFINE_bool("keep", False, "Leave the slice when all is done: it goes on costing.", flag_values=values)
    asked = cloud.asked(values, argv)
    for name, example in {"project": "my-project", "zone": "us-west4-a", "accelerator": "v5litepod-16"}.items():
        require(bool(values[name].value), f"--{name} is missing: name one, such as --{name}={example}.")
    pod = Pod(asked.name, values.project, values.zone)
    create = pod.create(values.accelerator, values.spot)
    if values.dry_run:
        return show(pod, create, asked, values.keep)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / ARCHIVE)
        subprocess.run(archive(path), check=True, cwd=cloud.ROOT)
        try:
            code = until_done(pod, create, install(pod, path), script(asked), values.retries)
        except KeyboardInterrupt:
            _say(f"stopped; the slice goes on costing until: {shlex.join(pod.delete())}")
            return START_AGAIN
    if not values.keep:
        _do(pod.delete())
    return code


def show(pod: Pod, create: list[str], asked: cloud.Asked, keep: bool) -> int:
    """Prints every command in the order in which they would run."""
    steps = {
        "pack the working tree": [archive(ARCHIVE)],
        "ask for a slice, and look every 30 s until it is ACTIVE": [create, pod.state()],
        "install on every host": install(pod, ARCHIVE),
        "run the study, one process a host": [pod.ssh(script(asked))],
        "if that failed: was the slice taken away? then delete it, and go on from asking": [pod.node(), pod.delete()],
    }
    steps |= {} if keep else {"when it is done, or failed for good": [pod.delete()]}
    for what, lines in steps.items():
        print(f"# {what}", *map(shlex.join, lines), sep="\n")
    return 0


def until_done(pod: Pod, create: list[str], before: list[list[str]], run: str, retries: int) -> int:
    """Exit code 0: the study is done, 1: it failed `retries` + 1 times on slices that were there to the end.

    A study that saved and asks to be started again (75) did not fail.
    """
    deaths = 0
    while deaths <= retries:
        obtain(pod, create, retries)
        code = next((code for code in map(_code, [*before, pod.ssh(run)]) if code), 0)
        if not code:
            return 0
        lost = _told(pod.state()) != "ACTIVE" or _told(pod.node()) in LOST
        if lost:
            _say(f"{pod.name} was taken away: asking for another slice")
            _do(pod.delete())
        elif code == START_AGAIN:
            _say(f"{pod.name}: the study stopped to be started again")
        else:
            deaths += 1
            _say(f"{pod.name}: the study failed on a sound slice, {deaths} of {retries + 1} times")
    return 1


def obtain(pod: Pod, create: list[str], retries: int) -> None:
    """Waits until the slice is there; asks for it where nobody has, deletes what is left of one that was taken away.

    Raises: SpecError: if what was asked for FAILED `retries` + 1 times, as it does without quota.
    """
    before, failures = None, 0
    while (state := _told(pod.state())) != "ACTIVE":
        if state != before:
            _say(f"{pod.name}: {state or 'not there, asking for it'}")
        if state in GONE:
            failures += state == "FAILED"
            _do(pod.delete())
            why = f"{pod.name} FAILED {failures} times before it was there: is there quota for it?"
            require(failures <= retries, why)
        elif not state:
            require(_do(create), f"gcloud could not ask for {pod.name}: its own words are above.")
        before = state
        time.sleep(PAUSE)


def _do(words: list[str]) -> bool:
    """Runs a command in the open; whether it worked."""
    return _code(words) == 0


def _code(words: list[str]) -> int:
    """Runs a command in the open; its exit code."""
    _say(f"+ {shlex.join(words)}")
    return subprocess.run(words, check=False).returncode


def _told(words: list[str]) -> str:
    """The state that `gcloud` tells, "" for what does not exist.

    Raises: SpecError: for any other failure.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    unknown = any(text in done.stderr for text in FORGOTTEN)
    last = (done.stderr.strip().splitlines() or ["no word from it"])[-1]
    require(done.returncode == 0 or unknown, f"gcloud cannot tell ({last}): check `gcloud auth list` and the project.")
    return done.stdout.strip() if done.returncode == 0 else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(commands.launched(launch, sys.argv))
