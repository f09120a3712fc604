"""Bytes in closed form against what autograd keeps, and the figures that are known."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from peft import get_peft_model

from finetune_geometry.estimates import memory
from finetune_geometry.estimates.architecture import Architecture, architecture_of
from finetune_geometry.methods.arguments import adapter_config
from finetune_geometry.methods.counted import build
from finetune_geometry.settings.profiles import load_profile

QWEN = architecture_of("Qwen/Qwen3-4B-Instruct-2507")
LORA = load_profile("qwen3-4b").lora


def kept(shape: Architecture, tokens: int) -> int:
    """Bytes that autograd keeps for the way back, weights aside."""
    lora = dataclasses.replace(LORA, r=8)
    model = get_peft_model(build(shape, torch.bfloat16), adapter_config(lora)).train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}
    held = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.numel() % tokens == 0:
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # so that no other takes its place
        return tensor

    ids = torch.randint(4, shape.vocabulary, (1, tokens))
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        model.base_model.model.model(input_ids=ids, use_cache=False)
    return sum(seen.values())


@pytest.mark.parametrize("head_norms", [True, False])
def test_activations_of_a_block(head_norms: bool) -> None:
    # Qwen3-4B a tenth as wide, its proportions as they are.
    shape = Architecture(
        vocabulary=64, width=256, inner=972, layers=2, heads=32, key_value_heads=8, head=14,
        tied=True, head_norms=head_norms,
    )  # fmt: skip
    tokens = 97  # a number that no weight's size is a multiple of
    deeper = dataclasses.replace(shape, layers=4)
    measured = (kept(deeper, tokens) - kept(shape, tokens)) / 2 / tokens
    expected = memory.block_activations(shape, dataclasses.replace(LORA, r=8))
    assert expected == pytest.approx(measured, rel=0.15)


def test_figures_of_the_paper_s_model() -> None:
    assert QWEN.cache_bytes("bfloat16") == 147_456
    per_token = memory.activations(QWEN, LORA, 1, False)
    assert 5e6 < per_token < 6e6
    # 8 GB of weights, 72 GB of activations of four rows of 3,200 tokens.
    assert memory.training_gib(QWEN, LORA, "bfloat16", 4 * 3200, False) > 70
    assert memory.training_gib(QWEN, LORA, "bfloat16", 4 * 3200, True) < 20


def test_checkpointing_where_it_is_needed() -> None:
    def chosen(choice: object, gib: float) -> bool:
        return memory.recomputes(choice, QWEN, LORA, "bfloat16", 4 * 3200, gib)

    assert (chosen("auto", 79), chosen("auto", 139), chosen("auto", 0)) == (True, False, False)
    assert (chosen(True, 139), chosen(False, 24)) == (True, False)


def test_fewer_answers_at_once_on_a_smaller_gpu() -> None:
    large = memory.rows_at_once(QWEN, "bfloat16", 1000, 1e6, 79)
    small = memory.rows_at_once(QWEN, "bfloat16", 1000, 1e6, 23.5)
    assert memory.PAGED_ROWS == large > small > memory.LEAST_ROWS
    assert memory.rows_at_once(QWEN, "bfloat16", 1000, 3, 79) == 3
    assert memory.writing_gib(QWEN, "bfloat16", 1000, small) < 23.5
