"""From rows and settings to TRL's trainer of an objective, ready to go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, SFTConfig

from finetune_geometry.methods.arguments import (
    adapter_config,
    cut_by_tokens,
    packs,
    shared_arguments,
)
from finetune_geometry.methods.checkpoints import kept_rows
from finetune_geometry.methods.rows import row_lengths
from finetune_geometry.methods.trainers import (
    SHAPE_STEP,
    ObjectiveTrainer,
    PairTrainer,
    RowCollator,
    token_loss,
)
from finetune_geometry.models.compat import on_one_gpu
from finetune_geometry.settings.objectives import OBJECTIVES
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import Training


def make_trainer(
    profile: Profile,
    method: str,
    training: Training,
    rows: pd.DataFrame,
    order: list[int],
    loaded: tuple[Any, Any],
    checkpoints: Path,
    callbacks: Sequence[TrainerCallback],
) -> Any:
    """The trainer; it puts the adapter on the model when it is made.

    training: the method's, or with values replaced. order: indices of rows, step by step.
    loaded: model and tokenizer. checkpoints: the training's folder, which is there.
    """
    settings, sizes = profile.methods[method], row_lengths(rows)
    model, tokenizer = loaded
    packed = packs(profile, training, OBJECTIVES[method].paired)
    common = {"model": model, "processing_class": tokenizer, "order": order,
              "peft_config": adapter_config(profile.lora),
              "cut": cut_by_tokens(sizes, order, training, packed),
              "callbacks": [*callbacks]}  # fmt: skip
    shared = shared_arguments(profile, training, checkpoints, sizes)
    trainer: Any
    if OBJECTIVES[method].paired:
        variant = OBJECTIVES[method].variant(settings.variant)
        shared |= {**settings.constants, "precompute_ref_log_probs": variant.needs_reference}
        trainer = PairTrainer(
            args=on_one_gpu(DPOConfig(**shared)),
            train_dataset=kept_rows(checkpoints, rows),
            **common,
        )
    else:
        del shared["precompute_ref_batch_size"]
        shared["remove_unused_columns"] = False  # the weight of a row is used
        trainer = ObjectiveTrainer(
            args=on_one_gpu(SFTConfig(**shared)),
            data_collator=RowCollator(
                tokenizer.pad_token_id, padding_free=packed, pad_to_multiple_of=SHAPE_STEP
            ),
            objective=token_loss(method, settings),
            train_dataset=Dataset.from_pandas(rows, preserve_index=False),
            **common,
        )
    trainer.remove_callback(PrinterCallback)  # `Watch` prints one short line instead
    return trainer
