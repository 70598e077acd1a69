"""jaxreg: train many classifiers under soft-label regularizers in one program, and measure why they differ.

Shape letters, used as suffixes of names: **T** trials, **B** batch, **K** classes, **D** features, **H W C** image,
**M** bins, **R** restarts, **E** epsilons, **N** examples. The modules are listed, in the order in which they may
import each other, in `docs/architecture.md`. This file imports nothing, so that `import jaxreg` stays light.
"""

__version__ = "0.1.0"
