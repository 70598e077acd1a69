"""Beyond inputs and results the probe needs the memory of a chunk, however many examples there are."""

import numpy as np

from jaxreg.geometry import probe, trial
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel
from jaxreg.runtime.passes import CHUNK

TRIALS, WIDTH, CLASSES = 2, 256, 3


def working(chunks):
    """Bytes beyond inputs and results, with so many chunks of examples to train on and to test."""
    mesh, size = parallel.make_mesh(), chunks * CHUNK
    head = Head(np.zeros((TRIALS, WIDTH, CLASSES), np.float32), np.zeros((TRIALS, CLASSES), np.float32))
    features = {name: np.zeros((TRIALS, size, WIDTH), np.float32) for name in ("train", "test")}
    given = parallel.put_trials((features, head, np.zeros(TRIALS, np.float32)), mesh)
    shared = parallel.put_shared((dict.fromkeys(features, np.zeros(size, np.int32)), np.float32(0)), mesh)
    compiled = probe._program(trial.measure_placed, mesh).lower(given, shared).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_examples():
    copied = 4 * CHUNK * WIDTH * 4  # what a copy of the features of one split of one trial would add
    assert working(6) - working(2) < copied / 4  # a few numbers an example, before they are the results
