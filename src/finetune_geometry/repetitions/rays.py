"""Models along their rays in one repetition, as trained and with the schedule run to its end."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE, load_adapter
from finetune_geometry.evaluation.answers import check_adapters, evaluate_models
from finetune_geometry.evaluation.choice import best_factors
from finetune_geometry.evaluation.paired_tests import accuracy_table, mcnemar_table
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.line_scores import spread_rows
from finetune_geometry.geometry.rays import along_rays, answers_at
from finetune_geometry.geometry.similarity import cosine, inner_products
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.repetitions.cells import parts_of
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.repetitions import annealed_name
from finetune_geometry.settings.variation import Cell

FIVE = tuple(method for method in METHODS if method != "dpo")


def measure_ray(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """How good the six are at every factor of their deltas, and at the best one.

    The factor of each is chosen by its right answers to the validation problems (`best_factors`);
    there the test problems are answered, once.

    Returns three tables:
        ray: of `along_rays`, `model` being the method;
        ray_accuracy: of `accuracy_table`, with `which` ("trained", "best") and `factor`;
        ray_mcnemar: of `mcnemar_table`, Holm's correction within a `family`: "trained" and "best"
            (the ten pairs of the five methods other than DPO), "trained, base" and "best, base"
            (DPO and the base), "own" (each method at its best and as trained).
    """
    names = {cell.adapters[method]: method for method in METHODS}
    check_adapters(run, list(names))
    table = _rays(run, names, parts_of("ray", cell))
    factor = best_factors(table)
    problems = load_problems(run.profile, "test")
    trained = evaluate_models(run, list(names), beside=[BASE]).replace({"model": names})
    # Where the trained model is its ray's best, its answers are there; at 0 they are the base's.
    moved = {name: factor[role] for name, role in names.items() if factor[role] not in (0.0, 1.0)}
    parts = [trained[trained["model"] == BASE]]
    if moved:
        answers = answers_at(run, moved, problems, parts_of("ray", cell))
        parts.append(answers.replace({"model": names}))
    for name, role in names.items():
        if name not in moved:
            source = role if factor[role] else BASE
            parts.append(trained[trained["model"] == source].assign(model=role))
    best = pd.concat(parts, ignore_index=True)
    accuracy, tests = _compared(run, {"trained": trained, "best": best})
    chosen = accuracy["model"].map(factor).where(accuracy["which"] == "best", 1.0)
    accuracy["factor"] = chosen.where(accuracy["model"] != BASE, 0.0)
    return {"ray": table, "ray_accuracy": accuracy, "ray_mcnemar": tests}


def measure_annealed(run: Run, cell: Cell) -> dict[str, pd.DataFrame]:
    """The six of a cell beside the same six with the schedule run to its end.

    Returns four tables:
        annealed_ray: of `along_rays`, for the annealed ones;
        annealed_accuracy, annealed_mcnemar: as of `measure_ray`, `which` being "trained" or
            "annealed", the family "own" each method annealed and as trained;
        annealed_cosine: first, second, trained, annealed: the cosine of every pair of methods in
            each; of a method with itself 1, and the cosine of its two adapters; the norms of the
            two in norm_trained and norm_annealed.
    """
    names = {
        "trained": {cell.adapters[method]: method for method in METHODS},
        "annealed": {annealed_name(cell, method): method for method in METHODS},
    }
    every = [name for of_which in names.values() for name in of_which]
    answers = evaluate_models(run, every, beside=[BASE])
    accuracy, tests = _compared(
        run,
        {
            which: answers[answers["model"].isin([BASE, *of_which])].replace({"model": of_which})
            for which, of_which in names.items()
        },
    )
    return {
        "annealed_ray": _rays(run, names["annealed"], parts_of("annealed", cell)),
        "annealed_accuracy": accuracy,
        "annealed_mcnemar": tests,
        "annealed_cosine": _turned(run, *(list(of_which) for of_which in names.values())),
    }


def _rays(run: Run, names: dict[str, str], kept: str) -> pd.DataFrame:
    """`along_rays` at the profile's factors; names: adapter -> method."""
    settings = run.profile.geometry
    table = along_rays(
        run,
        list(names),
        sorted(settings.ray_factors),
        spread_rows(load_rollouts(run, "heldout"), settings.lmc_rows),
        load_problems(run.profile, "validation"),
        kept,
    )
    return table.assign(model=table["model"].replace(names))


def _compared(run: Run, answers: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies and tests of two sets of models, the second against the first in family "own".

    answers: which -> answers of the six, and of the base; `model` is the method.
    """
    evaluation = run.profile.evaluation
    sampling = {"margin": evaluation.equivalence_margin, "confidence": evaluation.confidence}
    accuracies, tests = [], []
    for which, rows in answers.items():
        accuracies.append(accuracy_table(rows, evaluation.confidence).assign(which=which))
        between = mcnemar_table(rows, pairs=list(combinations(FIVE, 2)), **sampling)
        beside = mcnemar_table(rows, pairs=[("dpo", BASE)], **sampling)
        tests += [between.assign(family=which), beside.assign(family=f"{which}, base")]
    first, second = answers.values()
    both = pd.concat([first, second.assign(model=second["model"] + "@")])
    own = mcnemar_table(both, pairs=[(f"{method}@", method) for method in METHODS], **sampling)
    tests.append(own.assign(a=own["a"].str.removesuffix("@"), family="own"))
    return pd.concat(accuracies, ignore_index=True), pd.concat(tests, ignore_index=True)


def _turned(run: Run, trained: list[str], annealed: list[str]) -> pd.DataFrame:
    """The table `annealed_cosine`; both lists in the order of METHODS."""
    adapters = [load_adapter(run.adapter_dir(name), name) for name in (*trained, *annealed)]
    gram = np.sum([part.inner for part in map_modules(inner_products, adapters)], axis=0)
    found, norms, count = cosine(gram), np.sqrt(gram.diagonal()), len(METHODS)
    methods = list(METHODS)
    rows = [
        (methods[i], methods[j], found[i, j], found[count + i, count + j], np.nan, np.nan)
        for i, j in combinations(range(count), 2)
    ]
    rows += [
        (method, method, 1.0, found[i, count + i], norms[i], norms[count + i])
        for i, method in enumerate(methods)
    ]
    columns = ["first", "second", "trained", "annealed", "norm_trained", "norm_annealed"]
    return pd.DataFrame(rows, columns=columns)
