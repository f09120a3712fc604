"""Synthetic deltas and adapter folders with known answers, for the tests of the geometry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from finetune_geometry.deltas.lowrank import LowRankDelta

Array = NDArray[np.float64]


def rotation(n: int, rng: np.random.Generator) -> Array:
    """A random orthogonal matrix."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def random_delta(
    rng: np.random.Generator, d_out: int = 24, d_in: int = 18, r: int = 5, scale: float = 2.0
) -> LowRankDelta:
    return LowRankDelta(rng.standard_normal((d_out, r)), rng.standard_normal((r, d_in)), scale)


def dense(delta: LowRankDelta) -> Array:
    """What the library never forms: the d_out x d_in matrix, as the reference of the tests."""
    return delta.scale * (delta.B @ delta.A)


def module_name(layer: int, kind: str = "q_proj") -> str:
    return f"model.layers.{layer}.self_attn.{kind}"


def write_adapter(
    folder: Path,
    factors: Mapping[str, tuple[Array, Array]],
    *,
    dtype: torch.dtype = torch.float32,
    extra: Mapping[str, torch.Tensor] | None = None,
    shards: int = 0,
    **config: Any,
) -> Path:
    """A PEFT adapter folder with these module -> (B, A); `config` replaces configuration keys."""
    folder.mkdir(parents=True, exist_ok=True)
    r = next(iter(factors.values()))[1].shape[0]
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": "student",
        "r": r,
        "lora_alpha": 2 * r,
        "target_modules": ["q_proj"],
        **config,
    }
    settings = {key: value for key, value in settings.items() if value is not ...}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tensors = dict(extra or {})
    for module, (b, a) in factors.items():
        stem = f"base_model.model.{module}"
        tensors[f"{stem}.lora_B.weight"] = torch.tensor(b, dtype=dtype)
        tensors[f"{stem}.lora_A.weight"] = torch.tensor(a, dtype=dtype)
    if not shards:
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder
    names = sorted(tensors)
    where = {}
    for i in range(shards):
        file = f"adapter_model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: tensors[n] for n in names[i::shards]}
        save_file(part, folder / file)
        where |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    return folder
