"""How alike models behave, and how alike their deltas are: every two of one repetition."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import Adapter, load_adapter
from finetune_geometry.evaluation.answers import check_adapters, evaluate_models
from finetune_geometry.evaluation.behaviour import answers_apart, token_kl
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.line_scores import spread_rows
from finetune_geometry.geometry.similarity import cosine, inner_products
from finetune_geometry.geometry.subspaces import module_angles, tabulate_angles
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.loading import load_model
from finetune_geometry.models.teacher_forcing import completion_distributions
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.variation import Cell
from finetune_geometry.settings.variations import cells

NUMBERS = 200_000_000  # log-probabilities held at once: models x positions x vocabulary
MEASURES = ("cosine", "distance", "lengths", "output angle", "input angle")
ROLES = len(METHODS) + 1
#: What two models may share of their trainings.
PAIRS = ("one A, one order", "one A, two orders", "two A")
BEHAVIOURS = ("tokens", "texts", "errors")


def measure_behaviour(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """The models of a cell, two by two, and each beside the run's own, by weights and by behaviour.

    The base must be the run's: of a cell with another student there are only its own pairs.

    Returns one table, behaviour: a, b (names of adapters), pair (one of PAIRS: what they share);
    tokens, texts, errors (`token_kl` and `answers_apart`); cosine, distance (||dW_a - dW_b||,
    Frobenius, all modules stacked), lengths (difference of the norms), output angle and input angle
    (degrees: smallest of the top-k left and right subspaces, median over modules).
    """
    beside = [] if cell.student else [cells(run.profile)[0]]
    drawn = {name: start for one in (cell, *beside) for name, start in _drawn(one).items()}
    mine = {*cell.adapters.values()}
    names = sorted(drawn, key=lambda name: name not in mine)
    check_adapters(run, names)
    loaded = {name: load_adapter(run.adapter_dir(name), name) for name in names}
    answers = evaluate_models(run, names, beside=())
    table = _tokens(run, loaded)
    for other in (
        answers_apart(answers).rename(columns={"wrong": "errors"}),
        _weights(run, loaded),
    ):
        table = table.merge(other, on=["a", "b"], how="left", validate="one_to_one")
    table = table[table["a"].isin(mine) | table["b"].isin(mine)]
    table.insert(2, "pair", [_shared(drawn[a], drawn[b]) for a, b in table[["a", "b"]].to_numpy()])
    return {"behaviour": table.reset_index(drop=True)}


def _drawn(cell: Cell) -> dict[str, tuple[str, str]]:
    """Adapter -> what its initial A and its order were drawn with, told by a name."""
    initial = cell.name if cell.kind == "draw" else ""
    found = {cell.adapters[method]: (initial, cell.name) for method in METHODS}
    return {cell.adapters["sft-order"]: (initial, f"{cell.name}, other"), **found}


def _shared(one: tuple[str, str], two: tuple[str, str]) -> str:
    return PAIRS[0] if one == two else PAIRS[1] if one[0] == two[0] else PAIRS[2]


def _tokens(run: Run, loaded: dict[str, Adapter]) -> pd.DataFrame:
    model, _ = load_model(run.profile)
    rows = spread_rows(load_rollouts(run, "heldout"), run.profile.geometry.lmc_rows)
    # As many of each rollout in every repetition, whatever it has beside it.
    positions = max(1, NUMBERS // (2 * ROLES * model.config.vocab_size))
    first = max(1, positions // len(rows))
    heldout = [
        (prompt, completion[:first])
        for prompt, completion in zip(rows["prompt_ids"], rows["completion_ids"], strict=True)
    ]
    found = {}
    with Mixture(model, loaded) as mixture:
        for name in loaded:
            mixture.set({name: 1.0})
            found[name] = completion_distributions(model, heldout, positions)
    return token_kl(found).rename(columns={"value": "tokens"})


def _weights(run: Run, loaded: dict[str, Adapter]) -> pd.DataFrame:
    names, k = list(loaded), run.profile.geometry.k
    parts = map_modules(
        lambda cores: (inner_products(cores), module_angles(cores, [k])), list(loaded.values())
    )
    gram = np.sum([inner.inner for inner, _ in parts], axis=0)
    angles = tabulate_angles([found for _, found in parts])
    angles = angles.query("quantity == 'angle_smallest' and level == 'median'")
    table = angles.pivot_table(index=["a", "b"], columns="side", values="value", sort=False)
    table = table.rename(columns={"left": "output angle", "right": "input angle"}).reset_index()
    i, j = ([names.index(name) for name in table[side]] for side in ("a", "b"))
    square = gram.diagonal()
    table["cosine"] = cosine(gram)[i, j]
    table["distance"] = np.sqrt((square[i] + square[j] - 2 * gram[i, j]).clip(min=0))
    table["lengths"] = np.abs(np.sqrt(square[i]) - np.sqrt(square[j]))
    return table[["a", "b", *MEASURES]]
