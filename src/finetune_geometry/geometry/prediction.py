"""The cosine of two deltas, predicted from nothing but which rollouts were seen, and how weighted.

Suppose that every rollout of the pool had a gradient of its own: all of one length, any two of them
orthogonal, the same throughout the training. A method adds them up, each as often as its batches
held that rollout and with the weight that its loss gives it. Then the deltas of two methods,
trained from one initial A, have the cosine of their vectors of weights. Neither model nor optimiser
enters. It is the chance level of losses that share rows, as random B is that of deltas which share
nothing.

Weights that depend on the student's own probabilities (DFT, the published RIFT, KRAFTON's Offline
GRPO) are not known before the training: such adapters are not predicted. DPO's push on a pair
depends on its margin; here every visited pair counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import OBJECTIVES
from finetune_geometry.settings.sections import Method


def visits(order: Sequence[int], rows: int) -> np.ndarray:
    """How often each of `rows` rows was seen: (rows,).

    order: the indices of the rows of every step, one after the other, as `rows.row_order` gives it.
    Raises `UserError` where it names a row that there is not.
    """
    seen = np.asarray(order, dtype=np.int64)
    if seen.size and not 0 <= seen.min() <= seen.max() < rows:
        raise UserError(
            f"the order names rows {seen.min()} to {seen.max()} of {rows}: visits: give the order "
            "that was made for these rows"
        )
    return np.bincount(seen, minlength=rows)


def rollout_weights(
    method: str, settings: Method, pool: pd.DataFrame, rows: pd.DataFrame, order: Sequence[int]
) -> np.ndarray | None:
    """The total signed weight on each rollout over all steps, (len(pool),); None: not predicted.

    A visit counts what `Variant.pull` says in the table of objectives: 1 for SFT, the reward for
    RFT, 1 - lambda r for RIFT as the paper prints it, the advantage for Offline GRPO. That of a
    pair counts 1 on the chosen and -1 on the rejected rollout.

    Args:
        pool: the rollouts; columns group, completion_ids.
        rows: what the method trains on, from `rows.unpaired_rows(pool, ...)` (column weight), for
            DPO from `rows.preference_pairs(pool)` (columns group, chosen_ids, rejected_ids).
        order: see `visits`.
    """
    objective = OBJECTIVES[method]
    pull = objective.variant(settings.variant).pull
    if pull is None:
        return None
    counts = visits(order, len(rows)).astype(float)
    if objective.paired:
        return _pair_weights(pool, rows, counts * pull(1.0, settings))
    if len(rows) != len(pool):
        raise UserError(
            f"{len(rows)} rows of a pool of {len(pool)}: {method}: give the rows of this very pool"
        )
    return np.asarray(counts * pull(rows["weight"].to_numpy(dtype=float), settings))


def _pair_weights(pool: pd.DataFrame, pairs: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
    """1 on the chosen rollout and -1 on the rejected one for every visit of their pair."""
    place: dict[tuple[int, tuple[int, ...]], int] = {}
    for i, (group, tokens) in enumerate(zip(pool["group"], pool["completion_ids"], strict=True)):
        place.setdefault((group, tuple(tokens)), i)  # a pair has the first rollout of its text
    total = np.zeros(len(pool))
    for column, sign in (("chosen_ids", 1.0), ("rejected_ids", -1.0)):
        for group, tokens, count in zip(pairs["group"], pairs[column], counts, strict=True):
            if (group, tuple(tokens)) not in place:
                raise UserError(
                    f"a pair of group {group} is not in the pool: dpo: give the pairs of this pool"
                )
            total[place[group, tuple(tokens)]] += sign * count
    return total


def predicted_cosines(weights: Mapping[str, np.ndarray], common: float = 0.0) -> pd.DataFrame:
    """Cosines of all pairs of weight vectors; columns a, b, value, one row a pair.

    weights: adapter to its weights on the rollouts of one pool, (rollouts,) each.
    common: kappa >= 0, the squared length of a part that all gradients share, in units of their own
        squared length. Inner products are then sum_i w_i w'_i + kappa (sum_i w_i)(sum_i w'_i).

    Pairs with an adapter whose weights are all zero have no cosine and are left out.
    """
    if not common >= 0:
        raise UserError(f"common = {common}: predicted cosine: a squared length is at least 0")
    if len({len(w) for w in weights.values()}) > 1:
        sizes = ", ".join(f"{name} {len(w)}" for name, w in weights.items())
        raise UserError(f"weights on pools of different size ({sizes}): give those on one pool")
    rows = []
    for a, b in combinations(weights, 2):
        one, two = (_unit(weights[name]) for name in (a, b))
        norms = np.sqrt(_inner(one, one, common) * _inner(two, two, common))
        if norms > 0:
            value = float(np.clip(_inner(one, two, common) / norms, -1.0, 1.0))
            rows.append((a, b, value))
    return pd.DataFrame(rows, columns=["a", "b", "value"])


def fit_common(weights: Mapping[str, np.ndarray], pair: tuple[str, str], trained: float) -> float:
    """The `common` at which `predicted_cosines` gives this one pair its trained cosine.

    With S = sum_i w_i w'_i and T the product of the two sums of weights, a cosine c asks for
    (S + kappa T)^2 = c^2 (|w|^2 + kappa sum(w)^2)(|w'|^2 + kappa sum(w')^2): quadratic in kappa,
    with one positive root where c lies between the plain prediction and 1. A trained cosine at or
    below the plain prediction asks for no common part: 0.
    """
    for name in pair:
        if name not in weights:
            raise UserError(
                f"no weights of {name!r}: common part of the gradients: it is fitted on "
                f"{' and '.join(pair)}; train both for this run first"
            )
    one, two = (_unit(weights[name]) for name in pair)
    own, inner = float(one @ one) * float(two @ two), float(one @ two)
    if trained * np.sqrt(own) <= inner:
        return 0.0
    total = float(one.sum() * two.sum())
    if not 0 < trained < 1 or total <= 0:
        raise UserError(
            f"cosine {trained} of {' and '.join(pair)}: common part of the gradients: needs a "
            "cosine between 0 and 1, and sums of weights of one sign"
        )
    # As kappa grows the prediction tends to 1, so it is above c beyond the largest root.
    c2 = trained**2
    square = total**2 * (c2 - 1)
    linear = c2 * (float(one @ one) * two.sum() ** 2 + float(two @ two) * one.sum() ** 2)
    linear -= 2 * inner * total
    roots = np.roots([square, linear, c2 * own - inner**2])
    return float(np.max(roots.real))


def orthogonal_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """A table of cosines (value, low, high) as norm fractions: sqrt(1 - cosine^2).

    An interval of cosines that holds 0 gives fractions up to 1; a missing end stays missing.
    """
    value, low, high = (table[c].to_numpy(dtype=float) for c in ("value", "low", "high"))
    ends = np.sort(np.sqrt(1 - np.stack([low, high]) ** 2), axis=0)
    ends[1] = np.where((low < 0) & (high > 0), 1.0, ends[1])
    return table.assign(value=np.sqrt(1 - value**2), low=ends[0], high=ends[1])


def _unit(weights: np.ndarray) -> np.ndarray:
    """Weights of length 1, so that neither scale nor underflow enters; zeros stay zeros."""
    values = np.asarray(weights, dtype=float)
    largest = np.max(np.abs(values), initial=0.0)
    if largest == 0:
        return values
    values = values / largest
    return np.asarray(values / np.linalg.norm(values))


def _inner(one: np.ndarray, two: np.ndarray, common: float) -> float:
    return float(one @ two + common * one.sum() * two.sum())
