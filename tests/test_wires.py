"""What a study hands to each measurement: one small trained program, every probe, images held and streamed."""

import functools
import inspect
import math
import re

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from jaxreg import config as configs
from jaxreg import data, results, study
from jaxreg.calibration import probe as calibration
from jaxreg.geometry import displacement, over_training
from jaxreg.geometry import probe as geometry
from jaxreg.report import data as reported
from jaxreg.robustness import attacks, corruptions
from jaxreg.robustness import probe as robustness
from jaxreg.runtime import parallel
from jaxreg.runtime.files import read_arrays
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.training import predictions

SMOOTHING = 0.2
DECAY = 0.02
REGULARIZERS = (
    ("none", {}, {"optimizer.weight_decay": DECAY}),  # a control, which comes first: it is no baseline there either
    ("none", {}),
    ("label_smoothing", {"epsilon": SMOOTHING}),
    ("mixup", {"alpha": 0.5}),
)
SEEDS = 2
EPSILONS = (0.02, 0.05, 0.1)
ATTACKED, CORRUPTED, SNAPPED = 60, 50, 300  # examples
STEPS, SNAPSHOTS = 20, (0, 10, 20)
HEARD = {
    "calibration": (calibration, "measure"),
    "robustness": (robustness, "measure"),
    "corruptions": (corruptions, "measure"),
    "geometry": (geometry, "measure"),
    "over_training": (over_training, "measure_snapshots"),
    "displacement": (displacement, "measure_displacement"),
    "path": ("jaxreg.probes.displacement", "measure_path"),
    "with_noise": ("jaxreg.probes.displacement", "with_noise"),
}


def config_of(residency):
    return ConfigDict(
        {
            "study": "wires",
            "dataset": {"name": "digits", "validation": 100, "residency": residency},
            "model": {"name": "cnn", "widths": (4,)},
            "regularizers": REGULARIZERS,
            "seeds": SEEDS,
            "batch_size": 32,
            "steps": STEPS,
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.0},
            "probes": {
                "calibration": {"bootstrap": 7},
                "robustness": {
                    "suite": "tiny",
                    "norm": "linf",
                    "epsilons": EPSILONS,
                    "examples": ATTACKED,
                    "verdict": residency == "device",  # once: it takes half of the time
                },
                "corruptions": {"families": ("gaussian_noise", "fog"), "severities": (3,), "examples": CORRUPTED},
                "geometry": {"radius": 2.5, "snapshots": SNAPSHOTS, "snapshot_examples": SNAPPED},
            },
            "execution": {"steps_per_dispatch": 10},
        }
    )


class Wires:
    """A finished study and what its probes were called with, by name of the argument."""

    def __init__(self, root, residency, patch):
        self.workdir, self.heard, self.checked = Workdir(root), {}, residency == "device"
        for probe, (module, name) in HEARD.items():
            module = __import__(module, fromlist=["_"]) if isinstance(module, str) else module
            patch.setattr(module, name, functools.partial(self._call, probe, getattr(module, name)))
        patch.setitem(
            attacks.SUITES, "tiny", attacks.Suite({"pgd_ce": attacks.Attack("gradient", steps=5)}, minimal_steps=5)
        )
        self.lowered: dict[str, str] = {}
        if self.checked:
            self._lower_all(patch)
        config = config_of(residency)
        spec = configs.resolve(config)
        assert study.run("study", spec, configs.as_plain(config), [{}], root, Preemption()) == 0
        self.trials = spec.trials
        self.frame = results.read(self.workdir.results)
        self.test = data.load("digits", validation=100).splits["test"]
        self.images = load_digits().images[self.test.ids, :, :, None].astype(np.float32) / 16

    def _lower_all(self, patch):
        """Every program of the study is lowered for accelerators, too, before it runs here."""
        real = parallel.per_trial
        for cached in (calibration._programs, geometry._program, displacement._program, over_training._program):
            cached.cache_clear()
        predictions._program.cache_clear()

        def per_trial(fn, *how, **options):
            call, name = real(fn, *how, **options), innermost(fn)

            def run(stacked, shared):
                if name not in self.lowered:
                    # One at a time: for several at once the branches of other platforms are lowered, too.
                    texts = [call.lower(stacked, shared, (platform,)).as_text() for platform in ("cuda", "tpu")]
                    self.lowered[name] = "".join(texts)
                return call(stacked, shared)

            run.lower = call.lower
            return run

        patch.setattr(parallel, "per_trial", per_trial)

    def _call(self, probe, measure, *args, **named):
        given = inspect.signature(measure).bind(*args, **named).arguments
        probe = given.get("called", probe) if given.get("called") != "adversarial" else probe
        self.heard[probe] = {re.sub("_[A-Z]+$", "", name): value for name, value in given.items()}  # without axes
        return measure(*args, **named)

    def predicted(self, name, split="test"):
        return np.stack([read_arrays(self.workdir.predictions(t.id, split))[name] for t in self.trials])

    def saved(self, probe, name):
        return [read_arrays(self.workdir.arrays(probe, t.id)).get(name) for t in self.trials]

    def value(self, metric, split="test"):
        rows = self.frame[(self.frame["metric"] == metric) & (self.frame["split"] == split)]
        return [rows.set_index("trial")["value"].to_dict().get(t.id) for t in self.trials]


def innermost(fn):
    """What a program is of: the function and the method of an attack, or where a nameless one stands."""
    words = []
    while isinstance(fn, functools.partial):
        words = [*(str(one.method) for one in fn.args if hasattr(one, "method")), *words]
        fn = fn.func
    return "/".join([f"{fn.__module__.removeprefix('jaxreg.')}.{fn.__qualname__}", *words])


@pytest.fixture(scope="module", params=["device", "stream"])
def wires(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Wires(tmp_path_factory.mktemp(request.param), request.param, patch)


def names(wires):
    return [trial.regularizer.name for trial in wires.trials]


def base_of(wires):
    """The place of each trial's baseline: the one of the same seed that is not regularized."""
    plain = [t.regularizer.name == "none" and not t.control for t in wires.trials]
    places = {t.seed: i for i, t in enumerate(wires.trials) if plain[i]}
    return [None if plain[i] else places[t.seed] for i, t in enumerate(wires.trials)]


def test_every_program_of_a_study_lowers_for_accelerators(wires):
    if not wires.checked:
        pytest.skip("once")
    rooms = {name.split(".")[0] for name in wires.lowered}
    assert rooms == {"training", "calibration", "robustness", "geometry"}
    attacked = {name.rpartition("/")[2] for name in wires.lowered if ".attack_trial" in name}
    assert {"gradient", "minimal", "square"} <= attacked
    assert all("stablehlo" in text for text in wires.lowered.values())


def test_every_probe_ran_on_every_trial(wires):
    assert set(wires.heard) == {*HEARD, "noise"}
    assert sorted(names(wires)) == sorted([name for name, *_ in REGULARIZERS] * SEEDS)
    told = wires.frame.groupby("probe", observed=True)["trial"].nunique()
    probes = ("calibration", "robustness", "corruptions", "geometry", "over_training", "displacement")
    assert dict(told) == dict.fromkeys(probes, len(wires.trials))


def test_a_control_decays_more_in_the_same_program_and_the_report_shows_it_behind_its_baseline(wires):
    assert wires.frame["program"].nunique() == 1
    losses, own = wires.value("train_nll", "train"), [bool(t.control) for t in wires.trials]
    assert all(losses[i] > losses[base] for i, base in enumerate(base_of(wires)) if own[i])
    assert {t.optimizer.weight_decay for t, its in zip(wires.trials, own) if its} == {DECAY}
    control = f"none(optimizer.weight_decay={DECAY})"
    assert reported.load([wires.workdir]).settings[:2] == ["none", control]
    assert control in (wires.workdir.report / "index.html").read_text()


def test_calibration_gets_the_saved_logits_of_both_splits(wires):
    given = wires.heard["calibration"]
    assert list(given["splits"]) == ["validation", "test"]
    for name, split in given["splits"].items():
        np.testing.assert_array_equal(np.stack(list(split[0])), wires.predicted("logits", name))
        np.testing.assert_array_equal(split[1], wires.predicted("labels", name)[0])
        np.testing.assert_array_equal(split[2], wires.predicted("ids", name)[0])
    assert list(given["trials"]) == [trial.id for trial in wires.trials]
    assert given["replicates"] == 7
    assert given["human"] is None


def test_attacks_get_the_first_test_images_and_the_baseline_of_every_trial(wires):
    given = wires.heard["robustness"]
    np.testing.assert_array_equal(given["images"], wires.images[:ATTACKED])
    np.testing.assert_array_equal(given["labels"], wires.test.labels[:ATTACKED])
    np.testing.assert_array_equal(given["key_ids"], wires.test.key_ids[:ATTACKED])
    assert (given["suite_name"], tuple(given["epsilons"]), given["norm"]) == ("tiny", EPSILONS, "linf")
    assert given["trials"] == len(wires.trials)
    own = [i if base is None else base for i, base in enumerate(base_of(wires))]
    np.testing.assert_array_equal(np.asarray(given["sources"])[: len(own)], own)
    assert (given["effort"] is not None) == wires.checked
    assert given["finished"] == wires.workdir.calls("robustness")


def test_a_trial_without_a_baseline_has_no_transfer(wires):
    lacking = [value is None for value in wires.value("robust_accuracy/transfer/0.05")]
    assert lacking == [base is None for base in base_of(wires)]


def test_corruptions_get_the_first_test_images(wires):
    given = wires.heard["corruptions"]
    np.testing.assert_array_equal(given["images"], wires.images[:CORRUPTED])
    np.testing.assert_array_equal(given["labels"], wires.test.labels[:CORRUPTED])
    np.testing.assert_array_equal(given["key_ids"], wires.test.key_ids[:CORRUPTED])
    assert (tuple(given["names"]), tuple(given["severities"])) == (("gaussian_noise", "fog"), (3,))
    assert given["trials"] == len(wires.trials)
    assert None not in wires.value("corruption_accuracy/fog/3")


def test_geometry_gets_the_saved_features_and_what_each_loss_is(wires):
    given = wires.heard["geometry"]
    assert list(given["splits"]) == ["train", "validation", "test"]
    for name, split in given["splits"].items():
        np.testing.assert_array_equal(np.stack(list(split[0])), wires.predicted("features", name))
        np.testing.assert_array_equal(split[1], wires.predicted("labels", name)[0])
        np.testing.assert_array_equal(split[2], wires.predicted("ids", name)[0])
    assert list(given["seeds"]) == [trial.seed for trial in wires.trials]
    np.testing.assert_array_equal(given["kernel"], wires.predicted("kernel", "head"))
    np.testing.assert_array_equal(given["bias"], wires.predicted("bias", "head"))
    assert given["radius"] == 2.5
    assert list(given["smoothing"]) == [SMOOTHING * (name == "label_smoothing") for name in names(wires)]
    assert list(given["floor_known"]) == [name != "mixup" for name in names(wires)]
    assert list(given["baselines"]) == base_of(wires)


def test_the_floor_of_each_loss_is_the_entropy_of_its_targets(wires):
    target = np.full(10, SMOOTHING / 10)
    target[0] += 1 - SMOOTHING
    expected = {"none": 0.0, "label_smoothing": -(target * np.log(target)).sum(), "mixup": math.nan}
    found = wires.value("train_loss_floor", "train")
    np.testing.assert_allclose(found, [expected[name] for name in names(wires)], atol=1e-5)
    np.testing.assert_allclose(wires.value("center_radius", "train"), 2.5, rtol=1e-6)


def test_snapshots_are_those_of_the_schedule_and_the_last_is_the_trained_network(wires):
    given = wires.heard["over_training"]
    train = data.load("digits", validation=100).splits["train"]
    np.testing.assert_array_equal(given["labels"], train.labels[:SNAPPED])
    assert given["features"].shape[:3] == (len(wires.trials), len(SNAPSHOTS), SNAPPED)
    np.testing.assert_array_equal(given["kernel"][:, -1], wires.predicted("kernel", "head"))
    np.testing.assert_array_equal(given["bias"][:, -1], wires.predicted("bias", "head"))
    np.testing.assert_allclose(
        given["features"][:, -1], wires.predicted("features", "train")[:, :SNAPPED], rtol=2e-5, atol=2e-5
    )
    assert all(None not in wires.value(f"over_training/feature_norm@{step}", "train") for step in SNAPSHOTS)


def test_maps_over_training_are_of_the_first_seed_of_each_setting(wires):
    for step in SNAPSHOTS:
        mapped = [found is not None for found in wires.saved("over_training", f"features@{step}")]
        assert mapped == [trial.seed == 0 for trial in wires.trials]


def test_displacement_is_that_of_the_worst_adversaries_at_the_middle_radius(wires):
    given = wires.heard["displacement"]
    clean, attacked = given["clean"], given["attacked"]
    np.testing.assert_array_equal(clean, wires.predicted("features")[:, :ATTACKED])
    logits = np.stack(wires.saved("robustness", "adversarial_logits/worst/0.05"))
    kernel, bias = wires.predicted("kernel", "head"), wires.predicted("bias", "head")
    np.testing.assert_allclose(np.asarray(attacked) @ kernel + bias[:, None], logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(given["labels"], wires.test.labels[:ATTACKED])
    np.testing.assert_array_equal(given["kernel"], kernel)
    np.testing.assert_array_equal(given["bias"], bias)
    np.testing.assert_array_equal(given["centers"], np.stack(wires.saved("geometry", "class/center")))
    adversaries = np.stack(wires.saved("robustness", "adversarial/worst/0.05"))
    np.testing.assert_array_equal(given["differs"], (adversaries != wires.images[:ATTACKED]).any((2, 3, 4)))
    assert wires.value("adversarial_eps") == [0.05] * len(wires.trials)


def test_noise_is_as_large_as_the_adversary_of_each_trial(wires):
    adversaries = np.stack(wires.saved("robustness", "adversarial/worst/0.05")).astype(float)
    sizes = np.sqrt(((adversaries - wires.images[:ATTACKED]) ** 2).sum((2, 3, 4)))
    given = wires.heard["with_noise"]  # of the last trial
    np.testing.assert_array_equal(given["images"], wires.images[:ATTACKED])
    np.testing.assert_array_equal(given["key_ids"], wires.test.key_ids[:ATTACKED])
    np.testing.assert_allclose(given["size"], sizes[-1], rtol=1e-6)
    assert (given["seed"], given["norm"]) == (wires.trials[-1].seed, "linf")
    moved, attack = wires.heard["noise"], wires.heard["displacement"]
    for name in ("clean", "labels", "kernel", "bias", "centers", "differs"):
        np.testing.assert_array_equal(moved[name], attack[name])
    radial, norm, counted = (
        np.stack(wires.saved("displacement", f"test/{name}"))
        for name in ("noise_radial_cosine", "noise_norm_change", "adversarial_counted")
    )
    h, d = np.asarray(moved["clean"], float), np.asarray(moved["attacked"], float) - moved["clean"]
    lengths = np.linalg.norm(h, axis=-1)
    expected = -(d * h).sum(-1) / np.maximum(np.linalg.norm(d, axis=-1) * lengths, 1e-30)
    np.testing.assert_allclose(radial, np.where(counted, expected, np.nan), atol=1e-4)
    change = np.linalg.norm(h + d, axis=-1) - lengths
    np.testing.assert_allclose(norm, np.where(counted, change, np.nan), atol=1e-4)
    means = [values[mask].mean() for values, mask in zip(radial, counted)]
    np.testing.assert_allclose(wires.value("noise_radial_cosine"), means, rtol=1e-5)
    attacked = np.stack(wires.saved("displacement", "test/adversarial_radial_cosine"))
    assert not np.allclose(attacked[counted], radial[counted], atol=0.05)


def test_arrays_of_examples_carry_their_ids(wires):
    for probe, name, count in (
        ("geometry", "test/id", None),
        ("robustness", "id", ATTACKED),
        ("displacement", "test/id", ATTACKED),
        ("calibration", "test/id", None),
    ):
        for ids in wires.saved(probe, name):
            np.testing.assert_array_equal(ids, wires.test.ids[:count], err_msg=probe)
    for name in ("min_eps", "adversarial_logits/worst/0.05"):
        assert {len(array) for array in wires.saved("robustness", name)} == {ATTACKED}


def test_the_path_of_an_attack_begins_at_the_images(wires):
    given = wires.heard["path"]
    np.testing.assert_array_equal(given["images"], wires.images[:100])
    np.testing.assert_array_equal(given["labels"], wires.test.labels[:100])
    np.testing.assert_array_equal(given["centers"], np.stack(wires.saved("geometry", "class/center")))
    assert (given["eps"], given["norm"]) == (0.05, "linf")
    lengths = np.linalg.norm(wires.predicted("features")[:, :100], axis=-1).mean(1)
    np.testing.assert_allclose(wires.value("adversarial_path_norm@0"), lengths, rtol=1e-4)


def test_the_correlation_within_a_trial_is_that_of_its_own_arrays(wires):
    found = wires.value("cosine_radius_correlation")
    cosines, radii = wires.saved("geometry", "test/center_cosine"), wires.saved("robustness", "min_eps")
    expected = [displacement.relation(c[:ATTACKED], r).value for c, r in zip(cosines, radii)]
    assert found == expected
