"""Properties of intervals and paired tests, against scipy and numerical optimisation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from finetune_geometry.evaluation.paired_tests import (
    MCNEMAR_COLUMNS,
    accuracy_table,
    holm,
    mcnemar_exact,
    mcnemar_table,
    paired_difference,
    paired_score,
    tost_paired,
    wilson_interval,
)
from finetune_geometry.settings.errors import UserError

counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500)).map(
    lambda t: (t[0], t[1], t[0] + t[1] + t[2] + 1)
)


def predictions(**models: list[bool]) -> pd.DataFrame:
    rows = [
        {"problem": i, "model": name, "correct": value}
        for name, values in models.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


@given(st.integers(1, 300), st.integers(0, 300), st.floats(0.5, 0.99))
def test_wilson_interval_solves_the_score_equation(n, successes, confidence):
    successes = min(successes, n)
    low, high = wilson_interval(successes, n, confidence)
    z = stats.norm.ppf(0.5 + confidence / 2)
    for p in (low, high):
        if 0 < p < 1:
            assert abs(successes / n - p) == pytest.approx(z * np.sqrt(p * (1 - p) / n), rel=1e-6)
    assert 0 <= low <= successes / n <= high <= 1


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_binomial_test_on_the_discordant_problems(only_a, only_b):
    n = only_a + only_b
    oracle = stats.binomtest(only_a, n).pvalue if n else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(oracle, rel=1e-9)
    assert mcnemar_exact(only_a, only_b) == mcnemar_exact(only_b, only_a)


@given(st.integers(0, 60), st.integers(1, 60))
def test_score_at_zero_is_mcnemars_chi_square(only_a, only_b):
    score = paired_score(only_a, only_b, 200, 0.0)
    assert score**2 == pytest.approx((only_a - only_b) ** 2 / (only_a + only_b), rel=1e-9)


@pytest.mark.parametrize(
    ("only_a", "only_b", "n", "delta"), [(12, 5, 80, 0.02), (3, 9, 50, -0.1), (0, 4, 30, 0.05)]
)
def test_score_uses_the_constrained_maximum_likelihood_estimate(only_a, only_b, n, delta):
    def negative_log_likelihood(q: float) -> float:
        cells = np.array([q + delta, q, 1 - 2 * q - delta])
        return -float(np.sum([only_a, only_b, n - only_a - only_b] * np.log(cells)))

    bounds = (max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12)
    q = optimize.minimize_scalar(
        negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    ).x
    variance = n * (2 * q + delta - delta**2)
    expected = (only_a - only_b - n * delta) / np.sqrt(variance)
    assert paired_score(only_a, only_b, n, delta) == pytest.approx(expected, rel=1e-5)


@given(counts)
def test_difference_interval_brackets_and_is_antisymmetric(data):
    only_a, only_b, n = data
    difference, low, high = paired_difference(only_a, only_b, n)
    assert low <= difference <= high
    assert low >= -1
    assert high <= 1
    mirrored = paired_difference(only_b, only_a, n)
    np.testing.assert_allclose(mirrored, (-difference, -high, -low), atol=1e-9)
    assert high > low


@settings(max_examples=60)
@given(counts, st.sampled_from([0.01, 0.02, 0.03, 0.1]))
def test_equivalence_holds_exactly_when_the_90_percent_interval_lies_inside_the_margin(
    data, margin
):
    only_a, only_b, n = data
    _, low, high = paired_difference(only_a, only_b, n, confidence=0.90)
    if min(abs(low + margin), abs(high - margin)) > 1e-9:
        assert (tost_paired(only_a, only_b, n, margin) < 0.05) == (-margin < low and high < margin)


def test_difference_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.array([0.08, 0.05, 0.87])
    draws = rng.multinomial(400, truth, size=1500)
    covered = [
        low <= 0.03 <= high for a, b, _ in draws for _, low, high in [paired_difference(a, b, 400)]
    ]
    assert 0.935 < np.mean(covered) < 0.965


def test_holm_is_monotone_and_bonferroni_for_the_smallest():
    p = np.array([0.01, 0.04, 0.03, 0.9])
    adjusted = holm(p)
    assert adjusted[0] == pytest.approx(0.04)
    assert (adjusted >= p).all()
    assert adjusted.max() <= 1
    assert (np.argsort(adjusted, kind="stable")[[0, -1]] == [0, 3]).all()
    assert holm([]).size == 0


def test_table_has_all_pairs_and_matches_the_oracle():
    rng = np.random.default_rng(3)
    base = rng.random(300) < 0.6
    models = {"base": base, "sft": base | (rng.random(300) < 0.3), "dpo": base.copy()}
    table = mcnemar_table(predictions(**{k: list(v) for k, v in models.items()}), margin=0.05)
    assert list(table.columns) == MCNEMAR_COLUMNS
    assert list(zip(table["a"], table["b"], strict=True)) == [
        ("base", "sft"),
        ("base", "dpo"),
        ("sft", "dpo"),
    ]
    for row in table.itertuples():
        a, b = models[row.a], models[row.b]
        assert row.only_a == np.sum(a & ~b)
        assert row.only_b == np.sum(b & ~a)
        assert row.difference == pytest.approx(a.mean() - b.mean())
    same = table[(table["a"] == "base") & (table["b"] == "dpo")].iloc[0]
    assert same["p_exact"] == 1
    assert same["p_holm"] == 1
    assert same["equivalent"]
    assert (table["p_holm"] >= table["p_exact"]).all()


def four_models() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    names = ("base", "sft", "dpo", "sft-seed")
    return predictions(**{n: list(rng.random(200) < 0.5 + 0.08 * i) for i, n in enumerate(names)})


def test_a_family_is_the_pairs_that_one_question_asks_for():
    """Holm's correction knows only the pairs of the table: fewer pairs, smaller corrected p."""
    everything = mcnemar_table(four_models())
    asked = [("sft-seed", "base"), ("sft-seed", "sft")]
    family = mcnemar_table(four_models(), pairs=asked)
    assert list(zip(family["a"], family["b"], strict=True)) == asked
    np.testing.assert_allclose(family["p_holm"], holm(family["p_exact"]))
    of_all = everything.set_index(["a", "b"])
    for row in family.itertuples():
        same = of_all.loc[(row.b, row.a)]
        assert row.p_exact == same["p_exact"]
        assert row.difference == -same["difference"]
        assert (row.only_a, row.only_b) == (same["only_b"], same["only_a"])
    assert family["p_holm"].min() < of_all.loc[[("base", "sft-seed")], "p_holm"].item()
    assert mcnemar_table(four_models(), pairs=[]).empty
    listed = iter([("base", "sft")])  # any iterable
    assert len(mcnemar_table(four_models(), pairs=listed)) == 1


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("base", "sft-lr")], "no predictions of 'sft-lr'.*base, sft, dpo, sft-seed"),
        ([("base", "base")], "each pair once"),
        ([("base", "sft"), ("sft", "base")], "each pair once"),
    ],
)
def test_pairs_that_make_no_family_are_refused(pairs, message):
    with pytest.raises(UserError, match=message):
        mcnemar_table(four_models(), pairs=pairs)


@pytest.mark.parametrize("confidence", [0.95, 0.9])
def test_equivalence_is_tested_at_the_level_of_the_confidence(confidence):
    """Splits of 20 discordant problems of 300, from even to uneven: some p on each side of 5 %."""
    rows = []
    for only_a in range(10, 18):
        a = [True] * only_a + [False] * (300 - only_a)
        b = [False] * only_a + [True] * (20 - only_a) + [False] * 280
        rows.append(mcnemar_table(predictions(a=a, b=b), 0.05, confidence).iloc[0])
    table = pd.DataFrame(rows)
    level = 1 - confidence
    assert (table["equivalent"] == (table["p_tost"] < level)).all()
    # Neither half nor three times the level would say the same.
    assert table["p_tost"].between(level / 2, level).any()
    assert table["p_tost"].between(level, 3 * level).any()
    inside = (table["tost_low"] > -0.05) & (table["tost_high"] < 0.05)
    assert (inside == table["equivalent"]).all()
    assert (table["low"] < table["tost_low"]).all()
    assert (table["tost_high"] < table["high"]).all()


def test_no_significant_difference_is_not_equivalence():
    a = [True] * 12 + [False] * 28
    b = [False] * 5 + [True] * 10 + [False] * 25
    row = mcnemar_table(predictions(a=a, b=b), margin=0.02).iloc[0]
    assert row["p_exact"] > 0.05
    assert not row["equivalent"]


def test_accuracy_table_keeps_the_order_of_models():
    table = accuracy_table(predictions(sft=[True, False], base=[False, False]))
    assert table["model"].tolist() == ["sft", "base"]
    assert table["accuracy"].tolist() == [0.5, 0.0]
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["high"] >= table["accuracy"]).all()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"problem": [1], "model": ["a"]}), "correct"),
        (predictions(a=[True, False], b=[True]), "same problems"),
        (pd.concat([predictions(a=[True]), predictions(a=[True])]), "twice"),
    ],
)
def test_unpaired_predictions_are_refused(frame, message):
    with pytest.raises(UserError, match=message):
        mcnemar_table(frame)


def test_impossible_counts_and_margins_are_refused():
    with pytest.raises(UserError, match="n = 3"):
        paired_difference(3, 1, 3)
    with pytest.raises(UserError, match="margin"):
        tost_paired(1, 1, 10, 2.0)
