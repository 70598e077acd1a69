"""benchmarks/accelerator.py runs in tiny sizes, without what an image for accelerators may lack, and never too long."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from support.checkout import ROOT, environment

SCRIPT = ROOT / "benchmarks" / "accelerator.py"
LACKING = ("tensorflow_datasets", "grain", "array_record", "ml_collections", "tensorboardX", "torch")
WITHOUT = f"""
import importlib.machinery, runpy, sys
finder, lacking = importlib.machinery.PathFinder, {LACKING}
find = finder.find_spec
finder.find_spec = lambda name, *more: None if name.split(".")[0] in lacking else find(name, *more)
sys.path.insert(0, {str(SCRIPT.parent)!r})
sys.argv = ["accelerator.py", *sys.argv[1:]]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
STAGES = ("smoke", "trials", "attacks", "measures", "study")


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)


@pytest.mark.slow
def test_every_stage_runs_without_what_may_be_missing(tmp_path):
    words = [sys.executable, "-c", WITHOUT, "--tiny", "--inside", f"--out={tmp_path}"]
    done = subprocess.run(words, env=environment(JAX_PLATFORMS="cpu"), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in STAGES}
    assert all(own[-1]["what"] == "end" for own in rows.values())
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row.pop("stage") for row in printed] == [name for name in STAGES for _ in rows[name]]
    assert printed == [row for name in STAGES for row in rows[name]]
    equal = [row for row in rows["smoke"] if row["what"] == "equal to a CPU"]
    assert len(equal) == 4
    assert all(row["holds"] for row in equal)
    assert [row["compilations"] for row in rows["smoke"] if "compilations" in row] == [1]
    assert [row["way"] for row in rows["trials"] if "images_a_second" in row] == ["map", "vmap", "products"]
    peers = [row for own in rows.values() for row in own if row.get("package") or row.get("way") == "torch"]
    assert all("seconds" in row or row["left_out"] == "not installed: torch" for row in peers if "first" not in row)
    assert set(pd.read_parquet(tmp_path / "results.parquet")["probe"]) == {"calibration", "geometry", "robustness"}
    logits = np.load(tmp_path / "logits.npz")
    assert logits["test_logits"].dtype == np.float16
    assert logits["test_logits"].shape == (4, 128, 10)


def test_a_stage_that_is_too_long_is_ended(benchmarks, tmp_path):
    import accelerator

    def said(code, seconds):
        return accelerator.watched([sys.executable, "-c", code], seconds, tmp_path / "log", dict(os.environ))

    assert said("import time; time.sleep(100)", 0.5) == "ended after 0 s: what it had is written"
    assert said("raise SystemExit('no device')", 20) == "failed with exit code 1 (no device)"
    assert said("pass", 20) == "done"


def test_all_stages_together_stay_below_nine_minutes(benchmarks):
    import accelerator

    assert accelerator.WHOLE < 540
    assert sum(accelerator.SECONDS.values()) + accelerator.STARTING * len(STAGES) <= accelerator.WHOLE
    assert tuple(accelerator.SECONDS) == STAGES


def test_rows_are_written_at_once_and_what_does_not_fit_is_named(benchmarks, tmp_path):
    from stages.report import Report

    report = Report(tmp_path / "one.json", deadline=0)  # the clock is beyond it
    report.row(number=1.23456)
    assert not report.fits(3, what="large")
    report.compare(lambda: __import__("no_such_package"), package="no_such_package")
    first, second, third = json.loads((tmp_path / "one.json").read_text())
    assert first == {"number": 1.235}
    assert second["what"] == "large"
    assert second["left_out"].startswith("takes about 3 s")
    assert third["left_out"] == "not installed: no_such_package"


def test_slices_and_products_are_the_convolution(benchmarks):
    import jax.numpy as jnp
    from stages.trials import sliced_conv

    from jaxreg.models.conv import native_conv

    rng = np.random.default_rng(0)
    for side, size, stride in ((9, 3, 1), (8, 3, 2), (8, 1, 2)):
        x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, side, side, 3), (size, size, 3, 5)))
        how = (stride, stride), ((size // 2, size // 2),) * 2
        np.testing.assert_allclose(sliced_conv(x, kernel, *how), native_conv(x, kernel, *how), atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": np.zeros(3)}, "must hold train_images, train_labels, test_images, test_labels"),
        (
            {f"{s}_{k}": np.zeros((2, 8, 8, 3)) for s in ("train", "test") for k in ("images", "labels")},
            r"must be uint8 \[N, 32, 32, 3\], got float64",
        ),
    ],
)
def test_images_that_do_not_fit_are_one_line(benchmarks, tmp_path, arrays, message):
    from stages.images import ImageError, read

    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(ImageError, match=message) as error:
        read(tmp_path / "images.npz")
    assert "\n" not in str(error.value)


def test_opcodes_within_cuda_graphs_are_told_from_those_outside(benchmarks):
    from stages.smoke import split_by_graph

    text = """HloModule jit_body
%command_buffer (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %fusion.1 = f32[2]{0} fusion(%p), kind=kLoop
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %call = f32[2]{0} call(%a), to_apply=%command_buffer
  ROOT %sort.2 = f32[2]{0} sort(%call), dimensions={0}
}
"""
    inside, outside = split_by_graph(text)
    assert (dict(inside), dict(outside)) == ({"fusion": 1}, {"call": 1, "sort": 1})
