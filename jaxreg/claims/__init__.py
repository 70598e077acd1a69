"""The claims of Park, Kim, Lee, arXiv:2410.03999, each judged by one number that was fixed before any result.

A soft setting is compared with `none` at the same seed and overrides, on the same images. Intervals count seeds and
images and hold together for the whole study; a claim that the data contradict is reported as loudly as one that they
support. A setting and its baseline share a width, so a claim on the norm is one on RMS = norm / sqrt(D).
"""

from jaxreg.claims.endpoints import CLAIMS
from jaxreg.claims.judgement import Judgement, beside, beside_none, judge
from jaxreg.claims.summary import as_text, grid, headlines, lines, save, table, with_discoveries
from jaxreg.claims.trials import StudyNumbers

__all__ = [
    "CLAIMS",
    "Judgement",
    "StudyNumbers",
    "as_text",
    "beside",
    "beside_none",
    "grid",
    "headlines",
    "judge",
    "lines",
    "save",
    "table",
    "with_discoveries",
]
