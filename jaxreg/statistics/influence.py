"""Numbers of one sample with the influence of its examples: means, log means, quantiles, calibration error, ranks.

Each takes values [S, N] of S seeds on the same N examples.
References: Hampel, 1974, doi:10.1080/01621459.1974.10482962; Efron and Stein, 1981, doi:10.1214/aos/1176345462.
"""

from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats

from jaxreg.statistics.estimates import TEST, VALIDATION, Estimates, Values, combined, of_values

BINS = 15
LIKELY = 1e-12  # a sum of squares below which a partial correlation has no meaning


def mean(values_SN: Values, sample: str = TEST) -> Estimates:
    """The mean of each seed: psi = v - mean.

    Raises: ValueError: for other than a table [S, N] with at least an example, or a value that is not finite.
    """
    v_SN = _checked(values_SN)
    return of_values(v_SN.mean(1), v_SN, sample)


def log_mean(values_SN: Values) -> Estimates:
    """The logarithm of the mean, of values above 0: psi = (v - mean) / mean.

    Raises: ValueError: as `mean` does, and for a mean that is not above 0.
    """
    v_SN = _checked(values_SN)
    mean_S = v_SN.mean(1)
    if not (mean_S > 0).all():
        raise ValueError(f"a logarithm needs means above 0, got {mean_S.min():g}: compare the means themselves.")
    return of_values(np.log(mean_S), v_SN / mean_S[:, None])


def log_quantile(values_SN: Values, share: float) -> Estimates:
    """The logarithm of a quantile q, of values above 0: psi = (share - 1[v <= q]) / (f(q) q).

    The density f is that of a normal kernel of Silverman's width on the logarithms, f(q) q being the density of log v.
    """
    log_SN = np.log(_checked(values_SN))
    q_S = np.quantile(log_SN, share, axis=1)
    quartiles_S, sd_S = np.subtract(*np.quantile(log_SN, (0.75, 0.25), axis=1)) / 1.349, log_SN.std(1)
    spread_S = np.where(quartiles_S > 0, np.minimum(sd_S, quartiles_S), sd_S)
    width_S = 0.9 * np.maximum(spread_S, LIKELY) * log_SN.shape[1] ** -0.2
    density_S = scipy.stats.norm.pdf((log_SN - q_S[:, None]) / width_S[:, None]).mean(1) / width_S
    density_S = np.maximum(density_S, 1 / (log_SN.shape[1] * (np.ptp(log_SN, axis=1) + LIKELY)))  # between far values
    return of_values(q_S, (log_SN > q_S[:, None]) / density_S[:, None])


def debiased_ece(confidence_SN: Values, correct_SN: Values, bins: int = BINS) -> Estimates:
    """The debiased calibration error sqrt(max(S, 0)), S = sum_m n_m/N (g_m^2 - acc_m (1 - acc_m) / (n_m - 1)).

    g_m = acc_m - conf_m of bin m, (l, u] of equal width. psi = (2 g_m (a - c) - g_m^2 - S) / (2 sqrt(S)); the
    square root has no finite slope at 0, so S there is at least its standard error.

    References: Kumar, Liang and Ma, 2019, https://arxiv.org/abs/1909.10155, section 4.
    """
    return _debiased(_checked(confidence_SN), _checked(correct_SN), bins)[0]


def _debiased(confidence_SN: np.ndarray, correct_SN: np.ndarray, bins: int) -> tuple[Estimates, np.ndarray]:
    """The error, and its derivative by each confidence [S, N], times N."""
    hit_SNM = _membership(confidence_SN, bins)
    count_SM = hit_SNM.sum(1)
    kept_SM, safe_SM = count_SM >= 2, np.maximum(count_SM, 2)
    accuracy_SM = np.einsum("snm,sn->sm", hit_SNM, correct_SN) / safe_SM
    gap_SM = np.einsum("snm,sn->sm", hit_SNM, correct_SN - confidence_SN) / safe_SM
    terms_SM = kept_SM * (gap_SM**2 - accuracy_SM * (1 - accuracy_SM) / (safe_SM - 1))
    count = confidence_SN.shape[1]
    square_S = (count_SM * terms_SM).sum(1) / count
    own_SN = np.einsum("snm,sm->sn", hit_SNM, kept_SM * gap_SM)  # g of the example's own bin
    raw_SN = 2 * own_SN * (correct_SN - confidence_SN) - own_SN**2
    root_S = np.sqrt(np.maximum(square_S, np.maximum(raw_SN.std(1) / np.sqrt(count), LIKELY)))
    value_S = np.sqrt(np.maximum(square_S, 0))
    return of_values(value_S, raw_SN / (2 * root_S[:, None])), -own_SN / root_S[:, None]


def _membership(confidence_SN: np.ndarray, bins: int) -> np.ndarray:
    edges = (np.arange(1, bins, dtype=np.float32) / np.float32(bins)).astype(np.float64)
    return np.searchsorted(edges, confidence_SN, side="left")[..., None] == np.arange(bins)


class Tempered(NamedTuple):
    """Logits [S, N, K] of test and validation, with their labels, and b = 1 / T [S] of least held-out NLL."""

    logits: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray
    b: np.ndarray

    @classmethod
    def fitted(cls, logits: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray) -> "Tempered":
        """The same with the temperature of each seed."""
        b_S = np.array([inverse_temperature(z_NK, held_labels) for z_NK in held])
        return cls(logits, labels, held, held_labels, b_S)

    def moved(self, by_b_S: np.ndarray) -> Estimates:
        """What held-out examples do through b to a number with this derivative by it.

        db of an example is -(E_p z - z_y) / mean Var_p z with p = softmax(b z).
        """
        found = _moments(self.held, self.b, self.held_labels)
        db_SM = -found.gradient / np.maximum(found.curvature.mean(1, keepdims=True), LIKELY)
        return of_values(np.zeros(len(self.b)), by_b_S[:, None] * db_SM, VALIDATION)


def tempered_ece(of: Tempered, bins: int = BINS) -> Estimates:
    """The debiased calibration error at the temperature of a validation sample, whose examples have influence too.

    The error moves by the mean of its derivative by the confidence c, times dc/db = c (z_max - E_p z).
    """
    at = _moments(of.logits, of.b, of.labels)
    found, derivative_SN = _debiased(at.confidence, at.hit.astype(float), bins)
    return combined((1.0, found), (1.0, of.moved((derivative_SN * at.slope).mean(1))))


def tempered_nll(of: Tempered) -> Estimates:
    """The mean negative log-likelihood at the temperature of a validation sample, whose examples have influence too."""
    at = _moments(of.logits, of.b, of.labels)
    return combined((1.0, mean(at.nll)), (1.0, of.moved(at.gradient.mean(1))))


class _Moments(NamedTuple):
    """By example [S, N]: NLL, its derivatives by b, the confidence, its derivative by b, whether the label is met."""

    nll: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    confidence: np.ndarray
    slope: np.ndarray
    hit: np.ndarray


def _moments(logits_SNK: np.ndarray, b_S: np.ndarray, labels_N: np.ndarray) -> _Moments:
    z_SNK = np.asarray(logits_SNK, float)
    z_SNK = z_SNK - z_SNK.max(-1, keepdims=True)
    log_p_SNK = scipy.special.log_softmax(b_S[:, None, None] * z_SNK, -1)
    p_SNK, rows = np.exp(log_p_SNK), np.arange(len(labels_N))
    mean_SN, confidence_SN = (p_SNK * z_SNK).sum(-1), p_SNK.max(-1)
    curvature_SN = np.maximum((p_SNK * z_SNK**2).sum(-1) - mean_SN**2, 0)
    hit_SN = z_SNK.argmax(-1) == labels_N
    gradient_SN, slope_SN = mean_SN - z_SNK[:, rows, labels_N], -confidence_SN * mean_SN
    return _Moments(-log_p_SNK[:, rows, labels_N], gradient_SN, curvature_SN, confidence_SN, slope_SN, hit_SN)


def inverse_temperature(logits_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """b = 1 / T of least NLL in [0.01, 100], where it is convex: bisection of its slope to float64's end."""
    low, high = -2.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        gradient_1N = _moments(logits_NK[None], np.array([10.0**middle]), labels_N).gradient
        low, high = (low, middle) if gradient_1N.mean() > 0 else (middle, high)
    return float(10.0 ** ((low + high) / 2))


def partial_rank(one_SN: Values, other_SN: Values, *given: Values) -> Estimates:
    """Partial rank correlation of two numbers given others: Pearson's of what ranks leave after regression on ranks.

    Influence by the jackknife: (N - 1) (theta - theta without the example).
    """
    rows = zip(*(_checked(values) for values in (one_SN, other_SN, *given)), strict=True)
    found = [_jackknifed(np.stack(columns)) for columns in rows]
    value_S, influence_SN = (np.array(side) for side in zip(*found, strict=True))
    return of_values(value_S, influence_SN)


def _jackknifed(columns_CN: np.ndarray) -> tuple[float, np.ndarray]:
    """The partial correlation of the first two of C columns given the rest, and each example's influence on it."""
    ranks_CN = scipy.stats.rankdata(columns_CN, axis=1)
    count = ranks_CN.shape[1]
    whole = float(_partial(ranks_CN[:, None])[0])
    above_CNN = (columns_CN[:, None, :] > columns_CN[:, :, None]) + 0.5 * (
        columns_CN[:, None, :] == columns_CN[:, :, None]
    )
    left_CNN = ranks_CN[:, None, :] - above_CNN
    keep_NN = ~np.eye(count, dtype=bool)
    without_N = _partial(left_CNN[:, keep_NN].reshape(len(columns_CN), count, count - 1))
    return whole, (count - 1) * (whole - without_N)


def _partial(ranks_CGN: np.ndarray) -> np.ndarray:
    """The partial correlation [G] of the first two of C columns of ranks given the others, from the inverse matrix."""
    z_CGN = ranks_CGN - ranks_CGN.mean(-1, keepdims=True)
    square_GCC = np.einsum("cgn,dgn->gcd", z_CGN, z_CGN)
    scale_GC = np.sqrt(np.maximum(np.einsum("gcc->gc", square_GCC), LIKELY))
    correlation_GCC = square_GCC / (scale_GC[:, :, None] * scale_GC[:, None, :])
    inverse_GCC = np.linalg.pinv(correlation_GCC, hermitian=True)
    return -inverse_GCC[:, 0, 1] / np.sqrt(np.maximum(inverse_GCC[:, 0, 0] * inverse_GCC[:, 1, 1], LIKELY))


def _checked(values_SN: Values) -> np.ndarray:
    v_SN = np.asarray(values_SN, float)
    if v_SN.ndim != 2 or not v_SN.shape[1]:
        raise ValueError(f"values must be a table [seeds, examples] with at least one example, got {list(v_SN.shape)}.")
    if not np.isfinite(v_SN).all():
        wrong = int((~np.isfinite(v_SN)).sum())
        raise ValueError(f"values must be finite, got {wrong} that are not: leave their examples out, at every seed.")
    return v_SN
