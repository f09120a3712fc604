"""Further trainings of a run as steps of the workflow: what each reads, writes, and depends on.

Light, like jobs.py.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shipped import ROOT

from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.variation import Variation
from finetune_geometry.settings.variations import ANSWERING, kind_of

SCRIPT = ROOT / "workflow" / "train_variation.py"
ROLLOUTS = ("rollouts/rollouts.parquet", "rollouts/card.json")
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", "card.json")


def training_outputs(variation: Variation) -> list[str]:
    """The adapters of a further training, and its answers to the test problems if it gives any."""
    files = [f"adapters/{name}/{file}" for name in variation.adapters for file in ADAPTER_FILES]
    answers = [f"evaluation/predictions/{variation.name}.parquet"]
    return [*files, *(answers if kind_of(variation) in ANSWERING else [])]


def job_outputs(variations: Sequence[Variation]) -> list[str]:
    """What one job leaves, which makes these trainings one after another."""
    return [name for variation in variations for name in training_outputs(variation)]


def job_inputs(
    variations: Sequence[Variation], profile: Profile, modules: Sequence[Path]
) -> list[str]:
    """What a job's trainings are made from: the script, its `modules`, the base, the rollouts."""
    base = (ROOT / profile.model.base).glob("*")
    files = [SCRIPT, *modules, *sorted(path for path in base if path.is_file())]
    made = set(job_outputs(variations))
    found = dict.fromkeys([*map(str, files), *ROLLOUTS])
    for variation in variations:
        if variation.student:
            found[f"students/{variation.student}/card.json"] = None
        if variation.replay and variation.replay.step:  # its training kept it on its way
            found |= dict.fromkeys(f"adapters/{variation.method}/{file}" for file in ADAPTER_FILES)
    return [name for name in found if name not in made]


def job_settings(variations: Sequence[Variation], profile: Profile) -> str:
    """The part of the profile that a job's trainings depend on, and their changes, as text."""
    sections = ["model", "prompt", "problems", "lora", "training", "evaluation"]
    sections += [f"methods.{variation.method}" for variation in variations]
    chosen = covered(sections, profile)
    return json.dumps([chosen, *map(dataclasses.asdict, variations)], sort_keys=True)


def covered(sections: Sequence[str], profile: Profile) -> dict[str, Any]:
    """The profile's values that these sections or values take in, by dotted name."""
    return {
        key: value
        for key, value in profile.flat().items()
        if any(covers(section, key) for section in sections)
    }


def covers(setting: str, key: str) -> bool:
    """Whether a declared section or value takes in the value `key`: "lora" does "lora.r"."""
    return f"{key}.".startswith(f"{setting}.")
