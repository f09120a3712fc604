"""All that the project takes from torch, transformers and TRL beyond what they document.

Each entry says what it is and what could be done without it. CHECKED names the releases on which
the tests that would see a change were last run: `tests/models/test_compat.py` compares it with the
pins. Nothing else in the package may use a private name of these libraries (tested).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import trl.trainer.utils
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from finetune_geometry.estimates.flops import LARGE_VOCABULARY

CHECKED = {"torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0"}


# torch: oneDNN's packed linear layers.


def packed_linear(module: torch.nn.Linear) -> Callable[[Tensor], Tensor]:
    """A forward pass of an fp32 linear layer on a CPU through oneDNN, its weights packed now.

    `torch.ops.mkldnn._reorder_linear_weight` and `_linear_pointwise` are what torch.compile makes
    of a linear layer. Without them: the layer's own forward, slower, the same up to rounding.
    """
    # 64: a batch size to lay the weights out for; any other is right, too.
    packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), 64)
    return partial(_packed_forward, packed, module.bias)


def _packed_forward(packed: Any, bias: Tensor | None, inputs: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


# transformers: attention and the cache.


def attention_of(model: Any) -> str:
    """Which attention implementation a model uses; `set_attn_implementation` is public.

    Without `_attn_implementation`: the profile's `model.attention`, handed down to here.
    """
    name: str = model.config._attn_implementation
    return name


def register_attention(name: str, function: Callable[..., Any]) -> None:
    """Make `function` known as an attention implementation whose masks are those of "sdpa".

    The two registries are public; what they call a function and a mask with is described in no
    place that promises to keep it. Without it: "sdpa" itself, which reads every row to the length
    of the longest.
    """
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)


#: What "sdpa" stands for: PyTorch's fused attention, called as a registered function is. Without
#: it: `torch.nn.functional.scaled_dot_product_attention` and a transposition.
sdpa_attention = sdpa_attention_forward

#: What one layer of a `Cache` derives from. A subclass relies on what models ask of it: `update`,
#: `lazy_initialization`, `get_seq_length`, `is_initialized`, `keys`, `values`. Without it:
#: `DynamicCache`, which copies every key and value at each step.
CacheLayer = DynamicLayer


# transformers and TRL: the trainers.


class FixedOrder:
    """A trainer that reads its rows in `order`, a list of indices.

    `_get_train_sampler` is transformers' own hook. Without it: the rows repeated in this order,
    `dataset.select(order)`, and train_sampling_strategy="sequential", as the tests' oracle does.
    """

    order: Any  # list of indices

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order


class TokenisedRows:
    """A DPOTrainer whose rows are tokenised already: the sampled tokens, not their decoded text.

    `_prepare_dataset` is TRL's step from text to tokens. Without it: the text, which need not be
    tokenised as it was sampled.
    """

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def on_one_gpu(arguments: Any) -> Any:
    """Training arguments of a process that uses one GPU, however many it sees.

    transformers would wrap the model in DataParallel and multiply the batch; `_n_gpu` is the number
    that it goes by. Without it: CUDA_VISIBLE_DEVICES, set before anything asks for a GPU.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def token_log_probs(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Any]:
    """log pi of every label and the mask of those that count, (rows, tokens), and all outputs.

    `fused_lm_head`, `log_probs` and `label_mask` are TRL's: its trainers replace the forward pass
    of their model by one that never holds all logits. Without them: `model(**inputs).logits`, its
    log_softmax at the shifted labels, 0 where a label is -100; more memory, other rounding.
    """
    outputs = model(**inputs, fused_lm_head=True)
    return outputs.log_probs, outputs.label_mask, outputs


@contextmanager
def compact_head(model: Any) -> Iterator[None]:
    """Within the block `fused_lm_head` scores only the labels that count, on a CPU, too.

    TRL leaves out the others where it has Triton, that is on a GPU, and asks `_use_triton` for it.
    With a large vocabulary the head is a good part of a step; a small one is scored as TRL has it.
    Without it: the same numbers up to rounding, more slowly.
    """
    if model.config.get_text_config().vocab_size < LARGE_VOCABULARY:
        yield
        return
    before = trl.trainer.utils._use_triton
    trl.trainer.utils._use_triton = lambda device: True
    try:
        yield
    finally:
        trl.trainer.utils._use_triton = before
