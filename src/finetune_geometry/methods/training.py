"""Training: one entry point, `train`, for all objectives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from transformers import TrainerCallback

from finetune_geometry.methods.arguments import memory_of, packs
from finetune_geometry.methods.build import make_trainer
from finetune_geometry.methods.card_facts import lora_a_sha256, peak_memory_mb, versions
from finetune_geometry.methods.checkpoints import begin, kept_rows, last_checkpoint
from finetune_geometry.methods.distributed import launch
from finetune_geometry.methods.rows import (
    batch_facts,
    preference_pairs,
    row_lengths,
    row_order,
    selected,
    unpaired_rows,
)
from finetune_geometry.methods.saving import Snapshots, save_adapter
from finetune_geometry.methods.trainers import SHAPE_STEP, Watch
from finetune_geometry.models.compat import compact_head
from finetune_geometry.models.loading import load_model
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.files import explain_full_disk
from finetune_geometry.runs.keys import adapter_origin, rows_hash
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS, OBJECTIVES


def train(run: Run, method: str, name: str | None = None) -> dict[str, Any]:
    """Train one adapter on the run's rollouts and write it; returns its card.

    method: a key of METHODS; its settings are those of the run's profile.
    name: the adapter's folder under `adapters/` (default: the method).
    A killed training goes on from its last checkpoint, with the same result. The adapter as it
    stood after the steps of `training.snapshots` is kept in `snapshots/<name>/<step>/`.
    """
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}: train: use one of {', '.join(METHODS)}")
    name = name or method
    rows = begun(run, method, name)
    checkpoints = run.path(f"checkpoints/{name}")
    if run.profile.training_of(method).processes > 1:
        launch(run, method, name, checkpoints)
    else:
        train_here(run, method, name, rows)
    card: dict[str, Any] = json.loads((run.adapter_dir(name) / "card.json").read_text("utf-8"))
    shutil.rmtree(checkpoints)
    return card


def begun(run: Run, method: str, name: str) -> pd.DataFrame:
    """The rows of a training, whose folder `checkpoints/<name>/` is there and its own."""
    rows = rows_of(run, method)
    checkpoints = run.path(f"checkpoints/{name}")
    begin(checkpoints, _origin(run, method, rows))
    if OBJECTIVES[method].paired:
        kept_rows(checkpoints, rows)  # here, so that only one process writes them
    return rows


def train_here(
    run: Run,
    method: str,
    name: str,
    rows: pd.DataFrame | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """What this process has to do for `train`: all of it, or its part of every batch.

    The main process writes the adapter. `checkpoints/<name>/` is there.
    """
    profile = run.profile
    settings, training = profile.methods[method], profile.training_of(method)
    torch.set_num_threads(training.threads)
    rows = rows_of(run, method) if rows is None else rows
    sizes = row_lengths(rows)
    if sizes.max() > profile.model.max_length:
        raise UserError(
            f"the longest row has {sizes.max()} tokens, the context {profile.model.max_length}: "
            f"{method}: raise model.max_length or lower rollouts.max_new_tokens"
        )
    order = row_order(sizes.max(1), training)
    model, tokenizer = load_model(profile, "base")
    model.train()
    checkpoints, origin = run.path(f"checkpoints/{name}"), _origin(run, method, rows)
    packed = packs(profile, training, OBJECTIVES[method].paired)
    watch = Watch(training.steps, method)
    last = last_checkpoint(checkpoints, training.processes)
    with memory_of(training), compact_head(model):
        trainer = make_trainer(
            profile, method, training, rows, order, (model, tokenizer), checkpoints,
            [watch, Snapshots(run, method, name, origin), *callbacks],
        )  # fmt: skip
        initial_hash = lora_a_sha256(trainer.model)
        if last:
            print(f"going on from {last.name}")
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except Exception as error:
            explain_full_disk(error, checkpoints)
            raise
    if not trainer.is_world_process_zero():
        return
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
        **batch_facts(sizes, order, training, SHAPE_STEP, packed),
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
    save_adapter(run.adapter_dir(name), trainer.model, card)


def trained(run: Run, method: str, name: str | None = None) -> dict[str, Any]:
    """`train`, but an adapter that is there is kept if all that decides one is the same."""
    card = run.adapter_dir(name or method) / "card.json"
    if card.is_file():
        kept: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
        if kept | _origin(run, method, rows_of(run, method)) == kept:
            return kept
    return train(run, method, name)


def rows_of(run: Run, method: str) -> pd.DataFrame:
    """What a method is trained on, from the run's rollouts."""
    rollouts = selected(load_rollouts(run), run.profile.training)
    if OBJECTIVES[method].paired:
        return preference_pairs(rollouts)
    return unpaired_rows(rollouts, method, run.profile.methods[method])


def _origin(run: Run, method: str, rows: pd.DataFrame) -> dict[str, Any]:
    """What decides the adapter that these rows give, as its card holds it."""
    return adapter_origin(run.profile, method, rows_hash(rows))


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
    return pd.DataFrame({"value": list(shown.values())}, index=list(shown))


def _distinct(card: dict[str, Any]) -> str:
    least, mean = (card["distinct_rows_per_batch"][key] for key in ("least", "mean"))
    size = card["settings"]["training"]["batch_size"]
    if card["rows"] < size:
        return f"{least} of {size}: there are no more"
    return f"{least} of {size}" if least == mean else f"{least} to {size}, mean {mean:.1f}"
