"""The problems of a profile: generated ones, or real ones from a hub or a file."""

from __future__ import annotations

import random
import re
from typing import Any

from finetune_geometry.problems.generator import Difficulty, generate_problems
from finetune_geometry.problems.problem import Problem
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import fetched
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import Problems

#: 1,234 in GSM8K.  Elsewhere a comma may part the numbers of a pair, an interval or a set.
THOUSANDS = re.compile(r"-?[0-9]{1,3}(,[0-9]{3})+")


def load_problems(profile: Profile, split: str) -> list[Problem]:
    """The problems of one split: "train", "rollouts", "validation", "test" or "aime".

    Generated ones, or those of the profile's hub datasets: prompts for rollouts and validation
    from `rollout_dataset`, disjoint parts of it; the test set from `test_dataset`.  "aime" is the
    second test set of a profile that has one; otherwise empty.
    """
    settings = profile.problems
    if split == "aime":
        dataset = (settings.aime_dataset, settings.aime_revision)
        return _hub_problems(*dataset, "train", profile.name) if settings.aime_dataset else []
    count = getattr(settings, split)
    if settings.source == "generated":
        return generate_problems(split, count, settings.seed, _difficulty(settings, split))
    if split == "test":
        return _hub_problems(settings.test_dataset, settings.test_revision, "test", profile.name)[
            :count
        ]
    pool = _hub_problems(settings.rollout_dataset, settings.rollout_revision, "train", profile.name)
    wanted = settings.rollouts + settings.validation
    if wanted > len(pool):
        raise UserError(
            f"{wanted} problems asked for, {len(pool)} there: {settings.rollout_dataset}: lower "
            "problems.rollouts or problems.validation, which share none"
        )
    random.Random(settings.seed).shuffle(pool)
    return pool[:count] if split == "rollouts" else pool[len(pool) - count :]


def _difficulty(settings: Problems, split: str) -> Difficulty:
    """How hard the generated problems of a split are; those of an exam may be of another kind."""
    values = {name: getattr(settings, name) for name in ("min_steps", "max_steps", "max_value")}
    if split in ("test", "validation"):
        own = {name: getattr(settings, f"test_{name}") for name in values}
        values |= {name: value for name, value in own.items() if value is not None}
    return Difficulty(**values, distractors=settings.distractors)


def exam_problems(profile: Profile) -> list[Problem]:
    """All problems that a model of this profile is examined on: of the test sets, and those of the
    validation, by which the learning rate is chosen."""
    return [p for split in ("validation", "test", "aime") for p in load_problems(profile, split)]


def _hub_problems(dataset: str, revision: str, split: str, profile: str) -> list[Problem]:
    """Problems of a fetched hub dataset (or of a local folder with the same columns)."""
    from datasets import load_dataset  # kept here: only hub profiles need it

    configuration = "main" if dataset == "openai/gsm8k" else None
    folder = fetched(dataset, revision, "dataset", profile)
    rows = load_dataset(str(folder), configuration, split=split)
    return [read_problem(dict(row), f"{dataset}/{split}/{i}") for i, row in enumerate(rows)]


def read_problem(row: dict[str, Any], identifier: str) -> Problem:
    """A problem from a row of GSM8K (question, answer with "####") or of DeepScaleR.

    An answer is kept as it is, but for the separators of thousands in GSM8K's.
    """
    question = row.get("question") or row.get("problem")
    if not question or "answer" not in row:
        raise UserError(
            f"columns {sorted(row)} are not a problem: {identifier}: a row needs question (or "
            "problem) and answer"
        )
    solution, mark, answer = str(row["answer"]).rpartition("####")
    answer = answer.strip()
    if not mark:
        solution = str(row.get("solution", ""))
    elif THOUSANDS.fullmatch(answer):
        answer = answer.replace(",", "")
    return Problem(identifier, question, solution.strip(), answer, 0)
