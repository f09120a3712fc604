"""CKA against the published formula, its invariances, its bias, and the hidden states it reads."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import Qwen3ForCausalLM

from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.cka import (
    CKA_COLUMNS,
    centred_gram,
    cka_chance,
    cka_matrix,
    cka_table,
    cka_without_each,
    deal_prompts,
    jackknife_interval,
    linear_cka,
)
from finetune_geometry.geometry.hidden_states import all_hidden_states, hidden_states, sample_tokens
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.tiny import build_config
from finetune_geometry.settings.errors import UserError

seeds = st.integers(0, 2**32 - 1)


def song_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC_1 as printed in Song et al. (2012), equation 5, with linear kernels."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    total = np.trace(k @ m)
    total += (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    total -= 2 / (n - 2) * (one @ k @ m @ one)
    return total / (n * (n - 3))


@settings(max_examples=40)
@given(seeds, st.integers(4, 30), st.integers(1, 40))
def test_debiased_table_gives_the_published_hsic(seed, n, d):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 3
    y = 0.5 * x[:, :1] + rng.normal(size=(n, 5))
    found = np.sum(centred_gram(x) * centred_gram(y)) / (n * (n - 3))
    assert found == pytest.approx(song_hsic(x, y), rel=1e-8, abs=1e-9 * d * n)


def test_biased_cka_equals_the_feature_space_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 4))
    xc, yc = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(yc.T @ xc) ** 2
    expected /= np.linalg.norm(xc.T @ xc) * np.linalg.norm(yc.T @ yc)
    assert linear_cka(x, y, debiased=False) == pytest.approx(expected, rel=1e-10)


@settings(max_examples=30)
@given(seeds, st.booleans())
def test_cka_ignores_rotation_scale_and_shift(seed, debiased):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 8)), rng.normal(size=(40, 8))
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    value = linear_cka(x, y, debiased=debiased)
    assert linear_cka(1e4 * x @ rotation + 7, y, debiased=debiased) == pytest.approx(
        value, abs=1e-9
    )
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(value, abs=1e-12)
    assert linear_cka(x, x @ rotation, debiased=debiased) == pytest.approx(1, abs=1e-12)


def test_only_the_debiased_estimator_is_zero_for_independent_features():
    rng = np.random.default_rng(1)
    pairs = [(rng.normal(size=(100, 1000)), rng.normal(size=(100, 1000))) for _ in range(20)]
    debiased = [linear_cka(x, y) for x, y in pairs]
    biased = [linear_cka(x, y, debiased=False) for x, y in pairs]
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(len(pairs)) + 1e-3
    assert np.min(biased) > 0.85


def test_shuffling_gives_the_chance_level_of_related_features():
    x = np.random.default_rng(2).normal(size=(80, 400))
    assert linear_cka(x, x) == pytest.approx(1)
    chance = cka_chance(centred_gram(x), 100)
    assert abs(chance.mean()) < 0.02
    assert chance.max() < 0.2
    biased = cka_chance(centred_gram(x, debiased=False), 20)
    assert biased.min() > 0.7


def test_matrix_agrees_with_pairs_and_names_what_has_no_cka():
    rng = np.random.default_rng(3)
    features = [rng.normal(size=(30, 4)) for _ in range(3)]
    table = cka_matrix([centred_gram(f) for f in features])
    np.testing.assert_allclose(table[0, 2], linear_cka(features[0], features[2]))
    np.testing.assert_allclose(np.diag(table), 1)
    assert np.isnan(
        cka_matrix([centred_gram(np.ones((5, 2))), centred_gram(features[0][:5])])[0, 1]
    )


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(8, 30), st.integers(2, 6), st.booleans())
def test_leaving_a_group_out_is_cka_of_the_other_tokens(seed, n, groups, debiased):
    rng = np.random.default_rng(seed)
    of_token = rng.permutation(np.arange(n) % groups)
    x = rng.normal(size=(n, 6)) + 3
    features = [x, x + rng.normal(size=(n, 6)), rng.normal(size=(n, 40))]
    grams = [centred_gram(f, debiased=debiased) for f in features]
    found = cka_without_each(grams, of_token, debiased=debiased)
    assert found.shape == (groups, 3, 3)
    for group, values in enumerate(found):
        kept = of_token != group
        if kept.sum() < 4:
            assert np.isnan(values).all()
            continue
        rest = [centred_gram(f[kept], debiased=debiased) for f in features]
        np.testing.assert_allclose(values, cka_matrix(rest), atol=1e-10)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(1, 10))
def test_prompts_are_dealt_whole_into_groups_of_about_one_size(prompts, count):
    groups = deal_prompts(prompts, count)
    tokens = np.unique(prompts, return_counts=True)[1]
    assert len(groups) == len(prompts)
    for prompt in set(prompts):
        assert len(set(groups[np.array(prompts) == prompt])) == 1
    sizes = np.bincount(groups)
    assert len(sizes) == min(count, len(tokens))
    assert sizes.max() - sizes.min() <= tokens.max()


def test_the_jackknife_of_a_mean_is_students_interval():
    """Groups of one: the delete-a-group jackknife of a mean is the textbook interval."""
    values = np.random.default_rng(5).normal(size=12)
    without_each = (values.sum() - values) / 11
    for confidence in (0.95, 0.5):
        low, high = jackknife_interval(np.array(values.mean()), without_each, confidence)
        expected = stats.t.interval(confidence, 11, values.mean(), stats.sem(values))
        np.testing.assert_allclose((low, high), expected, rtol=1e-10)
    assert np.isnan(jackknife_interval(values.mean(keepdims=True), without_each[:1])).all()
    assert jackknife_interval(np.array(0.99), np.array([0.9, 1.0]))[1] == 1  # no CKA is above 1


def test_cka_intervals_cover_when_prompts_are_resampled_and_not_when_tokens_are():
    """Tokens of one prompt resemble one another: taken for independent, they promise too much."""
    rng = np.random.default_rng(6)
    prompts = np.repeat(np.arange(40), 5)

    def features() -> np.ndarray:
        return np.repeat(rng.normal(size=(40, 8)), 5, axis=0) + 0.3 * rng.normal(size=(200, 8))

    tables, reach = [], {"prompts": [], "tokens": []}
    for _ in range(120):
        x = features()
        grams = [centred_gram(x), centred_gram(x + 0.6 * features())]
        values = cka_matrix(grams)
        for name, of_token in (("prompts", prompts), ("tokens", np.arange(200))):
            without_each = cka_without_each(grams, deal_prompts(of_token))
            low, high = jackknife_interval(values, without_each)
            reach[name].append((low[0, 1], high[0, 1]))
        tables.append(values[0, 1])
    truth = np.mean(tables)
    covered = {
        name: np.mean([low <= truth <= high for low, high in bounds])
        for name, bounds in reach.items()
    }
    assert covered["prompts"] > 0.9
    assert covered["tokens"] < 0.85


@pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.zeros(9), np.full((5, 2), np.nan)])
def test_features_without_a_cka_are_refused(bad):
    with pytest.raises(UserError, match="CKA"):
        centred_gram(bad)


def test_sampled_tokens_are_completion_tokens_each_once():
    rows = [([1, 2, 3], [4, 5]), ([1], [2, 3, 4, 5])]
    assert sample_tokens(rows, 100, seed=0) == [(0, 3), (0, 4), (1, 1), (1, 2), (1, 3), (1, 4)]
    some = sample_tokens(rows, 3, seed=0)
    assert len(set(some)) == 3
    assert some == sample_tokens(rows, 3, seed=0)
    assert sample_tokens(rows, 3, seed=1) != sample_tokens(rows, 3, seed=2)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = build_config(
        200, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(4)
    return [(rng.integers(3, 200, p).tolist(), rng.integers(3, 200, 8).tolist()) for p in (3, 9, 5)]


@pytest.mark.parametrize("batch_tokens", [1, 30, 8192])
def test_hidden_states_do_not_depend_on_batching(model, rows, batch_tokens):
    places = sample_tokens(rows, 15, seed=0)
    found = hidden_states(model, rows, places, batch_tokens)
    assert found.shape == (3, 15, 32)
    for slot, (i, position) in enumerate(places):
        with torch.inference_mode():
            full = model(torch.tensor([[*rows[i][0], *rows[i][1]]]), output_hidden_states=True)
        expected = torch.stack(full.hidden_states[1:])[:, 0, position].numpy()
        np.testing.assert_allclose(found[:, slot], expected, atol=2e-6)
    with pytest.raises(UserError, match="no token"):
        hidden_states(model, rows, [])


def test_table_shows_where_an_adapter_starts_to_act(model, rows):
    """A change in the last block leaves the earlier layers at CKA 1 exactly."""
    rng = np.random.default_rng(5)
    module = "model.layers.2.self_attn.o_proj"
    delta = LowRankDelta(rng.normal(size=(32, 2)), rng.normal(size=(2, 32)), 0.5)
    with Mixture(model, {"sft": {module: delta}}) as mixture:
        states = all_hidden_states(mixture, ["base", "sft"], rows, sample_tokens(rows, 24, 0))
    table = cka_table(states, np.arange(24) % 5, draws=10)
    assert list(table.columns) == CKA_COLUMNS
    assert len(table) == 2 * 3
    values = table.query("quantity == 'debiased_cka'").set_index("layer")["value"]
    np.testing.assert_allclose(values[[0, 1]], 1, atol=1e-12)
    assert values[2] < 0.99
    assert (table["low"] <= table["value"] + 1e-12).all()
    assert (table["value"] <= table["high"] + 1e-12).all()
    assert (table["high"] - table["low"])[table["layer"] == 2].gt(0.001).all()
    one = cka_table(states, np.zeros(24), draws=10)  # a single prompt leaves nothing to leave out
    assert one[["low", "high"]].isna().all(axis=None)
    pd.testing.assert_series_equal(one["value"], table["value"])


def test_the_table_holds_the_intervals_of_its_confidence_and_95_percent_of_chance():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(1, 90, 30))
    states = {"base": x, "sft": x + rng.normal(size=x.shape)}
    prompts = np.repeat(np.arange(30), 3)
    wide, narrow = (
        cka_table(states, prompts, confidence=c, draws=400).set_index("quantity")
        for c in (0.95, 0.5)
    )
    ratio = (wide["high"] - wide["low"]) / (narrow["high"] - narrow["low"])
    np.testing.assert_allclose(ratio, stats.t.ppf(0.975, 9) / stats.t.ppf(0.75, 9), rtol=1e-6)
    for quantity, debiased in (("debiased_cka", True), ("biased_cka", False)):
        again = cka_chance(centred_gram(x[0], debiased=debiased), 400, seed=1)
        for table in (wide, narrow):  # whatever the confidence of the intervals
            low, high = table.loc[quantity, ["chance_low", "chance_high"]]
            assert 0.92 < np.mean((low <= again) & (again <= high)) < 0.98
            assert 0.005 < np.mean(again < low) < 0.05
