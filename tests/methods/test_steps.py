"""Micro-batches bounded by tokens: the cut, and that a step's gradient does not depend on it."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from toy import adapter, same, toy_run

from finetune_geometry.methods import arguments, build, training
from finetune_geometry.methods.rows import batch_facts, micro_batches
from finetune_geometry.methods.training import train
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import load_profile


@pytest.fixture(autouse=True)
def results_of_this_test(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "results"))


def settings(**changes):
    return dataclasses.replace(load_profile("tiny").training, **changes)


@pytest.mark.parametrize("sequences", [1, 2])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("limit", [256, 512, 1024])
def test_no_micro_batch_has_more_positions_than_allowed(sequences, processes, limit):
    rng = np.random.default_rng(limit)
    lengths = np.sort(rng.integers(5, 129, (24, sequences)), axis=0)
    chosen = settings(micro_batch_tokens=limit, processes=processes)
    cuts = [micro_batches(lengths, chosen, 32, process) for process in range(processes)]
    assert sorted(row for cut in cuts for part in cut for row in part) == list(range(24))
    for cut in cuts:
        assert [row for part in cut for row in part] == sorted(row for part in cut for row in part)

        def positions(rows):
            return -(-lengths[rows].max() // 32) * 32 * sequences * len(rows)

        assert max(map(positions, cut)) <= limit
        # Nothing is cut that need not be: no part has room for the first row of the next.
        assert all(positions([*a, b[0]]) > limit for a, b in itertools.pairwise(cut))
    shares = [sum(map(len, cut)) for cut in cuts]
    assert max(shares) - min(shares) == 0


def test_without_a_bound_processes_take_turns_at_micro_batches_of_one_size():
    chosen = settings(micro_batch_size=2, processes=2)
    assert micro_batches(np.ones((8, 1)), chosen, 32, 1) == [[2, 3], [6, 7]]


def test_the_padding_of_the_card_is_that_of_the_cut():
    lengths, order = np.array([10, 20, 40, 60]), [0, 1, 2, 3]
    chosen = settings(batch_size=4, micro_batch_tokens=96)
    # 10 and 20 tokens in rows of 32; 40 and 60 each in one of 64.
    facts = batch_facts(lengths, order, chosen, 32)
    assert facts["padding"] == pytest.approx(1 - 130 / (2 * 32 + 2 * 64))


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_row_that_is_too_long_alone_is_refused(toy_model, method):
    run = toy_run(toy_model, training__micro_batch_tokens=64)
    with pytest.raises(UserError, match=r"has \d+ positions.*at most 64: training.micro_batch_tok"):
        train(run, method)


@pytest.fixture
def gradients(monkeypatch):
    """Gradients of every step, in fp32, of an adapter that is not zero at the start."""
    seen: list[dict[str, torch.Tensor]] = []

    class Seen(training.Watch):
        def on_train_begin(self, args, state, control, **kwargs):
            super().on_train_begin(args, state, control, **kwargs)
            rng = torch.Generator().manual_seed(0)
            for name, parameter in kwargs["model"].named_parameters():
                if "lora_B" in name:
                    parameter.data.normal_(0, 0.2, generator=rng)

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            named = kwargs["model"].named_parameters()
            seen.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    monkeypatch.setattr(training, "Watch", Seen)
    return seen


VARIANTS = [*((method, "paper") for method in METHODS), ("offline_grpo", "krafton")]


@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_the_gradient_of_a_step_is_that_of_the_plain_cut(toy_model, gradients, method, variant):
    shared = {
        "training__bf16": False,
        "training__max_grad_norm": 1e9,
        "training__steps": 1,
        "training__batch_size": 6,
        "training__micro_batch_size": 3,
        "methods__dpo__micro_batch_size": 3,
        f"methods__{method}__variant": variant,
    }
    plain = train(toy_run(toy_model, "plain", **shared), method)
    cut = train(toy_run(toy_model, "cut", training__micro_batch_tokens=512, **shared), method)
    one, two = gradients
    assert len(one) == 2 * 2 * 4
    assert all(gradient.any() for gradient in one.values())
    largest = max(gradient.abs().max().item() for gradient in one.values())
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-6 * largest, rtol=1e-5)
    assert cut["losses"][0][1] == pytest.approx(plain["losses"][0][1], rel=1e-6)


UNPAIRED = [variant for variant in VARIANTS if variant[0] != "dpo"]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("method", "variant"), [*UNPAIRED, ("rft", "distinct"), ("rift", "published")]
)
def test_without_padding_the_gradient_is_the_same(
    toy_model, gradients, monkeypatch, method, variant, attention
):
    """On a CPU a mask keeps rows apart that stand one behind the other; on a GPU flash attention.

    With rows of different weights, so that a token of another row's weight would show.
    """
    shared = {
        "model__attention": attention,
        "training__bf16": False,
        "training__max_grad_norm": 1e9,
        "training__steps": 1,
        "training__batch_size": 6,
        "training__micro_batch_size": 3,
        f"methods__{method}__variant": variant,
    }
    plain = train(toy_run(toy_model, "plain", **shared), method)
    for module in (training, build):
        monkeypatch.setattr(module, "packs", lambda *args: True)
    shapes = []
    whole = build.RowCollator.torch_call

    def seen(self, examples):
        batch = whole(self, examples)
        shapes.append(tuple(batch["input_ids"].shape))
        assert "attention_mask" not in batch
        return batch

    monkeypatch.setattr(build.RowCollator, "torch_call", seen)
    packed = train(toy_run(toy_model, "packed", training__micro_batch_tokens=512, **shared), method)
    one, two = gradients
    largest = max(gradient.abs().max().item() for gradient in one.values())
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-6 * largest, rtol=1e-5)
    assert packed["losses"][0][1] == pytest.approx(plain["losses"][0][1], rel=1e-6, abs=1e-9)
    assert {rows for rows, _ in shapes} == {1}
    assert max(width for _, width in shapes) <= 512
    assert packed["padding"] < plain["padding"]


def test_rows_are_packed_where_flash_attention_reads_them():
    by_tokens, flash = (
        {"training.micro_batch_tokens": 512},
        {"model.attention": "flash_attention_2"},
    )
    for changes, paired, expected in (
        (by_tokens | flash, False, True),
        (by_tokens | flash, True, False),
        (by_tokens, False, False),
        (flash, False, False),
    ):
        profile = load_profile("tiny", changes)
        assert arguments.packs(profile, profile.training, paired) is expected


def test_packed_rows_have_no_padding_but_the_last():
    lengths = np.array([[10], [20], [40], [60]])
    chosen = settings(batch_size=4, micro_batch_tokens=96)
    assert micro_batches(lengths, chosen, 32, packed=True) == [[0, 1, 2], [3]]
    assert micro_batches(lengths, chosen, 32) == [[0, 1], [2], [3]]
    facts = batch_facts(lengths, [0, 1, 2, 3], chosen, 32, packed=True)
    assert facts["padding"] == pytest.approx(1 - 130 / (96 + 64))


def test_the_parts_of_a_step_differ_in_size_and_are_those_of_the_cut(toy_model, monkeypatch):
    widths, steps = [], []

    class Counted(build.ObjectiveTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            widths.append(tuple(inputs["input_ids"].shape))
            return super().compute_loss(model, inputs, *args, **kwargs)

    class Steps(training.Watch):
        def on_step_end(self, args, state, control, **kwargs):
            super().on_step_end(args, state, control, **kwargs)
            steps.append(len(widths))

    monkeypatch.setattr(build, "ObjectiveTrainer", Counted)
    monkeypatch.setattr(training, "Watch", Steps)
    card = train(
        toy_run(toy_model, training__micro_batch_tokens=512, training__batch_size=6), "sft"
    )
    assert card["steps"] == 4
    ends = [0, *steps]
    of_steps = [widths[a:b] for a, b in itertools.pairwise(ends)]
    assert [sum(rows for rows, _ in step) for step in of_steps] == [6, 6, 6, 6]
    assert max(rows * width for rows, width in widths) <= 512
    assert len({rows for rows, _ in widths}) > 1


@pytest.mark.parametrize("method", ["rft", "dpo"])
def test_bounded_by_tokens_it_goes_on_to_the_same_adapter(toy_model, monkeypatch, method):
    changes = {"training__micro_batch_tokens": 512}
    whole = toy_run(toy_model, "whole", **changes)
    train(whole, method)

    class Dies(training.Watch):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise KeyboardInterrupt
            super().on_step_end(args, state, control, **kwargs)

    run = toy_run(toy_model, "killed", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(training, "Watch", Dies)
        with pytest.raises(KeyboardInterrupt):
            train(run, method)
    assert train(run, method)["resumed"]
    assert same(adapter(run, method), adapter(whole, method))


@pytest.mark.parametrize("method", ["rft", "dpo"])
def test_recomputed_activations_give_the_same_adapter(toy_model, method):
    runs = {}
    for said in (False, True, "auto"):
        run = runs[said] = toy_run(toy_model, str(said), training__gradient_checkpointing=said)
        train(run, method)
    assert same(adapter(runs[False], method), adapter(runs[True], method))
    assert same(adapter(runs[False], method), adapter(runs["auto"], method))
