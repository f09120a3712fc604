"""The source "model": sampling the profile's teacher on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune_geometry.models.continuous import complete
from finetune_geometry.models.device import enough_memory
from finetune_geometry.models.generation import end_tokens
from finetune_geometry.models.loading import load_model
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.problems.problem import Problem
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.rollouts.sources import LENGTH, STOP, Rollout
from finetune_geometry.runs.keys import rollouts_key
from finetune_geometry.runs.records import Run


class TeacherSource:
    """A model in a folder or from the hub, loaded when the first shard is asked for."""

    def __init__(self, run: Run) -> None:
        self.profile = run.profile
        self.loaded: tuple[Any, Any] | None = None

    def problems(self) -> list[Problem]:
        return load_problems(self.profile, "rollouts")

    def key(self, problems: Sequence[Problem], shard_prompts: int) -> str:
        return rollouts_key(self.profile, problems, shard_prompts)

    def sample(self, problems: Sequence[Problem], first: int) -> list[list[Rollout]]:
        if self.loaded is None:
            self.loaded = load_model(self.profile, "teacher")
        model, tokenizer = self.loaded
        settings, k = self.profile.rollouts, self.profile.rollouts.k
        asked = [
            prompt_ids(tokenizer, p.question, self.profile.prompt, "teacher") for p in problems
        ]
        with enough_memory("rollouts.batch_size", settings.batch_size):
            completions = complete(
                model,
                tokenizer,
                [ids for ids in asked for _ in range(k)],
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=settings.seed + first,
                batch_size=settings.batch_size,
            )
        ends = end_tokens(model)
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        rollouts = [
            Rollout(text, LENGTH if ends.isdisjoint(ids[-1:]) else STOP, self.profile.model.teacher)
            for text, ids in zip(texts, completions, strict=True)
        ]
        return [rollouts[i : i + k] for i in range(0, len(rollouts), k)]

    def facts(self) -> dict[str, Any]:
        return {"teacher": self.profile.model.teacher}
