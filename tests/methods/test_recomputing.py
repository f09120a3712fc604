"""Checkpointing that the profile leaves to the machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from finetune_geometry.methods import recomputing
from finetune_geometry.settings.profiles import load_profile


def decided(choice: object, tokens: int | None = None) -> bool:
    changes = {"training.gradient_checkpointing": choice, "training.micro_batch_tokens": tokens}
    profile = load_profile("qwen3-4b", changes)
    return recomputing.recomputes(profile, profile.training, 3200)


def test_by_the_memory_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputing, "device", lambda profile: torch.device("cuda", 0))
    size = {"gib": 79}
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda place: SimpleNamespace(total_memory=size["gib"] * 2**30),
    )
    assert decided("auto")  # four rows of 3,200 tokens keep 72 GB
    assert not decided("auto", 8192)
    assert not decided(False)
    size["gib"] = 139
    assert not decided("auto")
    assert decided(True)


def test_never_by_itself_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recomputing, "device", lambda profile: torch.device("cpu"))
    assert not decided("auto")
