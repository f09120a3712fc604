"""Joint compression: every delta of a module as a small core in one shared orthonormal frame.

For M adapters of one module, stack the factors, [B_1 ... B_M] = Q_out R_out and
[A_1^T ... A_M^T] = Q_in R_in. Then dW_i = Q_out (s_i R_out,i R_in,i^T) Q_in^T with the same
Q_out, Q_in for all i. A quantity that does not change under rotations of the output and the input
space (inner products, norms, singular values, angles between subspaces) can therefore be read off
the cores, which have at most M r rows and columns instead of d_out and d_in. The Q themselves are
never formed, and no approximation is made: all is Householder QR in fp64.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from finetune_geometry.deltas import Adapter, Array, LowRankDelta, kind_of, layer_of
from finetune_geometry.profiles import UserError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ModuleCores:
    """The deltas of M adapters in one module, in the shared frame of that module.

    Attributes:
        names: the M adapters, in the order of every other attribute.
        shape: (d_out, d_in) of the weight matrix.
        left: M matrices of left singular vectors, (n_out, r_i), orthonormal columns.
        singular_values: M vectors of singular values, (r_i,), falling; empty for the zero delta.
        right: M matrices of right singular vectors, (n_in, r_i).
        exact: inner products and squared distances of the whole matrices, (M, M) each, where
            some delta is no low-rank product and the above is its leading part only; else None.
    """

    module: str
    names: tuple[str, ...]
    shape: tuple[int, int]
    left: tuple[Array, ...]
    singular_values: tuple[Array, ...]
    right: tuple[Array, ...]
    exact: tuple[Array, Array] | None = None

    @property
    def layer(self) -> int:
        return layer_of(self.module)

    @property
    def kind(self) -> str:
        return kind_of(self.module)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Numerical ranks: singular values above max(d_out, d_in) * eps * the largest."""
        eps = max(self.shape) * np.finfo(np.float64).eps
        return tuple(
            int(np.count_nonzero(s > eps * s[0])) if s.size else 0 for s in self.singular_values
        )

    @cached_property
    def norms(self) -> Array:
        """Frobenius norms, (M,)."""
        if self.exact is not None:
            return np.sqrt(np.diagonal(self.exact[0]))
        return np.array([np.linalg.norm(s) for s in self.singular_values])

    @cached_property
    def tails(self) -> Array:
        """Frobenius norms of what the singular vectors leave out, (M,); 0 for low-rank products."""
        kept = np.array([np.sum(s**2) for s in self.singular_values])
        return np.sqrt(np.maximum(self.norms**2 - kept, 0.0)) if self.exact else 0.0 * kept

    @cached_property
    def cores(self) -> Array:
        """The deltas in the shared frame, (M, n_out, n_in)."""
        return np.stack(
            [
                (u * s) @ v.T
                for u, s, v in zip(self.left, self.singular_values, self.right, strict=True)
            ]
        )

    def basis(self, index: int, side: str, k: int) -> Array:
        """The top-k singular vectors of one delta on a side, (n, k)."""
        vectors = self.left if side == "left" else self.right
        return np.asarray(vectors[index][:, :k])


def compress(module: str, names: Sequence[str], deltas: Sequence[LowRankDelta]) -> ModuleCores:
    """Bring the deltas of one module into their shared frame. Cost: d (M r)^2 for each side."""
    shapes = {delta.shape for delta in deltas}
    if len(shapes) != 1:
        listed = ", ".join(f"{n}: {d.shape}" for n, d in zip(names, deltas, strict=True))
        raise UserError(f"different shapes: {module}: {listed}")
    r_out = _r_factor(np.hstack([delta.B for delta in deltas]))
    r_in = _r_factor(np.hstack([delta.A.T for delta in deltas]))
    stops = np.cumsum([delta.r for delta in deltas])
    left, values, right = [], [], []
    for delta, stop in zip(deltas, stops, strict=True):
        block = slice(int(stop) - delta.r, int(stop))
        u, s, v = LowRankDelta(r_out[:, block], r_in[:, block].T, delta.scale).svd()
        left.append(u)
        values.append(s)
        right.append(v)
    exact = None
    if any(delta.full is not None for delta in deltas):
        exact = (
            np.array([[one.inner(two) for two in deltas] for one in deltas]),
            np.array([[(one - two).norm() ** 2 for two in deltas] for one in deltas]),
        )
    return ModuleCores(
        module, tuple(names), shapes.pop(), tuple(left), tuple(values), tuple(right), exact
    )


def _r_factor(stacked: Array) -> Array:
    return np.asarray(np.linalg.qr(stacked, mode="r"))


def common_modules(
    adapters: Sequence[Adapter], *, intersection: bool = False, any_base: bool = False
) -> list[str]:
    """The modules that all adapters change, in order of depth.

    Raises `UserError`, listing the differences, unless all adapters change the same modules
    (or `intersection`: then those in common count) of the same shapes and name the same base
    model (or `any_base`).
    """
    if not adapters:
        raise UserError("no adapters: nothing to compare: give at least one")
    names = [adapter.name for adapter in adapters]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two adapters are called {twice[0]!r}: {', '.join(names)}: rename one")
    bases = {a.base_model: a.name for a in adapters if a.base_model}
    if len(bases) > 1 and not any_base:
        listed = ", ".join(f"{name}: {base}" for base, name in bases.items())
        raise UserError(
            f"different base models: {listed}: deltas of different bases cannot be compared; "
            "allow it (any_base) if these names mean one and the same model"
        )
    first = adapters[0]
    shared = [m for m in first.shapes if all(m in a.shapes for a in adapters)]
    missing = [
        f"{a.name} lacks {len(lacking)} ({lacking[0]}, ...)"
        for a in adapters
        if (lacking := sorted({m for b in adapters for m in b.shapes} - a.shapes.keys()))
    ]
    if not shared:
        raise UserError(f"no module in common: {', '.join(names)}: {'; '.join(missing)}")
    if missing and not intersection:
        raise UserError(
            f"different modules: {'; '.join(missing)}: compare those in common (intersection)"
        )
    for module in shared:
        shapes = {a.shapes[module]: a.name for a in adapters}
        if len(shapes) > 1:
            listed = ", ".join(f"{name}: {shape}" for shape, name in shapes.items())
            raise UserError(
                f"different shapes: {module}: {listed}: these adapters are not of one base model"
            )
    return shared


def map_modules(
    measure: Callable[[ModuleCores], T],
    adapters: Sequence[Adapter],
    *,
    intersection: bool = False,
    any_base: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[T]:
    """`measure` of every module's cores, in order of depth.

    One module's factors are in memory for each worker, however many layers there are. Workers are
    threads (the linear algebra runs outside Python's lock); with OMP_NUM_THREADS=1 they do not
    compete with the BLAS library's own. `progress` is called with (done, all).
    """
    modules = common_modules(adapters, intersection=intersection, any_base=any_base)
    names = [adapter.name for adapter in adapters]

    def one(module: str) -> T:
        return measure(compress(module, names, [adapter[module] for adapter in adapters]))

    results = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, result in enumerate(pool.map(one, modules), start=1):
            results.append(result)
            if progress is not None:
                progress(done, len(modules))
    return results
