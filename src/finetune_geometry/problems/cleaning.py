"""Problems that must not be trained on: repeated ones, and those that models are examined on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from finetune_geometry.problems.problem import Problem

#: Words in a row that make two texts the same problem, as is usual for decontamination: words and
#: whole numbers.  Were signs counted, "$a$, $b$, and $c$" would be most of a problem.
SHARED_WORDS = 13
#: A letter of another script, which may part no words, is a word of its own.
WORD = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)?|[^\W\d_a-z]")


def _marks(text: str) -> tuple[str, ...]:
    """All that makes a text what it is, but for case and space."""
    return tuple(re.findall(r"[a-z]+|[0-9]|[^a-z0-9\s]", text.lower()))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return {tuple(words[i : i + SHARED_WORDS]) for i in range(len(words) - SHARED_WORDS + 1)}


def clean(
    problems: Sequence[Problem], exams: Sequence[Problem], by_words: bool
) -> tuple[list[Problem], dict[str, int]]:
    """Those of `problems` that are new, in their order, and how many were left out, by reason.

    A problem is left out as "repeated" if its text, but for case and space, came before, and as
    "in_test" if a problem of `exams` has that text or, with `by_words`, shares SHARED_WORDS words
    in a row with it.  Problems of one generator share many words and are not the same.
    """
    known = {_marks(problem.question) for problem in exams}
    shared = {run for problem in exams for run in _runs(problem.question)} if by_words else set()
    kept, met, left_out = [], set(), {"repeated": 0, "in_test": 0}
    for problem in problems:
        text = _marks(problem.question)
        if text in known or (by_words and not shared.isdisjoint(_runs(problem.question))):
            left_out["in_test"] += 1
        elif text in met:
            left_out["repeated"] += 1
        else:
            met.add(text)
            kept.append(problem)
    return kept, left_out
