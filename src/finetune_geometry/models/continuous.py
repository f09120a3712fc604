"""Writing with a model by what suits the machine: our own loop, or continuous batching on a GPU.

On a CPU the loop of `generation` is the faster one by far. On a GPU a batch that waits for its
longest answer leaves most of the machine idle: transformers' continuous batching puts the next
prompt into every place that falls free, its cache in pages. Greedy tokens of both are the same
(tested on a CPU, where both run).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from finetune_geometry.models.generation import end_tokens, generate
from finetune_geometry.models.inference import require_room


def by_pages(model: Any) -> bool:
    """Whether `complete` writes with this model by continuous batching."""
    return bool(model.device.type != "cpu")


def complete(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
) -> list[list[int]]:
    """Complete every prompt: the new token ids of each, with the EOS if it was reached.

    As `generation.generate`, whose arguments these are; an active adapter, or a `Mixture` that is
    at one point, acts in both. batch_size: rows that are written at the same time, at most.
    """
    write = continuous if by_pages(model) else generate
    return write(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
    )


def continuous(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
    pages: int | None = None,
) -> list[list[int]]:
    """`complete` by continuous batching.

    pages: blocks of 256 tokens in the cache; None: as many as fit into the memory that is free.
    Raises RuntimeError with its reason where a prompt got no completion.
    """
    require_room(model, prompts, max_new_tokens)
    # Whatever a model's own generation settings are, tokens are drawn from all of them.
    drawn = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    asked = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        eos_token_id=sorted(end_tokens(model)),
        pad_token_id=tokenizer.pad_token_id,
        **drawn,
    )
    machinery = ContinuousBatchingConfig(
        num_blocks=pages,
        max_requests_per_batch=batch_size,
        seed=seed,
        auto_switch_to_flash=False,  # model.attention says which; and nothing is fetched
    )
    found = model.generate_batch(
        [list(prompt) for prompt in prompts],
        generation_config=asked,
        continuous_batching_config=machinery,
    )
    results = list(found.values())  # in the order of the prompts
    failed = [result.error for result in results if result.error is not None]
    if failed or len(results) != len(prompts):
        lost = len(prompts) - len(results)
        raise RuntimeError(failed[0] if failed else f"{lost} prompts got no completion")
    return [list(result.generated_tokens) for result in results]
