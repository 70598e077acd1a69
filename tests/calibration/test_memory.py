"""No program copies the logits of a split or of a trial: what it holds beyond them is of one piece."""

import re

import numpy as np
import pytest

from jaxreg.calibration import probe, trial
from jaxreg.runtime import parallel

TRIALS, SPLITS, SIZE, CLASSES = 16, 2, 37, 13  # two trials a device; no other number of the programs is 37 or 13


def lowered(program, pieces):
    mesh, shape = parallel.make_mesh(), (SPLITS, pieces * SIZE)
    shared = trial.SharedExamples(np.zeros(shape, np.int32), np.ones(shape, np.float32), np.zeros(shape, np.uint32))
    stack = parallel.put_trials(np.zeros((TRIALS, SPLITS * pieces * SIZE, CLASSES), np.float32), mesh)
    if program == "evaluate":
        return probe._numbers((1,), 15, mesh, "full").lower(stack, parallel.put_shared(shared, mesh))
    return probe._programs(15, 20, mesh, "full")[0].lower(stack, parallel.put_shared((shared, np.uint32(0)), mesh))


def beside_the_stacks(program, pieces):
    """Shapes of all float32 arrays of a program that hold something of every class of some examples."""
    shapes = re.findall(r"tensor<([\dx]+)xf32>", lowered(program, pieces).as_text())
    seen = {shape for text in shapes if CLASSES in (shape := tuple(map(int, text.split("x"))))}
    stacks = {(trials, SPLITS * pieces * SIZE, CLASSES) for trials in (TRIALS, TRIALS // 8)}  # of all, of a device
    assert stacks < seen
    assert any(SIZE in shape for shape in seen)
    return seen - stacks


@pytest.mark.parametrize("program", ["measure", "evaluate"])
def test_logits_are_read_a_piece_at_a_time_where_they_lie(program, monkeypatch):
    monkeypatch.setattr(trial, "CHUNK", SIZE)
    assert beside_the_stacks(program, 3) == beside_the_stacks(program, 6)
