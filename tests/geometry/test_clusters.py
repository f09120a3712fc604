"""Groups and orders of adapters whose groups are known."""

import numpy as np
import pytest

from finetune_geometry.geometry.clusters import (
    connected_sets,
    groups_of,
    leaf_order,
    linkage_of,
    silhouettes,
)


def cosines_of(sizes, within, between=0.0) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    found = np.where(labels[:, None] == labels, within, between)
    np.fill_diagonal(found, 1.0)
    return found


def test_known_groups_are_found_whatever_the_order():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, 3], [5, 4, 1, 1])
    shuffled = rng.permutation(len(labels))
    cosines = cosines_of([5, 4, 1, 1], 0.7)[np.ix_(shuffled, shuffled)]
    found, strength = groups_of(cosines)
    same = labels[shuffled][:, None] == labels[shuffled]
    assert np.array_equal(found[:, None] == found, same)
    assert strength[np.isin(labels[shuffled], [0, 1])] == pytest.approx(0.7)
    assert np.all(strength[np.isin(labels[shuffled], [2, 3])] == 0)
    ordered = labels[shuffled][leaf_order(cosines)]
    assert np.count_nonzero(np.diff(ordered)) == 3  # each group in one piece


def test_adapters_that_are_nearly_equal_are_one_group_and_not_two():
    cosines = cosines_of([1, 6], 0.999, 0.99)
    labels, strength = groups_of(cosines)
    assert len(set(labels)) == 1
    assert strength.min() > 0.98


def test_unrelated_and_opposed_adapters_are_alone():
    for cosines in (np.eye(5), cosines_of([1, 1, 1], 1.0, -0.4)):
        labels, strength = groups_of(cosines)
        assert len(set(labels)) == len(cosines)
        assert not strength.any()


def test_two_adapters_and_one():
    assert len(set(groups_of(np.array([[1.0, 0.9], [0.9, 1.0]]))[0])) == 1
    assert len(set(groups_of(np.eye(2))[0])) == 2
    assert groups_of(np.eye(1))[0].tolist() == [0]
    assert leaf_order(np.eye(2)) == [0, 1]
    assert leaf_order(np.eye(0)) == []


def test_the_tree_joins_at_mean_distances():
    cosines = cosines_of([2, 1], 0.8, 0.1)
    assert linkage_of(cosines)[:, 2] == pytest.approx([0.2, 0.9])


def test_silhouettes_by_hand():
    """Points 0, 1 and 10 on a line: of the first, a = 1 and b = 10."""
    x = np.array([0.0, 1.0, 10.0])
    found = silhouettes(np.abs(x[:, None] - x), np.array([1, 1, 2]))
    assert found == pytest.approx([9 / 10, 8 / 9, 0.0])
    assert not silhouettes(np.abs(x[:, None] - x), np.array([1, 1, 1])).any()


def test_links_join_through_others():
    linked = np.zeros((6, 6), dtype=bool)
    for i, j in ((0, 3), (3, 5), (1, 2)):
        linked[i, j] = linked[j, i] = True
    assert connected_sets(linked) == [[0, 3, 5], [1, 2]]
    assert connected_sets(np.eye(3, dtype=bool)) == []
