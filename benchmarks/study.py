"""How long a study takes from the command to its report, here and in another checkout, in turn.

    python benchmarks/study.py --other=/tmp/before          three rounds against another checkout with its own .venv
    python benchmarks/study.py                              this checkout alone
    python benchmarks/study.py --rounds=1 --steps=2         does it run?

Each run is a process of its own in a fresh workdir: `before` in the other checkout, `cold` here without kept programs,
`warm` here with those that a run before the first round left (`filling`). Medians of seconds on the clock, and of
processors; ratios are to `before`, or to `cold` without it. Two runs in a row share nothing but warm disk caches.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
VARIABLE = "JAXREG_COMPILATION_CACHE"


def run(checkout, python, workdir, cache, given):
    """Seconds on the clock and of processors of one study."""
    words = [python, "-m", "jaxreg", "study", f"--config={given.config}", f"--workdir={workdir}"]
    words += [f"--config.steps={given.steps}"] if given.steps else []
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {VARIABLE: str(cache), "PYTHONPATH": str(checkout)}
    subprocess.run(words, cwd=checkout, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def arms(given, folder):
    """Checkout, Python and store of programs of each arm, by name."""
    here = {"cold": (HERE, sys.executable, "off"), "warm": (HERE, sys.executable, folder / "kept")}
    if not given.other:
        return here
    other = Path(given.other).resolve()
    return {"before": (other, str(other / ".venv" / "bin" / "python"), "off"), **here}


def main():
    """Times the arms in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", help="another checkout, whose .venv is ready")
    parser.add_argument("--config", default="configs/digits.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: as the config says")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.platform()}, {cores} cores, Python {platform.python_version()}, JAX {metadata.version('jax')}")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["filling"] = [run(*arms(given, folder)["warm"][:2], folder / "filling", folder / "kept", given)]
        for place in range(given.rounds):
            for arm, (checkout, python, cache) in arms(given, folder).items():
                found.setdefault(arm, []).append(run(checkout, python, folder / f"{arm}-{place}", cache, given))
    base = statistics.median(clock for clock, _ in found.get("before", found["cold"]))
    print("| | seconds | of processors | ratio |\n|---|---|---|---|")
    for arm, times in found.items():
        clock, processors = (statistics.median(side) for side in zip(*times))
        print(f"| {arm} | {clock:.1f} | {processors:.1f} | {clock / base:.2f} |")


if __name__ == "__main__":
    main()
