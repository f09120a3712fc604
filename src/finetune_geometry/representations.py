"""Similarity of hidden states: centred kernel alignment (CKA), layer by layer.

Two models read the same tokens; their hidden states at one layer are two matrices with a row for
each token. Linear CKA compares the two tables of inner products between tokens, so it does not
care about rotations and overall scale of the hidden space. The usual estimator is biased upwards,
badly so when there are more dimensions than tokens. The debiased one is the default here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from finetune_geometry.deltas import BASE
from finetune_geometry.mixture import Mixture
from finetune_geometry.models import fast_inference
from finetune_geometry.profiles import UserError
from finetune_geometry.teacher_forcing import Row, padded_batches

Array = NDArray[np.floating[Any]]
COLUMNS = ["a", "b", "module", "layer", "quantity", "value", "chance_low", "chance_high"]


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
    inner = flat @ flat.T
    size = np.sqrt(np.diag(inner))
    with np.errstate(invalid="ignore", divide="ignore"):
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


def sample_tokens(rows: Sequence[Row], count: int, seed: int) -> list[tuple[int, int]]:
    """`count` (row, position) pairs, all different, of completion tokens; all, if there are fewer.

    Positions count from the start of prompt and completion together. Prompt tokens are left out:
    every model sees them in the same words, and the very first one is an attention sink whose huge
    hidden state alone can lift CKA close to 1.
    """
    places = [
        (i, len(prompt) + t) for i, (prompt, answer) in enumerate(rows) for t in range(len(answer))
    ]
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return [places[j] for j in sorted(chosen)]


@torch.inference_mode()
def hidden_states(
    model: Any,
    rows: Sequence[Row],
    places: Sequence[tuple[int, int]],
    batch_tokens: int = 8192,
) -> NDArray[np.float32]:
    """Hidden states after each block at the given places, teacher-forced: (layers, places, d).

    The last layer's are those after the final norm, as `transformers` returns them. The embeddings
    are left out: adapters on the blocks cannot change them.
    """
    wanted: dict[int, list[tuple[int, int]]] = {}
    for slot, (i, position) in enumerate(places):
        wanted.setdefault(i, []).append((slot, position))
    found: NDArray[np.float32] | None = None
    for batch, ids in padded_batches(rows, wanted, batch_tokens):
        layers = model(
            input_ids=ids.to(model.device),
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=1,
        ).hidden_states[1:]
        if found is None:
            found = np.empty((len(layers), len(places), layers[0].shape[-1]), dtype=np.float32)
        lines = [line for line, i in enumerate(batch) for _ in wanted[i]]
        slots = [slot for i in batch for slot, _ in wanted[i]]
        positions = [position for i in batch for _, position in wanted[i]]
        for depth, states in enumerate(layers):
            found[depth, slots] = states[lines, positions].float().cpu().numpy()
    if found is None:
        raise UserError("no token to compare: CKA: give at least one rollout with a completion")
    return found


def all_hidden_states(
    mixture: Mixture, names: Sequence[str], rows: Sequence[Row], places: Sequence[tuple[int, int]]
) -> dict[str, NDArray[np.float32]]:
    """`hidden_states` of the base and of adapters, by name; the names are those of the mixture."""
    found = {}
    for name in names:
        mixture.set({} if name == BASE else {name: 1.0})
        with fast_inference(mixture.model):
            found[name] = hidden_states(mixture.model, rows, places)
    mixture.set({})
    return found


def cka_table(
    states: Mapping[str, NDArray[np.float32]], *, draws: int = 50, seed: int = 0
) -> pd.DataFrame:
    """CKA of all pairs at every layer, both estimators; columns COLUMNS, `module` is "block".

    `quantity` is `debiased_cka` or `biased_cka`. chance_low and chance_high hold the central 95 %
    of the same estimator when the tokens are shuffled (`cka_chance`), measured at that layer on the
    first model of the table.
    """
    names = list(states)
    rows: list[tuple[Any, ...]] = []
    for layer in range(len(states[names[0]])):
        for quantity, debiased in (("debiased_cka", True), ("biased_cka", False)):
            grams = [centred_gram(states[name][layer], debiased=debiased) for name in names]
            values = cka_matrix(grams)
            low, high = np.quantile(cka_chance(grams[0], draws, seed), [0.025, 0.975])
            rows += [
                (names[i], names[j], "block", layer, quantity, values[i, j], low, high)
                for i in range(len(names))
                for j in range(i + 1, len(names))
            ]
    return pd.DataFrame(rows, columns=COLUMNS)
