"""The path of a series against the points themselves."""

from itertools import pairwise

import numpy as np
import pytest

from finetune_geometry.geometry.series_path import (
    out_of_line,
    settles,
    tabulate_path,
    turning_angles,
)


def squares(points) -> np.ndarray:
    return np.sum((points[:, None] - points[None]) ** 2, axis=-1)


def path_of(points, of_a=None):
    """The base at the origin, then these points."""
    points = np.vstack([np.zeros(points.shape[1]), points])
    n = len(points) - 1
    return tabulate_path(
        [f"c{i}" for i in range(1, n + 1)], squares(points), of_a or [0.99] * (n - 1)
    )


def test_lengths_and_turns_are_those_of_the_points():
    points = np.random.default_rng(0).standard_normal((7, 50)).cumsum(axis=0)
    found = path_of(points)
    steps = np.diff(np.vstack([np.zeros(50), points]), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    turns = [
        np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        for a, b in pairwise(steps)
    ]
    assert found["step"].to_numpy() == pytest.approx(lengths)
    assert found["path"].to_numpy() == pytest.approx(lengths.cumsum())
    assert found["net"].to_numpy() == pytest.approx(np.linalg.norm(points, axis=1))
    assert found["turn"].to_numpy()[:-1] == pytest.approx(turns)
    assert np.isnan(found["turn"].iloc[-1])
    assert found["to_last"].to_numpy() == pytest.approx(
        np.linalg.norm(points - points[-1], axis=1), abs=1e-12
    )
    assert found["straightness"].iloc[-1] == pytest.approx(
        np.linalg.norm(points[-1]) / lengths.sum()
    )
    assert found["remaining"].to_numpy() == pytest.approx(1 - lengths.cumsum() / lengths.sum())


def test_straight_back_and_at_a_right_angle():
    line = np.array([[0, 0], [1, 0], [2, 0], [2, 1], [2, 0]], dtype=float)
    assert turning_angles(squares(line)) == pytest.approx([0, 90, 180], abs=1e-6)


def test_another_initial_a_breaks_the_series():
    points = np.arange(1.0, 6.0)[:, None]
    found = path_of(points, [0.99, 0.99, 0.004, 0.99])
    assert found["breaks"].tolist() == ["", "", "", "start", ""]
    assert (path_of(points, [None] * 4)["breaks"] == "").all()


def test_a_jump_and_a_sharp_turn_break_and_slowing_down_does_not():
    x = np.array([1, 2, 3, 13, 14, 15, 16.0])
    assert path_of(x[:, None])["breaks"].tolist() == ["", "", "", "length", "", "", ""]
    slowing = np.cumsum(0.4 ** np.arange(9))
    assert (path_of(slowing[:, None])["breaks"] == "").all()
    back = np.array([1, 2, 3, 4, 5, 4, 3, 2.0])
    assert path_of(back[:, None])["breaks"].tolist()[5] == "turn"


def test_few_values_are_never_out_of_line():
    assert not out_of_line(np.array([1, 1, 1, 99.0]), 0.1).any()
    assert out_of_line(np.array([1, 1, 1, 1, 99, np.nan]), 0.1).tolist() == [0, 0, 0, 0, 1, 0]
    # Equal values: what differs by less than the least scatter is no outlier.
    assert not out_of_line(np.array([1, 1, 1, 1, 1.1]), 0.1).any()


def test_where_it_settles():
    slowing = np.cumsum(0.4 ** np.arange(9))
    found = path_of(slowing[:, None])
    at = settles(found, 0.1)
    rest = found.set_index("name")["remaining"]
    assert rest[at] <= 0.1 < rest["c2"]
    assert at == "c3"
    assert settles(path_of(np.arange(1.0, 21.0)[:, None]), 0.1) is None  # equal steps
    assert settles(path_of(np.zeros((4, 2))), 0.1) is None


def test_a_series_that_does_not_move_and_a_series_of_two():
    still = path_of(np.zeros((3, 2)))
    assert (still[["step", "path", "net", "straightness", "remaining"]] == 0).all(axis=None)
    assert path_of(np.array([[1.0], [2.0]]))["turn"].iloc[0] == pytest.approx(0, abs=1e-6)
