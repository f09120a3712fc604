"""Where rollouts come from: what every source does, and which one a profile names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs.records import Run

STOP, LENGTH = "stop", "length"  # why a rollout ended: by itself, or cut off


@dataclass(frozen=True)
class Rollout:
    """One solution, as text."""

    text: str
    finish: str  # STOP or LENGTH
    source: str  # who wrote it


class Source(Protocol):
    """A model at hand, a server, or a data set."""

    def problems(self) -> list[Problem]:
        """All problems that it can give rollouts to, in a fixed order."""

    def key(self, problems: Sequence[Problem], shard_prompts: int) -> str:
        """What decides the rollouts to `problems`, sampled `shard_prompts` at a time, hashed."""

    def sample(self, problems: Sequence[Problem], first: int) -> list[list[Rollout]]:
        """K rollouts of each of `problems`; `first` is the number of the first one's group.

        Called for one shard after another; what it returned is written before the next call.
        """

    def facts(self) -> dict[str, Any]:
        """What the pool's card tells of it: names, dates, licence, what it left out and why."""


def open_source(run: Run) -> Source:
    """The source that the run's profile names."""
    name = run.profile.rollouts.source
    # Imported where it is asked for: each needs libraries that the others do not.
    if name == "endpoint":
        from finetune_geometry.rollouts.endpoint import EndpointSource

        return EndpointSource(run)
    if name == "traces":
        from finetune_geometry.rollouts.traces import TraceSource

        return TraceSource(run)
    from finetune_geometry.rollouts.teacher import TeacherSource

    return TeacherSource(run)
