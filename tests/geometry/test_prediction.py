"""Cosines predicted from the weights on the rollouts: closed forms, a simulated world, mistakes."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from toy import toy_pool

from finetune_geometry.geometry.prediction import (
    fit_common,
    orthogonal_fractions,
    predicted_cosines,
    rollout_weights,
    visits,
)
from finetune_geometry.methods.rows import preference_pairs, row_lengths, row_order, unpaired_rows
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.sections import METHOD_SECTIONS, Training


@pytest.fixture(scope="module")
def pool() -> pd.DataFrame:
    rows = toy_pool()
    return rows[rows["split"] == "train"].reset_index(drop=True)


def seen(pool: pd.DataFrame, method: str, order=None, **settings) -> np.ndarray | None:
    """Weights on the pool of a method that passes once over its rows, or sees those of `order`."""
    made = METHOD_SECTIONS[method](**settings)
    rows = preference_pairs(pool) if method == "dpo" else unpaired_rows(pool, method, made)
    return rollout_weights(method, made, pool, rows, range(len(rows)) if order is None else order)


def between(table: pd.DataFrame, a: str, b: str) -> float:
    (value,) = table.query("(a == @a and b == @b) or (a == @b and b == @a)")["value"]
    return float(value)


def test_visits_count_every_row_of_the_order():
    assert visits([2, 0, 2], 4).tolist() == [1, 0, 2, 0]
    assert visits([], 2).tolist() == [0, 0]
    for wrong in ([0, 4], [-1, 0]):
        with pytest.raises(UserError, match="of 4"):
            visits(wrong, 4)


def test_losses_on_the_same_rows_have_the_cosines_of_their_formulas(pool):
    p, lam = pool["reward"].mean(), 0.5
    assert 0 < p < 1
    table = predicted_cosines({m: seen(pool, m) for m in ("sft", "rft", "rift")})
    assert between(table, "sft", "rft") == pytest.approx(np.sqrt(p))
    rift = np.sqrt(1 - (2 * lam - lam**2) * p)
    assert between(table, "sft", "rift") == pytest.approx((1 - lam * p) / rift)
    assert between(table, "rft", "rift") == pytest.approx((1 - lam) * np.sqrt(p) / rift)
    assert list(zip(table["a"], table["b"], strict=True)) == [
        ("sft", "rft"), ("sft", "rift"), ("rft", "rift"),
    ]  # fmt: skip


def test_a_part_of_a_pass_counts_the_rows_of_the_order(pool):
    order = row_order(np.ones(len(pool), dtype=int), Training(steps=3, batch_size=4, seed=1))
    counts = visits(order, len(pool))
    assert counts.max() == 1
    assert counts.sum() == 12
    np.testing.assert_array_equal(seen(pool, "sft", order), counts)
    np.testing.assert_array_equal(seen(pool, "rft", order), counts * pool["reward"])
    # Another order shares the rows that both saw, of 12 each.
    other = seen(pool, "sft", row_order(np.ones(24, dtype=int), Training(3, 4, seed=2)))
    shared = int(((counts > 0) & (other > 0)).sum())
    assert 0 < shared < 12
    table = predicted_cosines({"one": counts, "two": other})
    assert table["value"].tolist() == pytest.approx([shared / 12])


def test_offline_grpo_weighs_each_rollout_with_its_advantage(pool):
    weights = seen(pool, "offline_grpo", bias=0.1)
    mixed = pool.index[pool["group"] == 1]  # rewards 1, 0, 1, 1
    np.testing.assert_allclose(weights[mixed], [0.35, -0.65, 0.35, 0.35])
    np.testing.assert_allclose(weights[pool.index[pool["group"] == 2]], 0.1)
    visited_twice = seen(pool, "offline_grpo", [*mixed, mixed[0]], bias=0.1)
    np.testing.assert_allclose(visited_twice[mixed], [0.7, -0.65, 0.35, 0.35])
    assert visited_twice.sum() == pytest.approx(0.75)


def test_dpo_pulls_at_the_chosen_and_pushes_the_rejected_rollout(pool):
    pairs = preference_pairs(pool)
    assert pairs["group"].tolist() == [1, 4, 5]
    weights = seen(pool, "dpo", [0, 2, 2])
    expected = np.zeros(len(pool))
    expected[4], expected[5] = 1, -1  # group 1: its first right and its first wrong rollout
    expected[20], expected[23] = 2, -2  # group 5, seen twice
    np.testing.assert_array_equal(weights, expected)
    # Pulls and pushes cancel, so that a part which all rollouts share is not learnt.
    both = {"sft": np.ones(len(pool)), "dpo": weights}
    assert between(predicted_cosines(both, 5.0), "sft", "dpo") == pytest.approx(0, abs=1e-12)


def test_weights_that_hang_on_probabilities_are_not_predicted(pool):
    assert seen(pool, "dft") is None
    assert seen(pool, "rift", variant="published") is None
    assert seen(pool, "offline_grpo", variant="krafton") is None
    # Published RFT drops repeated texts, which is known beforehand.
    distinct = seen(pool, "rft", variant="distinct")
    repeated = pool.duplicated(["group", "text"])
    assert repeated.any()
    np.testing.assert_array_equal(distinct, np.where(repeated, 0, pool["reward"]))


@pytest.mark.parametrize("common", [0.0, 0.02, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_in_a_world_of_orthogonal_gradients_the_prediction_is_exact(common, seed):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((40, 31)))
    own, shared = basis[:, :30], np.sqrt(common) * basis[:, 30:]
    gradients = own + shared  # (parameters, rollouts)
    weights = {name: rng.normal(0.3, 1, 30) for name in "abc"}
    table = predicted_cosines(weights, common)
    for a, b, value in table.itertuples(index=False):
        one, two = gradients @ weights[a], gradients @ weights[b]
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        assert value == pytest.approx(cosine, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_prediction_is_symmetric_and_free_of_scale(seed):
    rng = np.random.default_rng(seed)
    one, two, common = rng.normal(0.2, 1, 20), rng.normal(0.2, 1, 20), float(rng.exponential())
    value = predicted_cosines({"a": one, "b": two}, common)["value"].iloc[0]
    assert -1 < value < 1
    turned = predicted_cosines({"b": two, "a": one}, common)
    assert turned["value"].tolist() == pytest.approx([value])
    scaled = predicted_cosines({"a": 1e-160 * one, "b": 1e160 * two}, common)
    assert scaled["value"].tolist() == pytest.approx([value])
    against = predicted_cosines({"a": one, "b": -two}, common)
    assert against["value"].tolist() == pytest.approx([-value])
    plain = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert predicted_cosines({"a": one, "b": two})["value"].tolist() == pytest.approx([plain])


def orders() -> dict[str, np.ndarray]:
    """Two orders of one loss: 6 rows each of 12, 2 of them in common."""
    one, two = np.zeros(12), np.zeros(12)
    one[:6], two[4:10] = 1, 1
    return {"sft": one, "sft-order": two, "rft": one * (np.arange(12) != 3)}


@pytest.mark.parametrize("trained", [0.34, 0.739, 0.999])
def test_the_common_part_gives_its_own_pair_the_trained_cosine(trained):
    weights = orders()
    common = fit_common(weights, ("sft", "sft-order"), trained)
    # In closed form for equal norms and sums: (2 + 36 k) / (6 + 36 k) = c.
    assert common == pytest.approx((6 * trained - 2) / (36 * (1 - trained)), rel=1e-6)
    table = predicted_cosines(weights, common)
    assert between(table, "sft", "sft-order") == pytest.approx(trained)
    # ... and moves every other pair of positive weights up.
    assert between(table, "sft", "rft") > between(predicted_cosines(weights), "sft", "rft")


def test_the_common_part_is_found_for_unequal_vectors_too():
    weights = {"a": np.array([2.0, 1, 0, -0.5]), "b": np.array([0.0, 1, 3, 0])}
    common = fit_common(weights, ("a", "b"), 0.8)
    assert predicted_cosines(weights, common)["value"].tolist() == pytest.approx([0.8])


def test_no_common_part_where_the_rows_alone_give_the_cosine():
    for trained in (1 / 3, 0.2, -0.4):
        assert fit_common(orders(), ("sft", "sft-order"), trained) == 0.0


def test_what_cannot_be_predicted_says_what_to_do(pool):
    weights = orders()
    with pytest.raises(UserError, match="at least 0"):
        predicted_cosines(weights, -0.1)
    with pytest.raises(UserError, match=r"different size \(a 3, b 4\)"):
        predicted_cosines({"a": np.ones(3), "b": np.ones(4)})
    with pytest.raises(UserError, match=r"no weights of 'sft-order'.*train both"):
        fit_common({"sft": np.ones(3)}, ("sft", "sft-order"), 0.5)
    for trained in (1.0, float("nan")):
        with pytest.raises(UserError, match="between 0 and 1"):
            fit_common(weights, ("sft", "sft-order"), trained)
    opposed = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, -1.0])}
    with pytest.raises(UserError, match="one sign"):
        fit_common(opposed, ("a", "b"), 0.5)
    rows = unpaired_rows(pool, "sft", METHOD_SECTIONS["sft"]())
    with pytest.raises(UserError, match="24 rows of a pool of 20"):
        rollout_weights("sft", METHOD_SECTIONS["sft"](), pool[:20], rows, [0])
    with pytest.raises(UserError, match="a pair of group 5 is not in the pool"):
        rollout_weights("dpo", METHOD_SECTIONS["dpo"](), pool[:20], preference_pairs(pool), [0])


def test_a_method_that_met_no_rollout_with_weight_has_no_cosine():
    weights = {"sft": np.ones(3), "rft": np.zeros(3), "rift": np.array([1.0, 1, 0.5])}
    table = predicted_cosines(weights, 1.0)
    assert list(zip(table["a"], table["b"], strict=True)) == [("sft", "rift")]


def test_orthogonal_fractions_are_those_of_the_cosines():
    nan = float("nan")
    table = pd.DataFrame(
        [
            ("a", 0.6, 0.0, 0.8),
            ("b", -0.6, -0.8, -0.6),
            ("c", 0.0, -0.6, 0.8),
            ("d", 1.0, nan, nan),
        ],
        columns=["a", "value", "low", "high"],
    )
    found = orthogonal_fractions(table)
    assert found["value"].tolist() == pytest.approx([0.8, 0.8, 1.0, 0.0])
    assert found["low"].tolist()[:3] == pytest.approx([0.6, 0.6, 0.6])
    assert found["high"].tolist()[:3] == pytest.approx([1.0, 0.8, 1.0])
    assert found[["low", "high"]].iloc[3].isna().all()


def test_lengths_of_the_rows_do_not_enter(pool):
    """They decide who shares a micro-batch, not who is seen."""
    training = Training(steps=3, batch_size=4, seed=7)
    lengths = row_lengths(unpaired_rows(pool, "sft", METHOD_SECTIONS["sft"]())).max(1)
    assert len(set(lengths)) > 1
    counts = [visits(row_order(n, training), 24) for n in (lengths, lengths[::-1])]
    np.testing.assert_array_equal(*counts)


def test_predicting_needs_no_torch():
    code = "import finetune_geometry.geometry.prediction, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
