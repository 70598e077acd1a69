"""One set of shapes for every test that runs the whole probe: it compiles once for all of them."""

import numpy as np

WIDTH, CLASSES = 12, 4
COUNTS = {"train": 80, "validation": 40, "test": 200}
LABELS = {name: np.arange(count) % CLASSES for name, count in COUNTS.items()}
