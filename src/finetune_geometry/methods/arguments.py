"""What PEFT and TRL's trainers are told, from the profile: one place for all objectives."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from peft import LoraConfig

from finetune_geometry.methods.distributed import rank
from finetune_geometry.methods.recomputing import recomputes
from finetune_geometry.methods.rows import micro_batches
from finetune_geometry.methods.trainers import SHAPE_STEP
from finetune_geometry.models.device import device, enough_memory
from finetune_geometry.runs.keys import fast_bf16
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import Lora, Training


def shared_arguments(
    profile: Profile, training: Training, checkpoints: Path, sizes: np.ndarray
) -> dict[str, Any]:
    """What TRL's two configurations are given alike; sizes: `rows.row_lengths`."""
    on_cpu = device(profile).type == "cpu"
    return {
        "output_dir": str(checkpoints),
        "max_steps": max(training.schedule_steps or 0, training.steps),
        **_batches(training, sizes),
        "learning_rate": training.learning_rate,
        **({"optim": "sgd"} if training.optimizer == "sgd" else {}),
        "lr_scheduler_type": training.scheduler,
        "warmup_steps": training.warmup_ratio,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "use_cpu": on_cpu,
        "ddp_backend": None if training.processes == 1 else "gloo" if on_cpu else "nccl",
        "ddp_find_unused_parameters": False,  # every adapter is used in every step
        "bf16": training.bf16 and fast_bf16(),
        "activation_checkpointing": recomputes(
            profile, training, padded(int(sizes.max())), sizes.shape[1]
        ),
        "seed": profile.lora.seed,  # TRL seeds with it right before the adapter is made
        "save_steps": training.save_steps,
        "save_total_limit": 1,
        "logging_steps": min(training.logging_steps, training.steps),
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "pad_to_multiple_of": SHAPE_STEP,
        "max_length": None,  # never truncate silently: lengths were checked above
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": not on_cpu,
    }


def adapter_config(lora: Lora) -> LoraConfig:
    """A profile's `lora` as PEFT takes it."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )


def _batches(training: Training, sizes: np.ndarray) -> dict[str, int | None]:
    """How the trainer accumulates a batch: not at all where `cut_by_tokens` cuts it."""
    if training.micro_batch_tokens is None:
        micro, together = training.micro_batch_size, training.processes
        return {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": training.batch_size // (micro * together),
            "precompute_ref_batch_size": None,
        }
    longest = padded(int(sizes.max()))
    return {
        "per_device_train_batch_size": training.batch_size // training.processes,
        "gradient_accumulation_steps": 1,
        "precompute_ref_batch_size": max(1, training.micro_batch_tokens // (2 * longest)),
    }


def packs(profile: Profile, training: Training, paired: bool) -> bool:
    """Whether the rows of a micro-batch stand one behind the other, without padding.

    Flash attention alone reads such rows at the cost of their own lengths. TRL's DPO cannot.
    """
    by_tokens = training.micro_batch_tokens is not None
    return by_tokens and "flash" in profile.model.attention and not paired


def cut_by_tokens(
    sizes: np.ndarray, order: list[int], training: Training, packed: bool
) -> list[list[list[int]]] | None:
    """This process's micro-batches of every step, as indices of rows, where tokens bound them."""
    if training.micro_batch_tokens is None:
        return None
    batches = np.asarray(order).reshape(-1, training.batch_size)
    how = (SHAPE_STEP, rank(), packed)
    return [
        [batch[part].tolist() for part in micro_batches(sizes[batch], training, *how)]
        for batch in batches
    ]


def memory_of(training: Training) -> AbstractContextManager[None]:
    """`enough_memory` that names what bounds a micro-batch."""
    advice = "lower it, or set training.gradient_checkpointing = true"
    if training.micro_batch_tokens is not None:
        setting, value = "training.micro_batch_tokens", training.micro_batch_tokens
        return enough_memory(setting, value, advice)
    advice = "lower it, or bound micro-batches by training.micro_batch_tokens"
    return enough_memory("micro_batch_size", training.micro_batch_size, advice)


def padded(length: int) -> int:
    """What a row of `length` tokens is padded to, alone."""
    return -(-length // SHAPE_STEP) * SHAPE_STEP
