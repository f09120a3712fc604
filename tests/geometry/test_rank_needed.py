"""The rank that holds a share of the energy, against the dense matrices."""

import numpy as np
import pytest
from synthetic import dense, random_delta, rotation

from finetune_geometry.deltas.checkpoints import leading_part
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.cores import compress
from finetune_geometry.geometry.rank_needed import energy_rank, rank_rows, tabulate_ranks


@pytest.mark.parametrize(
    ("values", "share", "rank"),
    [
        ([3, 4, 0], 0.5, 2), ([4, 3, 0], 0.64, 1), ([4, 3, 0], 0.65, 2), ([1, 1, 1, 1], 0.9, 4),
        ([1, 1, 1, 1], 0.75, 3), ([5], 0.99, 1), ([0, 0], 0.9, 0), ([], 0.9, 0), ([2, 1], 1.0, 2),
    ],
)  # fmt: skip
def test_energy_ranks_by_hand(values, share, rank):
    assert energy_rank(np.array(values, dtype=float), share) == rank


def test_no_matrix_of_lower_rank_is_as_near():
    rng = np.random.default_rng(0)
    values = 0.6 ** np.arange(6)
    delta = LowRankDelta(rotation(20, rng)[:, :6] * values, rotation(15, rng)[:6])
    cores = compress("layers.3.q_proj", ["one"], [delta])
    table = tabulate_ranks([rank_rows(cores)], lambda name, module: 6)
    row = table.iloc[0]
    u, s, vt = np.linalg.svd(dense(delta))
    for share, column in ((0.9, "rank_90"), (0.99, "rank_99")):
        needed = int(row[column])
        for rank, enough in ((needed, True), (needed - 1, False)):
            lost = np.sum((dense(delta) - (u[:, :rank] * s[:rank]) @ vt[:rank]) ** 2)
            assert (lost <= (1 - share) * np.sum(s**2)) == enough
    assert (row["adapter"], row["kind"], row["layer"], row["rank_given"]) == ("one", "q_proj", 3, 6)
    assert row["stable_rank"] == pytest.approx(np.sum(s**2) / s[0] ** 2)


def test_of_a_full_fine_tuning_the_unknown_tail_counts():
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((200, 150))
    cores = compress("m", ["full"], [leading_part(matrix, 10)])
    (row,) = rank_rows(cores)
    assert np.isnan(row[-1])
    steep = (rotation(200, rng)[:, :50] * 0.5 ** np.arange(50)) @ rotation(150, rng)[:50]
    (row,) = rank_rows(compress("m", ["full"], [leading_part(steep, 10)]))
    assert row[-2:] == (2.0, 4.0)  # 1 - 1/4^n >= 0.9, 0.99


def test_the_base_has_no_row():
    delta = random_delta(np.random.default_rng(2))
    assert [row[0] for row in rank_rows(compress("m", ["base", "x"], [delta, delta]))] == ["x"]
