"""Data that changes under a workdir: no number of the new examples stands beside one of the old."""

import json

import numpy as np
import pytest

from jaxreg.__main__ import main

CONFIG = """
from support.small_study import small_config

def get_config():
    config = small_config()
    config.dataset = {{"name": "arrays:{data}", "validation": 20, "residency": "{residency}"}}
    config.seeds, config.steps, config.regularizers = 1, 4, (("none", {{}}),)
    config.probes.only = ("calibration",)
    return config
"""


def arrays(count, seed):
    rng = np.random.default_rng(seed)
    return {"images": rng.integers(0, 256, (count, 8, 8), np.uint8), "labels": np.arange(count) % 3}


@pytest.fixture(scope="module", params=["device", "stream"])
def predicted(tmp_path_factory, request):
    """A workdir with predictions of the splits of `data`."""
    home = tmp_path_factory.mktemp("changed")
    (home / "data").mkdir()
    for seed, (split, count) in enumerate({"train": 80, "test": 30}.items()):
        np.savez(home / "data" / f"{split}.npz", **arrays(count, seed))
    (home / "config.py").write_text(CONFIG.format(data=home / "data", residency=request.param))
    assert run(home, "predict") == 0
    return home


def run(home, command):
    return main(["jaxreg", command, f"--config={home / 'config.py'}", f"--workdir={home / 'work'}"])


def turned(split):
    return split | {"labels": 2 - split["labels"]}


def one_pixel(split):
    split["images"][7, 3, 3] ^= 1
    return split


def shorter(split):
    return {name: array[:-1] for name, array in split.items()}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("change", [turned, one_pixel, shorter])
@pytest.mark.parametrize("command", ["probe", "train", "study"])
def test_changed_examples_are_refused(predicted, split, change, command, capsys):
    path = predicted / "data" / f"{split}.npz"
    before = path.read_bytes()
    with np.load(path) as found:
        np.savez(path, **change(dict(found)))
    try:
        assert run(predicted, command) == 2
    finally:
        path.write_bytes(before)
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"split {split!r} of arrays:{predicted / 'data'} has changed" in told
    assert "put its files back, or choose another --workdir" in told


def test_the_same_examples_in_other_files_are_the_same(predicted):
    for split in ("train", "test"):
        path = predicted / "data" / f"{split}.npz"
        with np.load(path) as found:
            np.savez_compressed(path, **found)
    assert run(predicted, "predict") == 0
    assert set(json.loads((predicted / "work/data.json").read_text())[f"arrays:{predicted / 'data'}"]) == {
        "train",
        "test",
    }
