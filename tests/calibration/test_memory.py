"""No program copies the logits of a split or of a trial: what it holds beyond them is of one chunk."""

import re

import numpy as np
import pytest

from jaxreg.calibration import probe
from jaxreg.calibration.trial import Examples
from jaxreg.runtime import parallel

TRIALS, SPLITS, CHUNK, CLASSES = 16, 2, 37, 13  # two trials a device; no other number of the programs is 37 or 13


def lowered(program, chunks):
    mesh, shape = parallel.make_mesh(), (SPLITS, chunks, CHUNK)
    examples = Examples(np.zeros(shape, np.int32), np.ones(shape, np.float32), np.zeros(shape, np.uint32))
    stack = parallel.put_trials(np.zeros((TRIALS, *shape, CLASSES), np.float32), mesh)
    if program == "evaluate":
        return probe._numbers((1,), 15, mesh).lower(stack, parallel.put_shared(examples, mesh))
    return probe._programs(15, 20, mesh)[0].lower(stack, parallel.put_shared((examples, np.uint32(0)), mesh))


def beside_the_stacks(program, chunks):
    """Shapes of all float32 arrays of a program that hold something of every class of every example of a chunk."""
    shapes = re.findall(r"tensor<([\dx]+)xf32>", lowered(program, chunks).as_text())
    seen = {shape for text in shapes if {CHUNK, CLASSES} <= set(shape := tuple(map(int, text.split("x"))))}
    stacks = {(trials, SPLITS, chunks, CHUNK, CLASSES) for trials in (TRIALS, TRIALS // 8)}  # of all, of a device
    assert stacks < seen
    return seen - stacks


@pytest.mark.parametrize("program", ["measure", "evaluate"])
def test_logits_are_read_a_chunk_at_a_time_where_they_lie(program):
    assert beside_the_stacks(program, 3) == beside_the_stacks(program, 6)
