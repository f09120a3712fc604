"""Counting instead of computing: a whole training step of a model on `meta` tensors.

No weights, no data and no memory: a step of a model of 4B parameters takes seconds on a laptop.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from finetune_geometry.estimates.architecture import Architecture
from finetune_geometry.methods.arguments import adapter_config
from finetune_geometry.settings.sections import Lora


@dataclass(frozen=True)
class Count:
    """What a step of one row took, and what it trained."""

    modules: int  # with an adapter
    trained: int  # parameters of the adapters
    parameters: int  # of the base
    forward: float  # operations for each token, logits of all included
    training: float  # forward and backward, logits of all tokens included


def build(shape: Architecture, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Any:
    """A model of this shape on the current default device, its weights random (none on `meta`)."""
    config = AutoConfig.for_model(
        "qwen3" if shape.head_norms else "llama",
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head,
        tie_word_embeddings=shape.tied,
        attention_bias=shape.bias,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        **{"attn_implementation": "sdpa", "max_position_embeddings": 32768, **changes},
    )
    return AutoModelForCausalLM.from_config(config, dtype=dtype)


def count(shape: Architecture, lora: Lora, length: int, recompute: bool = False) -> Count:
    """Count one forward pass and one training step of a row of `length` tokens."""
    with torch.device("meta"), warnings.catch_warnings():
        # PEFT asks transformers for a property that was renamed.
        warnings.simplefilter("ignore", FutureWarning)
        base = build(shape)
        parameters = sum(p.numel() for p in base.parameters())
        model = get_peft_model(base, adapter_config(lora)).train()
        if recompute:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        ids = torch.zeros(1, length, dtype=torch.long)
        # A whole mask: of an absent one, or of places without numbers, nothing could be told.
        mask = torch.zeros(1, 1, length, length, dtype=torch.bool)
        inputs = {"input_ids": ids, "position_ids": ids, "attention_mask": mask, "use_cache": False}
        with FlopCounterMode(display=False) as counter:
            model(**inputs)
            forward = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            model(**inputs).logits.sum().backward()  # the fused head knows no `meta`
            training = counter.get_total_flops()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    return Count(
        modules=sum(".lora_A." in name for name in trained),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters=parameters,
        forward=forward / length,
        training=training / length,
    )
