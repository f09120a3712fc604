"""The seconds of each optimiser step of a training that is done for its time alone."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig

from finetune_geometry.methods.arguments import adapter_config
from finetune_geometry.methods.trainers import SHAPE_STEP, ObjectiveTrainer, RowCollator, token_loss
from finetune_geometry.models.compat import on_one_gpu
from finetune_geometry.models.tiny import build_tokenizer
from finetune_geometry.runs.keys import fast_bf16
from finetune_geometry.settings.profiles import Profile


def timed_steps(
    profile: Profile, model: Any, rows: pd.DataFrame, order: Sequence[int], batch: int, micro: int
) -> list[float]:
    """Seconds of each step of SFT on `rows` in `order`: `batch` rows a step, `micro` at a time.

    The trainer, the loss, the collator and the number format are those of the profile's trainings;
    nothing is kept.
    """
    stamps, on_gpu = _Stamps(profile.training.threads), torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks for a renamed property
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=len(order) // batch,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=batch // micro,
            learning_rate=1e-5,
            use_cpu=not on_gpu,
            bf16=profile.training.bf16 and fast_bf16(),
            activation_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            pad_to_multiple_of=SHAPE_STEP,
            max_length=None,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=on_gpu,
            remove_unused_columns=False,
        )
        trainer = ObjectiveTrainer(
            args=on_one_gpu(arguments),
            model=model,
            processing_class=build_tokenizer(),
            peft_config=adapter_config(profile.lora),
            order=list(order),
            cut=None,
            train_dataset=Dataset.from_pandas(rows, preserve_index=False),
            callbacks=[stamps],
            data_collator=RowCollator(0, pad_to_multiple_of=SHAPE_STEP),
            objective=token_loss("sft", profile.methods["sft"]),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [end - begin for begin, end in zip(stamps.begins, stamps.ends, strict=True)]


def now(threads: int) -> float:
    """Seconds on a clock that starts anywhere: of the GPU's work, where there is one.

    Of a single thread on a CPU the processor's own time, so that what else runs on the machine is
    not counted: an estimate is of a machine that does nothing else.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if threads == 1 else time.perf_counter()


class _Stamps(TrainerCallback):
    """When each optimiser step began and ended."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.begins: list[float] = []
        self.ends: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begins.append(now(self.threads))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(now(self.threads))
