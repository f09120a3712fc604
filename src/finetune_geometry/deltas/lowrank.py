"""Weight changes as low-rank products.

LoRA (Hu et al. 2021, arXiv:2106.09685) changes a weight W by dW = (alpha / r) B A. The factors are
not unique: B -> B G, A -> G^-1 A leaves dW as it is, for every invertible G. So everything
measured in this project is a function of `LowRankDelta`, whose results do not depend on G, and
for adapters nothing ever forms the d_out x d_in matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune_geometry.deltas.lazy import once
from finetune_geometry.settings.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """The change dW = scale * B @ A of one weight matrix, kept as factors.

    `B` has shape (d_out, r), `A` (r, d_in), both fp64. With r = 0 it is the zero change. `+`, `-`
    and multiplication by a number are exact: a sum of two has rank r1 + r2 at most.

    `full` is for changes that are no low-rank product (full fine-tuning): the whole matrix, of
    which s B A is then only the leading part. Norms and inner products use it, so that they stay
    exact; `svd` is that of the leading part.
    """

    B: Array
    A: Array
    scale: float = 1.0
    full: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "B", np.asarray(self.B, dtype=np.float64))
        object.__setattr__(self, "A", np.asarray(self.A, dtype=np.float64))
        b, a = self.B.shape, self.A.shape
        if self.B.ndim != 2 or self.A.ndim != 2 or b[1] != a[0]:
            raise UserError(
                f"factors do not fit: B is {b}, A is {a}: need (d_out, r) and (r, d_in)"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the weight matrix."""
        return self.B.shape[0], self.A.shape[1]

    @property
    def r(self) -> int:
        """Number of columns of B: an upper bound of the rank."""
        return self.B.shape[1]

    def __add__(self, other: LowRankDelta) -> LowRankDelta:
        self._check_shape(other)
        full = None
        if self.full is not None or other.full is not None:
            full = self._matrix() + other._matrix()
        b = np.hstack([self.scale * self.B, other.scale * other.B])
        return LowRankDelta(b, np.vstack([self.A, other.A]), full=full)

    def __neg__(self) -> LowRankDelta:
        return -1.0 * self

    def __sub__(self, other: LowRankDelta) -> LowRankDelta:
        return self + (-other)

    def __mul__(self, number: float) -> LowRankDelta:
        full = None if self.full is None else float(number) * self.full
        return LowRankDelta(self.B, self.A, float(number) * self.scale, full)

    __rmul__ = __mul__

    @once
    def core(self) -> tuple[Array, Array, Array]:
        """Thin (Q_out, C, Q_in) with dW = Q_out @ C @ Q_in.T, C of size at most r x r."""
        q_out, r_out = np.linalg.qr(self.B)
        q_in, r_in = np.linalg.qr(self.A.T)
        return q_out, self.scale * (r_out @ r_in.T), q_in

    def norm(self) -> float:
        """Frobenius norm of dW."""
        return float(np.linalg.norm(self.core[1] if self.full is None else self.full))

    def inner(self, other: LowRankDelta) -> float:
        """Frobenius inner product <dW, dW'> = sum of the entrywise products."""
        self._check_shape(other)
        if self.full is not None:
            return other._inner_with(self.full)
        if other.full is not None:
            return self._inner_with(other.full)
        out1, c1, in1 = self.core
        out2, c2, in2 = other.core
        return float(np.sum(c1 * ((out1.T @ out2) @ c2 @ (in2.T @ in1))))

    def svd(self) -> tuple[Array, Array, Array]:
        """Thin (U, s, V) with dW = U @ diag(s) @ V.T: (d_out, r), (r,) falling, (d_in, r)."""
        q_out, core, q_in = self.core
        u, s, vt = np.linalg.svd(core, full_matrices=False)
        return q_out @ u, s, q_in @ vt.T

    def _inner_with(self, matrix: Array) -> float:
        if self.full is not None:
            return float(np.sum(self.full * matrix))
        return float(self.scale * np.sum((matrix @ self.A.T) * self.B))

    def _matrix(self) -> Array:
        return self.scale * (self.B @ self.A) if self.full is None else self.full

    def _check_shape(self, other: LowRankDelta) -> None:
        if self.shape != other.shape:
            raise UserError(
                f"deltas of different shape: {self.shape} and {other.shape}: "
                "compare the same module of the same base model"
            )


def zero_delta(shape: tuple[int, int]) -> LowRankDelta:
    """The change that changes nothing, of rank 0."""
    return LowRankDelta(np.zeros((shape[0], 0)), np.zeros((0, shape[1])))
