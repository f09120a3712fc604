"""What a merge keeps and what cancels, against the dense matrices."""

from itertools import combinations

import numpy as np
import pytest
from synthetic import dense, random_delta

from finetune_geometry.deltas.adapters import adapter_from, zero_adapter
from finetune_geometry.deltas.checkpoints import leading_part
from finetune_geometry.geometry.cores import compress, map_modules
from finetune_geometry.geometry.merging import (
    ALL,
    block_of,
    common_share,
    sign_rows,
    tabulate_merging,
)
from finetune_geometry.geometry.similarity import inner_products

SHAPES = {"layers.0.q": (24, 18), "layers.1.q": (40, 12)}


def some_adapters(number=3, seed=0):
    rng = np.random.default_rng(seed)
    return [
        adapter_from(f"a{i}", {m: random_delta(rng, *s, r=4) for m, s in SHAPES.items()})
        for i in range(number)
    ]


def table_of(adapters):
    with_base = [zero_adapter(adapters[0]), *adapters]
    parts = map_modules(lambda c: (inner_products(c), sign_rows(c)), with_base)
    return tabulate_merging(*zip(*parts, strict=True)).set_index(["a", "b"])


def flat(adapter):
    return np.concatenate([dense(adapter[m]).ravel() for m in SHAPES])


def test_shares_are_those_of_the_dense_matrices():
    adapters = some_adapters()
    found = table_of(adapters)
    x = np.stack([flat(adapter) for adapter in adapters])
    energy = np.mean(np.sum(x**2, axis=1))
    row = found.loc[(ALL, ALL)]
    assert row["common"] == pytest.approx(np.sum(x.mean(0) ** 2) / energy)
    assert row["common_if_unrelated"] == pytest.approx(1 / 3)
    assert row["interference"] == pytest.approx(1 - np.sum(x.sum(0) ** 2) / np.sum(x**2))
    # All modules are smaller than the sample, so the signs are counted exactly.
    against = np.abs(x) * (np.sign(x) != np.sign(x.sum(0)))
    assert row["opposed"] == pytest.approx(against.sum() / np.abs(x).sum())
    for i, j in combinations(range(3), 2):
        pair = found.loc[(f"a{i}", f"a{j}")]
        assert pair["sign_conflict"] == pytest.approx(np.mean(np.sign(x[i]) != np.sign(x[j])))
        cancelled = -2 * x[i] @ x[j] / (x[i] @ x[i] + x[j] @ x[j])
        assert pair["interference"] == pytest.approx(cancelled)


def test_conflicts_of_the_largest_fifth_are_those_of_the_dense_matrices():
    one, two = some_adapters(2)
    module, shape = "layers.0.q", SHAPES["layers.0.q"]
    found = sign_rows(compress(module, ["one", "two"], [one[module], two[module]]))
    x, y = dense(one[module]), dense(two[module])
    kept = (np.abs(x) >= np.quantile(np.abs(x), 0.8)) & (np.abs(y) >= np.quantile(np.abs(y), 0.8))
    differ = np.sign(x) != np.sign(y)
    assert found.both_of_largest[0, 1] == pytest.approx(kept.mean())
    assert found.conflict_of_largest[0, 1] == pytest.approx((kept & differ).mean())
    assert found.entries == shape[0] * shape[1]


@pytest.mark.parametrize(
    ("factor", "common", "interference", "conflict"), [(1.0, 1.0, -1.0, 0.0), (-1.0, 0.0, 1.0, 1.0)]
)
def test_equal_and_opposite_adapters(factor, common, interference, conflict):
    (one,) = some_adapters(1)
    two = adapter_from("two", {m: factor * one[m] for m in SHAPES})
    row = table_of([one, two]).loc[("a0", "two")]
    assert row["common"] == pytest.approx(common, abs=1e-12)
    assert row["interference"] == pytest.approx(interference)
    assert row["sign_conflict"] == row["sign_conflict_of_largest"] == conflict


def test_a_sample_of_a_large_module_is_near_the_truth():
    rng = np.random.default_rng(1)
    one = random_delta(rng, 400, 300, r=6)
    two = one + 0.8 * random_delta(rng, 400, 300, r=6)
    cores = compress("m", ["one", "two"], [one, two])
    (sampled, whole) = (sign_rows(cores, sample=n).conflict[0, 1] for n in (100, 400))
    truth = np.mean(np.sign(dense(one)) != np.sign(dense(two)))
    assert whole == pytest.approx(truth)
    assert sampled == pytest.approx(truth, abs=0.05)
    assert sampled != whole


def test_the_sample_hangs_on_seed_and_module_and_on_no_other_adapter():
    rng = np.random.default_rng(2)
    deltas = [random_delta(rng, 100, 90, r=3) for _ in range(3)]
    names = ["a", "b", "c"]
    few = sign_rows(compress("m", names[:2], deltas[:2]), sample=20)
    more = sign_rows(compress("m", names, deltas), sample=20)
    other = sign_rows(compress("m", names, deltas), sample=20, seed=1)
    assert few.conflict[0, 1] == more.conflict[0, 1] != other.conflict[0, 1]


def test_signs_by_chance_oppose_as_much_as_unrelated_adapters_do():
    row = table_of(some_adapters(8, seed=4)).loc[(ALL, ALL)]
    assert row["opposed"] == pytest.approx(row["opposed_by_chance"], abs=0.03)
    assert 0.25 < row["opposed"] < 0.4


def test_a_full_fine_tuning_counts_whole():
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((30, 20))
    delta = leading_part(matrix, 2)
    rows, columns = np.array([3, 7]), np.array([1, 2, 19])
    assert np.array_equal(block_of(delta, rows, columns), matrix[np.ix_(rows, columns)])


def test_nothing_is_common_to_changes_of_zero():
    (one,) = some_adapters(1)
    row = table_of([zero_adapter(one, "x"), zero_adapter(one, "y")]).loc[(ALL, ALL)]
    assert (row["common"], row["interference"]) == (0.0, 0.0)
    assert np.isnan(row["opposed"])
    assert common_share(np.zeros((2, 2))) == 0.0
