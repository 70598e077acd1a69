"""benchmarks/training.py trains the same networks on the same batches as PyTorch, and says so."""

import importlib.util
import subprocess
import sys

import pytest

from support.checkout import ROOT, environment

NEEDED = {"digits": ["torch"], "resnet20": ["torch"], "pipeline": ["torch", "torchmetrics", "torchattacks"]}


@pytest.mark.parametrize(
    "row", ["digits", *(pytest.param(row, marks=pytest.mark.slow) for row in ("resnet20", "pipeline"))]
)
def test_row_runs_and_losses_agree(row):
    missing = [name for name in NEEDED[row] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    words = [sys.executable, str(ROOT / "benchmarks" / "training.py"), "--tiny", f"--rows={row}"]
    done = subprocess.run(words, env=environment(JAX_PLATFORMS="cpu"), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith(row)]
    assert ("losses of 4 steps agree" if row != "pipeline" else "'accuracy'") in lines[0]
    assert [line[10:32].strip() for line in lines[1:]] == ["jaxreg", "torch", "torch, channels_last"]
