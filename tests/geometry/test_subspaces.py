"""Principal angles, spectra and chance levels against known answers and dense references."""

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from synthetic import dense, random_delta, rotation

from finetune_geometry.deltas.adapters import adapter_from, zero_adapter
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.cores import compress
from finetune_geometry.geometry.nulls import (
    chance_angles,
    chance_table,
    gaussian_r,
    random_lora_pair,
    same_gradient_cosine,
    smallest_angle_limit,
)
from finetune_geometry.geometry.subspaces import (
    entropy_rank,
    principal_angle_table,
    principal_angles,
    spectrum_table,
    stable_rank,
)
from finetune_geometry.settings.errors import UserError

pytestmark = pytest.mark.usefixtures("frame")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def pair_at(angles, rng, d_out=40, d_in=30, scales=(1.0, 1.0)):
    """Two deltas whose left AND right leading subspaces meet at exactly these angles."""
    k = len(angles)
    out, into = rotation(d_out, rng), rotation(d_in, rng)
    cos, sin = np.cos(angles), np.sin(angles)
    s = np.linspace(2, 1, k)

    def delta(left, right, scale):
        # A random rotation within the span hides the principal vectors.
        turn = rotation(k, rng)
        return LowRankDelta(left @ turn, turn.T @ (s[:, None] * right.T), scale)

    one = delta(out[:, :k], into[:, :k], scales[0])
    two = delta(
        out[:, :k] * cos + out[:, k : 2 * k] * sin,
        into[:, :k] * cos + into[:, k : 2 * k] * sin,
        scales[1],
    )
    return one, two


def table_of(one, two, ks) -> pd.DataFrame:
    return principal_angle_table(
        [adapter_from("sft", {"m.0": one}), adapter_from("dpo", {"m.0": two})], ks=ks
    )


def pick(table, quantity, side, k, module="m.0"):
    level = module if module in ("mean", "median") else "module"
    rows = table.query("quantity == @quantity and side == @side and k == @k and level == @level")
    rows = rows[rows["module"] == (module if level == "module" else "")]
    assert len(rows) == 1, rows
    return float(rows["value"].iloc[0])


# --- known angles ----------------------------------------------------------------------------

SPANS = [
    np.array([1e-8, 1e-4, 0.3, 1.2]),
    np.array([1e-8, 1e-8, 1e-8]),
    np.array([1e-8, 3e-8, 1e-6, 1e-5, 1e-3]),
    np.array([0.0, 1e-8, 0.5]),
    np.array([0.0, 0.0]),
    np.array([np.pi / 4 - 1e-9, np.pi / 4, np.pi / 4 + 1e-9]),
    np.array([1.0, np.pi / 2 - 1e-8, np.pi / 2]),
    np.array([np.pi / 2, np.pi / 2]),
    np.array([0.7]),
]


@pytest.mark.parametrize("angles", SPANS, ids=str)
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e-8, 1e8), (-1.0, 1e-8)])
def test_known_angles_come_back(rng, angles, scales):
    one, two = pair_at(angles, rng, scales=scales)
    cores = compress("m", ["1", "2"], [one, two])
    for side in ("left", "right"):
        k = len(angles)
        got = principal_angles(cores.basis(0, side, k), cores.basis(1, side, k))
        assert got == pytest.approx(np.sort(angles), abs=1e-10)


@pytest.mark.parametrize("angle", np.logspace(-8, np.log10(np.pi / 2), 25))
def test_small_angles_keep_their_leading_digits(rng, angle):
    """The arccos of a cosine would have lost everything below 1e-8."""
    one, two = pair_at(np.array([angle]), rng)
    cores = compress("m", ["1", "2"], [one, two])
    got = principal_angles(cores.basis(0, "left", 1), cores.basis(1, "left", 1))[0]
    assert got == pytest.approx(angle, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("family", ["random", "shared A", "rank-deficient", "badly scaled"])
def test_angles_equal_those_of_the_dense_svd(rng, family, k):
    one, two = random_delta(rng, r=4), random_delta(rng, r=6)
    if family == "shared A":
        two = LowRankDelta(rng.standard_normal(one.B.shape), one.A)
    if family == "rank-deficient":
        two = LowRankDelta(np.hstack([two.B[:, :4], two.B[:, :2]]), two.A)
    if family == "badly scaled":
        one, two = LowRankDelta(1e8 * one.B, 1e-8 * one.A, 1e-8), 1e8 * two
    table = table_of(one, two, [k])
    (u1, _, v1), (u2, _, v2) = np.linalg.svd(dense(one)), np.linalg.svd(dense(two))
    for side, x, y in (("left", u1, u2), ("right", v1.T, v2.T)):
        wanted = np.degrees(scipy.linalg.subspace_angles(x[:, :k], y[:, :k]))
        tolerance = np.degrees(1e-10)
        assert pick(table, "angle_smallest", side, k) == pytest.approx(wanted.min(), abs=tolerance)
        assert pick(table, "angle_median", side, k) == pytest.approx(
            np.median(wanted), abs=tolerance
        )
        assert pick(table, "angle_largest", side, k) == pytest.approx(wanted.max(), abs=tolerance)
        first = abs(x[:, 0] @ y[:, 0])
        assert pick(table, "leading_vector_cosine", side, 1) == pytest.approx(first, abs=1e-12)


def test_subspaces_of_different_dimension_have_the_angles_of_the_smaller(rng):
    plane, line = np.eye(5)[:, :2], np.ones((5, 1)) / np.sqrt(5)
    wanted = np.arccos(np.sqrt(2 / 5))
    assert principal_angles(plane, line) == pytest.approx([wanted])
    assert principal_angles(line, plane) == pytest.approx([wanted])


def test_shared_a_hides_on_the_right_what_differs_on_the_left(rng):
    """With one A and k = r the right angles vanish whatever B is: report both sides."""
    one = random_delta(rng, d_out=200, r=4)
    two = LowRankDelta(rng.standard_normal(one.B.shape), one.A)
    table = table_of(one, two, [4])
    assert pick(table, "angle_largest", "right", 4) < 1e-6
    assert pick(table, "angle_smallest", "left", 4) > 45


# --- properties ------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 8))
def test_angles_are_symmetric_and_invariant(seed, k, log_scale):
    rng = np.random.default_rng(seed)
    a, b = random_delta(rng, 14, 11, 4), random_delta(rng, 14, 11, 5)

    def angles(one, two, side="left"):
        cores = compress("m", ["1", "2"], [one, two])
        return principal_angles(cores.basis(0, side, k), cores.basis(1, side, k))

    wanted = angles(a, b)
    assert angles(b, a) == pytest.approx(wanted, abs=1e-10)
    assert angles(10.0**-log_scale * a, -(10.0**log_scale) * b) == pytest.approx(wanted, abs=1e-10)
    assert angles(a, a) == pytest.approx(np.zeros(k), abs=1e-10)
    out, into = rotation(14, rng), rotation(11, rng)
    turned = [LowRankDelta(out @ d.B, d.A @ into, d.scale) for d in (a, b)]
    assert angles(*turned) == pytest.approx(wanted, abs=1e-9)
    transposed = [LowRankDelta(d.A.T, d.B.T, d.scale) for d in (a, b)]
    assert angles(*transposed, side="right") == pytest.approx(wanted, abs=1e-9)
    g = rotation(4, rng) * np.array([0.1, 0.5, 2, 10])
    gauged = LowRankDelta(a.B @ g, np.linalg.solve(g, a.A), a.scale)
    assert angles(gauged, b) == pytest.approx(wanted, abs=1e-8)


# --- ranks, zero deltas, bad k ---------------------------------------------------------------


def test_k_above_the_rank_is_named_and_enters_no_average(rng):
    full, low = random_delta(rng, r=5), random_delta(rng, r=2)
    adapters = [
        adapter_from("sft", {"m.0": full, "m.1": full}),
        adapter_from("dpo", {"m.0": low, "m.1": random_delta(rng, r=5)}),
    ]
    table = principal_angle_table(adapters, ks=[3])
    assert pick(table, "undefined_angle", "left", 3) == 2
    assert table.query("quantity == 'angle_smallest' and module == 'm.0'").empty
    assert pick(table, "angle_smallest", "left", 3, "median") == pytest.approx(
        pick(table, "angle_smallest", "left", 3, "m.1")
    )


def test_numerical_rank_is_that_of_the_product(rng):
    delta = random_delta(rng, r=5)
    deficient = LowRankDelta(np.hstack([delta.B[:, :3], delta.B[:, :2]]), delta.A)
    cores = compress("m", ["a", "b", "c"], [delta, deficient, 0.0 * delta])
    assert cores.ranks == (5, 3, 0)


def test_base_has_no_angles_and_no_spectrum(rng):
    sft = adapter_from("sft", {"m.0": random_delta(rng)})
    adapters = [zero_adapter(sft), sft]
    angles, spectra = principal_angle_table(adapters, ks=[1, 2]), spectrum_table(adapters)
    assert set(angles["quantity"]) == {"undefined_angle"}
    assert set(angles["value"]) == {0.0}
    assert set(spectra["a"]) == {"sft"}


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_a_k_that_is_no_dimension_is_refused(rng, k):
    with pytest.raises(UserError, match=f"k = {k}"):
        table_of(random_delta(rng), random_delta(rng), [k])


def test_bases_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="bases of shape"):
        principal_angles(np.eye(4)[:, :2], np.eye(5)[:, :2])
    with pytest.raises(UserError, match="bases of shape"):
        principal_angles(np.eye(4)[:, :0], np.eye(4)[:, :2])


def test_effective_ranks_of_known_spectra():
    flat, one = np.full(6, 0.3), np.array([2.0, 0.0])
    assert entropy_rank(flat) == pytest.approx(6)
    assert stable_rank(flat) == pytest.approx(6)
    assert entropy_rank(one) == pytest.approx(1)
    assert stable_rank(one) == pytest.approx(1)
    assert stable_rank(np.array([2.0, 1.0])) == pytest.approx(1.25)
    p = np.array([2 / 3, 1 / 3])
    assert entropy_rank(np.array([2.0, 1.0])) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert entropy_rank(np.zeros(2)) == stable_rank(np.zeros(0)) == 0.0
    assert stable_rank(1e-200 * flat) == pytest.approx(6)


def test_spectra_equal_those_of_the_dense_matrix(rng):
    delta = random_delta(rng)
    table = spectrum_table([adapter_from("sft", {"m.0": delta})])
    values = table.query("quantity == 'singular_value' and module == 'm.0'").sort_values("k")
    wanted = np.linalg.svd(dense(delta), compute_uv=False)[: delta.r]
    assert values["value"].to_numpy() == pytest.approx(wanted, rel=1e-12)
    assert values["k"].tolist() == list(range(1, delta.r + 1))


# --- chance levels ---------------------------------------------------------------------------


def test_triangular_factor_has_the_law_of_a_gaussian_matrix(rng):
    """Compare the Gram matrices of 4,000 drawn factors with their known mean and variance."""
    d, n = 9, 3
    grams = np.stack([r.T @ r for r in (gaussian_r(d, n, rng) for _ in range(4000))])
    assert grams.mean(axis=0) == pytest.approx(d * np.eye(n), abs=0.3)
    variance = d * (np.ones((n, n)) + np.eye(n))
    assert grams.var(axis=0) == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize(("d", "k"), [(6, 1), (12, 3), (5, 4), (4, 4)])
def test_chance_angles_have_the_law_of_random_subspaces(d, k):
    """Kolmogorov-Smirnov against angles of subspaces drawn the plain way."""
    rng = np.random.default_rng(1)
    plain = []
    for _ in range(600):
        u, v = (np.linalg.qr(rng.standard_normal((d, k)))[0] for _ in range(2))
        plain.append(scipy.linalg.subspace_angles(u, v)[::-1])
    ours = chance_angles(d, k, draws=600, seed=2)
    for index in range(k):
        a, b = ours[:, index], np.array(plain)[:, index]
        if b.max() < 1e-6:  # subspaces that must meet
            assert a.max() < 1e-6
        else:
            assert scipy.stats.ks_2samp(a, b).pvalue > 1e-3


def test_chance_angle_of_lines_has_its_closed_form():
    """cos^2 of the angle of two random lines in R^d is Beta(1/2, (d - 1) / 2)."""
    d = 30
    angles = chance_angles(d, 1, draws=2000, seed=0)[:, 0]
    law = scipy.stats.beta(0.5, (d - 1) / 2)
    assert scipy.stats.kstest(np.cos(angles) ** 2, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("d", "degrees"), [(4096, 84.9), (1024, 79.9), (2560, 83.6)])
def test_chance_level_of_the_papers_shapes(d, degrees):
    angles = np.degrees(chance_angles(d, 10, draws=200, seed=0))
    assert np.median(angles[:, 0]) == pytest.approx(degrees, abs=0.4)
    assert np.median(angles[:, -1]) > 89.5
    assert np.degrees(smallest_angle_limit(d, 10)) < np.median(angles[:, 0])


def test_chance_approaches_wachters_limit():
    gaps = []
    for d, k in ((40, 8), (640, 128)):
        angles = chance_angles(d, k, draws=20, seed=0)[:, 0]
        gaps.append(abs(np.median(angles) - smallest_angle_limit(d, k)))
    assert gaps[1] < gaps[0] / 2
    assert gaps[1] < 0.02


def test_lora_pairs_in_the_compressed_frame_have_the_law_of_full_ones():
    shape, r, draws = (30, 20), 2, 300
    rng = np.random.default_rng(0)

    def cosine(one, two):
        return abs(one.inner(two)) / one.norm() / two.norm()

    small = [cosine(*random_lora_pair(shape, r, rng, shared_a=True)) for _ in range(draws)]
    full = []
    for _ in range(draws):
        a = rng.standard_normal((r, shape[1]))
        b1, b2 = rng.standard_normal((2, shape[0], r))
        full.append(cosine(LowRankDelta(b1, a), LowRankDelta(b2, a)))
    assert scipy.stats.ks_2samp(small, full).pvalue > 1e-3


def test_chance_table_has_every_level_and_shared_a_only_moves_the_right_side():
    shapes = {f"m.{i}": (60, 50) for i in range(4)}
    shared = chance_table(shapes, [2], r=4, draws=40, seed=0)
    apart = chance_table(shapes, [2], r=4, draws=40, seed=0, shared_a=False)

    def level(table, side):
        row = table.query(
            "level == 'median' and side == @side and quantity == 'angle_smallest' and k == 2"
        )
        assert len(row) == 1
        assert (row["low"] <= row["value"]).all()
        assert (row["value"] <= row["high"]).all()
        return float(row["value"].iloc[0])

    assert level(shared, "left") == pytest.approx(level(apart, "left"), abs=4)
    assert level(shared, "right") < level(apart, "right") - 20
    glob = shared.query("level == 'global'")
    assert glob["quantity"].tolist() == ["cosine"]
    assert glob["low"].iloc[0] < 0 < glob["high"].iloc[0]


@pytest.mark.parametrize("shared_a", [True, False])
def test_modules_draw_their_chance_apart(shared_a):
    """The spread of a mean of independent modules shrinks as 1 / sqrt(their number)."""

    def spread(modules, level):
        shapes = {f"model.layers.{i}.q_proj": (40, 30) for i in range(modules)}
        table = chance_table(shapes, [1], r=4, draws=400, seed=0, shared_a=shared_a)
        row = table.query("level == @level and quantity == 'cosine'").iloc[0]
        return row["high"] - row["low"]

    for level in ("global", "mean"):
        assert spread(1, level) / spread(25, level) == pytest.approx(5, rel=0.2)
    for level in ("module", "layer"):  # one module each
        assert spread(1, level) / spread(25, level) == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("k", [0, 9])
def test_chance_needs_a_k_that_fits(k):
    with pytest.raises(UserError, match="k must lie between 1 and 8"):
        chance_angles(8, k, draws=1, seed=0)


@pytest.mark.parametrize(("d", "r"), [(192, 8), (64, 16), (2560, 32)])
def test_one_gradient_through_two_initialisations(d, r):
    """First LoRA steps by the same gradient agree to r / (d + r + 1), a shared A aside."""
    cosines = same_gradient_cosine(d, r, draws=60, seed=0)
    assert cosines.mean() == pytest.approx(r / (d + r + 1), rel=0.06)
