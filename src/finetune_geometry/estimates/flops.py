"""Floating-point operations of reading, writing and LoRA training, in closed form.

Conventions are those of PyTorch's FlopCounterMode: a multiplication and an addition are two
operations, only matrix products count, and every token attends to the whole text (a causal mask
saves nothing). `methods/counted.py` counts the same on `meta` tensors, and a test compares.
"""

from __future__ import annotations

from finetune_geometry.estimates.architecture import Architecture
from finetune_geometry.settings.sections import Lora

#: Tokens of a vocabulary from which on a training on a CPU leaves the prompts out of its head.
LARGE_VOCABULARY = 10_000


def reading(shape: Architecture, length: float, scored: float = 0.0, adapters: int = 0) -> float:
    """Of a forward pass, for each token of a text of `length` tokens.

    scored: share of the tokens whose logits are computed.
    adapters: weights of the adapters in one block, applied beside the base.
    """
    attention = 4 * length * shape.heads * shape.head
    block = 2 * shape.block_weights + attention + 2 * adapters
    return shape.layers * block + scored * _head(shape)


def writing(shape: Architecture, context: float, adapters: int = 0) -> float:
    """Of one new token, `context` tokens before it held in the cache."""
    return reading(shape, context, 1.0, adapters)


def training(
    shape: Architecture,
    lora: Lora,
    length: float,
    scored: float = 1.0,
    recompute: bool = False,
    fused_head: bool = True,
) -> float:
    """Of a training step, for each token (padding counts) of rows of `length` tokens.

    The base is frozen: its weights have no gradient, and the first block hands none down.
    scored: share of the tokens whose logits are computed; a fused head computes them twice.
    recompute: activations are computed again in the backward pass (checkpointing).
    """
    adapters = shape.adapter_weights(lora)
    forward = reading(shape, length, 0.0, adapters)
    total = 3 * forward - shape.layers * 2 * shape.block_weights  # no gradient of the base
    if recompute:
        # What a block ends in is not needed to go back through it.
        total += forward - shape.layers * 2 * shape.inner * shape.width
    else:  # the embeddings below the first block need no gradient
        first = ("q_proj", "k_proj", "v_proj")
        total -= sum(2 * shape.width * shape.shapes[name][1] for name in first)
        total -= sum(2 * lora.r * shape.width for name in first if name in lora.target_modules)
    return total + scored * (3 if fused_head else 2) * _head(shape)


def _head(shape: Architecture) -> float:
    return 2 * shape.width * shape.vocabulary
