"""The source "endpoint": a server that speaks OpenAI's protocol, at home or for money.

K requests a prompt, never one request for K: some servers overlook `n`.  What a model thinks
before it answers is recorded where the server gives it apart, and is no part of the rollout: the
student is to learn the answer as it reads.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from finetune_geometry.models.prompts import messages
from finetune_geometry.problems.problem import Problem
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.rollouts.endpoint_journal import Journal
from finetune_geometry.rollouts.endpoint_replies import host
from finetune_geometry.rollouts.endpoint_requests import Asker, Request, cost
from finetune_geometry.rollouts.sources import LENGTH, STOP, Rollout
from finetune_geometry.runs.keys import asked_key, request_key
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.sections import Endpoint

ANSWERS = "rollouts/answers"
#: Set by other settings, or read in a way that no other value would fit.
TAKEN = ("model", "messages", "temperature", "n", "stream")
LIMITS = ("max_tokens", "max_completion_tokens")  # two names for the same


class EndpointSource:
    """A model on a server; its answers lie in the run's folder, one file a shard of the pool."""

    def __init__(self, run: Run) -> None:
        self.profile, self.settings = run.profile, run.profile.rollouts.endpoint
        self.extra = checked(self.settings)
        self.journal = Journal(run.dir / ANSWERS)
        self.asker = Asker(self.settings, self.journal)
        self.wanted: list[str] = []  # keys of the pool's requests

    def problems(self) -> list[Problem]:
        return load_problems(self.profile, "rollouts")

    def key(self, problems: Sequence[Problem], shard_prompts: int) -> str:
        self.wanted = [request.key for problem in problems for request in self.requests(problem)]
        return asked_key(problems, self.wanted, shard_prompts)

    def requests(self, problem: Problem) -> list[Request]:
        """The K requests of a problem, which differ in their seeds."""
        rollouts = self.profile.rollouts
        found = []
        for sample in range(rollouts.k):
            body = {
                "model": self.settings.model,
                "messages": messages(problem.question, self.profile.prompt),
                "temperature": rollouts.temperature,
                "max_tokens": rollouts.max_new_tokens,
                "seed": seed(rollouts.seed, problem.question, sample),
                **self.extra,
            }
            body = {name: value for name, value in body.items() if value is not None}
            limits = [body[name] for name in LIMITS if type(body.get(name)) is int]
            most = max(limits, default=rollouts.max_new_tokens)
            found.append(Request(request_key(body, sample), problem.id, body, most))
        return found

    def sample(self, problems: Sequence[Problem], first: int) -> list[list[Rollout]]:
        asked = [self.requests(problem) for problem in problems]
        with self.journal.writing(f"{first:06d}"):
            missing = [r for group in asked for r in group if not self.journal.has(r.key)]
            if missing:
                self.asker.ask(missing)
        return [[self.rollout(request) for request in group] for group in asked]

    def rollout(self, request: Request) -> Rollout:
        """An answer as a rollout; an empty one where the server had no room for the prompt."""
        if not self.journal.has(request.key):
            return Rollout("", LENGTH, self.settings.model)
        answer = self.journal.read(request.key)
        # A filter's cut is a cut, too: only a model that stopped has ended its turn.
        finish = STOP if answer["finish_reason"] == "stop" else LENGTH
        return Rollout(answer["text"], finish, answer["model"])

    def facts(self) -> dict[str, Any]:
        """Of the pool's requests; what the run asked with other settings is not among them."""
        self.journal.refresh()
        known = [asked for key in self.wanted if (asked := self.journal.asked.get(key))]
        answers = [asked.answer for asked in known if asked.answer is not None]
        dates = sorted(answer.date for answer in answers)
        counted = [sum(answer.counted[side] for answer in answers) for side in (0, 1)]
        lost = [tokens for asked in known for tokens in asked.open]
        with_lost = [counted[side] + sum(tokens[side] for tokens in lost) for side in (0, 1)]
        return {
            "teacher": self.settings.model,
            "server": host(self.settings),
            "models": dict(Counter(answer.model for answer in answers)),
            "fingerprints": dict(Counter(answer.fingerprint for answer in answers)),
            "first_answer": dates[0] if dates else None,
            "last_answer": dates[-1] if dates else None,
            "input_tokens": counted[0],
            "output_tokens": counted[1],
            "cost": cost(self.settings, with_lost),
            "refused_attempts": sum(asked.refused for asked in known),
            "lost_attempts": len(lost),
            "without_usage": sum(not answer.with_usage for answer in answers),
            "finish_reasons": dict(Counter(answer.finish_reason for answer in answers)),
            "empty_answers": sum(answer.empty for answer in answers),
            "with_reasoning": sum(answer.thought for answer in answers),
            "no_room": len(self.wanted) - len(answers),
            "extra_body": self.extra,
        }


def seed(first: int, question: str, sample: int) -> int:
    """Seed of one request, 31 bits: of the prompt, not of its place, so that a pool can grow."""
    text = json.dumps([first, question, sample])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def checked(settings: Endpoint) -> dict[str, Any]:
    """`extra_body`, read; raises UserError for settings that cannot work."""
    for name, example in (("base_url", "http://127.0.0.1:8000/v1"), ("model", "NAME")):
        if not getattr(settings, name):
            raise UserError(
                f"rollouts.endpoint.{name} is not set: rollouts.source = endpoint: set it, such as "
                f"SET=rollouts.endpoint.{name}={example}"
            )
    priced = settings.price_input > 0 or settings.price_output > 0
    limits = [
        ("base_url", _is_address(settings.base_url), "http:// or https://, and a host's name"),
        ("concurrency", settings.concurrency >= 1, "at least 1"),
        ("timeout", settings.timeout > 0, "above 0"),
        ("retries", settings.retries >= 0, "at least 0"),
        ("price_input", settings.price_input >= 0, "at least 0"),
        ("price_output", settings.price_output >= 0, "at least 0"),
        ("max_cost", settings.max_cost is None or priced, "used with a price above 0"),
    ]
    for name, holds, wanted in limits:
        if not holds:
            value = getattr(settings, name)
            raise UserError(f"rollouts.endpoint.{name} = {value}: profile: it must be {wanted}")
    try:
        extra = json.loads(settings.extra_body or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict) or set(extra) & set(TAKEN):
        raise UserError(
            f"rollouts.endpoint.extra_body = {settings.extra_body!r}: profile: it must be a JSON "
            f"object without {', '.join(TAKEN)}"
        )
    return extra


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False
