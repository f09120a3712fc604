"""Reading and writing with a model, fast on a CPU: fused attention and packed weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from finetune_geometry.models.compat import attention_of, packed_linear
from finetune_geometry.settings.errors import UserError


def require_full_attention(config: Any) -> None:
    """Raise UserError unless every layer of a model attends to the whole text before a token."""
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):  # where there is no switch it is on
        others.add(f"a window of {window} tokens")
    if others:
        name = getattr(config, "name_or_path", "") or config.model_type
        raise UserError(
            f"a layer does not see the whole text ({', '.join(sorted(others))}): {name}: take a "
            "model of full attention, as Qwen3 or Llama 3: sampling here knows no other"
        )


def require_room(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Raise UserError where a text would not fit into the context, or a layer not see all of it."""
    require_full_attention(model.config)
    limit = model.config.max_position_embeddings
    longest = max(map(len, prompts), default=0)
    if longest + max_new_tokens > limit:
        raise UserError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the context "
            f"of {limit}: generation: lower max_new_tokens or drop the longest problems"
        )


@contextmanager
def fast_inference(model: Any, attention: str = "sdpa") -> Iterator[None]:
    """Read or write with a model as fast as may be: fused attention and `packed_linears`.

    attention: an implementation that transformers knows. The model is left as it was.
    """
    before = attention_of(model)
    model.set_attn_implementation(attention)
    try:
        with packed_linears(model):
            yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def packed_linears(model: Any) -> Iterator[None]:
    """Run the fp32 linear layers on a CPU through oneDNN with packed weights, for inference.

    PyTorch's default, MKL, reaches half of its speed on processors of another maker.  Results
    differ in rounding only; weights must not change meanwhile, and nothing can be trained.
    """
    linears = [
        module
        for module in model.modules()
        if type(module) is torch.nn.Linear
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
    ]
    for module in linears:
        module.forward = packed_linear(module)  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in linears:
            del module.forward
