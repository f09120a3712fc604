"""Problems that must not be trained on: repeated ones, and those of a test set."""

from __future__ import annotations

import re
from collections.abc import Sequence

from finetune_geometry.problems.problem import Problem

#: Words in a row that make two texts the same problem, as is usual for decontamination.
SHARED_WORDS = 13


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|[0-9]|[^a-z0-9\s]", text.lower())


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + SHARED_WORDS]) for i in range(len(words) - SHARED_WORDS + 1)}


def clean(
    problems: Sequence[Problem], tests: Sequence[Problem], by_words: bool
) -> tuple[list[Problem], dict[str, int]]:
    """Those of `problems` that are new, in their order, and how many were left out, by reason.

    A problem is left out as "repeated" if its text, but for case and space, came before, and as
    "in_test" if a problem of `tests` has that text or, with `by_words`, shares SHARED_WORDS words
    in a row with it.  Problems of one generator share many words and are not the same.
    """
    known = {tuple(_words(problem.question)) for problem in tests}
    shared = {run for words in known for run in _runs(words)} if by_words else set()
    kept, met, left_out = [], set(), {"repeated": 0, "in_test": 0}
    for problem in problems:
        words = tuple(_words(problem.question))
        if words in known or (by_words and not shared.isdisjoint(_runs(words))):
            left_out["in_test"] += 1
        elif words in met:
            left_out["repeated"] += 1
        else:
            met.add(words)
            kept.append(problem)
    return kept, left_out
