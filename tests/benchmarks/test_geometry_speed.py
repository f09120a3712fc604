"""Weight-delta geometry at the paper's size, side by side with the plain ways of doing it.

`pytest tests/benchmarks --benchmark-only -s` prints the ratios. Shapes are those of Qwen3-4B's
attention projections, 36 layers, r = 32; the slow baselines run on a stated subset and are scaled
up. Ratios are of one thread each.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
from synthetic import dense, module_name
from threadpoolctl import threadpool_limits

from finetune_geometry.deltas.adapters import Adapter
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.cores import ModuleCores, compress, map_modules
from finetune_geometry.geometry.similarity import (
    inner_products,
    orthogonal_parts,
    tabulate_cosines,
    tabulate_orthogonal_fractions,
)
from finetune_geometry.geometry.subspaces import (
    module_angles,
    spectrum_rows,
    tabulate_angles,
    tabulate_spectra,
)

SHAPES = {"q_proj": (4096, 2560), "k_proj": (1024, 2560), "v_proj": (1024, 2560)} | {
    "o_proj": (2560, 4096)
}
NAMES = ("sft", "rft", "dft", "rift", "offline_grpo", "dpo", "seventh")
KS = (1, 8, 32)


def adapters_of(layers: int, r: int = 32, width: float = 1.0) -> list[Adapter]:
    """Seven adapters that share A up to a little training; every module has factors of its own.

    The factors of one shape are drawn once and rolled, so that memory does not hide the working
    set of the measurement behind gigabytes of random numbers.
    """
    rng = np.random.default_rng(0)
    shapes = {
        module_name(layer, kind): (round(width * out), round(width * into))
        for layer in range(layers)
        for kind, (out, into) in SHAPES.items()
    }
    first = {
        shape: rng.standard_normal((r, shape[1])).astype(np.float32)
        for shape in set(shapes.values())
    }
    own = {
        (name, shape): (
            rng.standard_normal((shape[0], r)).astype(np.float32),
            first[shape] + 0.1 * rng.standard_normal((r, shape[1])).astype(np.float32),
        )
        for name in NAMES
        for shape in first
    }
    places = {module: i for i, module in enumerate(shapes)}

    def reader(name: str) -> Callable[[str], LowRankDelta]:
        def read(module: str) -> LowRankDelta:
            b, a = own[name, shapes[module]]
            return LowRankDelta(np.roll(b, places[module], axis=0), a, 2.0)

        return read

    return [Adapter(name, shapes, reader(name)) for name in NAMES]


def everything(adapters: list[Adapter]) -> int:
    """All tables: cosines, distances, spectra, angles for each k and side, orthogonal fractions."""

    def measure(cores: ModuleCores):
        return (
            orthogonal_parts(cores, "sft", KS),
            module_angles(cores, KS),
            spectrum_rows(cores),
            inner_products(cores),
        )

    orthogonal, angles, spectra, products = zip(*map_modules(measure, adapters), strict=True)
    tables = (
        tabulate_cosines(products),
        tabulate_orthogonal_fractions(orthogonal, "sft"),
        tabulate_angles(angles),
        tabulate_spectra(spectra),
    )
    return sum(len(table) for table in tables)


def seconds(function: Callable[[], object], times: int = 3) -> float:
    """Of the fastest run."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        took.append(time.perf_counter() - start)
    return min(took)


def test_paper_size(benchmark, capsys):
    """Seven adapters of 144 modules: everything for all 21 pairs."""
    adapters = adapters_of(layers=36)
    everything(adapters_of(layers=1, width=1 / 16))  # first calls load libraries
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = benchmark.pedantic(everything, args=(adapters,), rounds=2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = benchmark.stats.stats.min
    with capsys.disabled():
        print(
            f"\n144 modules, 7 adapters, 21 pairs, k = {KS}: {took:.2f} s, {rows} rows, peak "
            f"{peak / 1024:.0f} MiB ({(peak - peak_before) / 1024:.0f} above the factors)"
        )
    assert rows > 0


def flat_cosines(deltas: list[LowRankDelta]) -> None:
    flat = np.stack([dense(delta).ravel() for delta in deltas])
    norms = np.linalg.norm(flat, axis=1)
    _ = flat @ flat.T / norms / norms[:, None]


def thin_scipy(deltas: list[LowRankDelta]) -> None:
    """The competent plain way: thin SVDs, then scipy's `subspace_angles` for every pair."""
    bases = []
    for delta in deltas:
        q_out, t_out = scipy.linalg.qr(delta.B, mode="economic")
        q_in, t_in = scipy.linalg.qr(delta.A.T, mode="economic")
        u, s, vt = scipy.linalg.svd(delta.scale * t_out @ t_in.T)
        bases.append((q_out @ u, s, q_in @ vt.T))
    for (u1, s1, v1), (u2, s2, v2) in combinations(bases, 2):
        _ = np.sum(((u1.T @ u2) * (v1.T @ v2)) * np.outer(s1, s2))
        for k in KS:
            scipy.linalg.subspace_angles(u1[:, :k], u2[:, :k])
            scipy.linalg.subspace_angles(v1[:, :k], v2[:, :k])


def dense_scipy(one: LowRankDelta, two: LowRankDelta) -> tuple[float, float]:
    """Seconds for one dense SVD, and for the angles of one pair (both sides, every k)."""
    start = time.perf_counter()
    bases = [np.linalg.svd(dense(delta), full_matrices=False) for delta in (one, two)]
    middle = time.perf_counter()
    for k in KS:
        scipy.linalg.subspace_angles(bases[0][0][:, :k], bases[1][0][:, :k])
        scipy.linalg.subspace_angles(bases[0][2][:k].T, bases[1][2][:k].T)
    return (middle - start) / 2, time.perf_counter() - middle


def test_ratios_to_the_plain_ways(benchmark, capsys):
    """Baselines on a stated subset, ours on the same modules; the ratio is what counts."""
    adapters = adapters_of(layers=2)
    one_layer = {m: [adapter[m] for adapter in adapters] for m in list(adapters[0])[:4]}
    threads = os.cpu_count() or 1

    def all_of_it(cores: ModuleCores) -> object:
        return orthogonal_parts(cores, "sft", KS), module_angles(cores, KS), inner_products(cores)

    def ours(measure: Callable[[ModuleCores], object]) -> Callable[[], object]:
        return lambda: [measure(compress("m", NAMES, d)) for d in one_layer.values()]

    def plain(measure: Callable[[list[LowRankDelta]], object]) -> Callable[[], object]:
        return lambda: [measure(deltas) for deltas in one_layer.values()]

    with threadpool_limits(1):
        fast = benchmark.pedantic(lambda: seconds(ours(all_of_it)), rounds=1)
        fast_cosines = seconds(ours(inner_products))
        fast_angles = seconds(ours(lambda cores: module_angles(cores, KS)))
        flat, thin = seconds(plain(flat_cosines)), seconds(plain(thin_scipy))
        # q_proj and o_proj are of one size, k_proj and v_proj are of another.
        dense_layer = 0.0
        for kind in ("q_proj", "k_proj"):
            deltas = one_layer[module_name(0, kind)]
            one_svd, one_pair = dense_scipy(deltas[0], deltas[1])
            pairs = len(deltas) * (len(deltas) - 1) / 2
            dense_layer += 2 * (len(deltas) * one_svd + pairs * one_pair)
    # Modules of two layers side by side, against the BLAS library's own threads.
    cosines_together = seconds(lambda: map_modules(inner_products, adapters)) / 2
    fast_together = seconds(lambda: map_modules(all_of_it, adapters)) / 2
    with threadpool_limits(threads):
        flat_together = min(flat, seconds(plain(flat_cosines)))
        thin_together = min(thin, seconds(plain(thin_scipy)))
    with capsys.disabled():
        print(
            f"\none layer (4 modules), 7 adapters, one thread\n"
            f"(a) dense and flat, cosines only: {flat:.2f} s against {fast_cosines:.3f} s "
            f"({flat / fast_cosines:.0f}x)\n"
            f"(b) dense SVD and scipy's subspace_angles: {dense_layer:.0f} s, scaled up from 2 of "
            f"7 SVDs and 1 of 21 pairs of q_proj and of k_proj, against {fast_angles:.3f} s "
            f"({dense_layer / fast_angles:.0f}x)\n"
            f"(c) scipy on thin factors: {thin:.2f} s against {fast:.3f} s ({thin / fast:.1f}x)\n"
            f"with {threads} cores for each: (a) {flat_together:.2f} s against "
            f"{cosines_together:.3f} s ({flat_together / cosines_together:.0f}x), "
            f"(c) {thin_together:.2f} s against {fast_together:.3f} s "
            f"({thin_together / fast_together:.1f}x)"
        )
    assert flat > fast_cosines
    assert dense_layer > fast_angles
    assert thin > fast


@pytest.mark.parametrize("what", ["modules", "d"])
def test_cost_grows_linearly(benchmark, capsys, what):
    grids = [
        adapters_of(layers=2 * n) if what == "modules" else adapters_of(layers=2, width=n / 2)
        for n in (1, 2, 4)
    ]

    def all_sizes() -> list[float]:
        return [seconds(lambda a=a: everything(a)) for a in grids]

    took = benchmark.pedantic(all_sizes, rounds=1)
    with capsys.disabled():
        print(f"\nseconds as {what} doubles twice: {', '.join(f'{t:.2f}' for t in took)}")
    assert took[2] < 1.5 * 4 * took[0]
