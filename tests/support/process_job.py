"""A job of several processes on this machine, each of which runs commands of jaxreg one after another.

As a script it is such a process: `python -m support.process_job '[["train", "--config=..."], ...]' PROBE ...` measures
with the probes named, and prints `code N` after each command.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from support import checkout

PROCESS = [sys.executable, "-m", "support.process_job"]
Places = list[tuple[str, dict[str, str]]]  # for each process `execution.distributed`, and variables


def explicit(count: int) -> Places:
    """Every process is told all."""
    address = f"127.0.0.1:{free_port()}"
    return [(f"{address},{count},{i}", {}) for i in range(count)]


def auto(count: int) -> Places:
    """The variables that a launcher may set for JAX."""
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": str(count)}
    return [("auto", {**shared, "JAX_PROCESS_ID": str(i)}) for i in range(count)]


def slurm(count: int) -> Places:
    """The variables that `srun` sets; JAX makes the port from the number of the job."""
    number = next(n for n in range(os.getpid() % 4096, 8192) if is_free(65536 - 4096 + n % 4096))
    shared = {"SLURM_JOB_ID": str(number), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(count)}
    return [("slurm", {**shared, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}) for i in range(count)]


class Job:
    """`count` processes of one job, started; their output lies in `folder`.

    `way` is how they find each other: told on the command line, as JAX's variables, or as `srun` tells them.
    """

    def __init__(
        self, folder: Path, count: int, commands: list[list[str]], environment: dict[str, str], way=explicit
    ) -> None:
        self.folder = folder
        self.folder.mkdir()
        places = way(count)
        self.processes = [self._start(i, place, commands, environment | own) for i, (place, own) in enumerate(places)]

    def _start(self, index: int, place: str, commands: list[list[str]], environment: dict[str, str]):
        words = [[word.replace("{index}", str(index)) for word in words] for words in commands]
        own = [[*words, f"--config.execution.distributed={place}"] for words in words]
        words = [*PROCESS, json.dumps(own), "calibration"]
        with (self.folder / f"{index}.out").open("w") as out, (self.folder / f"{index}.err").open("w") as err:
            return subprocess.Popen(words, stdout=out, stderr=err, env=environment, cwd=self.folder)

    def wait(self, seconds: float = 300) -> list[int]:
        """The exit code of every process."""
        end = time.monotonic() + seconds
        try:
            return [process.wait(max(end - time.monotonic(), 1)) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def codes(self, index: int) -> list[int]:
        """The codes of the commands that a process finished."""
        lines = (self.folder / f"{index}.out").read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith("code ")]

    def errors(self, index: int) -> str:
        """What a process wrote to stderr."""
        return (self.folder / f"{index}.err").read_text()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as listener:
        return listener.connect_ex(("127.0.0.1", port)) != 0


def newest(checkpoints: Path) -> int:
    """The step of the newest whole checkpoint of the only program in a folder, 0 without any."""
    return max((int(p.name) for p in checkpoints.glob("*/*") if p.name.isdigit()), default=0)


def wait_for_checkpoint(job: Job, checkpoints: Path, after: int = 0) -> None:
    """Waits until a checkpoint of a step beyond `after` is whole."""
    while newest(checkpoints) <= after:
        assert all(process.poll() is None for process in job.processes), job.errors(0)
        time.sleep(0.01)


def environment(compiled: Path) -> dict[str, str]:
    """Of a process that compiles nothing that an earlier one has compiled.

    All have as many threads: XLA:CPU splits a matrix product among them, which changes its last bits. By default a
    process has as many as its devices or the machine's cores, whichever is more.
    """
    cache = {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    return checkout.environment(NPROC="4", **cache)


def compile_once() -> None:
    """Lets process 0 compile for all: spares most of a test's time.

    On a CPU JAX cannot do so by itself: the key of a program holds the topology as each process sees it.
    """
    import jax
    from jax._src import cache_key

    if hasattr(cache_key, "_hash_accelerator_config"):
        cache_key._hash_accelerator_config = lambda hashed, devices: hashed.update(str(devices.size).encode())
        jax.config.update("jax_share_binary_between_hosts", True)


if __name__ == "__main__":
    from jaxreg import study
    from jaxreg.__main__ import main
    from jaxreg.runtime import parallel

    compile_once()
    parallel.GATHERED = 2**13  # so that what is fetched comes in several blocks
    study.PROBES = {name: study.PROBES[name] for name in sys.argv[2:]}
    for words in json.loads(sys.argv[1]):
        print("code", main(["jaxreg", *words]), flush=True)
