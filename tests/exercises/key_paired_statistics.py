"""Answers to notebooks/exercises/paired_statistics; the book shows them, folded."""

from __future__ import annotations

import numpy as np
from scipy import stats


def mcnemar(a, b):
    only_a, only_b = np.sum((a == 1) & (b == 0)), np.sum((a == 0) & (b == 1))
    tail = stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)
    return min(1.0, 2 * tail)


def holm(p):
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)  # m, m - 1, ..., 1
    rising = np.maximum.accumulate(p[order] * factors)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(rising, 1)
    return adjusted


def bootstrap_difference(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(a), size=(draws, len(a)))
    # One set of problems for both models.
    differences = (a - b)[drawn].mean(axis=1)
    return np.quantile(differences, [0.025, 0.975])


def equivalence(difference, error, margin):
    not_too_low = stats.norm.sf((difference + margin) / error)
    not_too_high = stats.norm.cdf((difference - margin) / error)
    return max(not_too_low, not_too_high)
