"""A study before it runs, in words: what `plan` prints."""

from jaxreg import parallel, plan, preflight, results
from jaxreg.spec import StudySpec


def overview(study: StudySpec) -> str:
    """What would run: trials, programs, devices, steps, and the device memory that it should take."""
    mesh = parallel.make_mesh(study.execution.data_devices)
    programs = plan.programs(study)
    head = [
        f"study {study.name}: {len(study.trials)} trials in {len(programs)} programs",
        f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}, {dict(mesh.shape)}",
    ]
    return "\n".join(head + [f"\n{_about(program, mesh, study)}" for program in programs])


def _about(program: plan.Program, mesh: parallel.Mesh, study: StudySpec) -> str:
    about = preflight.check(program)
    needs = preflight.needs(program, about, mesh, study.execution.local_trials)
    settings: dict[tuple[str, str], int] = {}
    for trial in program.trials:
        key = (trial.regularizer.name, trial.hyperparameters)
        settings[key] = settings.get(key, 0) + 1
    padding = parallel.padded(len(program.trials), mesh) - len(program.trials)
    height, width, channels = about.image_shape
    lines = [
        f"program {program.id}: {len(program.trials)} trials (+ {padding} padding), {program.steps} steps each",
        f"  data   {about.name}: {height}x{width}x{channels}, {about.num_classes} classes, {dict(about.counts)}",
        f"  model  {program.model.name} {program.model.dtype}, batch {program.batch_size}",
        f"  memory a device: state {_mib(needs.state)}, activations {_mib(needs.activations)}, data {_mib(needs.data)}",
    ]
    lines += [f"  {count} x {results.label(*key)}" for key, count in settings.items()]
    return "\n".join(lines)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
