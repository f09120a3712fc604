"""Operations in closed form against PyTorch's counter, on `meta` tensors and on a small model."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache
from trl.trainer.utils import add_fused_lm_head

from finetune_geometry.estimates import flops
from finetune_geometry.estimates.architecture import Architecture, architecture_of
from finetune_geometry.methods.arguments import adapter_config
from finetune_geometry.methods.counted import build, count
from finetune_geometry.settings.profiles import load_profile

SMALL = Architecture(
    vocabulary=300, width=64, inner=96, layers=3, heads=4, key_value_heads=2, head=16,
    tied=True, head_norms=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def lora():
    return load_profile("qwen3-4b").lora


def test_the_paper_s_model_counted_whole_on_meta(lora) -> None:
    shape = architecture_of(load_profile("qwen3-4b").model.base)
    counted = count(shape, lora, 1024)
    assert counted.modules == shape.modules(lora) == 144
    assert counted.trained == shape.trained(lora) == 23_592_960
    assert counted.parameters == shape.parameters == 4_022_468_096
    expected = flops.training(shape, lora, 1024, fused_head=False)
    assert expected == pytest.approx(counted.training, rel=0.02)
    reading = flops.reading(shape, 1024, 1.0, shape.adapter_weights(lora))
    assert reading == pytest.approx(counted.forward, rel=0.02)


def test_a_part_of_it_that_recomputes(lora) -> None:
    shape = dataclasses.replace(architecture_of(load_profile("qwen3-4b").model.base), layers=4)
    counted = count(shape, lora, 1024, True)
    expected = flops.training(shape, lora, 1024, recompute=True, fused_head=False)
    assert expected == pytest.approx(counted.training, rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"head_norms": False, "tied": False}])
@pytest.mark.parametrize("modules", [("q_proj", "o_proj"), ("v_proj", "down_proj")])
def test_other_shapes_and_adapters(lora, changes: dict, modules: tuple[str, ...]) -> None:
    shape = dataclasses.replace(SMALL, layers=16, **changes)  # the first block is not like others
    lora = dataclasses.replace(lora, r=5, target_modules=modules)
    counted = count(shape, lora, 64)
    assert (counted.modules, counted.trained) == (32, shape.trained(lora))
    assert counted.parameters == shape.parameters
    expected = flops.training(shape, lora, 64, fused_head=False)
    assert expected == pytest.approx(counted.training, rel=0.02)


def test_the_fused_head_computes_its_logits_twice(lora) -> None:
    lora = dataclasses.replace(lora, r=4)
    base = build(SMALL, torch.float32, attn_implementation="eager")  # fused: not counted on a CPU
    add_fused_lm_head(base)
    model = get_peft_model(base, adapter_config(lora))
    ids = torch.randint(4, 300, (1, 64))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, fused_lm_head=True).loss.backward()
    expected = 64 * flops.training(SMALL, lora, 64, scored=63 / 64)
    head = 63 * 2 * SMALL.width * SMALL.vocabulary
    # The counter does not know the product in place (`addmm_`) that the gradient is made with.
    assert expected - head == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert expected - head == 64 * flops.training(SMALL, lora, 64, 63 / 64, fused_head=False)


def test_one_new_token_with_a_cache() -> None:
    model = build(SMALL, torch.float32, attn_implementation="eager").eval()
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.randint(4, 300, (1, 40)), past_key_values=cache)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=torch.tensor([[5]]), past_key_values=cache)
    assert flops.writing(SMALL, 41) == pytest.approx(counter.get_total_flops(), rel=0.02)
