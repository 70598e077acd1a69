"""What other packages say, stored in tests/golden beside the scripts that asked them."""

import numpy as np

from support.checkout import ROOT


def arrays_of(name: str) -> dict[str, np.ndarray]:
    """All arrays of one golden."""
    with np.load(ROOT / "tests" / "golden" / f"{name}.npz") as file:
        return dict(file)
