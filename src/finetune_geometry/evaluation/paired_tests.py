"""Accuracy with its uncertainty: intervals, paired tests and equivalence tests.

Every model answers the same problems, so two models are compared problem by problem.
`only_a` counts the problems that only model a solves and `only_b` those that only b solves;
all that a paired comparison can know is in these two counts and in n.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from finetune_geometry.settings.errors import UserError

ACCURACY_COLUMNS = ["model", "n", "correct", "accuracy", "low", "high"]
MCNEMAR_COLUMNS = [
    "a", "b", "n", "only_a", "only_b", "p_exact", "p_holm",
    "difference", "low", "high", "margin", "p_tost", "equivalent", "tost_low", "tost_high",
]  # fmt: skip


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); it stays inside [0, 1]."""
    _check_counts(n, successes=successes)
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar p value: a fair coin on the discordant problems.

    Problems on which both models agree carry no information and do not enter. With no
    discordant problem at all the p value is 1.
    """
    _check_counts(only_a + only_b, only_a=only_a, only_b=only_b)
    return float(mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue)


def paired_score(only_a: int, only_b: int, n: int, delta: float) -> float:
    """Score statistic for the hypothesis accuracy(a) - accuracy(b) = delta, paired data.

    Tango (1998), Statistics in Medicine 17, 891: the variance is taken at the maximum-likelihood
    estimate under the hypothesis. At delta = 0 its square is McNemar's chi-square
    (only_a - only_b)^2 / (only_a + only_b). Standard normal for large n.
    """
    _check_counts(n, only_a=only_a, only_b=only_b)
    distance = only_a - only_b - n * delta
    if distance == 0:
        return 0.0
    # Under the hypothesis P(only b) is the larger root of 2n q^2 + linear q + constant = 0.
    linear = (2 * n - only_a + only_b) * delta - only_a - only_b
    constant = -only_b * delta * (1 - delta)
    root = np.sqrt(max(linear**2 - 8 * n * constant, 0.0))
    probability_only_b = (root - linear) / (4 * n)
    variance = n * (2 * probability_only_b + delta * (1 - delta))
    return (
        float(distance / np.sqrt(variance)) if variance > 0 else float(np.sign(distance) * np.inf)
    )


def paired_difference(
    only_a: int, only_b: int, n: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """accuracy(a) - accuracy(b) and its score interval (Tango 1998), as (difference, low, high).

    The interval holds every difference that `paired_score` does not reject, so it always agrees
    with the equivalence test below, which uses the same statistic.
    """
    _check_counts(n, only_a=only_a, only_b=only_b)
    difference = (only_a - only_b) / n
    critical = float(stats.norm.ppf(0.5 + confidence / 2))

    def excess(delta: float, bound: float) -> float:
        # The score is infinite at delta = -1 and 1; clip, so that the root finder can start there.
        return float(np.clip(paired_score(only_a, only_b, n, delta), -1e6, 1e6) - bound)

    low = optimize.brentq(excess, -1.0, difference, args=(critical,)) if difference > -1 else -1.0
    high = optimize.brentq(excess, difference, 1.0, args=(-critical,)) if difference < 1 else 1.0
    return difference, float(low), float(high)


def tost_paired(only_a: int, only_b: int, n: int, margin: float) -> float:
    """p value of two one-sided score tests: is |accuracy(a) - accuracy(b)| < margin?

    The null hypothesis is that the models differ by at least `margin` (a proportion, such as
    0.02); a small p value is evidence FOR equivalence. Reference: Liu et al. (2002),
    Statistics in Medicine 21, 231.
    """
    if not 0 < margin < 1:
        raise UserError(
            f"equivalence margin {margin} is not between 0 and 1: paired equivalence test: "
            "give it as a proportion, 0.02 for two percentage points"
        )
    above_lower = stats.norm.sf(paired_score(only_a, only_b, n, -margin))
    below_upper = stats.norm.cdf(paired_score(only_a, only_b, n, margin))
    return float(max(above_lower, below_upper))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment: controls the chance of any false alarm in the family."""
    if len(p_values) == 0:
        return np.empty(0)
    return np.asarray(multipletests(p_values, method="holm")[1])


def correct_matrix(predictions: pd.DataFrame) -> pd.DataFrame:
    """Boolean table, one row a problem, one column a model, in order of first appearance.

    Raises UserError when a model answered a problem twice or did not see all problems.
    """
    missing = {"problem", "model", "correct"} - set(predictions.columns)
    if missing:
        raise UserError(
            f"predictions lack column(s) {', '.join(sorted(missing))}: paired comparison: "
            "pass the table that notebooks/evaluation/accuracy writes"
        )
    twice = predictions.duplicated(["model", "problem"])
    if twice.any():
        row = predictions[twice].iloc[0]
        raise UserError(
            f"model {row['model']!r} answers problem {row['problem']!r} twice: paired comparison: "
            "keep one prediction for each model and problem"
        )
    table = predictions.set_index(["problem", "model"])["correct"].unstack()  # noqa: PD010
    table = table[list(dict.fromkeys(predictions["model"]))]
    if table.isna().any(axis=None):
        name = table.columns[table.isna().any()][0]
        raise UserError(
            f"model {name!r} has no answer to {int(table[name].isna().sum())} of {len(table)} "
            "problems: paired comparison: evaluate every model on the same problems"
        )
    return table.astype(bool)


def accuracy_table(predictions: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Accuracy of each model with its Wilson interval; columns ACCURACY_COLUMNS."""
    table = correct_matrix(predictions)
    n = len(table)
    rows = []
    for name in table.columns:
        right = int(table[name].sum())
        rows.append((name, n, right, right / n, *wilson_interval(right, n, confidence)))
    return pd.DataFrame(rows, columns=ACCURACY_COLUMNS)


def mcnemar_table(
    predictions: pd.DataFrame,
    margin: float = 0.03,
    confidence: float = 0.95,
    pairs: Iterable[tuple[str, str]] | None = None,
) -> pd.DataFrame:
    """Pairs of models compared on the same problems; columns MCNEMAR_COLUMNS.

    `pairs` are those of one question, default all: `p_holm` adjusts the exact p values over the
    pairs of this table, so a pair must not come back in the table of another question.
    `difference` is accuracy(a) - accuracy(b) with its score interval. `equivalent` says that the
    equivalence test rejects a difference of `margin` or more at level 1 - confidence. It is NOT
    the negation of a small p_exact: both can be true, or neither. tost_low and tost_high: the score
    interval of confidence 1 - 2 (1 - confidence), which lies within the margin exactly then.

    Raises UserError for a name without predictions and for a pair that is given twice.
    """
    table = correct_matrix(predictions)
    n = len(table)
    chosen = list(combinations(table.columns, 2)) if pairs is None else [*pairs]
    _check_pairs(chosen, list(table.columns))
    rows = []
    for a, b in chosen:
        only_a = int((table[a] & ~table[b]).sum())
        only_b = int((table[b] & ~table[a]).sum())
        difference, low, high = paired_difference(only_a, only_b, n, confidence)
        inner = paired_difference(only_a, only_b, n, max(2 * confidence - 1, 0.0))[1:]
        p_exact, p_tost = mcnemar_exact(only_a, only_b), tost_paired(only_a, only_b, n, margin)
        rows.append(
            (a, b, n, only_a, only_b, p_exact, difference, low, high, margin, p_tost, *inner)
        )
    result = pd.DataFrame(
        rows, columns=[c for c in MCNEMAR_COLUMNS if c not in ("p_holm", "equivalent")]
    )
    result["p_holm"] = holm(result["p_exact"].to_numpy())
    result["equivalent"] = result["p_tost"] < 1 - confidence
    return result[MCNEMAR_COLUMNS]


def p_text(p: float) -> str:
    """A p value to show: three decimals, never 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _check_pairs(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    seen: set[frozenset[str]] = set()
    for a, b in pairs:
        for name in (a, b):
            if name not in names:
                raise UserError(
                    f"no predictions of {name!r}: paired comparison of {a!r} and {b!r}: "
                    f"choose among {', '.join(names)}"
                )
        if a == b or frozenset((a, b)) in seen:
            raise UserError(
                f"pair {a!r}, {b!r}: paired comparison: compare two models, and each pair once, "
                "because every pair raises the corrected p values of all"
            )
        seen.add(frozenset((a, b)))


def _check_counts(n: int, **counts: int) -> None:
    bad = [f"{name} = {value}" for name, value in counts.items() if not 0 <= value <= n]
    if bad or sum(counts.values()) > n:
        what = ", ".join(bad) or " + ".join(f"{name} = {value}" for name, value in counts.items())
        raise UserError(f"{what} with n = {n}: counts of problems: give counts between 0 and n")
