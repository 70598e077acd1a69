"""The claims of Park, Kim, Lee, arXiv:2410.03999, each put to tests over the trials of a study, with a verdict.

Soft labels are label smoothing, Mixup, CutMix and their sums; the baseline is `none` at the same seed and overrides.
All tests of a study are one family for Holm's correction. A claim that the data contradict is reported as loudly as
one that they support. A setting and its baseline share a width, so a claim on the norm is one on RMS = norm / sqrt(D).
"""

from jaxreg.claims.mechanism import relations
from jaxreg.claims.settings import read
from jaxreg.claims.summary import as_text, headlines, save, summarize, with_tests
from jaxreg.claims.table import CLAIMS
from jaxreg.claims.verdicts import evaluate

__all__ = [
    "CLAIMS",
    "as_text",
    "evaluate",
    "headlines",
    "read",
    "relations",
    "save",
    "summarize",
    "with_tests",
]
