"""The interval of an effect over seeds and examples, two crossed factors: every seed saw the same examples."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxreg.statistics.estimates import Estimates


class Sample(NamedTuple):
    """Variances of one sample's influence, and its size: of examples over all seeds, and of what is left."""

    examples: float
    rest: float
    size: int


class Components(NamedTuple):
    """How an effect scatters: over seeds (of the network, not of its examples), and by sample over its examples."""

    seeds: float
    samples: Mapping[str, Sample]


class CrossedEffect(NamedTuple):
    """The standard error of an effect over n seeds, and its degrees of freedom (Satterthwaite)."""

    effect: float
    error: float
    df: float
    n: int
    components: Components

    def interval(self, outside: float = 0.05) -> tuple[float, float]:
        """Student's interval that misses the effect with probability `outside`; nan for a single seed."""
        half = float(scipy.stats.t.ppf(1 - outside / 2, self.df)) * self.error if self.n > 1 else float("nan")
        return self.effect - half, self.effect + half

    def p(self, bound: float = 0.0) -> float:
        """One-sided p of an effect above the bound: small where it lies far above; nan for a single seed."""
        if self.n < 2:
            return float("nan")
        if self.error == 0:
            return 0.5 if self.effect == bound else float(self.effect < bound)
        return float(scipy.stats.t.sf((self.effect - bound) / self.error, self.df))


def spread(estimates: Estimates) -> CrossedEffect:
    """Effect, standard error and degrees of freedom of the mean over seeds.

    Var = S^2_seeds / n + sum over samples of (MS_examples - MS_rest) / (n N), with the mean squares of influence; of a
    mean that is (MS_seeds + MS_examples - MS_rest) / (n N). No component counts below 0: the first term is at least
    that of the rest alone, MS_rest / (n N), the others at least 0. df = Var^2 / sum (term^2 / its df), at least n - 1.

    References: Satterthwaite, 1946, doi:10.2307/3002019; Searle, Casella and McCulloch, 1992, chapter 4.
    """
    n, effect = estimates.seeds, estimates.mean
    if n < 2:
        return CrossedEffect(effect, float("nan"), float("nan"), n, Components(float("nan"), {}))
    squares = {name: _mean_squares(psi_SN) for name, psi_SN in estimates.influence.items()}
    between = float(np.var(estimates.value_S, ddof=1))
    within = sum(rest / count for _, rest, count in squares.values())
    terms = [(max(between, within) / n, n - 1)]
    terms += [(max(own - rest, 0.0) / (n * count), count - 1) for own, rest, count in squares.values()]
    error, df = combined_error(terms)
    return CrossedEffect(effect, error, df, n, _components(between, squares, n))


def combined_error(terms: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The root of a sum of variances, each with its degrees of freedom, and Satterthwaite's of the sum."""
    variance = sum(term for term, _ in terms)
    least = min(df for _, df in terms)
    spread_ = sum(term**2 / max(df, 1) for term, df in terms)
    return float(np.sqrt(variance)), variance**2 / spread_ if spread_ > 0 else float(least)


def _mean_squares(psi_SN: np.ndarray) -> tuple[float, float, int]:
    """MS of examples, MS of the rest, and the number of examples, of rows of mean 0."""
    n, count = psi_SN.shape
    if count < 2:
        return 0.0, 0.0, count
    mean_N = psi_SN.mean(0)
    own = n * float(mean_N @ mean_N) / (count - 1)
    rest = float(np.square(psi_SN - mean_N).sum()) / ((n - 1) * (count - 1))
    return own, rest, count


def _components(between: float, squares: Mapping[str, tuple[float, float, int]], n: int) -> Components:
    """The variances behind the mean squares, none below 0."""
    samples = {name: Sample(max((own - rest) / n, 0.0), rest, count) for name, (own, rest, count) in squares.items()}
    seeds = between - sum(sample.rest / sample.size for sample in samples.values())
    return Components(max(seeds, 0.0), samples)
