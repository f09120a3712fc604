"""Batched sampling with a key-value cache, fast enough for two cores.

`transformers.generate` keeps computing rows that have ended and, with its dynamic cache, copies
every key and value at every step.  This loop sorts prompts by length, writes keys and values into
one buffer, and drops a row as soon as it ends.  Greedy tokens are those of `generate` (tested).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from finetune_geometry.profiles import UserError


class _BufferedLayer(DynamicLayer):
    """Keys and values of one layer in a buffer that is allocated once: (rows, heads, length, d)."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.length = capacity, 0

    def update(self, key_states, value_states, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Append (rows, heads, new, d) and return views of all that is held so far."""
        rows, heads, new, d = key_states.shape
        if self.length == 0:
            self.lazy_initialization(key_states, value_states)
            self.key_buffer = key_states.new_empty(rows, heads, self.capacity, d)
            self.value_buffer = value_states.new_empty(rows, heads, self.capacity, d)
        end = self.length + new
        self.key_buffer[:, :, self.length : end] = key_states
        self.value_buffer[:, :, self.length : end] = value_states
        self.length = end
        self.keys, self.values = self.key_buffer[:, :, :end], self.value_buffer[:, :, :end]
        return self.keys, self.values

    def select(self, rows: torch.Tensor) -> None:
        """Keep the given rows only."""
        self.key_buffer = self.key_buffer[rows]
        self.value_buffer = self.value_buffer[rows]

    def get_seq_length(self) -> int:
        return self.length


def prompt_ids(tokenizer: Any, question: str) -> list[int]:
    """Token ids of a question as a prompt, ready for the model's answer."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )


def _next_tokens(
    logits: torch.Tensor, temperature: float, rng: torch.Generator | None
) -> torch.Tensor:
    """(rows, vocabulary) logits to (rows,) token ids; temperature 0 is greedy."""
    if temperature == 0:
        return logits.argmax(-1)
    # Gumbel-max: one draw per row and token, so that a row's sample does not depend on cumsums.
    noise = torch.empty_like(logits, dtype=torch.float32).exponential_(generator=rng)
    return (torch.softmax(logits.float() / temperature, -1) / noise).argmax(-1)


@torch.inference_mode()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
    on_rows: Callable[[list[int]], None] | None = None,
) -> list[list[int]]:
    """Complete every prompt; returns the new token ids of each, with the EOS if it was reached.

    prompts: token ids of different lengths; they may be padded on the left inside.
    temperature: 0 is greedy; otherwise tokens are drawn from softmax(logits / temperature).
    seed: of the draws; the same prompts, seed and batch size give the same completions.
    on_rows: called with the indices of the prompts in the next forward pass when they change.
    Raises UserError where a prompt and its completion would not fit into the model's context.
    """
    limit = model.config.max_position_embeddings
    longest = max(map(len, prompts), default=0)
    if longest + max_new_tokens > limit:
        raise UserError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the context "
            f"of {limit}: generation: lower max_new_tokens or drop the longest problems"
        )
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    completions: list[list[int]] = [[] for _ in prompts]
    rng = torch.Generator(device=model.device).manual_seed(seed) if temperature else None
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]

        def announce(alive: torch.Tensor, rows: list[int] = rows) -> None:
            if on_rows is not None:
                on_rows([rows[i] for i in alive.tolist()])

        for row, ids in zip(
            rows,
            _complete(
                model,
                tokenizer,
                [prompts[i] for i in rows],
                max_new_tokens,
                temperature,
                rng,
                announce,
            ),
            strict=True,
        ):
            completions[row] = ids
    return completions


def _complete(
    model: Any,
    tokenizer: Any,
    prompts: list[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    rng: torch.Generator | None,
    announce: Callable[[torch.Tensor], None],
) -> list[list[int]]:
    """One batch: left-pad, read the prompts, then one token a step until every row has ended."""
    device, width = model.device, max(map(len, prompts))
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    mask = torch.zeros(len(prompts), width + max_new_tokens, dtype=torch.long)
    mask[:, width:] = 1
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) : width] = 1
    ids, mask = ids.to(device), mask.to(device)
    lengths = mask[:, :width].sum(-1)
    capacity = width + max_new_tokens
    layers = [_BufferedLayer(capacity) for _ in range(model.config.num_hidden_layers)]
    cache = Cache(layers=list(layers))
    eos = model.generation_config.eos_token_id
    ends = torch.tensor(eos if isinstance(eos, list) else [eos], device=device)
    alive = torch.arange(len(prompts), device=device)  # original index of each row still running
    out = torch.full((len(prompts), max_new_tokens), -1, device=device)
    positions = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
    padded = bool((lengths < width).any())
    announce(alive)
    for step in range(max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask[:, : width + step] if padded else None,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        tokens = _next_tokens(logits, temperature, rng)
        out[alive, step] = tokens
        going = ~torch.isin(tokens, ends)
        if not going.all():
            keep = going.nonzero().squeeze(-1)
            if len(keep) == 0:
                break
            tokens, alive, mask, lengths = tokens[keep], alive[keep], mask[keep], lengths[keep]
            for layer in layers:
                layer.select(keep)
            announce(alive)
        ids, positions = tokens[:, None], (lengths + step)[:, None]
    return [[t for t in row if t >= 0] for row in out.tolist()]
