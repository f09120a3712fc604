"""Training: one entry point, `train`, for all six objectives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import PrinterCallback
from trl import DPOConfig, SFTConfig

from finetune_geometry.methods.card_facts import lora_a_sha256, peak_memory_mb, versions
from finetune_geometry.methods.rows import (
    batch_facts,
    preference_pairs,
    row_lengths,
    row_order,
    unpaired_rows,
)
from finetune_geometry.methods.trainers import (
    SHAPE_STEP,
    ObjectiveTrainer,
    PairTrainer,
    RowCollator,
    Watch,
    token_loss,
)
from finetune_geometry.models.loading import load_model
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.files import atomic_directory, explain_full_disk
from finetune_geometry.runs.keys import adapter_origin, rows_hash
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS, OBJECTIVES


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
    variant = OBJECTIVES[method].variant(settings.variant)
    torch.set_num_threads(training.threads)
    rows = _rows(run, method)
    sizes = row_lengths(rows)
    lengths = sizes.max(1)
    if lengths.max() > profile.model.max_length:
        raise UserError(
            f"the longest row has {lengths.max()} tokens, the context {profile.model.max_length}: "
            f"{method}: raise model.max_length or lower rollouts.max_new_tokens"
        )
    order = row_order(lengths, training)
    model, tokenizer = load_model(profile, "base")
    model.train()
    origin = _origin(run, method, rows)
    checkpoints = run.path(f"checkpoints/{name}")
    _drop_foreign_checkpoints(checkpoints, origin)
    lora = LoraConfig(
        r=profile.lora.r,
        lora_alpha=profile.lora.alpha,
        lora_dropout=profile.lora.dropout,
        target_modules=list(profile.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    shared: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "max_steps": max(training.schedule_steps or 0, training.steps),
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
        "logging_steps": min(training.logging_steps, training.steps),
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "pad_to_multiple_of": SHAPE_STEP,
        "max_length": None,  # never truncate silently: lengths were checked above
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    watch = Watch(training.steps, method)
    common = {"model": model, "processing_class": tokenizer, "peft_config": lora, "order": order,
              "train_dataset": Dataset.from_pandas(rows, preserve_index=False),
              "callbacks": [watch]}  # fmt: skip
    trainer: Any
    if OBJECTIVES[method].paired:
        shared |= {**settings.constants, "precompute_ref_log_probs": variant.needs_reference}
        arguments = DPOConfig(**shared)
        trainer = PairTrainer(args=arguments, **common)
    else:
        trainer = ObjectiveTrainer(
            args=SFTConfig(**shared, remove_unused_columns=False),  # the weight of a row is used
            data_collator=RowCollator(tokenizer.pad_token_id, pad_to_multiple_of=SHAPE_STEP),
            objective=token_loss(method, settings),
            **common,
        )
    trainer.remove_callback(PrinterCallback)  # Watch prints one short line instead
    initial_hash = lora_a_sha256(trainer.model)
    last = _last_checkpoint(checkpoints)
    if last:
        print(f"going on from {last.name}")
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except Exception as error:
        explain_full_disk(error, checkpoints)
        raise
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    card = {
        "objective": method,
        "variant": settings.variant,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
        "lora_seed": profile.lora.seed,
        "steps": trainer.state.global_step,
        "rows": len(rows),
        "epochs": training.steps * training.batch_size / len(rows),
        **batch_facts(sizes, order, training, SHAPE_STEP),
        "lora_a_sha256": initial_hash,
        "final_loss": history[-1]["loss"],
        "gradient_norms": [[entry["step"], entry["grad_norm"]] for entry in history],
        "losses": [[entry["step"], entry["loss"]] for entry in history],
        "seconds": watch.seconds(),
        "peak_memory_mb": peak_memory_mb(),
        "resumed": last is not None,
        **origin,
        "versions": versions(),
    }
    _save_adapter(run, name, trainer.model, card)
    shutil.rmtree(checkpoints)
    return card


def trained(run: Run, method: str, name: str | None = None) -> dict[str, Any]:
    """`train`, but an adapter that is there is kept if all that decides one is the same."""
    card = run.adapter_dir(name or method) / "card.json"
    if card.is_file():
        kept: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
        if kept | _origin(run, method, _rows(run, method)) == kept:
            return kept
    return train(run, method, name)


def _rows(run: Run, method: str) -> pd.DataFrame:
    """What a method is trained on, from the run's rollouts."""
    rollouts = load_rollouts(run)
    if OBJECTIVES[method].paired:
        return preference_pairs(rollouts)
    return unpaired_rows(rollouts, method, run.profile.methods[method])


def _origin(run: Run, method: str, rows: pd.DataFrame) -> dict[str, Any]:
    """What decides the adapter that these rows give, as its card holds it."""
    return adapter_origin(run.profile, method, rows_hash(rows))


def _drop_foreign_checkpoints(checkpoints: Path, origin: dict[str, Any]) -> None:
    """Forget checkpoints of another origin: going on from them would give a mixture of two."""
    note = checkpoints / "settings.json"
    text = json.dumps(origin)
    if checkpoints.exists() and not (note.exists() and note.read_text() == text):
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    note.write_text(text)


def _last_checkpoint(checkpoints: Path) -> Path | None:
    """The newest whole checkpoint: `trainer_state.json` is the last file that is written to one."""
    states = checkpoints.glob("checkpoint-*/trainer_state.json")
    whole = [path.parent for path in states if path.read_text().rstrip().endswith("}")]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _save_adapter(run: Run, name: str, model: Any, card: dict[str, Any]) -> None:
    """Write `adapters/<name>/` at once: PEFT's config, fp32 safetensors, and the card."""
    with atomic_directory(run.adapter_dir(name)) as folder:
        model.save_pretrained(folder)
        weights = {key: value.float() for key, value in get_peft_model_state_dict(model).items()}
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def summarise(card: dict[str, Any]) -> pd.DataFrame:
    """A card's main entries as a table of two columns, for a notebook."""
    pairs = OBJECTIVES[card["objective"]].paired
    drawn = "pairs to draw from" if pairs else "rows to draw from, with their weights"
    shown = {
        "objective": f"{METHODS[card['objective']]}, variant {card['variant']!r}",
        f"{drawn} (SHA-256)": f"{card['rows']:,} ({card['rows_sha256'][:8]})",
        "epochs": f"{card['epochs']:.2f}",
        f"different {'pairs' if pairs else 'rows'} in a batch": _distinct(card),
        "padding": f"{card['padding']:.0%} of the positions computed",
        "steps": card["steps"],
        "peak learning rate": f"{card['learning_rate']:.1e}",
        "lora_A at step 0 (SHA-256)": card["lora_a_sha256"][:8],
        "seconds": f"{card['seconds']:.0f}",
        "peak memory": f"{card['peak_memory_mb']['resident'] / 1024:.1f} GiB",
    }
    return pd.DataFrame({"": shown.keys(), "value": shown.values()}).set_index("")


def _distinct(card: dict[str, Any]) -> str:
    least, mean = (card["distinct_rows_per_batch"][key] for key in ("least", "mean"))
    size = card["settings"]["training"]["batch_size"]
    if card["rows"] < size:
        return f"{least} of {size}: there are no more"
    return f"{least} of {size}" if least == mean else f"{least} to {size}, mean {mean:.1f}"
