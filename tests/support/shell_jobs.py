"""Jobs of no trials whose command is a shell script."""

import json
import shlex
from pathlib import Path


def made_up_jobs(study: Path, count: int) -> list[Path]:
    """Job directories as `jobs.settle` leaves them, of no trials."""
    found = []
    for number in range(count):
        workdir = study / "jobs" / f"{number:03d}-job"
        workdir.mkdir(parents=True)
        (workdir / "config.json").write_text(json.dumps({"config": {"probes": {}, "trials": []}, "sweep": [{}]}))
        found.append(workdir)
    return found


def shell(script: str):
    """A command for a job: a shell script in its workdir."""
    return lambda workdir: ["sh", "-c", f"cd {shlex.quote(str(workdir))}; echo start >> starts; {script}"]


FINISH = "echo '{}' > done.json"


def starts(workdir: Path) -> int:
    return len((workdir / "starts").read_text().splitlines()) if (workdir / "starts").exists() else 0
