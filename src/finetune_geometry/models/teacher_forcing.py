"""Reading given completions with a model (teacher forcing), in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from finetune_geometry.models.inference import fast_inference

Row = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of its completion."""


@torch.inference_mode()
def completion_logprobs(
    model: Any,
    rows: Sequence[Row],
    batch_tokens: int = 4096,
    on_rows: Callable[[list[int]], None] | None = None,
) -> list[np.ndarray]:
    """Log-probability (nats) of each completion token given all that precedes it, row by row.

    `on_rows` is called with the indices of the rows before each forward pass.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    with fast_inference(model):
        for batch, ids in padded_batches(rows, range(len(rows)), batch_tokens):
            if on_rows is not None:
                on_rows(batch)
            ids = ids.to(model.device)
            # Position t is predicted at t - 1: nothing before the shortest prompt matters.
            first = min(len(rows[i][0]) for i in batch) - 1
            logits = model(
                input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - first
            ).logits
            scores = torch.log_softmax(logits[:, :-1].float(), -1)
            chosen = scores.gather(-1, ids[:, first + 1 :, None]).squeeze(-1).double().cpu().numpy()
            for line, i in enumerate(batch):
                begin = len(rows[i][0]) - 1 - first
                found[i] = chosen[line, begin : begin + len(rows[i][1])].copy()
    return found


@torch.inference_mode()
def completion_distributions(
    model: Any, rows: Sequence[Row], tokens: int, batch_tokens: int = 4096
) -> np.ndarray:
    """Log-probabilities (nats) of every token of the vocabulary, at the first `tokens` positions.

    rows: their completions give the positions, row by row, until there are enough. (positions,
    vocabulary), fp32: a position costs four bytes for each token of the vocabulary.
    """
    chosen: list[Row] = []
    left = tokens
    for prompt, completion in rows:
        if left <= 0:
            break
        chosen.append((prompt, list(completion)[:left]))
        left -= len(chosen[-1][1])
    found: list[np.ndarray] = [np.empty(0)] * len(chosen)
    with fast_inference(model):
        for batch, ids in padded_batches(chosen, range(len(chosen)), batch_tokens):
            logits = model(input_ids=ids.to(model.device), use_cache=False).logits.float()
            scores = torch.log_softmax(logits, -1).cpu().numpy()
            for line, i in enumerate(batch):
                begin, length = len(chosen[i][0]) - 1, len(chosen[i][1])
                found[i] = scores[line, begin : begin + length].copy()
    return np.concatenate(found)


def padded_batches(
    rows: Sequence[Row], chosen: Iterable[int], batch_tokens: int
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The chosen rows in batches of similar length: (indices, token ids (len(indices), width)).

    At most `batch_tokens` tokens a batch, padding included. Rows are padded on the right: with
    causal attention nothing ever sees the padding, so no mask is needed.
    """
    size = [len(prompt) + len(completion) for prompt, completion in rows]
    batch: list[int] = []
    for i in [*sorted(chosen, key=size.__getitem__), None]:
        if batch and (i is None or (len(batch) + 1) * size[i] > batch_tokens):
            ids = torch.zeros(len(batch), size[batch[-1]], dtype=torch.long)
            for line, j in enumerate(batch):
                ids[line, : size[j]] = torch.as_tensor([*rows[j][0], *rows[j][1]])
            yield batch, ids
            batch = []
        if i is not None:
            batch.append(i)
