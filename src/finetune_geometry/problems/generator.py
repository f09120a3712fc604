"""A generator of grade-school word problems.

A generated problem follows one quantity through 2-8 steps (`phrasings.STEP_KINDS`).  Its solution
writes one line of arithmetic per step and ends in a boxed integer.  Problems of different splits
are disjoint by construction: the numeric skeleton of a problem (its step kinds and numbers, not
its names and wording) is hashed, and the hash decides the one split it may belong to.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import Any

from finetune_geometry.problems.phrasings import (
    CONTAINERS,
    DISTRACTORS,
    FRACTIONS,
    NAMES,
    OPENINGS,
    QUESTIONS,
    STEP_KINDS,
    THINGS,
    TIMES,
)
from finetune_geometry.problems.problem import Problem
from finetune_geometry.settings.errors import UserError

#: Share of the skeleton space (out of 100) that each split owns.
SPLITS = {"train": range(0, 60), "rollouts": range(60, 80), "validation": range(80, 86),
          "test": range(86, 100)}  # fmt: skip
PERCENTS = (10, 20, 25, 50, 75)


@dataclass(frozen=True)
class Difficulty:
    """What makes a generated problem hard.

    min_steps, max_steps: number of steps, drawn uniformly.
    max_value: no quantity in a problem exceeds it.
    distractors: probability that an irrelevant sentence follows a sentence of the story.
    """

    min_steps: int = 2
    max_steps: int = 8
    max_value: int = 200
    distractors: float = 0.1

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("min_steps", 1 <= self.min_steps <= self.max_steps, "from 1 to max_steps"),
            ("max_value", self.max_value >= 5, "5 or more"),  # below it a story can get stuck
            ("distractors", 0 <= self.distractors <= 1, "a probability, from 0 to 1"),
        ):
            if not holds:
                raise UserError(f"{name} = {getattr(self, name)}: problems: it must be {wanted}")


class _Story:
    """The state that a problem's steps act on: who has how many of what."""

    def __init__(self, rng: random.Random, max_value: int) -> None:
        self.rng, self.max_value = rng, max_value
        self.pronoun = rng.choice(("He", "She"))
        self.who = rng.choice(NAMES[self.pronoun])
        self.used = {self.who}  # nobody comes back with another amount than they had
        self.other: str | None = None  # the person compared with, while their amount still holds
        self.other_value = 0
        self.things = rng.choice(THINGS)
        self.value = rng.randint(3, max(4, max_value // 4))

    def choose(self, options: list[int]) -> int | None:
        return self.rng.choice(options) if options else None

    def number_for(self, kind: str) -> int | None:
        """A number that keeps the result an integer from 2 to max_value; None if there is none."""
        v, top = self.value, self.max_value
        divisors = [d for d in (2, 3, 4, 5) if v % d == 0 and v > d]
        if kind in ("add", "more_than"):
            return self.rng.randint(2, min(60, top - v)) if v + 2 <= top else None
        if kind in ("subtract", "fewer_than"):
            return self.rng.randint(2, min(60, v - 2)) if v >= 4 else None
        if kind in ("multiply", "times_as_many"):
            return self.choose([k for k in TIMES if v * k <= top])
        if kind == "half":
            return 2 if v % 2 == 0 and v > 2 else None
        if kind == "fraction":
            return self.choose([d for d in divisors if d > 2])
        if kind == "part_as_many":
            return self.choose(divisors)
        if kind in ("percent_less", "percent_more"):
            limit = v - 2 if kind == "percent_less" else top - v
            return self.choose([p for p in PERCENTS if v * p % 100 == 0 and v * p // 100 <= limit])
        if kind == "together":
            return 0 if self.other and v + self.other_value <= top else None
        if kind in ("share", "pack"):
            if kind == "pack" and (self.things in CONTAINERS or self.things == "dollars"):
                return None
            return self.choose([d for d in range(2, 11) if v % d == 0 and v > d])
        if kind in ("unpack", "sell"):
            if self.things == "dollars" or (kind == "unpack") != (self.things in CONTAINERS):
                return None
            return self.choose([k for k in range(2, 10) if v * k <= top])
        if self.things != "dollars":  # spend
            return None
        return self.choose([d for d in range(2, 10) if v % d == 0 and v > d])

    def take(self, kind: str, n: int) -> tuple[str, str]:
        """Apply one step: (sentence of the problem, line of the solution)."""
        v = self.value
        words: dict[str, Any] = {
            "who": self.who, "They": self.pronoun, "they": self.pronoun.lower(),
            "things": self.things, "other": self.other, "n": n,
            "times": TIMES.get(n), "fraction": FRACTIONS.get(n),
        }  # fmt: skip
        compares = kind in ("more_than", "fewer_than", "times_as_many", "part_as_many")
        if compares:
            pronoun = self.rng.choice(("He", "She"))
            words["other"] = self.rng.choice([x for x in NAMES[pronoun] if x not in self.used])
            self.used.add(words["other"])
        if kind == "pack":
            words["box"] = words["new"] = self.rng.choice(CONTAINERS)
        elif kind in ("unpack", "spend"):
            words["new"] = self.rng.choice([t for t in THINGS if t != self.things])
            words["New"] = words["new"].capitalize()
        elif kind == "sell":
            words["new"] = "dollars"
        sentence = self.rng.choice(STEP_KINDS[kind]).format(**words)

        first = ""  # kinds of two operations say the intermediate result first
        if kind in ("add", "more_than"):
            self.value, sum_ = v + n, f"{v}+{n}"
        elif kind in ("subtract", "fewer_than"):
            self.value, sum_ = v - n, f"{v}-{n}"
        elif kind in ("multiply", "times_as_many", "unpack", "sell"):
            self.value, sum_ = v * n, f"{v}*{n}"
        elif kind in ("half", "part_as_many", "share", "pack", "spend"):
            self.value, sum_ = v // n, f"{v}/{n}"
        elif kind == "together":
            self.value, sum_ = v + self.other_value, f"{v}+{self.other_value}"
        else:  # fraction, percent_less, percent_more
            part = v // n if kind == "fraction" else v * n // 100
            first = f"{v}/{n}={part}, " if kind == "fraction" else f"{n}% of {v} is {part}, "
            sign = "+" if kind == "percent_more" else "-"
            self.value, sum_ = (v + part if sign == "+" else v - part), f"{v}{sign}{part}"

        if compares:
            self.other, self.other_value = self.who, v
            self.who, self.pronoun = words["other"], pronoun
        elif kind == "together" or "new" in words:
            self.other = None
        self.things = words.get("new", self.things)
        return sentence, f"{first}{self.who} has {sum_}={self.value} {self.things}."


def generate_problem(rng: random.Random, difficulty: Difficulty) -> Problem:
    """One random problem.  Its id is the hash of its numeric skeleton (16 hexadecimal digits)."""
    story = _Story(rng, difficulty.max_value)
    steps = rng.randint(difficulty.min_steps, difficulty.max_steps)
    start = story.value
    text = [rng.choice(OPENINGS).format(who=story.who, n=start, things=story.things)]
    lines: list[str] = []
    skeleton: list[Any] = [start]
    kinds = list(STEP_KINDS)
    while len(lines) < steps:
        # The tail of the rare kinds is lifted: what is possible is drawn uniformly.
        possible = [(k, n) for k in kinds if (n := story.number_for(k)) is not None]
        kind, n = rng.choice(possible)
        if rng.random() < difficulty.distractors:
            text.append(rng.choice(DISTRACTORS).format(who=story.who, n=rng.randint(2, 60)))
        sentence, line = story.take(kind, n)
        text.append(sentence)
        lines.append(line)
        skeleton += [kind, n]
    text.append(rng.choice(QUESTIONS).format(who=story.who, things=story.things))
    answer = str(story.value)
    return Problem(
        id=hashlib.sha256(json.dumps(skeleton).encode()).hexdigest()[:16],
        question=" ".join(text),
        solution="\n".join(lines) + f"\nThe answer is \\boxed{{{answer}}}.",
        answer=answer,
        steps=steps,
    )


def generate_problems(split: str, count: int, seed: int, difficulty: Difficulty) -> list[Problem]:
    """`count` different problems of one split (a key of SPLITS), the same for the same seed."""
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: problems: use one of {', '.join(SPLITS)}")
    rng = random.Random(f"{seed}-{split}")
    found: dict[str, Problem] = {}
    for _ in range(1000 * count + 1000):
        if len(found) == count:
            return list(found.values())
        problem = generate_problem(rng, difficulty)
        if int(problem.id, 16) % 100 in SPLITS[split]:
            found.setdefault(problem.id, problem)
    raise UserError(
        f"only {len(found)} of {count} different problems found: problems ({split}): ask for "
        "fewer, or raise max_steps or max_value"
    )
