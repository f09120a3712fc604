"""A problem: what is asked, and what is right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One problem.  `steps` is the number of reasoning steps (0 where it is not known)."""

    id: str
    question: str
    solution: str
    answer: str
    steps: int
