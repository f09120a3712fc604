"""Batched sampling, fast enough for two cores; greedy tokens are those of `generate` (tested).

`transformers.generate` keeps computing rows that have ended and, with its dynamic cache, copies
every key and value at every step.  This loop

- sorts prompts, the longest first, and reads equal prompts (the K rollouts of a problem) once;
- pads on the right, so that reading needs no mask, and gives each row a position of its own;
- writes keys and values into one buffer, and lets the last rows take the places of ended ones;
- runs PyTorch's fused attention while reading;
- on a CPU, writes with oneDNN's packed linear layers, keeps keys and values tokens innermost, and
  attends in blocks of rows of similar length: the keys behind a block's longest are not read.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from finetune_geometry.models.compat import CacheLayer, register_attention, sdpa_attention
from finetune_geometry.models.inference import fast_inference, require_room

GROWTH = 64  # tokens that a buffer is longer than its prompts, and grows by
READ_TOKENS = 1536  # of prompts in one forward pass: few enough for the activations to stay cached
BLOCK = 64  # rows that attend together: fewer read less, and cost more calls
UNREAD = 96  # places of a buffer left out at most: MKL's product is 3 times slower when more are
ATTENTION = "blocks_of_rows"


def _attend_in_blocks(  # type: ignore[no-untyped-def]
    module, query, key, value, attention_mask, *, block_lengths=None, **kwargs
):
    """Attention of one new token a row: (rows, heads, 1, d) to (rows, 1, heads, d) and None.

    key, value: (rows, key-value heads, length, d).
    block_lengths: tokens to read of each block of BLOCK rows; None: PyTorch's fused attention.
    """
    if block_lengths is None:
        return sdpa_attention(module, query, key, value, attention_mask, **kwargs)
    rows, heads, _, d = query.shape
    # The heads of a group share keys: as rows of one matrix product they read them once.
    query = query.view(rows, key.shape[1], heads // key.shape[1], d) * kwargs["scaling"]
    out = query.new_empty(rows, key.shape[1], d, query.shape[2])
    for index, length in enumerate(block_lengths):
        block = slice(index * BLOCK, (index + 1) * BLOCK)
        scores = query[block] @ key[block, :, :length].mT
        if attention_mask is not None:
            scores += attention_mask[block, :, :, :length]
        torch.matmul(value[block, :, :length].mT, scores.softmax(-1).mT, out=out[block])
    return out.mT.reshape(rows, 1, heads, d), None


class _Slots:
    """What the layers' buffers share: which rows a forward pass is of, and how long they are."""

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity  # of the buffers, in tokens a row
        self.read: torch.Tensor | None = None  # prompts are read into these rows
        self.positions = torch.zeros(rows, dtype=torch.long)  # next token of each running row
        self.longest = 0  # tokens of the longest running row, the next one included


def _buffers(rows: int, capacity: int, *held: torch.Tensor) -> Iterator[torch.Tensor]:
    """Each of `held` (rows, heads, length, d) at the start of room for `capacity` tokens."""
    for states in held:
        _, heads, length, d = states.shape
        # Zeros: what lies behind a row's end is masked, but 0 * NaN would not be.
        if states.device.type == "cpu":  # tokens innermost, as `_attend_in_blocks` reads fastest
            buffer = states.new_zeros(rows, heads, d, capacity).mT
        else:  # as a GPU's fused attention asks
            buffer = states.new_zeros(rows, heads, capacity, d)
        buffer[:, :, :length] = states
        yield buffer


class _BufferedLayer(CacheLayer):
    """Keys and values of one layer in a buffer with room to grow: (rows, heads, length, d)."""

    keys: Any
    values: Any

    def __init__(self, slots: _Slots) -> None:
        super().__init__()
        self.slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        empty = key_states[:1, :, :0], value_states[:1, :, :0]
        self.keys, self.values = _buffers(self.slots.rows, self.slots.capacity, *empty)

    def update(self, key_states, value_states, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Store (rows, heads, new, d); returns the keys and values that the pass attends to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.slots.read is not None:
            self.keys[self.slots.read, :, : key_states.shape[2]] = key_states
            self.values[self.slots.read, :, : key_states.shape[2]] = value_states
            return key_states, value_states
        running = len(key_states)
        rows, length = torch.arange(running, device=key_states.device), self.slots.longest
        if length > self.keys.shape[2]:
            held = self.keys[:running], self.values[:running]
            self.slots.capacity = length + GROWTH
            self.keys, self.values = _buffers(running, self.slots.capacity, *held)
        self.keys[rows, :, self.slots.positions] = key_states[:, :, 0]
        self.values[rows, :, self.slots.positions] = value_states[:, :, 0]
        return self.keys[:running, :, :length], self.values[:running, :, :length]

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy the rows `source` to the places `target`."""
        length = self.slots.longest
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def get_seq_length(self) -> int:
        return 0  # positions are given explicitly


def end_tokens(model: Any) -> set[int]:
    """The tokens that end what a model writes: a completion without one was cut off."""
    eos = model.generation_config.eos_token_id
    return set(eos) if isinstance(eos, list) else {eos}


def _next_tokens(
    logits: torch.Tensor, temperature: float, rng: torch.Generator | None
) -> torch.Tensor:
    """(rows, vocabulary) logits to (rows,) token ids; temperature 0 is greedy."""
    if temperature == 0:
        return logits.argmax(-1)
    # Gumbel-max: one draw per row and token, so that a row's sample does not depend on cumsums.
    noise = torch.empty_like(logits, dtype=torch.float32).exponential_(generator=rng)
    return (torch.softmax(logits.float() / temperature, -1) / noise).argmax(-1)


def batch_order(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Indices of the prompts in the order in which they are put into batches; equal ones together.

    The longest first: the last rows, which take the places of ended ones, lengthen no block.
    """
    return sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(prompts[i])))


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

    prompts: token ids of different lengths.
    temperature: 0 is greedy; otherwise tokens are drawn from softmax(logits / temperature).
    seed: of the draws; the same prompts, seed and batch size give the same completions.
    on_rows: called with the indices of the prompts in the next forward pass when they change.
    Raises UserError where a text would not fit into the context, or a layer not see all of it.
    """
    require_room(model, prompts, max_new_tokens)
    order = batch_order(prompts)
    completions: list[list[int]] = [[] for _ in prompts]
    rng = torch.Generator(device=model.device).manual_seed(seed) if temperature else None
    register_attention(ATTENTION, _attend_in_blocks)
    with fast_inference(model, ATTENTION):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = _Batch(model, tokenizer, prompts, rows, max_new_tokens, on_rows)
            batch.read()
            for row, ids in zip(rows, batch.write(temperature, rng), strict=True):
                completions[row] = ids
    return completions


class _Batch:
    """The prompts `rows` of `prompts`, completed together; the longest come first."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        rows: list[int],
        max_new_tokens: int,
        on_rows: Callable[[list[int]], None] | None,
    ) -> None:
        self.model, self.pad, self.rows, self.on_rows = model, tokenizer.pad_token_id, rows, on_rows
        self.prompts = [prompts[i] for i in rows]
        self.max_new_tokens = max_new_tokens
        self.slots = _Slots(len(rows), len(self.prompts[0]) + GROWTH)
        self.layers = [_BufferedLayer(self.slots) for _ in range(model.config.num_hidden_layers)]
        self.cache = Cache(layers=list(self.layers))

    def announce(self, batch: list[int]) -> None:
        if self.on_rows is not None:
            self.on_rows([self.rows[i] for i in batch])

    def read(self) -> None:
        """Fill the buffers with every prompt but its last token, a few prompts at a time."""
        # Equal prompts lie side by side; with `on_rows` the model may differ from row to row.
        own = [
            i
            for i, prompt in enumerate(self.prompts)
            if i == 0 or self.on_rows is not None or prompt != self.prompts[i - 1]
        ]
        first = 0
        while first < len(own):
            last = first + 1
            while last < len(own) and (
                (last + 1 - first) * (len(self.prompts[own[first]]) - 1) <= READ_TOKENS
            ):
                last += 1
            rows = own[first:last]
            width = len(self.prompts[rows[0]]) - 1
            ids = torch.full((len(rows), width), self.pad)
            for place, row in enumerate(rows):
                ids[place, : len(self.prompts[row]) - 1] = torch.tensor(self.prompts[row][:-1])
            if width:
                self.announce(rows)
                self.slots.read = torch.tensor(rows, device=self.model.device)
                self.model(
                    input_ids=ids.to(self.model.device),
                    past_key_values=self.cache,
                    logits_to_keep=1,
                )
            first = last
        self.slots.read = None
        if len(own) < len(self.prompts) and len(self.prompts[0]) > 1:
            self.slots.longest = len(self.prompts[0])
            copies = sorted(set(range(len(self.prompts))) - set(own))
            source = [own[bisect(own, row) - 1] for row in copies]
            for layer in self.layers:
                layer.move(torch.tensor(source), torch.tensor(copies))

    def blocks(self) -> dict[str, list[int]]:
        """What `_attend_in_blocks` asks for on a CPU; a GPU's fused attention needs no help."""
        if self.model.device.type != "cpu":
            return {}
        blocks, least = self.slots.positions.split(BLOCK), self.slots.capacity - UNREAD
        return {"block_lengths": [max(int(block.max()) + 1, least) for block in blocks]}

    def write(self, temperature: float, rng: torch.Generator | None) -> list[list[int]]:
        """One token a step for every running row until all have ended; the new ids of each row."""
        slots, device, dtype = self.slots, self.model.device, self.model.dtype
        ends = torch.tensor(sorted(end_tokens(self.model)), device=device)
        tokens = torch.tensor([prompt[-1] for prompt in self.prompts], device=device)
        slots.positions = torch.tensor([len(prompt) - 1 for prompt in self.prompts], device=device)
        running = torch.arange(len(self.prompts), device=device)  # original index of each row
        out = torch.full((len(running), self.max_new_tokens), -1, device=device)
        places = torch.arange(len(self.prompts[0]) + self.max_new_tokens, device=device)
        self.announce(running.tolist())
        for step in range(self.max_new_tokens):
            slots.longest = int(slots.positions.max()) + 1
            seen = places[: slots.longest] <= slots.positions[:, None]
            mask = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)
            logits = self.model(
                input_ids=tokens[:, None],
                attention_mask=None if bool(seen.all()) else mask[:, None, None],
                **self.blocks(),
                position_ids=slots.positions[:, None],
                past_key_values=self.cache,
            ).logits[:, -1]
            tokens = _next_tokens(logits, temperature, rng)
            out[running, step] = tokens
            slots.positions = slots.positions + 1
            going = ~torch.isin(tokens, ends)
            left = int(going.sum())
            if left == 0:
                break
            if left < len(going):
                # The rows that go on behind the first `left` take the places of the ended ones.
                target = (~going[:left]).nonzero().squeeze(-1)
                source = going[left:].nonzero().squeeze(-1) + left
                for layer in self.layers:
                    layer.move(source, target)
                for values in (tokens, running, slots.positions):
                    values[target] = values[source]
                tokens, running = tokens[:left], running[:left]
                slots.positions = slots.positions[:left]
                self.announce(running.tolist())
        return [[t for t in row if t >= 0] for row in out.tolist()]
