"""Greedy answers of every model of a run, kept model by model so that nothing is answered twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence

import pandas as pd

from finetune_geometry.deltas import BASE, load_adapter
from finetune_geometry.mixture import Mixture
from finetune_geometry.models import content_sha256, load_model
from finetune_geometry.problems import Problem, load_problems
from finetune_geometry.profiles import UserError
from finetune_geometry.records import Run
from finetune_geometry.rollouts import predict

TEACHER = "teacher"
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
    run: Run, adapters: Sequence[str], beside: Sequence[str] = (BASE, TEACHER)
) -> pd.DataFrame:
    """Greedy answers of the adapters to the test problems, and of the models `beside` them.

    Columns `problem, model, correct, answer, text, tokens`. Each model's answers are written to
    evaluation/predictions/<name>.parquet as soon as they are there, and used again as long as
    the weights, the problems and the settings that made them are the same (by hash). An adapter
    acts on the base in fp32 without being merged into it (`Mixture`).
    """
    check_adapters(run, adapters)
    problems = load_problems(run.profile, "test")
    names = [n for n in (BASE, *adapters, TEACHER) if n in adapters or n in beside]
    keys = {name: _inputs_hash(run, name, problems) for name in names}
    found = {name: part for name in names if (part := _kept(run, name, keys[name])) is not None}
    for name in found:
        print(f"{name}: answers kept from an earlier run", flush=True)
    missing = [name for name in names if name not in found]
    if any(name != TEACHER for name in missing):
        model, tokenizer = load_model(run.profile)
        loaded = {n: load_adapter(run.adapter_dir(n), n) for n in missing if n in adapters}
        with Mixture(model, loaded) as mixture:
            for name in missing:
                if name != TEACHER:
                    mixture.set({name: 1.0})
                    found[name] = _answer(run, model, tokenizer, problems, name, keys[name])
    if TEACHER in missing:
        model, tokenizer = load_model(run.profile, TEACHER)
        found[TEACHER] = _answer(run, model, tokenizer, problems, TEACHER, keys[TEACHER])
    return pd.concat([found[name] for name in names], ignore_index=True)


def _answer(
    run: Run, model: object, tokenizer: object, problems: list[Problem], name: str, key: str
) -> pd.DataFrame:
    begun = time.perf_counter()
    table = predict(model, tokenizer, problems, name, run.profile)
    run.write_table(_path(name), table.assign(**{_KEY: key}))
    share, seconds = table["correct"].mean(), time.perf_counter() - begun
    print(f"{name}: {share:.1%} of {len(table)} right, {seconds:.0f} s", flush=True)
    return table


def _kept(run: Run, name: str, key: str) -> pd.DataFrame | None:
    """Answers written earlier from the same inputs, or None."""
    if not run.path(_path(name)).is_file():
        return None
    table = run.read_table(_path(name))
    return table.drop(columns=_KEY) if (table[_KEY] == key).all() else None


def _path(name: str) -> str:
    return f"evaluation/predictions/{name}.parquet"


def _inputs_hash(run: Run, name: str, problems: Sequence[Problem]) -> str:
    """SHA-256 of all that decides a model's answers: weights, problems, generation settings."""
    profile = run.profile
    parts = [content_sha256(profile.model.teacher if name == TEACHER else profile.model.base)]
    if name not in (BASE, TEACHER):
        parts.append(content_sha256(str(run.adapter_dir(name))))
    settings = [profile.model.dtype, profile.evaluation.max_new_tokens]
    asked = [(problem.id, problem.question, problem.answer) for problem in problems]
    return hashlib.sha256(json.dumps([parts, settings, asked]).encode()).hexdigest()
