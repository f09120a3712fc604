"""Interpolation exact in dW, log-probabilities of a plain forward pass, heights and barriers."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from scipy import stats
from transformers import Qwen3ForCausalLM

from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.connectivity import (
    CONNECTIVITY_COLUMNS,
    METRICS,
    Score,
    barrier,
    connectivity_table,
    height,
    line_points,
    point_on_line,
)
from finetune_geometry.geometry.line_scores import Tasks, make_tasks, score_points, spread_rows
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.generation import generate
from finetune_geometry.models.prompts import PLAIN
from finetune_geometry.models.teacher_forcing import completion_logprobs
from finetune_geometry.models.tiny import build_config, build_tokenizer
from finetune_geometry.problems.problem import Problem
from finetune_geometry.settings.errors import UserError


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = build_config(
        len(tokenizer), hidden_size=48, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=96,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def adapters(model):
    """Two adapters of different rank on q, k, v, o, large enough to change what the model says."""
    rng = np.random.default_rng(1)
    modules = {n: m for n, m in model.named_modules() if n.endswith(tuple("qkvo_proj"))}
    modules = {n: m for n, m in modules.items() if "self_attn" in n and n.endswith("_proj")}
    return {
        name: {
            n: LowRankDelta(
                rng.normal(size=(m.weight.shape[0], r)),
                rng.normal(size=(r, m.weight.shape[1])),
                scale,
            )
            for n, m in modules.items()
        }
        for name, r, scale in (("sft", 4, 0.05), ("dpo", 2, 0.02))
    }


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    lengths = [(5, 9), (12, 3), (7, 7), (5, 1), (20, 14)]
    return [
        (rng.integers(3, 200, p).tolist(), rng.integers(3, 200, c).tolist()) for p, c in lengths
    ]


def merged(model, adapters, weights):
    """The model with W + sum of weight * scale * B A written out, in fp32."""
    copy = Qwen3ForCausalLM(model.config).eval()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, weight in weights.items():
            for module, delta in adapters[name].items():
                dense = weight * delta.scale * delta.B @ delta.A
                copy.get_submodule(module).weight += torch.as_tensor(dense, dtype=torch.float32)
    return copy


def logits(model, rows):
    with torch.inference_mode():
        return [model(torch.tensor([[*p, *c]])).logits[0] for p, c in rows]


@pytest.mark.parametrize(
    "weights", [{"sft": 1.0}, {"sft": 0.3, "dpo": 0.7}, {"sft": -0.5, "dpo": 2.0}]
)
def test_mixture_equals_a_dense_merge_in_fp32(model, adapters, rows, weights):
    expected = logits(merged(model, adapters, weights), rows)
    plain = logits(model, rows)
    with Mixture(model, adapters) as mixture:
        mixture.set(weights)
        found = logits(model, rows)
    for x, y, z in zip(found, expected, plain, strict=True):
        assert (x - y).abs().max() <= 1e-5 * y.abs().max()
        assert (x - z).abs().max() > 1e-2 * z.abs().max()  # the adapters do change the model


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # raised in peft
def test_mixture_equals_two_active_peft_adapters(model, rows):
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    settings = {"target_modules": targets, "init_lora_weights": False, "lora_alpha": 3}
    copy = Qwen3ForCausalLM(model.config).eval()
    copy.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    peft = get_peft_model(copy, LoraConfig(r=4, **settings), adapter_name="sft")
    peft.add_adapter("dpo", LoraConfig(r=2, **settings))
    peft.base_model.set_adapter(["sft", "dpo"])
    adapters = {}
    for name, r in (("sft", 4), ("dpo", 2)):
        state = get_peft_model_state_dict(peft, adapter_name=name)
        keys = [k.removesuffix(".lora_A.weight") for k in state if k.endswith(".lora_A.weight")]
        adapters[name] = {
            k.removeprefix("base_model.model."): LowRankDelta(
                state[f"{k}.lora_B.weight"].numpy(), state[f"{k}.lora_A.weight"].numpy(), 3 / r
            )
            for k in keys
        }
    for layer in peft.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale("sft", 0.3)
            layer.set_scale("dpo", 0.7)
    expected = logits(peft.eval(), rows)
    with Mixture(model, adapters) as mixture:
        mixture.set({"sft": 0.3, "dpo": 0.7})
        found = logits(model, rows)
    for x, y in zip(found, expected, strict=True):
        assert (x - y).abs().max() <= 4e-6 * y.abs().max()


def test_mixing_the_factors_would_be_another_path(adapters):
    """(-B)(-A) = B A: half-way between the two, dW is the same, but the mixed factors are 0."""
    a = next(iter(adapters["sft"].values()))
    turned = LowRankDelta(-a.B, -a.A, a.scale)
    assert (0.5 * a + 0.5 * turned - a).norm() <= 1e-14 * a.norm()
    assert LowRankDelta((a.B + turned.B) / 2, (a.A + turned.A) / 2, a.scale).norm() == 0


def test_without_weights_the_mixture_is_the_base_bit_for_bit(model, adapters, rows):
    expected = logits(model, rows)
    with Mixture(model, adapters) as mixture:
        for weights in ({}, {"sft": 0.0}, {"base": 1.0}):
            mixture.set({"sft": 1.0})
            mixture.set(weights)
            assert all(
                torch.equal(x, y) for x, y in zip(logits(model, rows), expected, strict=True)
            )
        mixture.set({"sft": 1.0})
    assert all(torch.equal(x, y) for x, y in zip(logits(model, rows), expected, strict=True))


def test_rows_of_one_batch_can_be_different_models(model, adapters, rows, tokenizer):
    points = [(("sft", 0.3), ("dpo", 0.7)), (), (("dpo", 1.0),)]
    every = [row for _ in points for row in rows]
    prompts = [prompt for prompt, _ in every]
    with Mixture(model, adapters) as mixture:
        mixture.assign([point for point in points for _ in rows])
        together = completion_logprobs(model, every, on_rows=mixture.select)
        said = generate(model, tokenizer, prompts, max_new_tokens=8, on_rows=mixture.select)
        for i, point in enumerate(points):
            mixture.set(dict(point))
            alone = completion_logprobs(model, rows)
            part = slice(i * len(rows), (i + 1) * len(rows))
            for x, y in zip(together[part], alone, strict=True):
                np.testing.assert_allclose(x, y, atol=4e-6)
            assert said[part] == generate(model, tokenizer, prompts[part], max_new_tokens=8)
    assert len({str(said[i :: len(rows)]) for i in range(len(rows))}) > 1


def test_adapters_that_do_not_fit_are_refused(model, adapters):
    with Mixture(model, adapters) as mixture, pytest.raises(UserError, match="rift"):
        mixture.set({"rift": 1.0})
    delta = LowRankDelta(np.zeros((3, 1)), np.zeros((1, 3)))
    for module in ("model.layers.0.self_attn.q_proj", "model.layers.9.self_attn.q_proj"):
        with pytest.raises(UserError, match="trained on"):
            Mixture(model, {"x": {module: delta}})


@pytest.mark.parametrize("batch_tokens", [1, 40, 8192])
def test_logprobs_match_one_row_at_a_time(model, rows, batch_tokens):
    found = completion_logprobs(model, rows, batch_tokens)
    for (prompt, completion), values, raw in zip(rows, found, logits(model, rows), strict=True):
        scores = torch.log_softmax(raw[len(prompt) - 1 : -1], -1)
        expected = scores[torch.arange(len(completion)), torch.tensor(completion)]
        np.testing.assert_allclose(values, expected.numpy(), atol=2e-6)


losses = st.lists(st.floats(-5, 5), min_size=3, max_size=11).map(np.array)


@given(losses)
def test_height_is_never_negative_and_ignores_a_straight_line(loss):
    alphas = np.linspace(0, 1, len(loss))
    found, where = height(alphas, loss)
    assert found >= 0
    assert where in alphas
    tilted, _ = height(alphas, loss + 3 - 2 * alphas)
    assert tilted == pytest.approx(found, abs=1e-12)


@given(losses)
def test_barrier_is_the_rise_above_the_worse_end_plus_half_the_gap(loss):
    alphas = np.linspace(0, 1, len(loss))
    found, where = barrier(alphas, loss)
    assert loss[alphas == where] == loss.max()
    worse = max(loss[0], loss[-1])
    assert found == pytest.approx(loss.max() - worse + abs(loss[0] - loss[-1]) / 2, abs=1e-12)
    assert found >= 0
    assert barrier(alphas, loss[::-1])[0] == found
    level = np.array([*loss[:-1], loss[0]])  # ends that are equally good
    assert barrier(alphas, level)[0] == pytest.approx(height(alphas, level)[0], abs=1e-12)
    assert abs(found - height(alphas, loss)[0]) <= abs(loss[0] - loss[-1]) / 2 + 1e-12


def test_a_slope_has_a_barrier_and_no_height():
    """Frankle's definition counts half the gap between the ends; the other one does not."""
    alphas = np.linspace(0, 1, 11)
    assert height(alphas, 4 * alphas) == (0.0, 0.0)
    assert barrier(alphas, 4 * alphas) == (2.0, 1.0)
    early = np.sqrt(np.linspace(0, 1, 101))
    assert height(np.linspace(0, 1, 101), early) == pytest.approx((0.25, 0.25))
    assert barrier(np.linspace(0, 1, 101), early) == (0.5, 1.0)


def test_height_and_barrier_of_a_known_bump():
    alphas = np.linspace(0, 1, 11)
    bump = 1 + 2 * alphas + np.sin(np.pi * alphas)
    assert height(alphas, bump) == pytest.approx((1.0, 0.5))
    assert barrier(alphas, bump) == pytest.approx((bump.max() - 2, alphas[bump.argmax()]))
    assert height(alphas, alphas**2)[0] == 0  # below the line everywhere


def test_rows_are_spread_over_prompts_before_any_comes_twice():
    rollouts = pd.DataFrame(
        {"group": [0, 0, 0, 1, 1, 1, 2, 2, 2], "sample": [0, 1, 2] * 3, "correct": [False] * 9}
    ).sample(frac=1, random_state=0)
    chosen = spread_rows(rollouts, 5)
    assert list(zip(chosen["group"], chosen["sample"], strict=True)) == [
        (0, 0), (1, 0), (2, 0), (0, 1), (1, 1),
    ]  # fmt: skip
    assert len(spread_rows(rollouts, 100)) == 9


def test_points_share_end_points_and_the_base():
    names, alphas = ["base", "sft", "rft", "dpo"], np.linspace(0, 1, 11)
    points = line_points(names, alphas)
    assert len(points) == len(set(points)) == 6 * 9 + 4
    assert point_on_line("base", "sft", 0.0) == point_on_line("rft", "base", 1.0) == ()
    assert point_on_line("sft", "dpo", 1.0) == point_on_line("base", "dpo", 1.0)
    assert point_on_line("base", "sft", 0.3) == (("sft", 0.3),)


def test_points_of_chosen_lines_keep_every_model():
    names, alphas = ["base", "sft", "rft", "dpo"], np.linspace(0, 1, 11)
    points = line_points(names, alphas, [("dpo", "sft")])
    inside = set(line_points(["sft", "dpo"], alphas))
    assert set(points) == inside | {(), (("rft", 1.0),)}


def problem(i: int) -> Problem:
    return Problem(id=f"p{i}", question="Tom has 12 apples .", solution="", answer=str(i), steps=2)


def test_scores_are_sums_over_prompts(model, tokenizer, adapters, rows):
    heldout = pd.DataFrame(
        {
            "prompt": ["x", "x", "y", "y", "z"],
            "prompt_ids": [p for p, _ in rows],
            "completion_ids": [c for _, c in rows],
        }
    )
    tasks = make_tasks(tokenizer, heldout, [problem(7), problem(42)], 1, 4, PLAIN, 8)
    assert [tokenizer.decode(box) for box in tasks.boxes] == ["\\boxed{7}", "\\boxed{42}"]
    with Mixture(model, adapters) as mixture:
        scores = score_points(mixture, tokenizer, tasks, [(), (("sft", 1.0),)])
    found, other = scores.values()
    assert not np.allclose(found.sft_cross_entropy[0], other.sft_cross_entropy[0])
    nats, tokens = found.sft_cross_entropy
    assert tokens.tolist() == [12, 8, 14]
    values = completion_logprobs(model, rows)
    by_row = [-v.sum() for v in values]
    np.testing.assert_allclose(nats, [by_row[0] + by_row[1], by_row[2] + by_row[3], by_row[4]])
    assert found.boxed_cross_entropy[1].tolist() == [3, 4]
    assert set(found.accuracy[0]) <= {0.0, 1.0}
    assert found.accuracy[1].tolist() == [1]  # one of the two is answered in full


def test_table_is_symmetric_and_holds_the_measured_values(model, tokenizer, adapters, rows):
    tasks = Tasks(
        rows=rows, groups=[0, 0, 1, 1, 2], answers=["3"], prompts=[[5, 6, 2]],
        boxes=[tokenizer.encode("\\boxed{3}")], max_new_tokens=3, batch_size=8,
    )  # fmt: skip
    alphas = np.linspace(0, 1, 3)
    with Mixture(model, adapters) as mixture:
        forward = line_points(["base", "sft", "dpo"], alphas)
        scores = score_points(mixture, tokenizer, tasks, forward)
    table = connectivity_table(scores, ["base", "sft", "dpo"], alphas, draws=50, vocabulary=540)
    assert list(table.columns) == CONNECTIVITY_COLUMNS
    assert set(table["metric"]) == set(METRICS)
    ends, blind = (table[table["quantity"] == quantity] for quantity in ("end", "blind"))
    assert len(table) == 3 * 3 * (3 + 3 + 4) + len(ends) + len(blind)
    assert (table["low"] <= table["high"]).all()
    assert table["value"].notna().all()
    expected = -np.concatenate(completion_logprobs(model, rows)).mean()
    start = table.query("a == 'base' and metric == 'sft_cross_entropy' and alpha == 0")
    np.testing.assert_allclose(start.query("quantity == 'curve'")["value"], expected, rtol=1e-12)
    for end in ends.itertuples():  # the metric of a model is where its lines begin or end
        assert end.b == "base"
        same = table[(table["quantity"] == "curve") & (table["metric"] == end.metric)]
        first = same[(same["a"] == end.a) & (same["alpha"] == 0)]
        last = same[(same["b"] == end.a) & (same["alpha"] == 1)]
        for column in ("value", "low", "high"):
            met = pd.concat([first, last])[column]
            assert len(met) == 2
            assert (met == getattr(end, column)).all()
    assert len(ends) == 3 * 3
    assert blind["metric"].tolist() == ["sft_cross_entropy", "boxed_cross_entropy"]
    assert (blind[["value", "low", "high"]] == np.log(540)).all(axis=None)
    curves = table.query("quantity == 'curve' and metric != 'accuracy'").groupby(
        ["a", "b", "metric"]
    )
    rise = curves["value"].agg(lambda v: v.max() - max(v.iloc[0], v.iloc[-1]))
    found = table.query("quantity == 'overshoot' and metric != 'accuracy'")
    np.testing.assert_allclose(found.set_index(["a", "b", "metric"])["value"][rise.index], rise)
    turned = connectivity_table(scores, ["dpo", "sft", "base"], alphas, draws=50)
    gap = curves["value"].agg(lambda v: abs(v.iloc[0] - v.iloc[-1]))
    found = table.query("quantity == 'barrier' and metric != 'accuracy'")
    np.testing.assert_allclose(
        found.set_index(["a", "b", "metric"])["value"][rise.index], rise + gap / 2
    )
    largest = table.query("quantity == 'rise'").groupby(["a", "b", "metric"])["value"].max()
    found = table.query("quantity == 'height'").set_index(["a", "b", "metric"])["value"]
    np.testing.assert_array_equal(found[largest.index], largest)
    assert "blind" not in set(turned["quantity"])
    chosen, index = "quantity in ['height', 'barrier', 'midpoint']", ["quantity", "metric"]
    key = table.query(chosen).set_index(["a", "b", *index])["value"]
    back = turned.query(chosen).set_index(["b", "a", *index])["value"]
    pd.testing.assert_series_equal(key.sort_index(), back.sort_index(), check_names=False)


def test_fewer_lines_leave_the_others_as_they_were(model, tokenizer, adapters, rows):
    """To the last bit, where the models themselves stand in the same batch as before."""
    tasks = Tasks(
        rows=rows, groups=[0, 0, 1, 1, 2], answers=["3"], prompts=[[5, 6, 2]],
        boxes=[tokenizer.encode("\\boxed{3}")], max_new_tokens=3, batch_size=8,
    )  # fmt: skip
    names, alphas = ["base", "sft", "dpo"], np.linspace(0, 1, 4)
    lines = {
        "sft_cross_entropy": [("base", "sft"), ("dpo", "sft")],
        "boxed_cross_entropy": [("base", "sft"), ("base", "dpo")],
        "accuracy": [("base", "sft")],
    }
    wanted = {metric: line_points(names, alphas, pairs) for metric, pairs in lines.items()}
    with Mixture(model, adapters) as mixture:
        whole = score_points(mixture, tokenizer, tasks, line_points(names, alphas))
        some = score_points(mixture, tokenizer, tasks, wanted)
    assert some[(("dpo", 1 / 3), ("sft", 1 - 1 / 3))].accuracy is None
    settings = {"draws": 20, "vocabulary": 540}
    before = connectivity_table(whole, names, alphas, **settings)
    after = connectivity_table(some, names, alphas, lines=lines, **settings)
    index = ["a", "b", "quantity", "metric", "alpha"]
    drawn = after[after["quantity"] == "height"].groupby("metric")[["a", "b"]].apply(len)
    assert drawn.to_dict() == {metric: len(pairs) for metric, pairs in lines.items()}
    assert set(after[after["quantity"] == "end"]["a"]) == set(names)
    before, after = before.set_index(index), after.set_index(index)
    before = before.loc[after.index]
    assert before.index.equals(after.index)
    kept = after.index.get_level_values("metric") == "boxed_cross_entropy"
    pd.testing.assert_frame_equal(before[kept], after[kept], check_exact=True)
    columns = ["value", "low", "high"]
    np.testing.assert_allclose(before[columns], after[columns], rtol=1e-5, atol=1e-6)


def test_intervals_resample_prompts_not_rows():
    """Two prompts that disagree: the interval reaches from one to the other."""
    sums = (np.array([1.0, 9.0]), np.array([1.0, 1.0]))
    same = Score(sums, sums, (np.array([0.0, 1.0]), np.ones(2)))
    points = line_points(["base", "sft"], [0.0, 0.5, 1.0])
    table = connectivity_table(dict.fromkeys(points, same), ["base", "sft"], [0.0, 0.5, 1.0])
    curve = table.query("quantity == 'curve' and metric == 'sft_cross_entropy'")
    assert (curve["value"] == 5).all()
    assert (curve["low"] == 1).all()
    assert (curve["high"] == 9).all()
    assert (table.query("quantity in ['barrier', 'height']")["value"] == 0).all()


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_intervals_are_as_wide_as_their_confidence_says(confidence):
    """The bootstrap of a mean of many prompts is close to the normal interval."""
    values = np.random.default_rng(7).normal(5.0, 1.0, 400)
    sums = (values, np.ones(400))
    same = Score(sums, sums, sums)
    points = line_points(["base", "sft"], [0.0, 0.5, 1.0])
    table = connectivity_table(
        dict.fromkeys(points, same), ["base", "sft"], [0.0, 0.5, 1.0],
        confidence=confidence, draws=4000,
    )  # fmt: skip
    curve = table[table["quantity"] == "curve"]
    reach = stats.norm.ppf((1 + confidence) / 2) * values.std() / np.sqrt(400)
    np.testing.assert_allclose(curve["value"] - curve["low"], reach, rtol=0.1)
    np.testing.assert_allclose(curve["high"] - curve["value"], reach, rtol=0.1)
