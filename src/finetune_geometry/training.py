"""Training: one entry point, `train`, for all six objectives.

The five unpaired objectives share one subclass of TRL's SFTTrainer, which differs from it in one
line, the loss; DPO is TRL's own trainer.  Both read rows in an order that is fixed beforehand, so
that every unpaired objective sees the same rows in the same batches.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from finetune_geometry import objectives
from finetune_geometry.models import load_model, lora_a_sha256, peak_memory_mb, versions
from finetune_geometry.profiles import METHODS, Method, Training, UserError
from finetune_geometry.records import Run, atomic_directory
from finetune_geometry.rollouts import load_rollouts
from finetune_geometry.rows import preference_pairs, row_order, rows_hash, unpaired_rows

#: The variants of each objective: the paper's own first, then those of the primary sources.
VARIANTS = {
    "sft": ("paper",),
    "rft": ("paper", "distinct"),
    "dft": ("paper",),
    "rift": ("paper", "published"),
    "offline_grpo": ("paper", "krafton"),
    "dpo": ("paper",),
}
SHAPE_STEP = 32  # rows are padded to a multiple of it: few shapes are fast on a CPU


def token_loss(method: str, settings: Method) -> Callable[[Tensor, Tensor, Tensor, Any], Tensor]:
    """The loss of each token, (rows, tokens), of an unpaired objective, as a function of
    (log_probs, mask, weight, reference), where `reference()` gives the base's log-probabilities."""
    match method, settings.variant:
        case "sft", _:
            return lambda log_probs, mask, weight, reference: objectives.sft(log_probs)
        case "rft", _:
            return lambda log_probs, mask, weight, reference: objectives.rft(log_probs, weight)
        case "dft", _:
            return lambda log_probs, mask, weight, reference: objectives.dft(log_probs)
        case "rift", "paper":
            return lambda log_probs, mask, weight, reference: objectives.rift(
                log_probs, weight, settings.reward_lambda
            )
        case "rift", "published":
            return lambda log_probs, mask, weight, reference: objectives.rift_published(
                log_probs, mask, weight, settings.negative_reward
            )
        case "offline_grpo", "paper":
            return lambda log_probs, mask, weight, reference: objectives.offline_grpo(
                log_probs, weight
            )
        case "offline_grpo", "krafton":
            return lambda log_probs, mask, weight, reference: objectives.offline_grpo_krafton(
                log_probs, reference(), mask, weight, settings.kl
            )
    raise UserError(
        f"unknown variant {settings.variant!r}: methods.{method}.variant: use one of "
        f"{', '.join(VARIANTS[method])}"
    )


class _RowCollator(DataCollatorForLanguageModeling):
    """TRL's collator, which pads ids and labels, and the rows' weights beside them."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        batch["weight"] = torch.tensor([example["weight"] for example in examples])
        return batch


class _FixedOrder:
    """A trainer that reads its rows in `order` (a list of indices)."""

    order: list[int]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order


class ObjectiveTrainer(_FixedOrder, SFTTrainer):
    """SFTTrainer with the loss of an unpaired objective (see `token_loss`)."""

    def __init__(
        self, *args: Any, objective: Callable[..., Tensor], order: list[int], **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        self.objective, self.order = objective, order

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "labels", "weight"]

    def compute_loss(  # type: ignore[no-untyped-def]
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        """Sum of the token losses over the completion tokens of the whole optimiser step."""
        weight = inputs.pop("weight")
        inputs["use_cache"] = False
        outputs = model(**inputs, fused_lm_head=True)

        def reference() -> Tensor:
            with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
                return model(**inputs, fused_lm_head=True).log_probs

        mask = outputs.label_mask
        losses = self.objective(outputs.log_probs, mask, weight.to(outputs.log_probs), reference)
        tokens = mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = losses.sum() / torch.as_tensor(tokens).clamp(min=1)
        return (loss, outputs) if return_outputs else loss


class PairTrainer(_FixedOrder, DPOTrainer):
    """DPOTrainer on rows that are tokenised already: the sampled tokens, not their decoded text."""

    def __init__(self, *args: Any, order: list[int], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.order = order

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class _Watch(TrainerCallback):
    """Stops at `steps` of a longer schedule, and stops with an error at a loss that is not finite."""

    def __init__(self, steps: int, where: str) -> None:
        self.steps, self.where = steps, where

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.steps:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        for name in ("loss", "grad_norm"):
            if logs and name in logs and not np.isfinite(logs[name]):
                raise UserError(
                    f"{name} is {logs[name]} at step {state.global_step}: {self.where}: lower its "
                    "learning_rate; the last checkpoint before it is kept"
                )
        if logs and "loss" in logs:
            print(
                f"step {state.global_step:5d} of {self.steps}   loss {logs['loss']:9.4f}   "
                f"gradient norm {logs['grad_norm']:8.4f}   learning rate {logs['learning_rate']:.2e}",
                flush=True,
            )


def train(run: Run, method: str, name: str | None = None) -> dict[str, Any]:
    """Train one adapter on the run's rollouts and write it; returns its card.

    method: a key of METHODS; its settings are those of the run's profile.
    name: the adapter's folder under `adapters/` (default: the method).
    A killed training goes on from its last checkpoint, with the same result.
    """
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}: train: use one of {', '.join(METHODS)}")
    profile, name = run.profile, name or method
    settings, training = profile.methods[method], profile.training_of(method)
    if settings.variant not in VARIANTS[method]:
        token_loss(method, settings)  # raises the error that lists the variants
    torch.set_num_threads(training.threads)
    rows = load_rollouts(run)
    if method == "dpo":
        rows = preference_pairs(rows)
        lengths = rows.apply(
            lambda r: len(r.prompt_ids) + max(len(r.chosen_ids), len(r.rejected_ids)), axis=1
        ).to_numpy()
    else:
        rows = unpaired_rows(rows, method, settings)
        lengths = rows["input_ids"].map(len).to_numpy()
    if lengths.max() > profile.model.max_length:
        raise UserError(
            f"the longest row has {lengths.max()} tokens, the context {profile.model.max_length}: "
            f"{method}: raise model.max_length or lower rollouts.max_new_tokens"
        )
    order = row_order(lengths, training)
    model, tokenizer = load_model(profile, "base")
    model.train()
    settings_hash = rows_hash(rows)
    checkpoints = run.path(f"checkpoints/{name}")
    _drop_foreign_checkpoints(checkpoints, [repr(settings), repr(training), repr(profile.lora),
                                            profile.model.base, settings_hash])  # fmt: skip
    lora = LoraConfig(
        r=profile.lora.r,
        lora_alpha=profile.lora.alpha,
        lora_dropout=profile.lora.dropout,
        target_modules=list(profile.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    shared: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "max_steps": training.schedule_steps or training.steps,
        "per_device_train_batch_size": training.micro_batch_size,
        "gradient_accumulation_steps": training.batch_size // training.micro_batch_size,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.scheduler,
        "warmup_steps": training.warmup_ratio,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": training.bf16,
        "activation_checkpointing": training.gradient_checkpointing,
        "seed": profile.lora.seed,  # TRL seeds with it right before the adapter is made
        "save_steps": training.save_steps,
        "save_total_limit": 1,
        "logging_steps": training.logging_steps,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "pad_to_multiple_of": SHAPE_STEP,
        "max_length": None,  # never truncate silently: lengths were checked above
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    common = {"model": model, "processing_class": tokenizer, "peft_config": lora, "order": order,
              "train_dataset": Dataset.from_pandas(rows, preserve_index=False),
              "callbacks": [_Watch(training.steps, method)]}  # fmt: skip
    trainer: Any
    if method == "dpo":
        arguments = DPOConfig(**shared, beta=settings.beta, precompute_ref_log_probs=True)
        trainer = PairTrainer(args=arguments, **common)
    else:
        trainer = ObjectiveTrainer(
            args=SFTConfig(**shared),
            data_collator=_RowCollator(tokenizer.pad_token_id, pad_to_multiple_of=SHAPE_STEP),
            objective=token_loss(method, settings),
            **common,
        )
    trainer.remove_callback(PrinterCallback)  # _Watch prints one short line instead
    initial_hash = lora_a_sha256(trainer.model)
    last = _last_checkpoint(checkpoints)
    if last:
        print(f"going on from {last.name}")
    begun = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    card = {
        "objective": method,
        "variant": settings.variant,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
        "lora_seed": profile.lora.seed,
        "steps": trainer.state.global_step,
        "rows": len(rows),
        "rows_sha256": settings_hash,
        "epochs": training.steps * training.batch_size / len(rows),
        "lora_a_sha256": initial_hash,
        "final_loss": history[-1]["loss"],
        "gradient_norms": [[entry["step"], entry["grad_norm"]] for entry in history],
        "losses": [[entry["step"], entry["loss"]] for entry in history],
        "seconds": time.perf_counter() - begun,
        "peak_memory_mb": peak_memory_mb(),
        "resumed": last is not None,
        "settings": {"method": vars(settings), "training": vars(training),
                     "lora": vars(profile.lora), "base": profile.model.base},
        "versions": versions(),
    }  # fmt: skip
    _save_adapter(run, name, trainer.model, card)
    shutil.rmtree(checkpoints)
    return card


def _drop_foreign_checkpoints(checkpoints: Path, settings: list[str]) -> None:
    """Forget checkpoints of a training with other settings or rows: going on from them is wrong."""
    note = checkpoints / "settings.json"
    text = json.dumps(settings)
    if checkpoints.exists() and not (note.exists() and note.read_text() == text):
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    note.write_text(text)


def _last_checkpoint(checkpoints: Path) -> Path | None:
    """The newest whole checkpoint: `trainer_state.json` is the last file that is written to one."""
    whole = [path.parent for path in checkpoints.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _save_adapter(run: Run, name: str, model: Any, card: dict[str, Any]) -> None:
    """Write `adapters/<name>/` at once: PEFT's config, fp32 safetensors, and the card."""
    with atomic_directory(run.adapter_dir(name)) as folder:
        model.save_pretrained(folder)
        weights = {key: value.float() for key, value in get_peft_model_state_dict(model).items()}
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
