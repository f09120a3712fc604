"""Hidden states of several models at the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.device import enough_memory
from finetune_geometry.models.inference import fast_inference
from finetune_geometry.models.teacher_forcing import Row, padded_batches
from finetune_geometry.runs.parts import Parts
from finetune_geometry.settings.errors import UserError

READ_TOKENS = 64  # positions of one forward pass, for each row of one that writes answers


def sample_tokens(rows: Sequence[Row], count: int, seed: int) -> list[tuple[int, int]]:
    """`count` (row, position) pairs, all different, of completion tokens; all, if there are fewer.

    Positions count from the start of prompt and completion together. Prompt tokens are left out:
    every model sees them in the same words, and the very first one is an attention sink whose huge
    hidden state alone can lift CKA close to 1.
    """
    places = [
        (i, len(prompt) + t) for i, (prompt, answer) in enumerate(rows) for t in range(len(answer))
    ]
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return [places[j] for j in sorted(chosen)]


@torch.inference_mode()
def hidden_states(
    model: Any,
    rows: Sequence[Row],
    places: Sequence[tuple[int, int]],
    batch_tokens: int = 8192,
) -> NDArray[np.float32]:
    """Hidden states after each block at the given places, teacher-forced: (layers, places, d).

    The last layer's are those after the final norm, as `transformers` returns them. The embeddings
    are left out: adapters on the blocks cannot change them.
    """
    wanted: dict[int, list[tuple[int, int]]] = {}
    for slot, (i, position) in enumerate(places):
        wanted.setdefault(i, []).append((slot, position))
    found: NDArray[np.float32] | None = None
    for batch, ids in padded_batches(rows, wanted, batch_tokens):
        layers = model(
            input_ids=ids.to(model.device),
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=1,
        ).hidden_states[1:]
        if found is None:
            found = np.empty((len(layers), len(places), layers[0].shape[-1]), dtype=np.float32)
        lines = [line for line, i in enumerate(batch) for _ in wanted[i]]
        slots = [slot for i in batch for slot, _ in wanted[i]]
        positions = [position for i in batch for _, position in wanted[i]]
        for depth, states in enumerate(layers):
            found[depth, slots] = states[lines, positions].float().cpu().numpy()
    if found is None:
        raise UserError("no token to compare: CKA: give at least one rollout with a completion")
    return found


def all_hidden_states(
    mixture: Mixture,
    names: Sequence[str],
    rows: Sequence[Row],
    places: Sequence[tuple[int, int]],
    batch_size: int = 128,
    parts: Parts | None = None,
) -> dict[str, NDArray[np.float32]]:
    """`hidden_states` of the base and of adapters, by name; the names are those of the mixture.

    batch_size: READ_TOKENS positions for each are read together, and at least a row.
    parts: where those of one model are kept, so that a killed measurement goes on with the next.
    """

    def measure(name: str) -> NDArray[np.float32]:
        mixture.set({} if name == BASE else {name: 1.0})
        with enough_memory("evaluation.batch_size", batch_size), fast_inference(mixture.model):
            return hidden_states(mixture.model, rows, places, READ_TOKENS * batch_size)

    found = {}
    for name in names:
        if parts is None:
            found[name] = measure(name)
        else:
            decided_by = [name, rows, places, batch_size]
            found[name] = parts.of(decided_by, partial(measure, name))
    mixture.set({})
    return found
