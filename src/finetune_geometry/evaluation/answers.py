"""Greedy answers of every model of a run, kept model by model so that nothing is answered twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finetune_geometry.deltas.adapters import BASE, load_adapter
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.continuous import complete
from finetune_geometry.models.device import enough_memory
from finetune_geometry.models.generation import batch_order, end_tokens
from finetune_geometry.models.loading import load_model, teacher_is_here
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.problems.answer_check import RIGHT, judge_whole
from finetune_geometry.problems.problem import Problem
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.runs.folders import project_root
from finetune_geometry.runs.keys import answers_key
from finetune_geometry.runs.parts import Parts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import pinned
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import Evaluation

TEACHER = "teacher"
PART_ROWS = 512  # answers between two writes: what a killed measurement loses at most


def predict(
    model: Any,
    tokenizer: Any,
    problems: list[Problem],
    name: str,
    profile: Profile,
    parts: Parts | None = None,
) -> pd.DataFrame:
    """Greedy answers, one row a problem.

    parts: where the answers of a few batches at a time are kept, so that a killed measurement goes
    on with the next ones.

    Columns: problem, model, correct, verdict ("right", "wrong", "too long", "unverifiable": all
    but the first count as wrong), answer (the gold one), text, tokens (number of new ones).
    """
    role = TEACHER if name == TEACHER else BASE
    prompts = [prompt_ids(tokenizer, p.question, profile.prompt, role) for p in problems]
    completions = _completions(model, tokenizer, prompts, profile.evaluation, parts)
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    ends = end_tokens(model)
    verdicts = [
        judge_whole(text, problem.answer, not ends.isdisjoint(ids[-1:]))
        for text, ids, problem in zip(texts, completions, problems, strict=True)
    ]
    return pd.DataFrame(
        {
            "problem": [problem.id for problem in problems],
            "model": name,
            "correct": [verdict == RIGHT for verdict in verdicts],
            "verdict": verdicts,
            "answer": [problem.answer for problem in problems],
            "text": texts,
            "tokens": [len(ids) for ids in completions],
        }
    )


def _completions(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    settings: Evaluation,
    parts: Parts | None,
) -> list[list[int]]:
    """Greedy completions of the prompts; a part is a few whole batches, so that it is the same."""

    def write(rows: list[int]) -> list[list[int]]:
        with enough_memory("evaluation.batch_size", settings.batch_size):
            return complete(
                model,
                tokenizer,
                [prompts[i] for i in rows],
                max_new_tokens=settings.max_new_tokens,
                batch_size=settings.batch_size,
            )

    def as_array(rows: list[int]) -> NDArray[np.int64]:
        """Token ids, (rows, longest), -1 behind the end of each."""
        return pd.DataFrame(write(rows)).fillna(-1).to_numpy(dtype=np.int64)

    if parts is None:
        return write(list(range(len(prompts))))
    order, completions = batch_order(prompts), [[0]] * len(prompts)
    size = settings.batch_size * max(1, PART_ROWS // settings.batch_size)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        found = parts.of(rows, partial(as_array, rows))
        for row, ids in zip(rows, found, strict=True):
            completions[row] = ids[ids >= 0].tolist()
    return completions


SHIPPED = "book/reference/answers"  # in the checkout: what the models that ship answered
EXECUTE = "execute.txt"  # in a run's folder: it was asked to execute what it could show
_KEY = "inputs_sha256"


def check_adapters(run: Run, names: Sequence[str]) -> None:
    """Raise UserError, naming the notebook to run, unless the run has all these adapters."""
    there = run.adapter_names()
    for name in names:
        if name not in there:
            raise UserError(
                f"no adapter {name!r} in {run.dir / 'adapters'}: run notebooks/methods/{name} for "
                "this run first, or `make book`"
            )


def evaluate_models(
    run: Run,
    adapters: Sequence[str],
    beside: Sequence[str] = (BASE, TEACHER),
    split: str = "test",
) -> pd.DataFrame:
    """Greedy answers of the adapters to the test problems, and of the models `beside` them.

    split: "test", or "aime" for the second test set of a profile that has one. A teacher that is no
    model at hand (`teacher_is_here`) is left out.

    Columns as of `predict`. Each model's answers are written to evaluation/predictions/ (those of
    "aime" to aime/ in it), <name>.parquet, as soon as they are there, and used again as long as all
    that decides them is the same (`keys.answers_key`). Those of the base and of the teacher ship
    with the reference run (SHIPPED) and are taken from there on the same terms, unless the run was
    asked to execute what it could show (`make controls`). An adapter acts on the base in fp32
    without being merged into it (`Mixture`).
    """
    check_adapters(run, adapters)
    problems = load_problems(run.profile, split)
    names = [n for n in (BASE, *adapters, TEACHER) if n in adapters or n in beside]
    if TEACHER in names and not teacher_is_here(run.profile):
        names.remove(TEACHER)
    keys = {name: answers_key(run.profile, _sources(run, name), problems) for name in names}
    found = {
        name: part for name in names if (part := _kept(run, name, keys[name], split)) is not None
    }
    for name in found:
        print(f"{name}: answers kept from an earlier run", flush=True)
    for name in (BASE, TEACHER):
        if name in names and name not in found and split == "test":
            part = _shipped(run, name, keys[name])
            found |= {} if part is None else {name: part}
    missing = [name for name in names if name not in found]
    if any(name != TEACHER for name in missing):
        model, tokenizer = load_model(run.profile)
        loaded = {n: load_adapter(run.adapter_dir(n), n) for n in missing if n in adapters}
        with Mixture(model, loaded) as mixture:
            for name in missing:
                if name != TEACHER:
                    mixture.set({name: 1.0})
                    found[name] = _answer(run, model, tokenizer, problems, name, keys[name], split)
    if TEACHER in missing:
        model, tokenizer = load_model(run.profile, TEACHER)
        found[TEACHER] = _answer(run, model, tokenizer, problems, TEACHER, keys[TEACHER], split)
    return pd.concat([found[name] for name in names], ignore_index=True)


def _answer(
    run: Run,
    model: object,
    tokenizer: object,
    problems: list[Problem],
    name: str,
    key: str,
    split: str,
) -> pd.DataFrame:
    begun = time.perf_counter()
    parts = Parts(run, f"answers/{split}/{name}", key)
    table = predict(model, tokenizer, problems, name, run.profile, parts)
    run.write_table(_path(name, split), table.assign(**{_KEY: key}))
    parts.clear()
    share, seconds = table["correct"].mean(), time.perf_counter() - begun
    print(f"{name}: {share:.1%} of {len(table)} right, {seconds:.0f} s", flush=True)
    return table


def _kept(run: Run, name: str, key: str, split: str) -> pd.DataFrame | None:
    """Answers written earlier from the same inputs, or None."""
    if not run.path(_path(name, split)).is_file():
        return None
    table = run.read_table(_path(name, split))
    return table.drop(columns=_KEY) if (table[_KEY] == key).all() else None


def _shipped(run: Run, name: str, key: str) -> pd.DataFrame | None:
    """Answers of the reference run to the same inputs, put into this one; or None."""
    path = project_root() / SHIPPED / f"{name}.parquet"
    if not path.is_file() or (run.dir / EXECUTE).is_file():
        return None
    table = pd.read_parquet(path)
    if not (table[_KEY] == key).all():
        return None
    run.write_table(_path(name), table)
    table = table.drop(columns=_KEY)
    share = table["correct"].mean()
    print(f"{name}: {share:.1%} of {len(table)} right, answers of the reference run", flush=True)
    return table


def _path(name: str, split: str = "test") -> str:
    folder = "" if split == "test" else f"{split}/"
    return f"evaluation/predictions/{folder}{name}.parquet"


def _sources(run: Run, name: str) -> list[str]:
    """What holds the weights that answer as `name`: a model, and perhaps an adapter on it."""
    if name == TEACHER:
        return [pinned(run.profile.model.teacher, run.profile.model.teacher_revision)]
    adapter = [] if name == BASE else [str(run.adapter_dir(name))]
    return [pinned(run.profile.model.base, run.profile.model.base_revision), *adapter]
