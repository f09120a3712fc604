"""Adapters on disk: the one that a training ends with, and those on its way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import TrainerCallback

from finetune_geometry.runs.files import atomic_directory
from finetune_geometry.runs.records import Run
from finetune_geometry.runs.snapshots import snapshot_dir


def save_adapter(folder: Path, model: Any, card: Mapping[str, Any]) -> None:
    """Write a folder at once: PEFT's config, fp32 safetensors, and the card."""
    with atomic_directory(folder) as new:
        model.save_pretrained(new)
        weights = {key: value.float() for key, value in get_peft_model_state_dict(model).items()}
        save_file(weights, new / "adapter_model.safetensors", metadata={"format": "pt"})
        (new / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        (new / "card.json").write_text(json.dumps(card, indent=2) + "\n")


class Snapshots(TrainerCallback):
    """Keeps the adapter as it stands after the steps that `training.snapshots` names.

    origin: what decides the training (`runs/keys.py`); the card of each snapshot holds it, too. A
    training that goes on after a kill finds the earlier ones in place.
    """

    def __init__(self, run: Run, method: str, name: str, origin: Mapping[str, Any]) -> None:
        self.run, self.name, self.origin = run, name, dict(origin)
        self.steps = set(run.profile.training_of(method).snapshot_steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero and not state.global_step:
            shutil.rmtree(snapshot_dir(self.run, self.name, 0).parent, ignore_errors=True)

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and state.global_step in self.steps:
            folder = snapshot_dir(self.run, self.name, state.global_step)
            save_adapter(folder, model, {"step": state.global_step, **self.origin})
