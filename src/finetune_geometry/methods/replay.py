"""A training looked at from inside: gradients at weights that stand still.

A frozen replay reads every batch that a training reads and takes its gradient, but never moves the
weights. What an optimiser would have made of these gradients is the **frozen prediction** of the
delta: where it fits, the training is a sum of first gradients; where it does not, the weights have
moved so far that the later gradients differ.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import TrainerCallback

from finetune_geometry.methods.arguments import memory_of
from finetune_geometry.methods.build import make_trainer
from finetune_geometry.methods.rows import row_lengths, row_order
from finetune_geometry.methods.saving import save_adapter
from finetune_geometry.methods.schedule import rates_of
from finetune_geometry.methods.training import begun
from finetune_geometry.models.compat import compact_head
from finetune_geometry.models.loading import load_model
from finetune_geometry.runs.records import Run
from finetune_geometry.runs.snapshots import snapshot_dir
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.sections import Training

OPTIMISERS = ("raw", "sgd", "adam")
"""What a replay makes of the gradients: their plain sum, each with the rate of its step, AdamW."""


class Shadow(TrainerCallback):
    """Lets optimisers of its own step on copies of the weights; the weights stay where they are.

    rates: the learning rate of each step, as the training has it.
    """

    def __init__(self, optimisers: Sequence[str], training: Training, rates: Sequence[float]):
        self.names, self.training, self.rates = tuple(optimisers), training, list(rates)
        self.copies: dict[str, dict[str, torch.nn.Parameter]] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        for name in self.names:
            copies = {
                key: torch.nn.Parameter(value.detach().clone())
                for key, value in model.named_parameters()
                if value.requires_grad
            }
            self.copies[name] = copies
            made: torch.optim.Optimizer
            if name == "adam":
                decay = self.training.weight_decay
                made = torch.optim.AdamW(copies.values(), lr=1.0, weight_decay=decay)
            else:
                made = torch.optim.SGD(copies.values(), lr=1.0)
            self.optimisers[name] = made

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """After the gradient of a whole step was clipped, before the trainer's optimiser."""
        gradients = {
            key: value.grad for key, value in model.named_parameters() if value.requires_grad
        }
        for name, optimiser in self.optimisers.items():
            for key, copy in self.copies[name].items():
                found = gradients[key]
                copy.grad = None if found is None else found.detach().clone()
            for group in optimiser.param_groups:
                group["lr"] = 1.0 if name == "raw" else self.rates[state.global_step]
            optimiser.step()


def replay(
    run: Run,
    method: str,
    step: int,
    names: Mapping[str, str],
) -> None:
    """Frozen predictions of a training's delta, from its weights after `step` steps.

    The gradients of all later batches are taken at these weights; the delta so far is kept.

    step: one after which the method's own training kept its adapter (`training.snapshots`), or 0.
    names: optimiser, of OPTIMISERS -> name of the adapter that is written. Moments start at zero.
    """
    profile, training = run.profile, run.profile.training_of(method)
    if unknown := set(names) - set(OPTIMISERS):
        raise UserError(f"no optimiser {sorted(unknown)[0]!r}: replay: {', '.join(OPTIMISERS)}")
    folder = f"{method}-replay{step}"
    rows = begun(run, method, folder)
    torch.set_num_threads(training.threads)
    sizes = row_lengths(rows)
    order = row_order(sizes.max(1), training)[step * training.batch_size :]
    still = dataclasses.replace(
        training, learning_rate=0.0, steps=training.steps - step, schedule_steps=None,
        save_steps=10**9,
    )  # fmt: skip
    shadow = Shadow(list(names), training, rates_of(training)[step:])
    loaded = load_model(profile, "base")
    loaded[0].train()
    checkpoints = run.path(f"checkpoints/{folder}")
    with memory_of(still), compact_head(loaded[0]):
        trainer = make_trainer(profile, method, still, rows, order, loaded, checkpoints, [shadow])
        if step:
            kept = snapshot_dir(run, method, step)
            weights = load_file(kept / "adapter_model.safetensors")
            set_peft_model_state_dict(trainer.model, weights)
        before = get_peft_model_state_dict(trainer.model)
        before = {key: value.clone() for key, value in before.items()}
        trainer.train()
    after = get_peft_model_state_dict(trainer.model)
    if any(not torch.equal(before[key], after[key]) for key in before):
        raise UserError(f"the weights moved during a replay: {run.dir}: {folder}")
    own = dict(trainer.model.named_parameters())
    for optimiser, name in names.items():
        for key, copy in shadow.copies[optimiser].items():
            own[key].data.copy_(copy.data)
        card = {"objective": method, "step": step, "optimiser": optimiser}
        save_adapter(run.adapter_dir(name), trainer.model, card)
    shutil.rmtree(checkpoints)
