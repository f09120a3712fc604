"""Who is alike: an order that puts similar adapters side by side, and groups of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_geometry.deltas.lowrank import Array

Whole = NDArray[np.integer[Any]]

# Kaufman and Rousseeuw (1990, Finding Groups in Data, table 4) read mean silhouettes of this size
# as a reasonable structure, and as one that is weak and could be artificial.
CLEAR = 0.5
WEAK = 0.25


def linkage_of(cosines: Array) -> Array:
    """Average linkage of M >= 2 adapters on the distance 1 - cosine, as scipy lays it out.

    Args:
        cosines: (M, M), symmetric.

    Each of the M - 1 rows joins two clusters at their mean distance (Sokal and Michener 1958).
    """
    from scipy.cluster.hierarchy import linkage  # slow to import, and needed for three or more

    above = np.triu_indices(len(cosines), 1)
    distances = np.maximum(1 - cosines[above], 0.0)
    return np.asarray(linkage(distances, "average", optimal_ordering=len(cosines) <= 200))


def leaf_order(cosines: Array) -> list[int]:
    """The adapters in an order in which neighbours are alike: the leaves of `linkage_of`.

    Of all orders that the tree allows, the one with the least sum of distances of neighbours
    (Bar-Joseph, Gifford and Jaakkola 2001), up to 200 adapters.
    """
    if len(cosines) < 3:
        return list(range(len(cosines)))
    from scipy.cluster.hierarchy import leaves_list

    return [int(i) for i in leaves_list(linkage_of(cosines))]


def silhouettes(distances: Array, labels: Whole) -> Array:
    """How much nearer each point is to its own cluster than to the next one, (M,), in -1 to 1.

    (b - a) / max(a, b), with a the mean distance to the others of its own cluster and b the least
    mean distance to another cluster; 0 for a point alone (Rousseeuw 1987).
    """
    found = np.zeros(len(labels))
    clusters = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if len(clusters) < 2:
        return found
    means = np.stack([distances[:, members].mean(axis=1) for members in clusters], axis=1)
    for own, members in enumerate(clusters):
        if len(members) < 2:
            continue
        inside = means[members, own] * len(members) / (len(members) - 1)
        outside = np.delete(means[members], own, axis=1).min(axis=1)
        larger = np.maximum(inside, outside)
        found[members] = (outside - inside) / np.where(larger > 0, larger, 1.0)
    return found


def groups_of(cosines: Array) -> tuple[Whole, Array]:
    """The best cut of the tree of `linkage_of`: a label and a silhouette for each adapter, (M,).

    Of all cuts into 1 to M - 1 clusters the one with the highest mean silhouette; every adapter
    alone if none is above 0. Silhouettes alone would find groups among adapters that are all nearly
    equal, as they know no scale. So one more point takes part, a stranger at right angles to all,
    at the distance 1: nobody is nearer to another cluster than that is.
    """
    m = len(cosines)
    best: Array = np.zeros(m)
    best_labels: Whole = np.arange(m)
    if m < 3:  # the only cut joins all; no library is needed to tell how near two are
        near = float(cosines[0, -1]) if m == 2 else 0.0
        return (np.zeros(m, dtype=int), np.full(m, near)) if near > 0 else (best_labels, best)
    from scipy.cluster.hierarchy import fcluster

    tree = linkage_of(cosines)
    distances = np.ones((m + 1, m + 1))
    distances[:m, :m] = np.maximum(1 - cosines, 0.0)
    np.fill_diagonal(distances, 0.0)
    for number in range(1, m):
        labels = np.asarray(fcluster(tree, number, "maxclust"))
        values = silhouettes(distances, np.append(labels, 0))[:m]
        if values.mean() > best.mean():
            best, best_labels = values, labels
    return best_labels, best


def connected_sets(linked: Array) -> list[list[int]]:
    """The sets of two or more adapters that links join, directly or through others.

    linked: (M, M), symmetric, of truths.
    """
    sets: list[list[int]] = []
    seen: set[int] = set()
    for start in range(len(linked)):
        if start in seen:
            continue
        members, waiting = {start}, [start]
        while waiting:
            for other in np.flatnonzero(linked[waiting.pop()]).tolist():
                if other not in members:
                    members.add(other)
                    waiting.append(other)
        seen |= members
        if len(members) > 1:
            sets.append(sorted(members))
    return sets
