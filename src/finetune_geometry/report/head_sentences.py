"""Sentences about what is saved whole beside the factors: heads, embeddings, norms, biases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from finetune_geometry.geometry.saved_heads import shown_name
from finetune_geometry.report.result import Comparison
from finetune_geometry.report.wording import count, listed, number, printable

MOST = 3  # tensors that are told one by one


def saved_words(c: Comparison) -> Iterator[str]:
    """The largest tensors that adapters save whole: who, how large, how alike."""
    table = c.tables.get("heads")
    if table is None:
        return
    sized = table.assign(size=table["shape"].map(_size))
    largest = sized.sort_values("size", ascending=False, kind="stable")
    distinct = largest.drop_duplicates(["tensor", "shape"])
    for tensor, shape, size in zip(
        distinct["tensor"][:MOST], distinct["shape"][:MOST], distinct["size"][:MOST], strict=True
    ):
        yield _tensor(sized[(sized["tensor"] == tensor) & (sized["shape"] == shape)], size)
    if len(distinct) > MOST:
        yield f"{count(len(distinct) - MOST, 'more tensor')} saved whole: see the table of heads."


def _tensor(rows: pd.DataFrame, size: int) -> str:
    norms, cosines = (rows.loc[rows["quantity"] == q, "value"] for q in ("norm", "cosine"))
    holders = list(dict.fromkeys(rows.loc[rows["b"] == "", "a"]))
    verb = "saves" if len(holders) == 1 else "save"
    name, shape = printable(str(rows["tensor"].iloc[0])), rows["shape"].iloc[0]
    text = f"{listed(holders)} {verb} {name} ({shape}) whole"
    if not len(norms):
        return f"{text}; not read, as it is too large or holds no finite numbers."
    text += f": norm {_range([f'{v:.3g}' for v in np.sort(norms)])}"
    if len(cosines):
        text += (
            f", cosine {_range([number(v) for v in np.sort(cosines)])} (unrelated numbers: "
            f"±{number(1.96 / np.sqrt(size))})"
        )
    return f"{text}. These are the weights, not their change: their start is in them."


def untold_words(c: Comparison) -> Iterator[str]:
    """Tensors that no measure of a change can see, one sentence for all who have the same."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, extras in c.extras.items():
        if extras:
            alike.setdefault(tuple(shown_name(extra) for extra in extras), []).append(name)
    for extras, names in alike.items():
        shown = [printable(extra) for extra in extras[:2]]
        each = ", ".join([*shown, "..."] if len(extras) > 2 else shown)
        yield (
            f"{listed(names)} {'has' if len(names) == 1 else 'have'} "
            f"{count(len(extras), 'tensor')} beside the numbers here ({each}). Where such tensors "
            "(classification heads, embeddings, norms, biases) were trained, they change the "
            "model, too."
        )


def _size(shape: str) -> int:
    return int(np.prod([int(n) for n in shape.split(" x ")]))


def _range(values: list[str]) -> str:
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
