"""The adapters of the second base, as they ship: read, compared with their table, and dense."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import load_file

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.geometry.similarity import cosine_table
from finetune_geometry.runs.files import read_csv
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.packages import PACKAGES
from finetune_geometry.settings.profiles import load_profile

FOLDER = ROOT / "models" / "smollm2-135m"
NAMES = sorted(path.name for path in (FOLDER / "adapters").iterdir())
CARDS = {
    name: json.loads((FOLDER / "adapters" / name / "card.json").read_text(encoding="utf-8"))
    for name in NAMES
}


def test_all_six_are_there_and_small() -> None:
    assert set(METHODS) <= set(NAMES)
    size = sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors"))
    assert size <= 20e6
    for name in NAMES:
        assert len(load_adapter(FOLDER / "adapters" / name, name)) == 120  # 4 of each of 30 blocks


def test_they_were_trained_by_the_profile_from_one_initial_a() -> None:
    profile = load_profile("smollm2-135m")
    shared = {CARDS[name]["lora_a_sha256"] for name in NAMES if name != "sft-seed"}
    assert len(shared) == 1
    package = PACKAGES[profile.model.base]
    for method in METHODS:
        card = CARDS[method]
        training = profile.training_of(method)
        assert card["steps"] == training.steps
        assert card["learning_rate"] == training.learning_rate
        settings = FOLDER / "adapters" / method / "adapter_config.json"
        assert json.loads(settings.read_text())["base_model_name_or_path"] == profile.model.base
        said = (FOLDER / "adapters" / method / "README.md").read_text(encoding="utf-8")
        assert package.pin in said
        assert package.what in said


def test_half_precision_changes_no_cosine() -> None:
    """The table was computed from the adapters in full precision, before they shipped."""
    table = read_csv(FOLDER / "geometry" / "cosine.csv")
    table = table[(table["quantity"] == "cosine") & (table["level"] == "global")]
    kept = table.set_index(["a", "b"])["value"].dropna()
    adapters = [load_adapter(FOLDER / "adapters" / name, name) for name in METHODS]
    again = cosine_table(adapters)
    again = again[(again["quantity"] == "cosine") & (again["level"] == "global")]
    for row in again.itertuples():
        known = kept.get((row.a, row.b), kept.get((row.b, row.a)))
        assert row.value == pytest.approx(known, abs=1e-5), (row.a, row.b)


def dense(name: str) -> dict[str, np.ndarray]:
    """dW = alpha / r B A of every module as a whole matrix, by nothing of this project's."""
    folder = FOLDER / "adapters" / name
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "adapter_model.safetensors")
    scale = settings["lora_alpha"] / settings["r"]
    return {
        key: scale
        * weights[key.replace("lora_A", "lora_B")].astype(np.float64)
        @ value.astype(np.float64)
        for key, value in weights.items()
        if "lora_A" in key
    }


def test_a_dense_computation_agrees() -> None:
    names = ("sft", "offline_grpo", "dpo")
    whole = {name: dense(name) for name in names}
    table = cosine_table([load_adapter(FOLDER / "adapters" / name, name) for name in names])
    table = table[(table["quantity"] == "cosine") & (table["level"] == "global")]
    found = table.set_index(["a", "b"])["value"]
    for a, b in combinations(names, 2):
        inner = sum(float((whole[a][key] * whole[b][key]).sum()) for key in whole[a])
        norms = [np.sqrt(sum(float((w**2).sum()) for w in whole[n].values())) for n in (a, b)]
        assert found[a, b] == pytest.approx(inner / (norms[0] * norms[1]), abs=1e-6)
