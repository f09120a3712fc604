"""Joint compression: every delta of a module as a small core in one shared orthonormal frame.

For M adapters of one module, stack the factors, [B_1 ... B_M] = Q_out R_out and
[A_1^T ... A_M^T] = Q_in R_in. Then dW_i = Q_out (s_i R_out,i R_in,i^T) Q_in^T with the same
Q_out, Q_in for all i. A quantity that does not change under rotations of the output and the input
space (inner products, norms, singular values, angles between subspaces) can therefore be read off
the cores, which have at most M r rows and columns instead of d_out and d_in. The Q themselves are
never formed, and no approximation is made: all is Householder QR in fp64. Inner products alone need
no frame.

With many adapters that QR, of 2 d (M r)^2 operations a side, costs more than all else. The table of
inner products of all columns costs a quarter of it, is needed anyway, and its Cholesky factor is a
joint frame, too, as long as the columns are well apart. Where they are not (two adapters are nearly
equal, or hardly left the A that they share), each delta gets the thin QR of its own factors on that
side, and its singular vectors are then those of the whole space. Everything else is as before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from finetune_geometry.deltas.adapters import Adapter, common_modules
from finetune_geometry.deltas.depth import kind_of, layer_of, layers_of
from finetune_geometry.deltas.lazy import once
from finetune_geometry.deltas.lowrank import Array, LowRankDelta
from finetune_geometry.geometry.factors import (
    CLOSE,
    cholesky_frame,
    equal,
    gram_of_factors,
    gram_of_svds,
    r_factor,
    thin_svd,
)
from finetune_geometry.settings.errors import UserError

T = TypeVar("T")
JOINT = 128  # columns of all factors together, up to which a QR of them all is the cheaper way


@dataclass(frozen=True, eq=False)
class ModuleCores:
    """The deltas of M adapters in one module, in the shared frame of that module.

    The frame is formed when something first asks for it: `gram` alone does without.

    Attributes:
        layer: of the module, -1 if it lies outside of any block (see `depth.layers_of`).
        names: the M adapters, in the order of every other attribute.
        deltas: their M deltas, all of one shape.
    """

    module: str
    layer: int
    names: tuple[str, ...]
    deltas: tuple[LowRankDelta, ...]

    @property
    def kind(self) -> str:
        return kind_of(self.module)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the weight matrix."""
        return self.deltas[0].shape

    @property
    def joint(self) -> bool:
        """Whether both sides have the joint frame that a QR of all columns gives."""
        return sum(delta.r for delta in self.deltas) <= JOINT

    @once
    def _frame(self) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
        stops = np.cumsum([delta.r for delta in self.deltas])
        blocks = [slice(int(e) - d.r, int(e)) for d, e in zip(self.deltas, stops, strict=True)]
        if self.joint:
            r_out = r_factor(np.vstack([delta.B.T for delta in self.deltas]))
            r_in = r_factor(np.vstack([delta.A for delta in self.deltas]))
            small = [
                LowRankDelta(r_out[:, block], r_in[:, block].T, delta.scale)
                for delta, block in zip(self.deltas, blocks, strict=True)
            ]
            left, values, right = zip(*(delta.svd() for delta in small), strict=True)
            return left, values, right
        out, inside = map(cholesky_frame, self.tables)
        small = [
            LowRankDelta(
                delta.B if out is None else out[:, block],
                delta.A if inside is None else inside[:, block].T,
                delta.scale,
            )
            for delta, block in zip(self.deltas, blocks, strict=True)
        ]
        left, values, right = zip(*map(thin_svd, small), strict=True)
        return left, values, right

    @once
    def tables(self) -> tuple[Array, Array]:
        """Inner products of the columns of all B, and of the rows of all A, (M r, M r) each."""
        outer = np.hstack([delta.B for delta in self.deltas])
        inside = np.vstack([delta.A for delta in self.deltas])
        return outer.T @ outer, inside @ inside.T

    @property
    def left(self) -> tuple[Array, ...]:
        """M matrices of left singular vectors, (n_out, r_i), orthonormal columns.

        n_out is M r at most in a joint frame, and d_out in the whole space.
        """
        return self._frame[0]

    @property
    def singular_values(self) -> tuple[Array, ...]:
        """M vectors of singular values, (r_i,), falling; empty for the zero delta."""
        return self._frame[1]

    @property
    def right(self) -> tuple[Array, ...]:
        """M matrices of right singular vectors, (n_in, r_i)."""
        return self._frame[2]

    @once
    def exact(self) -> tuple[Array, Array] | None:
        """Inner products and squared distances of the whole matrices, (M, M) each, where some
        delta is no low-rank product and the frame holds its leading part only; else None."""
        if all(delta.full is None for delta in self.deltas):
            return None
        return (
            np.array([[one.inner(two) for two in self.deltas] for one in self.deltas]),
            np.array([[(one - two).norm() ** 2 for two in self.deltas] for one in self.deltas]),
        )

    @once
    def gram(self) -> tuple[Array, Array]:
        """Inner products <dW_i, dW_j> and squared distances ||dW_i - dW_j||^2, (M, M) each."""
        if self.exact is not None:
            return self.exact
        if ("_frame" not in vars(self) or not self.joint) and (
            found := gram_of_factors(self.deltas, vars(self).get("tables"))
        ) is not None:
            return found
        if not self.joint:
            return gram_of_svds(self.deltas, *self._frame)
        flat = self.cores.reshape(len(self.names), -1)
        inner = flat @ flat.T
        np.fill_diagonal(inner, self.norms**2)
        distance2 = np.zeros_like(inner)
        for i, j in combinations(range(len(flat)), 2):
            # Not |a|^2 + |b|^2 - 2<a, b>, which loses the distance of two nearly equal deltas.
            distance2[i, j] = distance2[j, i] = np.sum((flat[i] - flat[j]) ** 2)
            # Equal factors leave the frame with unequal rounding; their distance is 0 all the same.
            if 0 < distance2[i, j] < 1e-20 * inner[i, i] and equal(self.deltas[i], self.deltas[j]):
                distance2[i, j] = distance2[j, i] = 0.0
        return inner, distance2

    def split(self, reference: int) -> tuple[Array, Array]:
        """Each delta as a part along the reference and a part orthogonal to it, (M,) each.

        The coefficient <dW_i, dW_ref> / ||dW_ref||^2 of the former, and the squared norm of the
        latter: that of the residual itself, as sqrt(1 - cos^2) is noise for two collinear deltas.
        A zero reference has no direction: all of a delta counts as orthogonal to it.
        """
        energy, ref_energy = self.norms**2, float(self.norms[reference] ** 2)
        along, off = np.zeros(len(energy)), np.zeros(len(energy))
        if self.joint and self.exact is None:
            core = self.cores[reference]
            for i, one in enumerate(self.cores):
                if ref_energy > 0:
                    along[i] = np.sum(one * core) / ref_energy
                off[i] = np.sum((one - along[i] * core) ** 2)
            return along, off
        inner = self.gram[0]
        if ref_energy > 0:
            along = inner[:, reference] / ref_energy
        off = np.maximum(energy - along**2 * ref_energy, 0.0)
        for i in map(int, np.flatnonzero(off < CLOSE * energy)):
            if i == reference:
                off[i] = 0.0
            elif self.exact is None:
                off[i] = (self.deltas[i] - float(along[i]) * self.deltas[reference]).norm() ** 2
        return along, off

    def among(self, names: Sequence[str]) -> ModuleCores:
        """The cores of some of the adapters, with what has been worked out for all of them."""
        picked = [self.names.index(name) for name in names]
        deltas = tuple(self.deltas[i] for i in picked)
        few = ModuleCores(self.module, self.layer, tuple(names), deltas)
        known = vars(self)
        if "gram" in known:
            vars(few)["gram"] = tuple(part[np.ix_(picked, picked)] for part in known["gram"])
        if "_frame" in known and few.joint == self.joint:
            vars(few)["_frame"] = tuple(tuple(part[i] for i in picked) for part in known["_frame"])
        return few

    @once
    def ranks(self) -> tuple[int, ...]:
        """Numerical ranks: singular values above max(d_out, d_in) * eps * the largest."""
        eps = max(self.shape) * np.finfo(np.float64).eps
        return tuple(
            int(np.count_nonzero(s > eps * s[0])) if s.size else 0 for s in self.singular_values
        )

    @once
    def norms(self) -> Array:
        """Frobenius norms, (M,)."""
        if self.exact is not None:
            return np.sqrt(np.diagonal(self.exact[0]))
        return np.array([np.linalg.norm(s) for s in self.singular_values])

    @once
    def tails(self) -> Array:
        """Frobenius norms of what the singular vectors leave out, (M,); 0 for low-rank products."""
        kept = np.array([np.sum(s**2) for s in self.singular_values])
        return np.sqrt(np.maximum(self.norms**2 - kept, 0.0)) if self.exact else 0.0 * kept

    @once
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

    def bases(self, side: str, k: int) -> dict[int, Array]:
        """`basis` of every delta of rank k or more, all in one frame as small as may be."""
        found = {i: self.basis(i, side, k) for i, rank in enumerate(self.ranks) if rank >= k}
        if self.joint or not found:
            return found
        frame = r_factor(np.vstack([basis.T for basis in found.values()]))
        return {i: frame[:, n * k : (n + 1) * k] for n, i in enumerate(found)}


def compress(
    module: str,
    names: Sequence[str],
    deltas: Sequence[LowRankDelta],
    layer: int | None = None,
) -> ModuleCores:
    """The deltas of one module, to be compared. The frame costs d (M r)^2 for each side.

    layer: of the module; default: the first number in its name.
    """
    shapes = {delta.shape for delta in deltas}
    if len(shapes) != 1:
        listed = ", ".join(f"{n}: {d.shape}" for n, d in zip(names, deltas, strict=True))
        raise UserError(f"different shapes: {module}: {listed}")
    layer = layer_of(module) if layer is None else layer
    return ModuleCores(module, layer, tuple(names), tuple(deltas))


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
    threads (the linear algebra runs outside Python's lock); meanwhile the BLAS library has one
    thread each, because its own would compete with them. `progress` is called with (done, all).
    """
    modules = common_modules(adapters, intersection=intersection, any_base=any_base)
    names, layers = [adapter.name for adapter in adapters], layers_of(modules)

    def one(module: str) -> T:
        deltas = [adapter[module] for adapter in adapters]
        return measure(compress(module, names, deltas, layers[module]))

    results = []
    with threadpool_limits(1), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, result in enumerate(pool.map(one, modules), start=1):
            results.append(result)
            if progress is not None:
                progress(done, len(modules))
    return results
