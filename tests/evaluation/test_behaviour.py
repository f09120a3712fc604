"""Differences in behaviour by hand, and intervals that know that pairs share models."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.evaluation.behaviour import answers_apart, rank_correlations, token_kl
from finetune_geometry.settings.errors import UserError


def test_the_divergence_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    logits = {name: rng.standard_normal((5, 7)) for name in "abc"}
    log_probs = {k: v - np.log(np.exp(v).sum(-1, keepdims=True)) for k, v in logits.items()}
    table = token_kl(log_probs).set_index(["a", "b"])["value"]
    for one, two in combinations("abc", 2):
        p, q = np.exp(log_probs[one]), np.exp(log_probs[two])
        expected = ((p - q) * np.log(p / q)).sum(-1).mean() / 2
        assert table[one, two] == pytest.approx(expected)
    same = token_kl({"a": log_probs["a"], "b": log_probs["a"]})
    assert same["value"].iloc[0] == pytest.approx(0, abs=1e-12)


def test_answers_that_differ_and_wrong_ones_that_are_shared():
    given = {"x": ("1234", "TFFT"), "y": ("1295", "TFTF"), "z": ("1894", "TTTT")}
    rows = [
        (f"p{place}", name, texts[place], right[place] == "T")
        for name, (texts, right) in given.items()
        for place in range(4)
    ]
    answers = pd.DataFrame(rows, columns=["problem", "model", "text", "correct"])
    table = answers_apart(answers).set_index(["a", "b"])
    assert table.loc[("x", "y"), "texts"] == 0.5
    # One of the two is wrong on three problems; both on one.
    assert table.loc[("x", "y"), "wrong"] == pytest.approx(2 / 3)
    assert table.loc[("x", "z"), "wrong"] == 1.0
    right = answers.assign(correct=True)
    assert np.isnan(answers_apart(right)["wrong"]).all()


def pairs(count, noise=0.0):
    """Models on a line; the behaviour is their distance."""
    rng = np.random.default_rng(1)
    at = np.arange(count, dtype=float)
    rows = [
        (str(i), str(j), abs(at[i] - at[j]), abs(at[i] - at[j]) + noise * rng.standard_normal())
        for i, j in combinations(range(count), 2)
    ]
    return pd.DataFrame(rows, columns=["a", "b", "distance", "kl"])


def test_a_measure_that_is_the_behaviour_has_rank_correlation_1():
    table = pairs(6).assign(opposite=lambda t: -t["distance"])
    found = rank_correlations(table, ["distance", "opposite"], "kl").set_index("measure")
    assert found["value"].tolist() == pytest.approx([1, -1])
    assert found.loc["distance", "low"] == pytest.approx(1)
    assert found.loc["distance", "pairs"] == 15


def test_the_interval_leaves_out_models_not_pairs():
    table = pairs(8, noise=2.0)
    row = rank_correlations(table, ["distance"], "kl").iloc[0]
    names = sorted({*table["a"], *table["b"]})
    left = np.array(
        [
            table[(table["a"] != n) & (table["b"] != n)][["distance", "kl"]]
            .corr("spearman")
            .iloc[0, 1]
            for n in names
        ]
    )
    error = np.sqrt(7 / 8 * ((left - left.mean()) ** 2).sum())
    assert row["low"] == pytest.approx(max(row["value"] - 1.959964 * error, -1))
    assert row["high"] == pytest.approx(min(row["value"] + 1.959964 * error, 1))


def test_three_models_are_too_few():
    with pytest.raises(UserError, match="3 models: rank_correlations: at least 4"):
        rank_correlations(pairs(3), ["distance"], "kl")
