"""Micro-batches of differing numbers of rows: a whole optimiser step is one item of the data.

transformers' own accumulation takes the same number of micro-batches in every step. Here a step is
one item, and is taken apart where it is trained on: the optimiser steps once for each batch,
however many micro-batches there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

PARTS = "micro_batches"


class Steps(Dataset[dict[str, Any]]):
    """Item i: the micro-batches of step i, each as the collator makes it."""

    def __init__(
        self, rows: Any, cut: Sequence[Sequence[Sequence[int]]], collate: Callable[[Any], Any]
    ) -> None:
        self.rows, self.cut, self.collate = rows, cut, collate

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, step: int) -> dict[str, Any]:
        return {PARTS: [self.collate([self.rows[i] for i in part]) for part in self.cut[step]]}


class WholeSteps:
    """A trainer whose steps are cut beforehand.

    cut: for each step its micro-batches, lists of indices of rows; this process's alone. None: the
    trainer accumulates micro-batches of one size by itself.
    """

    cut: Sequence[Sequence[Sequence[int]]] | None

    def get_train_dataloader(self: Any) -> Any:
        if self.cut is None:
            return super().get_train_dataloader()  # type: ignore[misc]
        steps = Steps(self.train_dataset, self.cut, self.data_collator)
        return DataLoader(steps, batch_size=1, collate_fn=_only)

    def training_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """The gradient of a whole step; returns its loss."""
        whole = super().training_step  # type: ignore[misc]
        if PARTS not in inputs:
            loss: Tensor = whole(model, inputs, num_items_in_batch)
            return loss
        parts = inputs[PARTS]
        # Tokens that count, of all micro-batches of all processes.
        _, tokens = self.get_batch_samples(iter(parts), len(parts), self.args.device)
        losses = []
        for number, part in enumerate(parts, 1):
            last = number == len(parts)  # processes exchange their gradients once
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(whole(model, part, tokens))
        total: Tensor = sum(losses[1:], losses[0])
        return total


def _only(items: list[Any]) -> Any:
    return items[0]
