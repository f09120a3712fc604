"""Similarity of hidden states: centred kernel alignment (CKA), layer by layer.

Two models read the same tokens; their hidden states at one layer are two matrices with a row for
each token. Linear CKA compares the two tables of inner products between tokens, so it does not
care about rotations and overall scale of the hidden space. The usual estimator is biased upwards,
badly so when there are more dimensions than tokens. The debiased one is the default here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from finetune_geometry.settings.errors import UserError

Array = NDArray[np.floating[Any]]
CKA_COLUMNS = [
    "a", "b", "level", "module", "layer", "quantity", "value", "low", "high", "chance_low",
    "chance_high",
]  # fmt: skip


def centred_gram(features: Array, *, debiased: bool = True) -> NDArray[np.float64]:
    """Centred table of inner products between rows, (n, n), from features (n, d), in fp64.

    Debiased: the diagonal is left out and the rest U-centred (Szekely and Rizzo 2014, section 3),
    so that sum(G_x * G_y) / (n (n - 3)) is the unbiased HSIC_1 of Song et al. (2012), equation 5.
    Biased: rows and columns minus their means (Gretton et al. 2005).
    Raises UserError for fewer than four rows or for values that are not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    n = len(x)
    if x.ndim != 2 or n < 4:
        raise UserError(
            f"features of shape {x.shape}: CKA: give (tokens, dimensions) with at least 4 tokens"
        )
    if not np.isfinite(x).all():
        raise UserError("features hold NaN or infinity: CKA: check the model that made them")
    # Centring the features first changes neither result and keeps the numbers small.
    x = x - x.mean(0)
    gram = x @ x.T
    if not debiased:
        return gram
    np.fill_diagonal(gram, 0.0)
    rows = gram.sum(1)
    gram -= (rows[:, None] + rows[None, :]) / (n - 2)
    gram += rows.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(gram, 0.0)
    return gram


def cka_matrix(grams: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """CKA of every pair, (models, models), from their centred tables; one product for all pairs.

    Kornblith et al. (2019), 1905.00414; with debiased tables, Nguyen et al. (2021), 2010.15327.
    Debiased values can be slightly negative. A model whose features do not vary has no CKA: NaN.
    """
    flat = np.stack([g.ravel() for g in grams])
    return _normed(flat @ flat.T)


def _normed(inner: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products, (models, models), divided by both lengths."""
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(np.diag(inner))
        return inner / np.outer(size, size)


def linear_cka(x: Array, y: Array, *, debiased: bool = True) -> float:
    """Linear CKA of two feature tables with the same rows: (n, d_x) and (n, d_y)."""
    if len(x) != len(y):
        raise UserError(f"{len(x)} and {len(y)} rows: CKA: both models must read the same tokens")
    grams = [centred_gram(f, debiased=debiased) for f in (x, y)]
    return float(cka_matrix(grams)[0, 1])


def cka_chance(
    gram: NDArray[np.float64], draws: int, seed: int = 0, other: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """CKA of a centred table with `other` (default: itself) after shuffling the tokens, (draws,).

    Shuffling keeps both spectra and breaks every tie between the two models: what is left is what
    the estimator reports for features that have nothing to do with each other.
    """
    other = gram if other is None else other
    rng = np.random.default_rng(seed)
    size = np.linalg.norm(gram) * np.linalg.norm(other)
    orders = (rng.permutation(len(gram)) for _ in range(draws))
    return np.array([np.sum(gram * other[np.ix_(o, o)]) / size for o in orders])


def deal_prompts(prompts: ArrayLike, groups: int = 10) -> NDArray[np.intp]:
    """The group of each token, (tokens,), from the prompt of each: a prompt stays whole.

    The prompt with most tokens comes first, and each goes to the group that has fewest, so that
    the groups are about equally large. Fewer prompts than `groups` make a group each.
    """
    _, of_token, tokens = np.unique(np.asarray(prompts), return_inverse=True, return_counts=True)
    sizes = np.zeros(min(groups, len(tokens)), dtype=np.intp)
    group_of = np.empty(len(tokens), dtype=np.intp)
    for prompt in np.argsort(-tokens, kind="stable"):
        group_of[prompt] = sizes.argmin()
        sizes[group_of[prompt]] += tokens[prompt]
    return group_of[of_token]


def cka_without_each(
    grams: Sequence[NDArray[np.float64]], groups: NDArray[np.intp], *, debiased: bool = True
) -> NDArray[np.float64]:
    """CKA of every pair without each group of tokens in turn, (groups, models, models).

    `grams` are centred tables of all tokens, by the estimator that `debiased` names. The rest is
    centred anew, without copies of the tables: what centring takes away is known from the sums of
    rows, so one pass over the products serves all groups. NaN where fewer than four tokens remain.
    """
    order = np.argsort(groups, kind="stable")
    stack = np.stack([g[np.ix_(order, order)] for g in grams])
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 1))
    ends = np.append(starts[1:], len(order))
    by_group = np.add.reduceat(stack, starts, axis=2)  # (models, tokens, groups)
    flat = stack.reshape(len(grams), -1)
    total, found = flat @ flat.T, []
    for g, (start, end) in enumerate(zip(starts, ends, strict=True)):
        n = len(order) - (end - start)
        slab = stack[:, start:end].reshape(len(grams), -1)
        block = stack[:, start:end, start:end].reshape(len(grams), -1)
        inner = total - 2 * slab @ slab.T + block @ block.T
        rows = np.delete(by_group.sum(2) - by_group[:, :, g], np.s_[start:end], axis=1)
        sums = np.outer(rows.sum(1), rows.sum(1))
        if n < 4:
            inner = np.full_like(inner, np.nan)
        elif debiased:
            inner += sums / ((n - 1) * (n - 2)) - 2 * rows @ rows.T / (n - 2)
        else:
            inner += sums / n**2 - 2 * rows @ rows.T / n
        found.append(_normed(inner))
    return np.array(found)


def jackknife_interval(
    values: NDArray[np.float64], without_each: NDArray[np.float64], confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high) about `values` (...) from the same ones without each group, (groups, ...).

    Delete-a-group jackknife (Kott 2001), Student's t with one degree of freedom less than there
    are groups. Not above 1, which no CKA exceeds. NaN for a single group.
    """
    n = len(without_each)
    if n < 2:
        return np.full_like(values, np.nan), np.full_like(values, np.nan)
    error = np.sqrt((n - 1) * without_each.var(0))
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return values - reach, np.minimum(values + reach, 1.0)


def cka_table(
    states: Mapping[str, NDArray[np.float32]],
    prompts: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """CKA of all pairs at every layer, both estimators; columns CKA_COLUMNS, `level` "layer".

    `states` are those of `hidden_states`, `prompts` says which prompt each token belongs to.
    `quantity` is `debiased_cka` or `biased_cka`. low and high: `jackknife_interval` over groups
    of whole prompts (`deal_prompts`), because the tokens of one prompt are no independent draws. A
    bootstrap would draw tokens twice, and a token beside its own copy is the bias that the
    debiased estimator leaves out. chance_low and chance_high hold the central 95 % of the same
    estimator when the tokens are shuffled (`cka_chance`), measured at that layer on the first model
    of the table.
    """
    names = list(states)
    groups = deal_prompts(prompts)
    pairs = list(combinations(range(len(names)), 2))
    rows: list[tuple[Any, ...]] = []
    for layer in range(len(states[names[0]])):
        for quantity, debiased in (("debiased_cka", True), ("biased_cka", False)):
            grams = [centred_gram(states[name][layer], debiased=debiased) for name in names]
            values = cka_matrix(grams)
            without_each = cka_without_each(grams, groups, debiased=debiased)
            low, high = jackknife_interval(values, without_each, confidence)
            chance = np.quantile(cka_chance(grams[0], draws, seed), [0.025, 0.975])
            for i, j in pairs:
                found = (values[i, j], low[i, j], high[i, j], *chance)
                rows.append((names[i], names[j], "layer", "", layer, quantity, *found))
    return pd.DataFrame(rows, columns=CKA_COLUMNS)
