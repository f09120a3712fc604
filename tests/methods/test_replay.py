"""Frozen replays: where they must equal the training itself."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from test_training import toy_run
from transformers import TrainerCallback

from finetune_geometry.methods.replay import replay
from finetune_geometry.methods.schedule import rates_of
from finetune_geometry.methods.training import begun, train, train_here
from finetune_geometry.runs.snapshots import snapshot_dir
from finetune_geometry.settings.errors import UserError

EXACT = {"training__bf16": False, "training__warmup_ratio": 0.0}


def weights(run, name):
    return load_file(run.adapter_dir(name) / "adapter_model.safetensors")


def change(weights):
    """The factors B, which start at zero."""
    return {key: value for key, value in weights.items() if "lora_B" in key}


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_one_step_of_a_replay_is_one_step_of_the_training(toy_model, method):
    """Before the weights have moved there is nothing to predict."""
    run = toy_run(toy_model, training__steps=1, training__schedule_steps=4, **EXACT)
    train(run, method)
    replay(run, method, 0, {"adam": f"{method}-from0-adam"})
    ours, theirs = weights(run, method), weights(run, f"{method}-from0-adam")
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(theirs[key], ours[key], rtol=1e-6, atol=1e-9)


def test_later_steps_part_from_the_first_gradient(toy_model):
    run = toy_run(toy_model, training__learning_rate=1e-2, **EXACT)
    train(run, "sft")
    replay(run, "sft", 0, {"adam": "frozen"})
    ours, frozen = change(weights(run, "sft")), change(weights(run, "frozen"))
    assert any(not torch.allclose(ours[key], frozen[key], rtol=1e-3) for key in ours)


def test_from_the_last_snapshot_one_step_is_left(toy_model):
    """With fresh moments Adam's step is one of its rate in every coordinate that has a gradient."""
    changes = {"training__weight_decay": 0.0, "training__scheduler": "constant"}
    run = toy_run(toy_model, training__snapshots=[0.75], **changes, **EXACT)
    train(run, "sft")
    replay(run, "sft", 3, {"adam": "sft-from3-adam"})
    rate = run.profile.training.learning_rate
    kept = load_file(snapshot_dir(run, "sft", 3) / "adapter_model.safetensors")
    for key, before in change(kept).items():
        moved = (change(weights(run, "sft-from3-adam"))[key] - before).abs()
        assert moved.max() == pytest.approx(rate, rel=1e-2)


def test_the_plain_sum_and_a_constant_rate_differ_by_the_rate(toy_model):
    run = toy_run(toy_model, training__scheduler="constant", **EXACT)
    replay(run, "rft", 0, {"raw": "raw", "sgd": "sgd"})
    rate = run.profile.training.learning_rate
    raw, sgd = change(weights(run, "raw")), change(weights(run, "sgd"))
    for key in raw:
        torch.testing.assert_close(sgd[key], rate * raw[key], rtol=1e-4, atol=1e-9)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            *(
                [value for key, value in weights(run, name).items() if "lora_A" in key]
                for name in ("raw", "sgd")
            ),
            strict=True,
        )
    )  # no gradient while B is zero


def test_the_rates_are_those_of_the_trainer(toy_model):
    run = toy_run(toy_model, training__steps=5, training__schedule_steps=9)
    met = []

    class Rates(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
            met.append(optimizer.param_groups[0]["lr"])

    rows = begun(run, "sft", "sft")
    train_here(run, "sft", "sft", rows, [Rates()])
    assert rates_of(run.profile.training_of("sft")) == pytest.approx(met)
    assert len(set(met)) > 1
    still = dataclasses.replace(run.profile.training, scheduler="linear", schedule_steps=None)
    assert rates_of(still)[-1] < rates_of(still)[1]


def test_an_optimiser_that_is_none_is_refused(toy_model):
    with pytest.raises(UserError, match="no optimiser 'lion': replay: raw, sgd, adam"):
        replay(toy_run(toy_model), "sft", 0, {"lion": "x"})
