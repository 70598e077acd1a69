"""Runs a study as a Slurm job array, through submitit; submitted again, it adds what is neither done nor queued.

    python launch/slurm.py --config=configs/cifar10.py --workdir=/shared/cifar10 \
        --config.launch.jobs=10 --config.launch.slurm.partition=gpu --config.launch.slurm.gpus_per_node=1
    python -m jaxreg status /shared/cifar10
    python -m jaxreg report /shared/cifar10

`launch.slurm` in the config holds options of sbatch, named as submitit names them (`time` in minutes, `mem`,
`gpus_per_node`, `cpus_per_task`, `account`, `qos`, `constraint`, `array_parallelism`, ...); what is empty or 0 is left
to Slurm. As everywhere, the command line can set what the config file names. Ahead of its time limit (USR1) and on
preemption (TERM) a job saves a checkpoint and is requeued; a cancelled one is not; one that died otherwise is requeued
`--retries` times. Logs: WORKDIR/slurm.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from absl import flags

import slurm_task
from jaxreg import commands
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import launching
from jaxreg.runtime.files import read_json, write_json
from jaxreg.runtime.workdir import Workdir, claim, is_claimed
from jaxreg.spec import SpecError, StudySpec, require
from slurm_task import SIGNAL, Task, queue


def launch(argv: Sequence[str]) -> int:
    """Makes the jobs that the study lacks and submits all that are neither done nor with Slurm.

    Exit code 0: submitted, or nothing left to submit; 2: bad use.
    """
    values = commands.define(argv)
    flags.DEFINE_integer("retries", 2, "How often a job that died is put back into the queue.", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the batch script, and submit nothing.", flag_values=values)
    asked = commands.launch_request(values, argv)
    rule = "a workdir for Slurm must have no % and no line break in its path, which sbatch takes for more than a name"
    good = not {"%", "\n"} & set(str(asked.workdir))
    require(good, f"{rule}, got {str(asked.workdir)!r}: rename the folder, or choose another --workdir.")
    if values.dry_run:
        print(script(asked.spec, asked.workdir))
        return commands.dry_run(asked)
    require(shutil.which("sbatch") is not None, "there is no sbatch here: launch from a machine with Slurm's commands.")
    with claim(asked.workdir.jobs):
        workdirs = launching.prepare(asked.spec, asked.config, asked.sweep, asked.workdir, values.measure)
        queued = queue()
        left = [w for w in workdirs if not jobs.is_done(w) and not is_claimed(w) and submitted(w) not in queued]
        print(f"{len(workdirs)} jobs: {len(left)} to submit, the others are done or with Slurm")
        if left:
            submit(asked.spec, asked.workdir, left, values.retries)
    return 0


def executor(study: StudySpec, directory: Workdir, dry_run: bool = False) -> Any:
    """Submitit's executor with the options of the study's config; a `dry_run` needs no Slurm.

    Raises: SpecError: for an option that submitit does not know.
    """
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = SIGNAL  # read when submitit is imported, here and in the job
    from submitit import SlurmExecutor

    # Submitit makes no executor where there is no srun, which the text of a script does not need.
    anywhere = {"affinity": classmethod(lambda cls: 1)} if dry_run else {}
    given = {name: value for name, value in study.launch.slurm if value not in ("", 0)}
    setup = [f"export SUBMITIT_PREEMPT_SIGNAL={SIGNAL}", *given.pop("setup", ())]
    additional = {"requeue": True, **given.pop("additional_parameters", {})}
    defaults = {"job_name": study.name, "cpus_per_task": study.launch.devices, "time": 60}
    made = type("SlurmExecutor", (SlurmExecutor,), anywhere)(folder=Path(directory.slurm_logs) / "%j")
    try:
        made.update_parameters(**{**defaults, **given}, setup=setup, additional_parameters=additional)
    except ValueError as error:
        raise SpecError(f"launch.slurm: {str(error).splitlines()[0]}: name options as submitit does.") from None
    return made


def script(study: StudySpec, directory: Workdir) -> str:
    """The batch script that would be submitted, for one job of the array."""
    made = executor(study, directory, dry_run=True)
    return made._make_submission_file_text(made._submitit_command_str, "0")


def submit(study: StudySpec, directory: Workdir, workdirs: Sequence[Workdir], retries: int) -> None:
    """Submits one array for `workdirs` and notes in each which task it is."""
    cloudpickle.register_pickle_by_value(slurm_task)  # a node need not be able to import this folder
    tasks = [Task(launching.command(workdir, study), str(workdir.deaths), retries) for workdir in workdirs]
    for task in tasks:
        Path(task.deaths).unlink(missing_ok=True)  # they count from every submission anew
    made = executor(study, directory)
    with made.batch():
        submissions = [made.submit(task) for task in tasks]
    for workdir, job in zip(workdirs, submissions):
        write_json(workdir.slurm_job, {"job": job.job_id})
        print(f"{workdir.name}: Slurm job {job.job_id}, log {job.paths.stderr}")


def submitted(workdir: Workdir) -> str:
    """The Slurm job that last had the workdir; empty if there was none."""
    return read_json(workdir.slurm_job)["job"] if workdir.slurm_job.exists() else ""


if __name__ == "__main__":
    sys.exit(commands.launched(launch, sys.argv))
