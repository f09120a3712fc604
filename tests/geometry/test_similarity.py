"""Cosines, distances and orthogonal fractions equal the dense ones and obey their symmetries."""

import itertools
import threading
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from synthetic import dense, module_name, random_delta, rotation

from finetune_geometry.deltas.adapters import adapter_from, zero_adapter
from finetune_geometry.deltas.lowrank import LowRankDelta, zero_delta
from finetune_geometry.geometry import cores as cores_module
from finetune_geometry.geometry.cores import compress, map_modules
from finetune_geometry.geometry.factors import cholesky_frame
from finetune_geometry.geometry.similarity import (
    InnerProducts,
    bootstrap_global_cosine,
    chance_orthogonal_fraction,
    cosine_table,
    inner_products,
    orthogonal_fraction_table,
    plane,
)
from finetune_geometry.geometry.subspaces import principal_angles
from finetune_geometry.geometry.table_layout import (
    TIDY_COLUMNS,
    bootstrap_averages,
    versus,
    with_averages,
)
from finetune_geometry.settings.errors import UserError

pytestmark = pytest.mark.usefixtures("frame")

MODULES = [module_name(layer, kind) for layer in range(3) for kind in ("q_proj", "o_proj")]


def adapters_of(rng, names=("sft", "rft", "dpo"), **shape):
    return [adapter_from(n, {m: random_delta(rng, **shape) for m in MODULES}) for n in names]


def pick(
    table: pd.DataFrame, quantity: str, a: str, b: str, where: str = "global", **more
) -> float:
    """The value of a pair; `where` is a level, or the name of a module."""
    rows = table[(table.a == a) & (table.b == b) & (table.quantity == quantity)]
    rows = rows[(rows.module == where) if where in MODULES else (rows.level == where)]
    for column, value in more.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, rows
    return float(rows["value"].iloc[0])


def stacked(adapter, modules=MODULES):
    return np.concatenate([dense(adapter[m]).ravel() for m in modules])


def cos(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# --- agreement with dense fp64 references ----------------------------------------------------


def families(rng):
    """Adapters that strain the arithmetic, by name."""
    a, b = random_delta(rng), random_delta(rng)
    logs = np.linspace(-8, 8, 5)
    q = rotation(24, rng)
    return {
        "random": (a, b),
        "rank-deficient": (LowRankDelta(np.hstack([a.B[:, :3], a.B[:, :2]]), a.A, 1.0), b),
        "identical": (a, a),
        "negated": (a, -1.0 * a),
        "nearly identical": (a, a + 1e-9 * b),
        "orthogonal": (LowRankDelta(q[:, :4], b.A[:4]), LowRankDelta(q[:, 4:9], b.A)),
        "columns from 1e-8 to 1e8": (
            LowRankDelta(a.B * 10**logs, a.A, 1.0),
            LowRankDelta(b.B * 10 ** logs[::-1], b.A, 1.0),
        ),
        "factors of opposite scale": (LowRankDelta(1e8 * a.B, 1e-8 * a.A), b),
        "tiny against huge": (1e-8 * a, 1e8 * b),
        "shared A": (a, LowRankDelta(b.B, a.A, b.scale)),
        "different ranks": (a, random_delta(rng, r=2)),
        "rank above d_in": (random_delta(rng, r=20), random_delta(rng, r=30)),
    }


FAMILIES = list(families(np.random.default_rng(0)))


@pytest.mark.parametrize("family", FAMILIES)
def test_cosines_norms_and_distances_equal_the_dense_ones(rng, family):
    a, b = families(rng)[family]
    table = cosine_table([adapter_from("sft", {"m": a}), adapter_from("dpo", {"m": b})])
    x, y = dense(a).ravel(), dense(b).ravel()
    assert pick(table, "cosine", "sft", "dpo") == pytest.approx(cos(x, y), abs=1e-12)
    assert pick(table, "norm", "sft", "base") == pytest.approx(np.linalg.norm(x), rel=1e-12)
    scale = max(np.linalg.norm(x), np.linalg.norm(y))
    assert pick(table, "distance", "sft", "dpo") == pytest.approx(
        np.linalg.norm(x - y), abs=1e-12 * scale
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_orthogonal_fractions_equal_the_dense_ones(rng, family):
    ref, a = families(rng)[family]
    # A singular vector is known to eps * s_1 / s_k only, in the dense reference, too.
    k = 1 if family == "columns from 1e-8 to 1e8" else min(3, ref.r)
    table = orthogonal_fraction_table(
        [adapter_from("sft", {"m": ref}), adapter_from("dpo", {"m": a})], ks=[k]
    )
    x, y = dense(a), dense(ref)
    orthogonal = x - np.sum(x * y) / np.sum(y * y) * y
    u, _, vt = np.linalg.svd(y)
    left, right = x - u[:, :k] @ (u[:, :k].T @ x), x - (x @ vt[:k].T) @ vt[:k]
    for side, quantity, residual in (
        ("", "orthogonal_to_direction", orthogonal),
        ("left", "orthogonal_to_subspace", left),
        ("right", "orthogonal_to_subspace", right),
    ):
        wanted = np.linalg.norm(residual) / np.linalg.norm(x)
        got = pick(table, f"{quantity}_norm", "dpo", "sft", side=side)
        assert got == pytest.approx(wanted, abs=1e-12)
        assert pick(table, f"{quantity}_energy", "dpo", "sft", side=side) == pytest.approx(got**2)


def test_every_level_is_that_of_the_stacked_matrices(rng):
    sft, rft, _ = adapters = adapters_of(rng)
    cosines, orthogonal = cosine_table(adapters), orthogonal_fraction_table(adapters, ks=[2])
    levels = {"global": MODULES, **{m: [m] for m in MODULES}}
    for module, members in levels.items():
        x, y = stacked(rft, members), stacked(sft, members)
        assert pick(cosines, "cosine", "sft", "rft", module) == pytest.approx(cos(x, y), abs=1e-12)
        residual = np.linalg.norm(x - (x @ y) / (y @ y) * y) / np.linalg.norm(x)
        got = pick(orthogonal, "orthogonal_to_direction_norm", "rft", "sft", module)
        assert got == pytest.approx(residual, abs=1e-12)
    for layer in range(3):
        members = MODULES[2 * layer : 2 * layer + 2]
        wanted = cos(stacked(rft, members), stacked(sft, members))
        got = pick(cosines, "cosine", "sft", "rft", "layer", layer=layer)
        assert got == pytest.approx(wanted, abs=1e-12)
    each = [cos(dense(sft[m]).ravel(), dense(rft[m]).ravel()) for m in MODULES]
    assert pick(cosines, "cosine", "sft", "rft", "mean") == pytest.approx(np.mean(each))
    assert pick(cosines, "cosine", "sft", "rft", "median") == pytest.approx(np.median(each))


def test_fraction_off_the_direction_is_the_sine_of_the_global_angle(rng):
    adapters = adapters_of(rng)
    c = pick(cosine_table(adapters), "cosine", "sft", "dpo")
    orthogonal = orthogonal_fraction_table(adapters, ks=[2])
    assert pick(orthogonal, "orthogonal_to_direction_norm", "dpo", "sft") == pytest.approx(
        np.sqrt(1 - c**2)
    )


def test_a_fraction_too_small_for_the_cosine_is_still_exact(rng):
    """At 1e-9 from the direction the fp64 cosine is exactly 1, and sqrt(1 - cos^2) is noise."""
    sft, other = adapters_of(rng, names=("sft", "dpo"))
    near = adapter_from("near", {m: sft[m] + 1e-9 * other[m] for m in MODULES})
    x, y = stacked(other), stacked(sft)
    wanted = 1e-9 * np.linalg.norm(x - (x @ y) / (y @ y) * y) / np.linalg.norm(y)
    orthogonal = orthogonal_fraction_table([sft, near], ks=[2])
    assert pick(orthogonal, "orthogonal_to_direction_norm", "near", "sft") == pytest.approx(
        wanted, rel=1e-5
    )


def framed(deltas):
    """Inner products from the shared frame, whatever the factors would give."""
    cores = compress("m", [str(i) for i in range(len(deltas))], deltas)
    assert cores.left  # forms the frame
    return inner_products(cores)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 5), min_size=2, max_size=4))
def test_factors_and_frame_give_the_same_inner_products(seed, ranks):
    rng = np.random.default_rng(seed)
    deltas = [10.0 ** rng.uniform(-8, 8) * random_delta(rng, 12, 9, r) for r in ranks]
    found = inner_products(compress("m", [str(i) for i in range(len(deltas))], deltas))
    wanted = framed(deltas)
    norms = np.sqrt(np.diagonal(wanted.inner))
    sizes = np.where(norms == 0, 1.0, norms)
    scale = sizes[:, None] * sizes
    np.testing.assert_allclose(found.inner / scale, wanted.inner / scale, atol=1e-12)
    close = np.sqrt(found.distance2) - np.sqrt(wanted.distance2)
    assert np.all(np.abs(close) <= 1e-11 * np.sqrt(wanted.distance2))


@pytest.mark.parametrize("what", ["cancelling columns", "nearly equal", "ill-conditioned gauge"])
def test_factors_that_would_lose_digits_are_left_to_the_frame(rng, what):
    one, two = random_delta(rng, 12, 9, 4), random_delta(rng, 12, 9, 4)
    if what == "nearly equal":
        two = one + 1e-7 * two
    elif what == "cancelling columns":  # the same change, written with a large one added and taken
        other = 1e4 * random_delta(rng, 12, 9, 2)
        one = one + other + (-other)
    else:
        g = rotation(4, rng) * np.logspace(-3, 3, 4) @ rotation(4, rng)
        one = LowRankDelta(one.B @ g, np.linalg.solve(g, one.A), one.scale)
    found, wanted = inner_products(compress("m", ["1", "2"], [one, two])), framed([one, two])
    assert np.array_equal(found.inner, wanted.inner)
    assert np.array_equal(found.distance2, wanted.distance2)


@pytest.mark.parametrize(("apart", "rows"), [(None, 9), (1e-1, 9), (1e-6, 30), (0.0, 30)], ids=str)
def test_many_adapters_get_a_small_frame_on_each_side_whose_columns_are_well_apart(
    rng, monkeypatch, apart, rows
):
    """A common A that training moved by `apart` (None: an A each), and a B each."""
    monkeypatch.setattr(cores_module, "JOINT", -1)
    deltas = [random_delta(rng, 40, 30, 3) for _ in range(3)]
    if apart is not None:
        start = deltas[0].A
        deltas = [LowRankDelta(d.B, start + apart * d.A, d.scale) for d in deltas]
    cores = compress("m", ["1", "2", "3"], deltas)
    assert {u.shape for u in cores.left} == {(9, 3)}
    assert {v.shape for v in cores.right} == {(rows, 3)}
    whole = [delta.svd() for delta in deltas]
    for i, (_, values, _) in enumerate(whole):
        np.testing.assert_allclose(cores.singular_values[i], values, rtol=1e-11)
    for side, found in ((0, cores.left), (2, cores.right)):
        for i, j in itertools.product(range(3), repeat=2):
            wanted = np.abs(whole[i][side].T @ whole[j][side])  # a singular vector has no sign
            np.testing.assert_allclose(np.abs(found[i].T @ found[j]), wanted, atol=1e-9)
            # What the cosines of nearly equal directions cannot tell, their sines do.
            angle = principal_angles(whole[i][side], whole[j][side])[-1]
            if i != j and apart != 0.0:
                assert principal_angles(found[i], found[j])[-1] == pytest.approx(angle, rel=1e-8)


def test_a_column_of_zeros_has_no_frame_of_the_table(rng):
    columns = rng.normal(size=(12, 3))
    columns[:, 1] *= 1e-140
    assert cholesky_frame(columns.T @ columns) is None  # its square underflows
    columns[:, 1] = 0
    assert cholesky_frame(columns.T @ columns) is None
    assert cholesky_frame(np.zeros((0, 0))) is None


def test_workers_form_frames_side_by_side(rng, monkeypatch):
    """Two threads meet inside the decomposition: neither waits for a lock that the other holds."""
    meeting, alone = threading.Barrier(2, timeout=20), cores_module.r_factor

    def in_company(rows):
        meeting.wait()
        return alone(rows)

    monkeypatch.setattr(cores_module, "r_factor", in_company)
    found = map_modules(lambda cores: len(cores.left), adapters_of(rng), workers=2)
    assert found == [3] * len(MODULES)


# --- properties ------------------------------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(2, 9), st.integers(2, 9))
def test_cosine_is_symmetric_scale_free_and_invariant(seed, r1, r2, d_out, d_in):
    rng = np.random.default_rng(seed)
    a, b = random_delta(rng, d_out, d_in, r1), random_delta(rng, d_out, d_in, r2)

    def value(one, two):
        inner = inner_products(compress("m", ["1", "2"], [one, two])).inner
        return inner[0, 1] / np.sqrt(inner[0, 0] * inner[1, 1])

    wanted = value(a, b)
    assert value(b, a) == pytest.approx(wanted, abs=1e-12)
    assert value(1e-6 * a, -1e6 * b) == pytest.approx(-wanted, abs=1e-12)
    assert value(a, a) == pytest.approx(1.0, abs=1e-12)
    g = rotation(r1, rng) * np.logspace(-1, 1, r1)
    gauged = LowRankDelta(a.B @ g, np.linalg.solve(g, a.A), a.scale)
    assert value(gauged, b) == pytest.approx(wanted, abs=1e-10)
    out, into = rotation(d_out, rng), rotation(d_in, rng)
    turned = [LowRankDelta(out @ d.B, d.A @ into, d.scale) for d in (a, b)]
    assert value(*turned) == pytest.approx(wanted, abs=1e-12)


@given(seeds)
def test_distances_obey_the_triangle_inequality_and_polarisation(seed):
    rng = np.random.default_rng(seed)
    parts = inner_products(compress("m", "abc", [random_delta(rng, 6, 5, 2) for _ in "abc"]))
    d = np.sqrt(parts.distance2)
    assert d[0, 2] <= d[0, 1] + d[1, 2] + 1e-9
    polar = parts.inner[0, 0] + parts.inner[1, 1] - 2 * parts.inner[0, 1]
    assert parts.distance2[0, 1] == pytest.approx(polar)


# --- zero deltas, options, errors ------------------------------------------------------------


def test_base_is_a_point_at_distance_norm_without_a_direction(rng):
    sft, rft, _ = adapters_of(rng)
    base = zero_adapter(sft)
    table = cosine_table([base, sft, rft])
    assert pick(table, "distance", "base", "sft") == pytest.approx(
        pick(table, "norm", "sft", "base")
    )
    assert pick(table, "undefined_cosine", "base", "sft") == 0.0
    assert table.query("quantity == 'cosine' and (a == 'base' or b == 'base')").empty
    orthogonal = orthogonal_fraction_table([base, sft, rft], ks=[2])
    assert pick(orthogonal, "undefined_orthogonal_fraction", "base", "sft") == 0.0
    assert np.isfinite(table["value"]).all()
    assert np.isfinite(orthogonal["value"]).all()


def test_one_untouched_module_leaves_the_others_alone(rng):
    sft, rft, _ = adapters_of(rng)
    frozen = adapter_from("rft", {**rft, MODULES[0]: zero_delta((24, 18))})
    table = cosine_table([sft, frozen])
    assert pick(table, "undefined_cosine", "sft", "rft", MODULES[0]) == 0.0
    each = [cos(dense(sft[m]).ravel(), dense(rft[m]).ravel()) for m in MODULES[1:]]
    assert pick(table, "cosine", "sft", "rft", "mean") == pytest.approx(np.mean(each))
    assert pick(table, "cosine", "sft", "rft") == pytest.approx(cos(stacked(sft), stacked(frozen)))


def test_adapters_of_different_rank_compare(rng):
    sft = adapters_of(rng, names=("sft",), r=2)[0]
    rft = adapters_of(rng, names=("rft",), r=7)[0]
    table = cosine_table([sft, rft])
    assert pick(table, "cosine", "sft", "rft") == pytest.approx(cos(stacked(sft), stacked(rft)))


def test_result_does_not_depend_on_the_number_of_workers(rng):
    adapters = adapters_of(rng)
    pd.testing.assert_frame_equal(
        cosine_table(adapters, workers=1), cosine_table(adapters, workers=4)
    )


def test_progress_counts_every_module(rng):
    seen = []
    cosine_table(adapters_of(rng), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, len(MODULES)) for i in range(len(MODULES))]


def test_unknown_reference_is_refused(rng):
    with pytest.raises(UserError, match=r"no reference 'sfft'.*sft, rft, dpo"):
        orthogonal_fraction_table(adapters_of(rng), reference="sfft")


def test_bootstrap_interval_holds_the_value_and_shrinks_when_modules_agree(rng):
    adapters = adapters_of(rng)
    parts = map_modules(inner_products, adapters)
    table = bootstrap_global_cosine(parts, draws=300)
    for row in table.itertuples():
        value = pick(cosine_table(adapters), "cosine", row.a, row.b)
        assert row.low <= value <= row.high
    same = [parts[0]] * 6
    tight = bootstrap_global_cosine(same, draws=50)
    assert (tight["high"] - tight["low"]).max() < 1e-12
    assert len(table) == len(list(itertools.combinations(adapters, 2)))


@pytest.mark.parametrize(("confidence", "wanted"), [(None, 0.95), (0.95, 0.95), (0.8, 0.8)])
def test_bootstrap_intervals_are_those_of_the_binomial(confidence, wanted):
    """Half of 100 modules agree fully, half not at all: a resample's mean is Binomial / 100."""
    n = 100
    agree = np.repeat([1.0, 0.0], n // 2)
    parts = [
        InnerProducts(f"m.{i}", -1, ("a", "b"), np.array([[1, c], [c, 1]]), np.zeros((2, 2)))
        for i, c in enumerate(agree)
    ]
    options = {"draws": 4000} | ({} if confidence is None else {"confidence": confidence})
    law = scipy.stats.binom(n, 0.5)
    low, high = law.ppf((1 - wanted) / 2) / n, law.ppf((1 + wanted) / 2) / n
    (whole,) = bootstrap_global_cosine(parts, **options).itertuples()
    table = with_averages(
        pd.DataFrame(
            [
                ("a", "b", "module", p.module, -1, "cosine", c)
                for p, c in zip(parts, agree, strict=True)
            ],
            columns=TIDY_COLUMNS,
        )
    )
    averages = bootstrap_averages(table, **options).set_index("level")
    for found in (whole, averages.loc["mean"]):
        assert found.low == pytest.approx(low, abs=1.01 / n)
        assert found.high == pytest.approx(high, abs=1.01 / n)


@pytest.mark.parametrize(("confidence", "wanted"), [(None, 0.95), (0.8, 0.8)])
def test_the_interval_of_a_median_is_that_of_the_order_statistics(confidence, wanted):
    """The median of 99 draws is at most the k-th value if 50 of them are: Binomial(99, k / 99)."""
    n = 99
    rows = [("a", "b", "module", f"m.{i}", -1, "angle", float(i)) for i in range(1, n + 1)]
    table = with_averages(pd.DataFrame(rows, columns=TIDY_COLUMNS))
    options = {"draws": 4000} | ({} if confidence is None else {"confidence": confidence})
    median = bootstrap_averages(table, **options).set_index("level").loc["median"]
    ks = np.arange(1, n + 1)
    at_most = scipy.stats.binom.sf(n // 2, n, ks / n)
    for found, tail in ((median["low"], (1 - wanted) / 2), (median["high"], (1 + wanted) / 2)):
        assert found == pytest.approx(ks[np.searchsorted(at_most, tail)], abs=1.01)


# --- what the figures are drawn from ---------------------------------------------------------


def test_versus_finds_the_pair_in_either_order(rng):
    sft, rft, dpo = adapters_of(rng)
    table = cosine_table([zero_adapter(sft), rft, sft, dpo])
    names = ["rft", "sft", "dpo"]
    rows = versus(table, "sft", among=names).query("quantity == 'cosine' and level == 'global'")
    assert sorted(rows["other"]) == ["dpo", "rft"]
    by_name = rows.set_index("other")["value"]
    assert by_name["rft"] == pick(table, "cosine", "rft", "sft")
    assert by_name["dpo"] == pick(table, "cosine", "sft", "dpo")
    assert set(versus(table, "sft", among=["sft", "dpo"])["other"]) == {"dpo"}
    assert set(versus(table, "base", among=["rft"])["quantity"]) == {
        "distance", "norm", "undefined_cosine",
    }  # fmt: skip
    with pytest.raises(UserError, match="no reference 'ppo'"):
        versus(table, "ppo", among=names)


def test_averages_get_the_interval_of_a_resampling_of_modules():
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    rows = [("a", "b", "module", f"m.{i}", i // 4, "angle", v) for i, v in enumerate(values)]
    rows += [("a", "c", "module", f"m.{i}", i // 4, "angle", 3.0) for i in range(5)]
    table = with_averages(pd.DataFrame(rows, columns=TIDY_COLUMNS))
    found = bootstrap_averages(table, confidence=0.95).set_index(["b", "level"])
    assert len(found) == 4
    mean, half = found.loc["b", "mean"], 1.96 * values.std() / np.sqrt(400)
    assert mean["value"] == pytest.approx(values.mean())
    assert mean["low"] == pytest.approx(values.mean() - half, abs=0.02)
    assert mean["high"] == pytest.approx(values.mean() + half, abs=0.02)
    assert found.loc["b", "median"]["low"] < np.median(values) < found.loc["b", "median"]["high"]
    assert tuple(found.loc["c", "median"][["value", "low", "high"]]) == (3.0, 3.0, 3.0)


def test_plane_keeps_lengths_and_angles_of_coplanar_deltas(rng):
    sft, rft, _ = adapters_of(rng)
    mix = adapter_from("mix", {m: 0.3 * sft[m] - 0.8 * rft[m] for m in MODULES})
    adapters = [zero_adapter(sft), sft, rft, mix]
    points, share = plane(map_modules(inner_products, adapters))
    assert share == pytest.approx(1.0)
    where = points.set_index("name")
    assert np.hypot(*where.loc["base"]) == pytest.approx(0.0, abs=1e-6)
    table = cosine_table(adapters)
    for a, b in itertools.combinations(["base", "sft", "rft", "mix"], 2):
        apart = np.hypot(*(where.loc[a] - where.loc[b]))
        assert apart == pytest.approx(pick(table, "distance", a, b), rel=1e-9)


def test_plane_says_what_it_leaves_out(rng):
    _, share = plane(map_modules(inner_products, adapters_of(rng, names="abcdef")))
    assert 2 / 6 < share < 0.6


@pytest.mark.parametrize("side", ["left", "right"])
def test_chance_of_the_subspace_fraction_is_what_random_deltas_show(side):
    rng = np.random.default_rng(0)
    shapes = {"m.0": (30, 10), "m.1": (10, 20)}
    energies = []
    for _ in range(40):
        pair = [
            adapter_from(n, {m: random_delta(rng, *shape, 8) for m, shape in shapes.items()})
            for n in ("sft", "dpo")
        ]
        table = orthogonal_fraction_table(pair, ks=[4])
        energies.append(pick(table, "orthogonal_to_subspace_energy", "dpo", "sft", side=side))
    assert np.mean(energies) == pytest.approx(
        chance_orthogonal_fraction(shapes, 4, side=side) ** 2, abs=0.02
    )


def test_memory_does_not_grow_with_the_layers(rng):
    """Peak of what the measurement allocates, for 2 and for 12 layers of the same shapes."""
    peaks = []
    for layers in (2, 12):
        delta = random_delta(rng, 3000, 2000, 8)
        adapters = [adapter_from(n, {module_name(i): delta for i in range(layers)}) for n in "ab"]
        tracemalloc.start()
        map_modules(inner_products, adapters, workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
