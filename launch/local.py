"""Runs a study on this machine as jobs, some at a time; started again, it goes on where it stopped.

    python launch/local.py --config=configs/digits.py:sweep --workdir=runs/digits-sweep --jobs=2

Every job is a process with a log of its own, `WORKDIR/jobs/NAME/log.txt`. More seeds or settings in the config add jobs
for the new trials alone. Ctrl-C lets every job save a checkpoint first; a second one does not.
"""

import shlex
import sys
from collections.abc import Sequence

from absl import flags

import processes
from jaxreg import commands, study
from jaxreg.jobs import launching
from jaxreg.runtime.workdir import claim
from jaxreg.spec import require


def launch(argv: Sequence[str]) -> int:
    """Makes the jobs that the study lacks, runs all that are not done, then reports.

    Exit code 0: all done and reported, 1: a job failed for good, 2: bad use, 75: stopped, start it again.
    """
    values = commands.define(argv)
    flags.DEFINE_integer("jobs", 1, "Jobs at a time.", flag_values=values)
    flags.DEFINE_integer("retries", 2, "How often a job that died is started again.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print what would run, and run nothing.", flag_values=values)
    asked = commands.launch_request(values, argv)
    alone = (
        "execution.distributed must be empty for jobs of one process each: launch/slurm.py and the clouds take more."
    )
    require(not asked.spec.execution.distributed, alone)
    slots = processes.slots(values.jobs, asked.spec.launch.devices)
    if values.dry_run:
        return commands.dry_run(asked)
    with claim(asked.workdir.jobs):
        workdirs = launching.prepare(asked.spec, asked.config, asked.sweep, asked.workdir, values.measure)
        pool = processes.Pool(lambda workdir: launching.command(workdir, asked.spec), slots, values.retries)
        code = pool.run(workdirs)
    if code:
        print(f"not all is done: {shlex.join(['python', *argv])} goes on from here.", file=sys.stderr)
        return code
    return study.report([asked.workdir])


if __name__ == "__main__":
    sys.exit(commands.launched(launch, sys.argv))
