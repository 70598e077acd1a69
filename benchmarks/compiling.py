"""What a study compiles: every program with its seconds, once with nothing kept and once with the programs of before.

    python benchmarks/compiling.py                         the digits study
    python benchmarks/compiling.py --steps=2 --top=10      does it run?

Each run is a process of its own in a fresh workdir. `trace` (Python to a JAX expression) and `lower` (to the compiler's
language) are done anew in every process; `compile` is what kept programs save: in the second table it is reading them.
Seconds are those of processors, of all threads of the process, measured from the events of `jax.monitoring`. Programs
of one name are one line: `distinct` counts names. `rest` is all else: imports, running, files, drawing; `children` are
the processes that print figures.
"""

import argparse
import collections
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
VARIABLE = "JAXREG_COMPILATION_CACHE"
STAGES = {"jaxpr_trace": "trace", "jaxpr_to_mlir_module": "lower", "backend_compile": "compile"}


# --- within the study's process ---
class Listener:
    """Adds up the processor seconds of the outermost events of each name."""

    def __init__(self):
        self.open, self.programs = [], collections.defaultdict(lambda: [0, 0.0])

    def begin(self, event, _, **facts):
        """An event of some length starts: JAX records the time of day as a number of its name."""
        if event.endswith("_duration"):
            self.open.append((event, time.process_time()))

    def end(self, event, _, **facts):
        """It ends."""
        if not self.open or self.open[-1][0] != event:
            return
        started = self.open.pop()[1]
        stage = STAGES.get(event.rsplit("/", 1)[1].removesuffix("_duration"))
        if stage and not self.open:
            found = self.programs[plain(facts.get("fun_name", "?")), stage]
            found[0] += 1
            found[1] += time.process_time() - started


def plain(name):
    """The function's name alone: a stage may call it `jit(NAME)` or `jit_NAME`."""
    return (name.removeprefix("jit") if name.startswith(("jit_", "jit(")) else name).strip("_()")


def listen(out, words):
    """Runs one command of jaxreg and writes what was compiled."""
    import jax

    from jaxreg.__main__ import main

    listener = Listener()
    jax.monitoring.register_scalar_listener(listener.begin)
    jax.monitoring.register_event_duration_secs_listener(listener.end)
    code = main(["jaxreg", *words])
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = [[*key, *value] for key, value in listener.programs.items()]
    told = {"programs": found, "own": time.process_time(), "children": children.ru_utime + children.ru_stime}
    Path(out).write_text(json.dumps(told))
    sys.exit(code)


# --- the tables ---
def run(name, folder, given):
    """One study in a process of its own."""
    out = folder / f"{name}.json"
    words = ["study", f"--config={given.config}", f"--workdir={folder / name}"]
    words += [f"--config.steps={given.steps}"] if given.steps else []
    environment = os.environ | {VARIABLE: str(folder / "kept"), "PYTHONPATH": str(HERE)}
    command = [sys.executable, __file__, "--out", str(out), "--words", json.dumps(words)]
    subprocess.run(command, env=environment, cwd=HERE, check=True, capture_output=True)
    return json.loads(out.read_text())


def show(name, told, top):
    """A table of programs, the costliest first, then the totals."""
    programs = collections.defaultdict(dict)
    for program, stage, count, seconds in told["programs"]:
        programs[program][stage] = (count, seconds)
    costly = sorted(programs, key=lambda program: -sum(seconds for _, seconds in programs[program].values()))
    print(f"\n## {name}\n\n| program | compiled | trace | lower | compile |\n|---|---|---|---|---|")
    for program in costly[:top]:
        line(program, [programs[program]])
    if costly[top:]:
        line(f"{len(costly) - top} more", [programs[program] for program in costly[top:]])
    line(f"**all, {len(programs)} distinct**", list(programs.values()))
    spent = sum(seconds for *_, seconds in told["programs"])
    print(f"\nrest {told['own'] - spent:.1f} s, children {told['children']:.1f} s", flush=True)


def line(name, programs):
    """One line: how many were compiled, and the seconds of each stage."""
    sums = [sum(stages.get(stage, (0, 0.0))[1] for stages in programs) for stage in STAGES.values()]
    compiled = sum(stages.get("compile", (0, 0.0))[0] for stages in programs)
    print(f"| {name} | {compiled} | " + " | ".join(f"{seconds:.2f}" for seconds in sums) + " |")


def main():
    """Lists what two studies in a row compile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits.py")
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: as the config says")
    parser.add_argument("--top", type=int, default=40, help="programs listed")
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("--words", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.out:
        listen(given.out, json.loads(given.words))
    with tempfile.TemporaryDirectory() as name:
        for run_name in ("nothing kept", "programs kept"):
            show(run_name, run(run_name, Path(name), given), given.top)


if __name__ == "__main__":
    main()
