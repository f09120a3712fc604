"""How differently two models behave, and which measure of their weights foretells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

from finetune_geometry.evaluation.paired_tests import correct_matrix
from finetune_geometry.settings.errors import UserError


def token_kl(log_probs: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Symmetrised Kullback-Leibler divergence of next-token distributions, nats a token.

    log_probs: model -> (positions, vocabulary), the same positions for all. Columns a, b, value:
    the mean over positions of (KL(p, q) + KL(q, p)) / 2, of every pair in order.
    """
    names = list(log_probs)
    flat = np.stack([log_probs[name].ravel() for name in names]).astype(np.float64)
    positions = len(log_probs[names[0]])
    crossed = np.exp(flat) @ flat.T / positions  # sum of p log q
    own = crossed.diagonal()
    kl = own[:, None] - crossed
    both = (kl + kl.T) / 2
    rows = [
        (names[i], names[j], max(float(both[i, j]), 0.0))
        for i, j in combinations(range(len(names)), 2)
    ]
    return pd.DataFrame(rows, columns=["a", "b", "value"])


def answers_apart(answers: pd.DataFrame) -> pd.DataFrame:
    """How often two models answer differently; columns a, b, texts, wrong.

    answers: columns problem, model, text, correct. `texts`: share of the problems whose answers
    differ in some character. `wrong`: of the problems that one of the two gets wrong, the share
    that the other gets right; NaN where neither gets one wrong.
    """
    texts = answers.pivot_table(index="problem", columns="model", values="text", aggfunc="first")
    right = correct_matrix(answers)
    rows = []
    for a, b in combinations(answers["model"].drop_duplicates(), 2):
        either = ~right[a] | ~right[b]
        both = ~right[a] & ~right[b]
        wrong = 1 - float(both.sum() / either.sum()) if either.any() else float("nan")
        rows.append((a, b, float((texts[a] != texts[b]).mean()), wrong))
    return pd.DataFrame(rows, columns=["a", "b", "texts", "wrong"])


def rank_correlations(
    table: pd.DataFrame, measures: Sequence[str], behaviour: str, confidence: float = 0.95
) -> pd.DataFrame:
    """Spearman's rank correlation of each measure with a behaviour, over pairs of models.

    table: columns a, b, `behaviour`, and the measures. Pairs that share a model are no independent
    observations, so the intervals are a jackknife over models: each is left out with all its pairs.
    Columns: measure, value, low, high, pairs; missing where a measure or the behaviour does not
    vary. Raises UserError with fewer than four models.
    """
    names = sorted({*table["a"], *table["b"]})
    if len(names) < 4:
        raise UserError(f"{len(names)} models: rank_correlations: at least 4 are needed")
    quantile = norm.ppf((1 + confidence) / 2)
    rows = []
    for measure in measures:
        known = table[[measure, behaviour, "a", "b"]].dropna()
        value = _spearman(known, measure, behaviour)
        left_out = np.array(
            [
                _spearman(known[(known["a"] != name) & (known["b"] != name)], measure, behaviour)
                for name in names
            ]
        )
        left_out = left_out[np.isfinite(left_out)]
        count = len(left_out)
        error = float("nan")  # nothing varies
        if count > 1:
            error = np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())
        low, high = value - quantile * error, value + quantile * error
        rows.append((measure, value, *np.clip([low, high], -1.0, 1.0), len(known)))
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "pairs"])


def _spearman(table: pd.DataFrame, x: str, y: str) -> float:
    if len(table) < 3 or table[x].nunique() < 2 or table[y].nunique() < 2:
        return float("nan")
    return float(spearmanr(table[x], table[y]).statistic)
