"""A delta split in two: along a reference's direction, and the rest; and what stands in for a rest.

Whether a direction matters to what a model does is asked by taking it away, by adding it alone, and
by putting in its place another of the same length that means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from finetune_geometry.deltas.adapters import Adapter, adapter_from
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.similarity import inner_products


def shares_along(adapters: Sequence[Adapter], reference: str) -> dict[str, float]:
    """c of dW = c S + R for every adapter, all modules stacked: <dW, S> / |S|^2."""
    gram = np.sum([part.inner for part in map_modules(inner_products, adapters)], axis=0)
    names = [adapter.name for adapter in adapters]
    at = names.index(reference)
    return {
        name: float(gram[place, at] / gram[at, at])
        for place, name in enumerate(names)
        if name != reference
    }


def rest_norms(adapter: Adapter, reference: Adapter, share: float) -> dict[str, float]:
    """The Frobenius norm of R = dW - share S in every module."""
    return {module: (delta - share * reference[module]).norm() for module, delta in adapter.items()}


def random_rest(
    adapter: Adapter, norms: Mapping[str, float], seed: int | Sequence[int], name: str = ""
) -> Adapter:
    """An adapter with this one's A, a random Gaussian B, and the given norm in every module."""
    rng = np.random.default_rng(seed)
    deltas = {}
    for module, delta in adapter.items():
        drawn = LowRankDelta(rng.standard_normal(delta.B.shape), delta.A)
        deltas[module] = (norms[module] / drawn.norm()) * drawn
    return adapter_from(name or f"{adapter.name}-random", deltas, adapter.base_model)
