"""Bytes at the peak: weights, adapters and their optimiser, activations, caches, logits."""

from __future__ import annotations

from finetune_geometry.estimates.architecture import BYTES, Architecture
from finetune_geometry.estimates.machines import GIB
from finetune_geometry.settings.sections import Lora

CONTEXT = 1.0  # GiB that a GPU's driver and libraries take
SLACK = 1.08  # of the allocator: blocks that are held and not used
HEAD_TILE = 4096 * 1024 * 12  # bytes of the fused head: a tile of logits, and its sums in fp32
LOGIT = 10  # bytes for each: bf16, fp32, and their log-softmax
PAGED_ROWS = 256  # answers at once in continuous batching, memory allowing
LEAST_ROWS = 8  # with fewer at once sampling is not worth its while


def block_activations(shape: Architecture, lora: Lora) -> float:
    """Bytes that one block keeps for the backward pass, for each token, in bf16 autocast.

    Linear layers of the base keep nothing, being frozen. Kept are: the inputs of the norms in fp32;
    the inputs of the adapters, once for each adapter; queries, keys, values and the result of
    fused attention; both branches of the MLP, the gate before and after its activation.
    """
    queries, keys = shape.heads * shape.head, shape.key_value_heads * shape.head
    norms = 2 * 4 * shape.width + (4 * (queries + keys) if shape.head_norms else 0)
    adapters = sum(2 * (shape.shapes[name][0] + lora.r) for name in lora.target_modules)
    attention = 2 * (2 * queries + 2 * keys)
    return norms + adapters + attention + 3 * 2 * shape.inner


def activations(shape: Architecture, lora: Lora, tokens: float, recompute: bool) -> float:
    """Bytes that a training step keeps of `tokens` positions; recompute: checkpointing."""
    block = block_activations(shape, lora)
    kept = shape.layers * 2 * shape.width + block if recompute else shape.layers * block
    return tokens * (kept + 2 * 4 * shape.width)  # and what enters the head, in fp32


def training_gib(
    shape: Architecture, lora: Lora, dtype: str, tokens: float, recompute: bool
) -> float:
    """GPU memory of a training whose largest micro-batch has `tokens` positions."""
    weights = shape.parameters * BYTES[dtype]
    adapters = shape.trained(lora) * 16  # fp32: weights, gradients, two moments of Adam
    kept = activations(shape, lora, tokens, recompute)
    return CONTEXT + SLACK * (weights + adapters + kept + HEAD_TILE) / GIB


def recomputes(
    choice: object, shape: Architecture, lora: Lora, dtype: str, tokens: float, gpu_gib: float
) -> bool:
    """Whether a training recomputes its activations, as `training.gradient_checkpointing` says.

    "auto": where they would not fit into the GPU's memory otherwise (never on a CPU).
    """
    if choice != "auto":
        return bool(choice)
    return 0 < gpu_gib * 0.95 < training_gib(shape, lora, dtype, tokens, False)


def cpu_weights_gib(shape: Architecture, dtype: str) -> float:
    """Weights on a CPU that reads or writes: fp32 ones lie there packed, too."""
    return shape.parameters * BYTES[dtype] * (2 if dtype == "float32" else 1) / GIB


def rows_at_once(
    shape: Architecture, dtype: str, context: float, rows: float, gpu_gib: float
) -> float:
    """Answers that continuous batching keeps going: as many as there are, fit, and are of use."""
    free = gpu_gib * 0.85 - writing_gib(shape, dtype, context, 0)
    room = free * GIB / (shape.cache_bytes(dtype) * context + shape.vocabulary * LOGIT)
    return max(1.0, min(rows, PAGED_ROWS, room))


def writing_gib(shape: Architecture, dtype: str, context: float, rows: float) -> float:
    """GPU memory of sampling `rows` answers at once, each with `context` tokens in the cache."""
    weights = shape.parameters * BYTES[dtype]
    held = rows * (context * shape.cache_bytes(dtype) + shape.vocabulary * LOGIT)
    return CONTEXT + SLACK * (weights + held) / GIB


def reading_gib(
    shape: Architecture, dtype: str, tokens: float, length: float, scored: float, kept: bool
) -> float:
    """GPU memory of reading `tokens` positions at once, of texts of `length` tokens.

    scored: share of the tokens whose logits are computed; kept: the hidden states of every layer.
    """
    weights = shape.parameters * BYTES[dtype]
    tokens = max(length, tokens)
    passing = tokens * 2 * (4 * shape.width + 3 * shape.inner)  # of one block
    states = tokens * 2 * shape.width * shape.layers if kept else 0.0
    logits = tokens * max(scored, 1 / length) * shape.vocabulary * LOGIT
    return CONTEXT + SLACK * (weights + passing + states + logits) / GIB
