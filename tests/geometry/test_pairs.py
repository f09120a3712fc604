"""Chance for the cosine of a given pair: its moments, its law, and few false alarms among many."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests
from synthetic import dense, module_name, random_delta, rotation

from finetune_geometry.deltas.adapters import adapter_from
from finetune_geometry.deltas.checkpoints import leading_part
from finetune_geometry.deltas.lowrank import LowRankDelta, zero_delta
from finetune_geometry.geometry.cores import compress, map_modules
from finetune_geometry.geometry.pairs import (
    PairMoments,
    bound,
    holm,
    p_value,
    pair_moments,
    start_of,
    tabulate_pairs,
)

pytestmark = pytest.mark.usefixtures("frame")


def table_of(adapters):
    """Values by (a, b, the module's name or else the level, quantity)."""
    table = tabulate_pairs(map_modules(pair_moments, adapters))
    where = table["module"].where(table["level"] == "module", table["level"])
    return table.set_index(["a", "b", where.rename("where"), "quantity"])["value"]


def moments(*deltas):
    return pair_moments(compress("m", [f"d{i}" for i in range(len(deltas))], deltas))


def cosine(x, y):
    return float(np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y))


def test_variances_are_those_of_the_dense_matrices():
    rng = np.random.default_rng(0)
    one, two = random_delta(rng), random_delta(rng, r=3, scale=1e-3)
    found = moments(zero_delta((24, 18)), one, two)
    x, y = dense(one), dense(two)
    wanted = np.linalg.norm(x @ y.T) ** 2 / (24 * np.sum(x**2) * np.sum(y**2))
    assert found.left[1, 2] == pytest.approx(wanted, rel=1e-12)
    assert found.both == 1 / (24 * 18)
    assert found.left[0, 1] == 0
    # Of a matrix that is kept whole nothing is left out: the same, whatever its norms.
    whole = moments(leading_part(x, 10), leading_part(y, 10))
    assert whole.left[0, 1] == pytest.approx(wanted, rel=1e-9)


def test_what_a_truncated_matrix_leaves_out_counts_as_random_directions():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 90, 100))
    exact = np.linalg.norm(x @ y.T) ** 2 / (90 * np.sum(x**2) * np.sum(y**2))
    found = moments(leading_part(x, 4), leading_part(y, 4)).left[0, 1]
    assert found == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("turned", ["left", "both"])
def test_moments_are_those_of_random_rotations(turned):
    """Two modules of unequal shape and energy: the modules' variances, and 95 % of all together."""
    rng = np.random.default_rng(0)
    shapes = {"layers.0.q": (16, 20), "layers.1.q": (30, 12)}
    a = {m: rng.standard_normal((3, s[1])) for m, s in shapes.items()}
    size = {"layers.0.q": (5.0, 2.0), "layers.1.q": (1.0, 1.0)}
    pair = [
        {
            m: LowRankDelta(rng.standard_normal((s[0], 3)), a[m] + rng.standard_normal((3, s[1])))
            * size[m][i]
            for m, s in shapes.items()
        }
        for i in (0, 1)
    ]
    drawn = {m: [] for m in shapes} | {"global": []}
    for _ in range(3000):
        one = {}
        for m, (d_out, d_in) in shapes.items():
            one[m] = rotation(d_out, rng) @ dense(pair[0][m])
            if turned == "both":
                one[m] = one[m] @ rotation(d_in, rng)
            drawn[m].append(cosine(one[m], dense(pair[1][m])))
        stacked = [
            np.concatenate([matrices[m].ravel() for m in shapes])
            for matrices in (one, {m: dense(d) for m, d in pair[1].items()})
        ]
        drawn["global"].append(cosine(*stacked))
    parts = {m: moments(pair[0][m], pair[1][m]) for m in shapes}
    for m, part in parts.items():
        predicted = part.left[0, 1] if turned == "left" else part.both
        assert np.mean(np.square(drawn[m])) == pytest.approx(predicted, rel=0.1)
    table = table_of([adapter_from(n, d) for n, d in zip("ab", pair, strict=True)])
    level = table["a", "b", "global", f"chance_{'shared' if turned == 'left' else 'independent'}_a"]
    assert np.mean(np.abs(drawn["global"]) < level) == pytest.approx(0.95, abs=0.012)
    assert table["a", "b", "layer", "chance_shared_a"].shape == (2,)


def test_one_direction_has_the_exact_law():
    """Rank 1, one input direction, left side turned: p is uniform, and so is not p of another n."""
    rng = np.random.default_rng(0)
    one, other = (random_delta(rng, 12, 9, 1) for _ in range(2))
    two = LowRankDelta(other.B, -3 * one.A)
    x, y = dense(one), dense(two)
    drawn = np.array([cosine(rotation(12, rng) @ x, y) for _ in range(800)])
    variance = moments(one, two).left[0, 1]
    assert variance == pytest.approx(1 / 12)
    for factor, fits in ((1.0, True), (0.7, False)):
        p = p_value(drawn, np.full(800, factor * variance))
        assert (scipy.stats.kstest(p, "uniform").pvalue > 0.01) == fits


def test_p_values_at_the_ends():
    variances = np.array([1 / 50, 1 / 50, 1.0, 1e-24])
    assert p_value(np.array([0.0, 1.0, 1.0, 1e-17]), variances) == pytest.approx(
        [1, 0, 1, 1], abs=1e-4
    )
    assert bound(np.array([1.0, 1 / 3])) == pytest.approx([1.0, 0.95])  # n = 3: |cos| is uniform


# --- whether A is shared ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "start"),
    [
        (None, "no A"), (-0.3, "independent"), (0.1, "independent"), (0.1001, "unclear"),
        (0.4999, "unclear"), (0.5, "shared"), (1.0, "shared"),
    ],
)  # fmt: skip
def test_start_is_read_off_the_cosine_of_a(mean, start):
    assert start_of(mean) == start


def test_cosine_of_a_is_that_of_the_factors_as_saved():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 18)), rng.standard_normal((5, 24, 3))
    g = rotation(3, rng)
    deltas = {
        "one": LowRankDelta(b[0], a[0]),
        "two": LowRankDelta(b[1], 7 * a[0] + a[1], scale=-1.0),
        "turned": LowRankDelta(b[0] @ g.T, g @ a[0]),  # the same change as "one"
        "wide": random_delta(rng, r=4),
        "whole": leading_part(rng.standard_normal((24, 18)), 3),
        "zero": LowRankDelta(0 * b[0], a[0]),
    }
    adapters = [adapter_from(name, {"layers.0": delta}) for name, delta in deltas.items()]
    table = table_of(adapters)
    for other, second in (("two", 7 * a[0] + a[1]), ("turned", g @ a[0])):
        assert table["one", other, "mean", "cosine_of_a"] == pytest.approx(cosine(a[0], second))
    assert table["one", "turned", "mean", "cosine_of_a"] < 0.9
    assert table["one", "wide", "layers.0", "cosine_of_a"] == 0.0
    assert table["one", "zero", "mean", "cosine_of_a"] == pytest.approx(1.0)
    assert ("one", "whole", "mean", "cosine_of_a") not in table.index
    assert ("one", "zero", "global", "p") not in table.index
    assert ("one", "whole", "global", "p") in table.index


# --- many pairs ---------------------------------------------------------------------------------


def crowd(rng, n, *, shared, r, decay, modules=12, related=0):
    """Unrelated adapters of decaying spectra and energies; the last `related` share a part of B."""
    names = [module_name(layer) for layer in range(modules)]
    first = {m: rng.standard_normal((r, 40)) for m in names}
    common = {m: rng.standard_normal((48, r)) for m in names}
    adapters = []
    for i in range(n):
        deltas = {}
        for place, m in enumerate(names):
            b = rng.standard_normal((48, r)) + (i >= n - related) * 0.6 * common[m]
            a = first[m] if shared else rng.standard_normal((r, 40))
            deltas[m] = LowRankDelta(b * decay ** (np.arange(r) + place), a)
        adapters.append(adapter_from(f"a{i}", deltas))
    return adapters


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("r", "decay"), [(4, 1.0), (4, 0.6), (1, 0.8)])
def test_of_many_unrelated_adapters_hardly_any_family_has_a_false_alarm(shared, r, decay):
    """28 adapters, 378 pairs; 95 % of such families should have none that is "more than chance"."""
    alarms = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        table = table_of(crowd(rng, 28, shared=shared, r=r, decay=decay))
        corrected = table[:, :, "global", "p_corrected"]
        assert len(corrected) == 378
        raw = table[:, :, "global", "p"]
        assert (corrected >= raw).all()
        alarms += bool((corrected < 0.05).any())
    assert alarms <= 2


def test_a_related_pair_is_found_among_many_with_one_a():
    table = table_of(crowd(np.random.default_rng(0), 28, shared=True, r=4, decay=1.0, related=2))
    corrected = table[:, :, "global", "p_corrected"]
    assert [pair for pair, p in corrected.items() if p < 0.05] == [("a26", "a27")]


def test_without_any_overlap_rounding_is_no_finding():
    """Input directions at right angles: overlap and cosine are both rounding, of whatever ratio."""
    inner = np.array([[1.0, 1e-17], [1e-17, 1.0]])
    left = np.array([[0.1, 1e-40], [1e-40, 0.1]])
    part = PairMoments("layers.0", 0, ("a", "b"), inner, left, 0.01, np.ones((2, 2)))
    table = tabulate_pairs([part]).set_index(["level", "quantity"])["value"]
    assert table["global", "p"] > 0.9


@pytest.mark.parametrize("n", [0, 1, 2, 7, 378])
def test_holm_is_that_of_statsmodels(n):
    p = np.random.default_rng(n).beta(0.4, 1, size=n)
    p[: n // 3] = p[n // 3 : 2 * (n // 3)]  # ties
    expected = multipletests(p, method="holm")[1] if n else np.empty(0)
    assert holm(p.tolist()) == pytest.approx(expected, rel=1e-14)
