"""What adapters save whole beside their factors: heads, embeddings, norms, biases (PEFT's
`modules_to_save` and `bias`), named, measured, and compared where two adapters save the same.

These are weights as saved, not changes: the base's own are not at hand. A head's cosine therefore
contains its random start, and norm layers, whose weights are near 1, are alike in all adapters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import Adapter
from finetune_geometry.deltas.lowrank import Array
from finetune_geometry.settings.errors import UserError

SAVED_COLUMNS = ["tensor", "shape", "a", "b", "quantity", "value"]
LARGEST = 2**25  # entries read at a time, 256 MiB in fp64; larger tensors (embeddings) are named


def shown_name(key: str) -> str:
    """A saved tensor's name as a person knows it: without PEFT's prefix and wrappers."""
    name = key.removeprefix("base_model.model.")
    return re.sub(r"\.modules_to_save(\.default)?(?=\.)", "", name)


def tabulate_saved(adapters: Sequence[Adapter]) -> pd.DataFrame:
    """One row a saved tensor of each adapter, and one a pair that saves it in the same shape.

    Columns: `tensor`, `shape` ("2 x 768"), `a`, `b` ("" in rows of one adapter), `quantity`,
    `value`: "norm" (Frobenius), "cosine" of two (rows only where both are not 0), "not_read" for
    what is no floating tensor, is not finite, or is too large (value: its number of entries).
    Adapters whose files are not at hand (in memory, full fine-tunings) have no rows.
    """
    held: dict[tuple[str, tuple[int, ...]], list[tuple[Adapter, str]]] = {}
    for adapter in adapters:
        if adapter.extra_files is not None:
            for key in adapter.extras:
                where = shown_name(key), adapter.extra_files.shapes[key]
                held.setdefault(where, []).append((adapter, key))
    rows: list[tuple[Any, ...]] = []
    for (name, shape), holders in held.items():
        what = (name, " x ".join(map(str, shape)) or "1")
        size, values = int(np.prod(shape, dtype=np.int64)), {}
        for adapter, key in holders:
            read = None if size * len(holders) > LARGEST else _read(adapter, key)
            if read is None:
                rows.append((*what, adapter.name, "", "not_read", float(size)))
            else:
                values[adapter.name] = read.ravel()
                rows.append((*what, adapter.name, "", "norm", float(np.linalg.norm(read))))
        lengths = {a: float(np.linalg.norm(v)) for a, v in values.items()}
        for a, b in combinations(values, 2):
            if lengths[a] > 0 and lengths[b] > 0:
                cosine = float(values[a] / lengths[a] @ (values[b] / lengths[b]))
                rows.append((*what, a, b, "cosine", cosine))
    return pd.DataFrame(rows, columns=SAVED_COLUMNS)


def _read(adapter: Adapter, key: str) -> Array | None:
    """The tensor in fp64; None for what is of no floating type, or holds NaN."""
    assert adapter.extra_files is not None
    try:
        return adapter.extra_files.read(key)
    except UserError:  # no number to compare; the adapter's own factors were read without it
        return None
