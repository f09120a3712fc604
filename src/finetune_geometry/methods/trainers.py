"""Trainers: TRL's SFTTrainer with the loss of an unpaired objective, and TRL's DPOTrainer.

The unpaired objectives share one subclass of SFTTrainer, which differs from it in the loss;
DPO is TRL's own trainer.  Both read rows in an order that is fixed beforehand, so that every
unpaired objective sees the same rows in the same batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import DPOTrainer, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from finetune_geometry.methods import losses
from finetune_geometry.methods.steps import WholeSteps
from finetune_geometry.models.compat import FixedOrder, TokenisedRows, token_log_probs
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import OBJECTIVES
from finetune_geometry.settings.sections import Method

SHAPE_STEP = 32  # rows are padded to a multiple of it: few shapes are fast on a CPU


def token_loss(method: str, settings: Method) -> Callable[[Tensor, Tensor, Tensor, Any], Tensor]:
    """The loss of each token, (rows, tokens), of an unpaired objective, as a function of
    (log_probs, mask, weight, reference), where `reference()` gives the base's log-probabilities.

    The table of objectives names the function in `losses` and what it takes.
    """
    variant = OBJECTIVES[method].variant(settings.variant)
    function = getattr(losses, variant.loss)

    def loss(log_probs: Tensor, mask: Tensor, weight: Tensor, reference: Any) -> Tensor:
        # The weight of a row is a reward or an advantage: a loss calls it by the one it takes.
        known: dict[str, Any] = {"log_probs": log_probs, "mask": mask, **settings.constants}
        known |= {"reward": weight, "advantage": weight}
        if variant.needs_reference:  # one more forward pass
            known["reference_log_probs"] = reference()
        return function(**{name: known[name] for name in variant.takes})

    return loss


class RowCollator(DataCollatorForLanguageModeling):
    """TRL's collator, which pads ids and labels, and the rows' weights beside them.

    With `padding_free` rows stand one behind the other in one sequence, (1, tokens), and each token
    has the weight of its row; what attends must keep them apart by their positions.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        weight = torch.tensor([example["weight"] for example in examples])
        if self.padding_free:
            tokens = torch.tensor([len(example["input_ids"]) for example in examples])
            held = weight.repeat_interleave(tokens)
            weight = held.new_zeros(batch["input_ids"].shape)
            weight[0, : len(held)] = held
        batch["weight"] = weight
        return batch


class ObjectiveTrainer(WholeSteps, FixedOrder, SFTTrainer):
    """SFTTrainer with the loss of an unpaired objective (see `token_loss`).

    order: indices of the rows, step by step; cut: see `WholeSteps`.
    """

    def __init__(
        self, *args: Any, objective: Callable[..., Tensor], order: Any, cut: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.objective: Callable[..., Tensor] = objective
        self.order, self.cut = order, cut

    def compute_loss(  # type: ignore[no-untyped-def]
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        """Sum of the token losses over the completion tokens of the whole optimiser step."""
        weight = inputs.pop("weight")
        inputs["use_cache"] = False
        packed = weight.ndim == 2
        if packed:  # a loss is a function of each token: each is a row of its own, then
            weight = weight[0, 1:]

        def read() -> tuple[Tensor, Tensor, Any]:
            log_probs, mask, outputs = token_log_probs(model, inputs)
            return (log_probs.T, mask.T, outputs) if packed else (log_probs, mask, outputs)

        def reference() -> Tensor:
            with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
                return read()[0]

        log_probs, mask, outputs = read()
        losses = self.objective(log_probs, mask, weight.to(log_probs), reference)
        tokens = mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = losses.sum() / torch.as_tensor(tokens).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the gradients will be averaged
        return (loss, outputs) if return_outputs else loss


class PairTrainer(WholeSteps, FixedOrder, TokenisedRows, DPOTrainer):
    """DPOTrainer on the sampled tokens, in a fixed order.

    order: indices of the pairs, step by step; cut: see `WholeSteps`.
    """

    def __init__(self, *args: Any, order: Any, cut: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order, self.cut = order, cut
        self.pairs_of_a_step = len(order) // len(cut) if cut else None

    def compute_loss(  # type: ignore[no-untyped-def]
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        """The mean over the pairs of a micro-batch, or its part of the mean over the step's."""
        pairs = len(inputs["input_ids"]) // 2
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.pairs_of_a_step is not None:
            # The gradients of several processes will be averaged.
            loss = loss * (pairs * self.accelerator.num_processes / self.pairs_of_a_step)
        return loss


class Watch(TrainerCallback):
    """Stops at `steps` of a longer schedule, or with an error at a loss that is not finite.

    Keeps the seconds of the training in its log, so that those before a resumption count.
    """

    def __init__(self, steps: int, where: str) -> None:
        self.steps, self.where = steps, where
        self.begun = time.perf_counter()

    def seconds(self) -> float:
        """Of the whole training so far, on the clock."""
        return time.perf_counter() - self.begun

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # What came after the checkpoint was lost with its log, and is done again.
        self.begun -= max((entry.get("clock", 0.0) for entry in state.log_history), default=0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.steps:
            control.should_training_stop = True
            control.should_log = True  # so that the last loss is checked and kept
            # A checkpoint of the last step could not be gone on from without one step too many.
            control.should_save = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        for name in ("loss", "grad_norm"):
            if logs and name in logs and not np.isfinite(logs[name]):
                raise UserError(
                    f"{name} is {logs[name]} at step {state.global_step}: {self.where}: lower its "
                    "learning_rate; the last checkpoint before it is kept"
                )
        if logs and "loss" in logs:
            state.log_history[-1]["clock"] = self.seconds()
            print(
                f"step {state.global_step:5d} of {self.steps}   loss {logs['loss']:9.4f}   "
                f"gradient norm {logs['grad_norm']:8.4f}   "
                f"learning rate {logs['learning_rate']:.2e}",
                flush=True,
            )
