"""Training against PyTorch: the digits study's 20 trials, ResNet-20, and a whole pipeline.

    python benchmarks/training.py                     all three rows, minutes
    python benchmarks/training.py --rows=resnet20     some of them
    python benchmarks/training.py --tiny              does it run?

Needs torch; the row `pipeline` also torchmetrics and torchattacks (install it with --no-deps).
digits: the 20 trials of configs/digits.py, an epoch of 18 steps a time. resnet20: four trials (none, label smoothing,
Mixup, CutMix), batch 128, images of 32x32x3. Both side by side by jaxreg, one after another by PyTorch, with
channels_last and without; the faster one counts. VALUES FIRST: from the same weights both train on the same mixed
batches, and the losses of the first steps must agree to 3e-6 of their size in the first, ten times that in each next
one (rounding grows so in a ResNet); then PyTorch draws and mixes by itself.
pipeline: train all steps of digits, predict the test images with features, ECE, PGD-20 at one radius: jaxreg's stages
and probe (whose attack also checks every mask again) against a loop over torch, torchmetrics and torchattacks. Random
numbers differ, so means over the trials are compared: accuracy within 0.02, ECE and robust accuracy within 0.05.
Arms run in turn; a cell is the median of `--repeats` runs after the first, which compiles and is shown apart (compiled
programs are kept, as a study keeps them). A ratio is the time of PyTorch over jaxreg's: above 1 jaxreg is ahead; a row
where it is behind is marked ▼.
"""

import argparse
import functools
import os
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import calibration, config, config_file, data
from jaxreg.robustness import probe as robustness
from jaxreg.robustness.attacks import ATTACKS, Suite
from jaxreg.runtime import compiling, parallel
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.progress import Progress
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import ExecutionSpec
from jaxreg.training.loop import dispatches
from jaxreg.training.predictions import predict_split
from jaxreg.training.program import Run, fixed_parts, programs_of, settings_of
from jaxreg.training.step import Batch, TrainState, init_state, inputs_of, orders, take_batch

ROWS = ("digits", "resnet20", "pipeline")
COMPARED = 4  # steps
TOLERANCE = 3e-6  # of the first loss, relative; ten times that of each next one, for so fast rounding grows
APART = {"accuracy": 0.02, "ece": 0.05, "robust": 0.05}  # of means over trials with other random numbers
RADIUS = 0.05
ROOT = Path(__file__).parents[1]


class Training:
    """A program of trials as a study trains it, from its start."""

    def __init__(self, study, dataset, steps):
        (self.program,) = programs_of(study)
        self.dataset, self.mesh, self.steps = dataset, parallel.make_mesh(), steps
        execution = ExecutionSpec(steps_per_dispatch=steps)
        self.run = Run(Workdir("."), self.mesh, execution, Preemption())
        self.fixed = fixed_parts(self.program, dataset, self.mesh)
        self.settings = jax.tree.map(np.asarray, settings_of(self.program, self.fixed))  # a dispatch takes its own away
        _, self.dispatch = next(dispatches(self.program, dataset, self.fixed, self.run, (), 0))
        self.carry = self.start()

    def start(self):
        """Untrained trials on the mesh."""
        settings = parallel.put_trials(self.settings, self.mesh)
        fresh = functools.partial(init_state, fixed=self.fixed)
        return parallel.per_trial(lambda seed, _: fresh(seed), self.mesh)(settings.seed, ()), settings

    def weights(self):
        """Parameters and statistics [T, ...] now, in host memory."""
        return parallel.fetch((self.carry[0].params, self.carry[0].stats), len(self.program.trials))

    def advance(self):
        """The steps of a dispatch of all trials; their losses [T, S]."""
        self.carry, metrics = self.dispatch(self.carry)
        return parallel.fetch(metrics.loss, len(self.program.trials))

    def batches(self, place, count):
        """The first mixed batches of a trial: images NHWC and soft targets."""
        split, size = self.dataset.splits["train"], self.program.batch_size
        resident = Batch(*(jnp.asarray(a) for a in (split.images, split.labels, split.key_ids)))
        whole = len(split) // size

        @jax.jit
        def batch(settings, step):
            state = TrainState(step, None, None, None, None)
            order = orders(state, settings, len(split), whole, 1)
            return inputs_of(state, settings, take_batch(state, order, step // whole, resident, size), self.fixed)

        own = jax.tree.map(lambda a: a[place], self.settings)
        return [[np.asarray(a) for a in batch(own, jnp.int32(step))] for step in range(count)]


def digits_of(tiny):
    """The study of configs/digits.py and its images."""
    plain = config_file.load(str(ROOT / "configs" / "digits.py"))[0]
    plain |= {"seeds": 1, "steps": 8, "model": {"name": "cnn", "widths": (4, 4)}} if tiny else {}
    return config.resolve(plain), data.load("digits", validation=145)


def resnet20_of(tiny):
    """Four trials on noise around class templates."""
    folder, rng = tempfile.mkdtemp(), np.random.default_rng(0)
    templates = rng.uniform(60, 200, (10, 8, 8, 3) if tiny else (10, 32, 32, 3))
    for split, count in (("train", 1280), ("test", 100)):
        labels = np.arange(count) % 10
        images = np.clip(templates[labels] + rng.normal(0, 40, (count, *templates.shape[1:])), 0, 255)
        np.savez(Path(folder) / f"{split}.npz", images=images.astype(np.uint8), labels=labels)
    plain = config_file.load(str(ROOT / "configs" / "digits.py"))[0]
    model = {"name": "resnet20", "width": 2 if tiny else 16}
    dataset = {"name": f"arrays:{folder}", "validation": 0.1, "residency": "device"}
    size = {"batch_size": 16 if tiny else 128, "steps": 1000, "seeds": 1}
    study = config.resolve({**plain, **size, "model": model, "dataset": dataset})
    return study, data.load(f"arrays:{folder}", validation=0.1)


STUDIES = {"digits": digits_of, "resnet20": resnet20_of}


def compared(training, peers):
    """The largest relative difference between the losses of the first steps; ends the program where they differ."""
    weights, losses = training.weights(), training.advance()
    worst = 0.0
    for place, trial in enumerate(training.program.trials):
        peer = peers.Peer(trial, place, *weights, training.dataset, peers.LAYOUTS["torch"])
        for step, (x, targets) in enumerate(training.batches(place, COMPARED)):
            x, targets = (peers.torch.tensor(a) for a in (x.transpose(0, 3, 1, 2).copy(), targets))
            theirs = float(peer.step(x, targets))
            apart = abs(theirs / float(losses[place, step]) - 1)
            if not apart < TOLERANCE * 10**step:
                raise SystemExit(f"losses of step {step} differ by {apart:.1e} of their size: the times mean nothing.")
            worst = max(worst, apart)
    return worst


def seconds_of(arms, repeats):
    """Median seconds on the clock, and of processors, of each arm, in turns, and its first run on the clock."""
    found = {name: [] for name in arms}
    for _ in range(repeats + 1):
        for name, arm in arms.items():
            before, start = spent(), time.perf_counter()
            arm()
            found[name].append((time.perf_counter() - start, spent() - before))
    return {name: (*map(statistics.median, zip(*times[1:])), times[0][0]) for name, times in found.items()}


def spent():
    """Processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def trained_row(name, peers, given):
    """An epoch (digits) or a few steps (ResNet-20) of all trials."""
    study, dataset = STUDIES[name](given.tiny)
    steps = COMPARED if given.tiny or name == "resnet20" else 18
    training = Training(study, dataset, steps)
    trials, size = training.program.trials, training.program.batch_size
    weights = training.weights()
    images, labels = (a[: steps * size] for a in peers.images_of(dataset.splits["train"], dataset.scale))
    worst = compared(training, peers)
    print(f"{name}: {len(trials)} trials, {steps} steps of {size}; losses of {COMPARED} steps agree to {worst:.0e}")

    def arm(layout):
        networks = [peers.Peer(t, place, *weights, dataset, layout) for place, t in enumerate(trials)]
        return lambda: [peer.epoch(images, labels, size) for peer in networks]

    arms = {"jaxreg": training.advance} | {called: arm(layout) for called, layout in peers.LAYOUTS.items()}
    report(name, seconds_of(arms, given.repeats), len(trials) * steps * size)


def report(name, seconds, images=None):
    """A line an arm."""
    own = seconds["jaxreg"]
    fastest = min((arm for arm in seconds if arm != "jaxreg"), key=lambda arm: seconds[arm][0])
    for arm, (clock, processors, first) in seconds.items():
        rate = f"{images / clock:8.0f} img/s" if images else ""
        ratio = f"{clock / own[0]:6.2f} {processors / own[1]:6.2f}" if arm != "jaxreg" else ""
        behind = " ▼" if arm == fastest and clock < own[0] else ""
        print(f"{name:9} {arm:22} {first:8.3f} {clock:8.3f} {processors:8.3f} {rate} {ratio}{behind}", flush=True)


def pipeline_row(peers, given):
    """From images to accuracy, ECE and robust accuracy of all trials."""
    study, dataset = digits_of(given.tiny)
    steps = study.trials[0].steps
    training = Training(study, dataset, steps if given.tiny else 18)
    weights, test = training.weights(), dataset.splits["test"][: 40 if given.tiny else 250]
    attack = ATTACKS["pgd_ce"]
    images, labels = peers.images_of(dataset.splits["train"], dataset.scale)
    attacked = peers.images_of(test, dataset.scale)
    found = {}

    def ours():
        training.carry = training.start()
        for _ in range(steps // training.steps):
            training.advance()
        found["jaxreg"] = measured(training, test, attack)

    def theirs(layout):
        def run():
            results = []
            for place, trial in enumerate(training.program.trials):
                peer = peers.Peer(trial, place, *weights, dataset, layout)
                for _ in range(-(-steps // (len(images) // trial.batch_size))):
                    peer.epoch(images, labels, trial.batch_size)
                results.append(peers.measured(peer, *attacked, RADIUS, attack))
            found["torch"] = {key: float(np.mean([one[key] for one in results])) for key in results[0]}

        return run

    arms = {"jaxreg": ours} | {name: theirs(layout) for name, layout in peers.LAYOUTS.items()}
    seconds = seconds_of(arms, given.repeats)
    print(f"pipeline: {len(training.program.trials)} trials, {steps} steps, {len(test)} test images; {found}")
    far = [key for key, most in APART.items() if abs(found["jaxreg"][key] - found["torch"][key]) > most]
    if far and not given.tiny:
        raise SystemExit(f"means differ too much in {', '.join(far)}: the times mean nothing.")
    report("pipeline", seconds)


def measured(training, test, attack):
    """Means over the trials by jaxreg's stages."""
    weights, count = (training.carry[0].params, training.carry[0].stats), len(training.program.trials)
    with Progress("predict", len(test), "examples") as progress:
        logits, _ = predict_split("test", test, weights, count, training.fixed, training.run, progress)
    images = np.asarray(test.images, np.float32) / np.float32(training.dataset.scale)
    suite = Suite({"pgd_ce": attack})
    how = {"suite_name": suite, "epsilons": (RADIUS,), "trials": count, "mesh": training.mesh}
    trials = robustness.measure(training.fixed.model.apply, *weights, images, test.labels, test.key_ids, **how)
    robust = [row.value for one in trials for row in one.rows if row.metric.startswith("robust_accuracy/pgd_ce/")]
    errors = [float(calibration.ece(one, test.labels)) for one in logits]
    accuracy = (logits.argmax(-1) == test.labels).mean()
    return {"accuracy": float(accuracy), "ece": float(np.mean(errors)), "robust": float(np.mean(robust))}


def main():
    """Compares and times row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    given.repeats = 1 if given.tiny else given.repeats
    parallel.use_cpu_devices(0)
    compiling.keep(tempfile.mkdtemp())
    import training_peers as peers

    peers.torch.manual_seed(0)
    cores = len(os.sched_getaffinity(0))
    peers.torch.set_num_threads(cores)
    print(f"{platform.platform()}, {cores} cores, Python {platform.python_version()}, jax {jax.__version__}", end="")
    print(f", torch {peers.torch.__version__}")
    print("seconds: the first run, then medians on the clock and of processors; ratios of the last two to jaxreg's")
    for row in given.rows.split(","):
        if row == "pipeline":
            pipeline_row(peers, given)
        else:
            trained_row(row, peers, given)


if __name__ == "__main__":
    main()
