"""Statistics over trials and examples: paired tests, crossed intervals, what they decide, and how many seeds would."""

from jaxreg.statistics import influence
from jaxreg.statistics.band import Band, band
from jaxreg.statistics.crossed import Components, CrossedEffect, spread
from jaxreg.statistics.decision import Decision, decide
from jaxreg.statistics.estimates import Estimates, combined
from jaxreg.statistics.multiple import benjamini_hochberg, holm
from jaxreg.statistics.paired import Effect, effect, effects, paired
from jaxreg.statistics.planning import Plan, plan
from jaxreg.statistics.ranks import partial_rank_correlation, rank_correlation

__all__ = [
    "Band",
    "Components",
    "CrossedEffect",
    "Decision",
    "Effect",
    "Estimates",
    "Plan",
    "band",
    "benjamini_hochberg",
    "combined",
    "decide",
    "effect",
    "effects",
    "holm",
    "influence",
    "paired",
    "partial_rank_correlation",
    "plan",
    "rank_correlation",
    "spread",
]
