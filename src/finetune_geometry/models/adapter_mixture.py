"""A base model with any linear combination of adapters added to it, none of them merged.

Each changed module adds its low-rank updates to its output, in fp32: a merge would round small
changes away where the base weights are bf16, and would allow one combination at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from finetune_geometry.deltas.adapters import BASE, Point
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.settings.errors import UserError


class Mixture:
    """A base model that can stand anywhere in the space which a few adapters span.

    `set({"sft": 0.3, "dpo": 0.7})` gives W_base + 0.3 dW_sft + 0.7 dW_dpo, exactly linear in the
    deltas. Names that are not given, and the name `base`, count 0; with no weight left the model
    is the base, bit for bit. `assign` gives each row of a batch a point of its own. `remove()`, or
    leaving the `with` block, gives the model back.

    Raises UserError where an adapter does not fit the model.
    """

    def __init__(self, model: Any, adapters: Mapping[str, Mapping[str, LowRankDelta]]) -> None:
        self.model = model
        self._factors: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
        for name, adapter in adapters.items():
            self._factors[name] = {
                module: _factors(model, name, module, delta) for module, delta in adapter.items()
            }
        # Module -> factors of all active adapters side by side, and whose column is whose.
        self._active: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self._weights = self._chosen = torch.zeros(1, 0, device=model.device)
        changed = dict.fromkeys(m for factors in self._factors.values() for m in factors)
        self._hooks = [
            model.get_submodule(module).register_forward_hook(self._hook(module))
            for module in changed
        ]

    def set(self, weights: Mapping[str, float]) -> None:
        """Move the model to W_base + sum of weight * dW, for every row of every batch."""
        self.assign([tuple(weights.items())])

    def assign(self, points: Sequence[Point]) -> None:
        """One point for each row; before a forward pass over some of the rows call `select`."""
        names = list(dict.fromkeys(n for p in points for n, w in p if n != BASE and w != 0))
        unknown = {n for p in points for n, _ in p} - set(self._factors) - {BASE}
        if unknown:
            raise UserError(
                f"no adapter {sorted(unknown)[0]!r}: interpolation: "
                f"the loaded ones are {', '.join(self._factors)}"
            )
        weights = [[dict(p).get(name, 0.0) for name in names] for p in points]
        self._weights = torch.tensor(weights, dtype=torch.float32, device=self.model.device)
        self._weights = self._weights.reshape(len(points), -1)
        self._chosen = self._weights
        parts: dict[str, list[tuple[int, torch.Tensor, torch.Tensor]]] = {}
        for place, name in enumerate(names):
            for module, (a, b) in self._factors[name].items():
                parts.setdefault(module, []).append((place, a, b))
        # Side by side: two thin products a module, however many adapters are mixed.
        self._active = {}
        for module, found in parts.items():
            places, a_factors, b_factors = zip(*found, strict=True)
            owner = [p for p, a in zip(places, a_factors, strict=True) for _ in range(a.shape[1])]
            a, b = torch.cat(a_factors, 1), torch.cat(b_factors, 0)
            self._active[module] = a, b, torch.tensor(owner).to(a.device)

    def select(self, rows: Sequence[int]) -> None:
        """The next forward pass is over these rows of the assigned points, in this order."""
        self._chosen = self._weights[list(rows)]

    def remove(self) -> None:
        """Take the hooks off: the model is the base again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> Mixture:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def _hook(self, module: str) -> Any:
        def add_delta(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
            if module not in self._active:
                return None
            a, b, owner = self._active[module]
            # (rows, tokens, d_in) -> (rows, tokens, r), each row with weights of its own.
            hidden = (inputs[0].to(a.dtype) @ a) * self._chosen[:, None, owner]
            sums = torch.addmm(output.flatten(0, 1).to(a.dtype), hidden.flatten(0, 1), b)
            return sums.view(output.shape).to(output.dtype)

        return add_delta


def _factors(
    model: Any, name: str, module: str, delta: LowRankDelta
) -> tuple[torch.Tensor, torch.Tensor]:
    """(d_in, r) and (r, d_out) in fp32 on the module's device, the scale in the second."""
    try:
        layer = model.get_submodule(module)
    except AttributeError:
        layer = None
    if not isinstance(layer, torch.nn.Linear) or tuple(layer.weight.shape) != delta.shape:
        found = "nothing of that name" if layer is None else str(layer)
        raise UserError(
            f"adapter {name!r} changes {module} {delta.shape}, where the model has {found}: "
            "interpolation: load the base model that the adapter was trained on"
        )
    a = torch.as_tensor(delta.A.T, dtype=torch.float32)
    b = torch.as_tensor(delta.scale * delta.B.T, dtype=torch.float32)
    return a.to(layer.weight.device), b.to(layer.weight.device)
