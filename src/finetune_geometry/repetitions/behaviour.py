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
from finetune_geometry.settings.variation import Cell
from finetune_geometry.settings.variations import cells

NUMBERS = 200_000_000  # log-probabilities held at once: models x positions x vocabulary
MEASURES = ("cosine", "distance", "lengths", "left angle", "right angle")
BEHAVIOURS = ("tokens", "texts", "errors")


def measure_behaviour(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """The models of a cell, two by two, and each beside the run's own, by weights and by behaviour.

    The base must be the run's: of a cell with another student there are only its own pairs.

    Returns one table, behaviour: a, b (names of adapters), pair ("one A" where both began with the
    same, else "two A"); tokens, texts, errors (`token_kl` and `answers_apart`); cosine, distance
    (||dW_a - dW_b||, Frobenius, all modules stacked), lengths (difference of the norms), left angle
    and right angle (degrees: smallest of the top-k subspaces, median over modules).
    """
    own = cells(run.profile)[0]
    drawn = dict.fromkeys(cell.adapters.values(), cell.name if cell.kind == "draw" else "")
    if not cell.student:  # the cell's own names win: its yardstick may be one of the run's
        drawn = dict.fromkeys(own.adapters.values(), "") | drawn
    mine = {*cell.adapters.values()}
    names = sorted(drawn, key=lambda name: name not in mine)
    check_adapters(run, names)
    loaded = {name: load_adapter(run.adapter_dir(name), name) for name in names}
    answers = evaluate_models(run, names, beside=())
    table = _tokens(run, loaded).merge(answers_apart(answers), on=["a", "b"])
    table = table.rename(columns={"wrong": "errors"}).merge(_weights(run, loaded), on=["a", "b"])
    table = table[table["a"].isin(mine) | table["b"].isin(mine)]
    one = table["a"].map(drawn) == table["b"].map(drawn)
    table.insert(2, "pair", one.map({True: "one A", False: "two A"}))
    return {"behaviour": table.reset_index(drop=True)}


def _tokens(run: Run, loaded: dict[str, Adapter]) -> pd.DataFrame:
    model, _ = load_model(run.profile)
    rows = spread_rows(load_rollouts(run, "heldout"), run.profile.geometry.lmc_rows)
    heldout = list(zip(rows["prompt_ids"], rows["completion_ids"], strict=True))
    positions = max(1, NUMBERS // (len(loaded) * model.config.vocab_size))
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
    table = table.rename(columns={"left": "left angle", "right": "right angle"}).reset_index()
    i, j = ([names.index(name) for name in table[side]] for side in ("a", "b"))
    square = gram.diagonal()
    table["cosine"] = cosine(gram)[i, j]
    table["distance"] = np.sqrt((square[i] + square[j] - 2 * gram[i, j]).clip(min=0))
    table["lengths"] = np.abs(np.sqrt(square[i]) - np.sqrt(square[j]))
    return table[["a", "b", *MEASURES]]
