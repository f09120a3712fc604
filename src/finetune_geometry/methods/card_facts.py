"""What a card tells of a training beside its losses: the initial A, memory, versions."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
from importlib.metadata import version
from typing import Any

import torch

from finetune_geometry.runs.keys import device_type


def lora_a_sha256(model: Any) -> str:
    """SHA-256 of all lora_A weights in name order: the shared initialisation has one value."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if ".lora_A." in name:
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def peak_memory_mb() -> dict[str, float]:
    """Peak memory of this process so far in MiB: resident, and on the GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in KiB
    peak = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    if device_type() == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated() / 2**20
    return peak


def versions() -> dict[str, str]:
    """Versions of what decides a training's result."""
    names = ("torch", "transformers", "peft", "trl", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
