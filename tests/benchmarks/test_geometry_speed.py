"""Weight-delta geometry at the paper's size, side by side with the plain ways of doing it.

`pytest tests/benchmarks --benchmark-only -s` prints the ratios. Shapes are those of Qwen3-4B's
attention projections, 36 layers, r = 32; the slow baselines run on a stated subset and are scaled
up. Run with OMP_NUM_THREADS=1, so that worker threads and BLAS threads do not compete.
"""

from __future__ import annotations

import resource
import time
import tracemalloc
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
from synthetic import dense, module_name

from finetune_geometry.cores import ModuleCores, map_modules
from finetune_geometry.deltas import Adapter, LowRankDelta
from finetune_geometry.similarity import (
    inner_products,
    rejections,
    tabulate_cosines,
    tabulate_rejections,
)
from finetune_geometry.subspaces import angle_rows, spectrum_rows, tabulate_angles, tabulate_spectra

SHAPES = {"q_proj": (4096, 2560), "k_proj": (1024, 2560), "v_proj": (1024, 2560)} | {
    "o_proj": (2560, 4096)
}
NAMES = ("sft", "rft", "dft", "rift", "offline_grpo", "dpo", "seventh")
KS = (1, 8, 32)


def adapters_of(layers: int, r: int = 32, divide: int = 1) -> list[Adapter]:
    """Seven adapters that share A up to a little training; every module has factors of its own.

    The factors of one shape are drawn once and rolled, so that memory does not hide the working
    set of the measurement behind gigabytes of random numbers.
    """
    rng = np.random.default_rng(0)
    shapes = {
        module_name(layer, kind): (out // divide, into // divide)
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
    """All tables: cosines, distances, spectra, angles for each k and side, parts off SFT."""

    def measure(cores: ModuleCores):
        return (
            inner_products(cores),
            rejections(cores, "sft", KS),
            angle_rows(cores, KS),
            spectrum_rows(cores),
        )

    products, off, angles, spectra = zip(*map_modules(measure, adapters), strict=True)
    tables = (
        tabulate_cosines(products),
        tabulate_rejections(off, "sft"),
        tabulate_angles(angles),
        tabulate_spectra(spectra),
    )
    return sum(len(table) for table in tables)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def test_paper_size(benchmark, capsys):
    """Seven adapters of 144 modules: everything for all 21 pairs."""
    adapters = adapters_of(layers=36)
    everything(adapters_of(layers=1, divide=16))  # first calls load libraries
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


def test_ratios_to_the_plain_ways(capsys):
    """Baselines on a stated subset, ours on the same modules; the ratio is what counts."""
    adapters = adapters_of(layers=2)
    modules = list(adapters[0])
    products = seconds(lambda: map_modules(inner_products, adapters)) / len(modules)
    ours = seconds(lambda: everything(adapters)) / len(modules)
    loaded = {m: [adapter[m] for adapter in adapters] for m in modules[:4]}
    flat = seconds(lambda: [flat_cosines(d) for d in loaded.values()]) / 4
    thin = seconds(lambda: [thin_scipy(d) for d in loaded.values()]) / 4
    small = loaded[module_name(0, "k_proj")][0]
    one_svd = seconds(lambda: np.linalg.svd(dense(small), full_matrices=False))
    small_ours = seconds(lambda: small.svd())
    with capsys.disabled():
        print(
            f"\nper module, {len(NAMES)} adapters: everything {ours * 1e3:.1f} ms; cosines "
            f"{products * 1e3:.1f} ms against {flat * 1e3:.0f} ms dense and flat "
            f"({flat / products:.0f}x)\nscipy on thin factors, cosines and angles: "
            f"{thin * 1e3:.0f} ms ({thin / ours:.1f}x)\none SVD of a k_proj delta: "
            f"{small_ours * 1e3:.1f} ms against {one_svd * 1e3:.0f} ms dense "
            f"({one_svd / small_ours:.0f}x; dense SVD and angles measured on this one only)"
        )
    assert flat > products
    assert thin > ours


@pytest.mark.parametrize("what", ["modules", "d"])
def test_cost_grows_linearly(capsys, what):
    sizes = (2, 4, 8) if what == "modules" else (8, 4, 2)
    grids = [
        adapters_of(layers=n) if what == "modules" else adapters_of(layers=2, divide=n)
        for n in sizes
    ]
    took = [min(seconds(lambda a=a: everything(a)) for _ in range(2)) for a in grids]
    with capsys.disabled():
        print(f"\nseconds as {what} doubles twice: {', '.join(f'{t:.2f}' for t in took)}")
    assert took[2] < 1.5 * 4 * took[0]


def test_memory_does_not_grow_with_the_layers():
    """Peak of the arrays that the measurement itself allocates, 2 against 8 layers."""
    peaks = []
    for layers in (2, 8):
        adapters = adapters_of(layers, r=8, divide=8)
        tracemalloc.start()
        map_modules(inner_products, adapters, workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
