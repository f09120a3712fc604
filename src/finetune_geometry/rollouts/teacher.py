"""Sampling the profile's teacher model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.models.generation import generate, prompt_ids
from finetune_geometry.problems.problem import Problem
from finetune_geometry.problems.rewards import RIGHT, UNVERIFIABLE, judge
from finetune_geometry.settings.profiles import Profile


def sample_shard(
    model: Any, tokenizer: Any, problems: list[Problem], first: int, profile: Profile
) -> pd.DataFrame:
    """K rollouts of each problem; `first` is the group number of the first one."""
    settings, k = profile.rollouts, profile.rollouts.k
    prompts = [prompt_ids(tokenizer, p.question) for p in problems for _ in range(k)]
    completions = generate(
        model,
        tokenizer,
        prompts,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        seed=settings.seed + first,
        batch_size=settings.batch_size,
    )
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    answers = [p.answer for p in problems for _ in range(k)]
    verdicts = [judge(text, answer) for text, answer in zip(texts, answers, strict=True)]
    return pd.DataFrame(
        {
            "prompt": [p.id for p in problems for _ in range(k)],
            "question": [p.question for p in problems for _ in range(k)],
            "group": np.repeat(np.arange(first, first + len(problems)), k),
            "sample": np.tile(np.arange(k), len(problems)),
            "steps": [p.steps for p in problems for _ in range(k)],
            "prompt_ids": prompts,
            "completion_ids": completions,
            "text": texts,
            "answer": answers,
            "reward": [float(verdict == RIGHT) for verdict in verdicts],
            "unverifiable": [verdict == UNVERIFIABLE for verdict in verdicts],
        }
    )
