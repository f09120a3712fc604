"""Asking a server many things at once: retries, the budget, and one line where it must stop.

The SDK's own retries are off.  Each attempt may be charged for, so each is counted before it is
sent; and an attempt whose reply breaks off in the middle is one to repeat, too.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from anyio.from_thread import start_blocking_portal

from finetune_geometry.rollouts.endpoint_journal import Journal, Tokens
from finetune_geometry.rollouts.endpoint_replies import (
    Again,
    PromptTooLong,
    address,
    failure,
    host,
    now,
    read_answer,
)
from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.sections import Endpoint

FIRST_WAIT, MOST_WAIT = 1.0, 60.0  # seconds before the second attempt; doubled, up to the most
CONNECTING = 20.0  # seconds for a connection
TEMPLATE = 256  # tokens that a chat template may add to a prompt
EMPTY = 16  # that many answers, all empty: no use in going on
REPORT = 60.0  # seconds between two lines that say how far it is


@dataclass(frozen=True)
class Request:
    """One of the K requests of a problem."""

    key: str
    problem: str  # its id
    body: dict[str, Any]
    most: int  # tokens of an answer


class Asker:
    """Asks for what is missing and keeps each answer as it comes."""

    def __init__(self, settings: Endpoint, journal: Journal) -> None:
        self.settings, self.journal = settings, journal
        self.heard = False  # the server has answered anything in this process
        self.too_long: set[str] = set()  # problems that the server has no room for
        self._answers, self._useful = 0, 0
        # What a request costs at most, beside its text and its limit: more, once a server shows it.
        self._template, self._beyond = TEMPLATE, 0

    def ask(self, requests: Sequence[Request]) -> None:
        """Ask all of `requests`, `concurrency` at a time; every answer is kept in the journal.

        Raises UserError where it cannot go on; requests under way are waited for and kept.
        """
        self._stop: Exception | None = None
        self._stopped, self._room = asyncio.Event(), asyncio.Condition()
        self._under_way, self._left, self._said = 0, len(requests), time.monotonic()
        # A thread of its own: a notebook has an event loop running in this one.
        with start_blocking_portal() as portal:
            portal.call(self._all, iter(requests))
        if self._stop is not None:
            raise self._stop

    def spent(self) -> float:
        """Cost of all answers of the run, and of attempts under way or lost at their most."""
        tokens = [a + b for a, b in zip(self.journal.answered, self.journal.open, strict=True)]
        return cost(self.settings, tokens)

    async def _all(self, requests: Iterator[Request]) -> None:
        client = openai.AsyncOpenAI(
            base_url=self.settings.base_url,
            api_key=_key(),
            timeout=openai.Timeout(self.settings.timeout, connect=CONNECTING),
            max_retries=0,
        )
        async with client:
            while not self.heard and not self._stop:  # one alone, lest all fail alike
                request = next(requests, None)
                if request is None:
                    return
                await self._finish(client, request)
            async with asyncio.TaskGroup() as group:
                for _ in range(self.settings.concurrency):
                    group.create_task(self._work(client, requests))

    async def _work(self, client: openai.AsyncOpenAI, requests: Iterator[Request]) -> None:
        for request in requests:
            if self._stop:
                return
            await self._finish(client, request)

    async def _finish(self, client: openai.AsyncOpenAI, request: Request) -> None:
        """`_one`, whose error stops all others when what they have under way has come."""
        try:
            if request.problem not in self.too_long:
                await self._one(client, request)
        except PromptTooLong as error:
            self._mark(request, error)
        except Exception as error:
            self._stop = self._stop or error
        self._left -= 1
        if self._answers >= EMPTY and not self._useful:
            self._stop = self._stop or self._all_empty()
        if self._stop:
            self._stopped.set()
        async with self._room:
            self._room.notify_all()

    async def _one(self, client: openai.AsyncOpenAI, request: Request) -> None:
        """Ask until there is an answer, `retries` times more than once."""
        reason, wait = "", 0.0
        for attempt in range(self.settings.retries + 1):
            if attempt:
                await self._pause(attempt, wait)
            if not await self._reserve(request):
                return
            try:
                answer = await self._reply(client, request)
            except Again as error:
                reason, wait = str(error), error.wait
                if not error.lost:
                    self.journal.refused(request.key, reason)
            except (UserError, PromptTooLong) as error:
                self.journal.refused(request.key, str(error))
                raise
            else:
                self._keep(request, answer)
                return
            finally:
                self._under_way -= 1
        raise UserError(
            f"no answer after {self.settings.retries + 1} attempts, the last one: {reason}: "
            f"{host(self.settings)}: {self._kept()}; start again when the server is well"
        )

    async def _reply(self, client: openai.AsyncOpenAI, request: Request) -> dict[str, Any]:
        rest = dict(request.body)
        model, messages = rest.pop("model"), rest.pop("messages")
        try:
            # The SDK's limit is one of silence; a server that trickles would go on for ever.
            async with asyncio.timeout(self.settings.timeout):
                raw = await client.chat.completions.with_raw_response.create(
                    model=model, messages=messages, extra_body=rest
                )
        except TimeoutError:
            raise Again(f"no answer within {self.settings.timeout:g} s", lost=True) from None
        except openai.NotFoundError as error:
            self.heard = True
            raise await self._not_found(client, error) from None
        except openai.APIError as error:
            self.heard = self.heard or isinstance(error, openai.APIStatusError)
            raise failure(error, self.settings, self.heard) from None
        self.heard = True
        return read_answer(raw.text, self.settings)

    def _keep(self, request: Request, answer: dict[str, Any]) -> None:
        usage, (most_in, most_out) = answer["usage"], self._bound(request)
        counted = (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None
        if counted:
            self._template = max(self._template, counted[0] - _bytes(request))
            self._beyond = max(self._beyond, counted[1] - request.most)
        record = {"counted": counted or (most_in, most_out), "date": now(), **answer}
        self.journal.keep(request.key, record)
        self._answers += 1
        self._useful += bool(answer["text"].strip())
        if time.monotonic() - self._said >= REPORT:
            self._said = time.monotonic()
            print(f"{self._left - 1} answers to come, {self.amount(self.spent())}", flush=True)

    async def _reserve(self, request: Request) -> bool:
        """Count an attempt at the most it can cost before it is sent; False once all stops.

        What others under way do not use up is free again when they end, so it waits for them.
        """
        bound = self._bound(request)
        most = cost(self.settings, bound)
        limit = self.settings.max_cost

        def fits() -> bool:
            return limit is None or self.spent() + most <= limit

        async with self._room:
            await self._room.wait_for(lambda: self._stop or fits() or not self._under_way)
            if self._stop:
                return False
            if not fits():
                raise UserError(
                    f"the budget is used up, {self.amount(self.spent())} and {most:.3g} for "
                    f"the next request at most: rollouts.endpoint.max_cost = {limit:g}: "
                    f"{self._kept()}; raise it and start again, only what is missing is asked"
                )
            self.journal.sent(request.key, bound, now())
            self._under_way += 1
        return True

    async def _pause(self, attempt: int, wait: float) -> None:
        """Wait before another attempt, each time longer; less if everything stops."""
        async with self._room:
            self._room.notify_all()  # what the last attempt had reserved
        longer = min(FIRST_WAIT * 2 ** (attempt - 1), MOST_WAIT)
        # Jitter on top, lest all that were refused together come back together.
        seconds = max(longer, wait) + random.uniform(0, longer)
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return

    def _bound(self, request: Request) -> Tokens:
        """Tokens that an attempt can cost: no tokenizer makes more of a text than its bytes."""
        return _bytes(request) + self._template, request.most + self._beyond

    def _mark(self, request: Request, error: PromptTooLong) -> None:
        self._answers += 1
        if request.problem not in self.too_long:
            self.too_long.add(request.problem)
            print(f"no room for {request.problem}, left out with its group: {error}", flush=True)

    def _all_empty(self) -> UserError:
        if self.too_long:
            fix = "serve it with a longer context, or lower rollouts.max_new_tokens"
        else:
            fix = (
                "if it thinks first and runs out of tokens, turn that off by "
                "rollouts.endpoint.extra_body or raise rollouts.max_new_tokens"
            )
        return UserError(f"the first {EMPTY} answers are empty: {self.settings.model}: {fix}")

    async def _not_found(
        self, client: openai.AsyncOpenAI, error: openai.APIStatusError
    ) -> Exception:
        """A model that the server does not have, or an address that is not its own."""
        try:
            names = [model.id for model in (await client.models.list()).data]
        except Exception:  # whatever it is, it only takes the list out of the message
            names = []
        if names and self.settings.model not in names:
            return UserError(
                f"no model {self.settings.model!r}: {host(self.settings)}: set "
                f"rollouts.endpoint.model, {closest(self.settings.model, names)}"
            )
        return UserError(
            f"refused with 404: {address(self.settings)}: check rollouts.endpoint.base_url (it "
            "ends in /v1 at most servers) and rollouts.endpoint.model"
        )

    def amount(self, spent: float) -> str:
        """Money as a person reads it, or tokens where the profile has no price."""
        if self.settings.price_input or self.settings.price_output:
            return f"{spent:.4g} spent"
        return f"{self.journal.answered[1]:,} tokens written"

    def _kept(self) -> str:
        kept = sum(asked.answer is not None for asked in self.journal.asked.values())
        return f"{kept:,} answers are kept"


def _key() -> str:
    """The person's key.  A server at home needs none, but the SDK does."""
    key = os.environ.get("OPENAI_API_KEY", "").strip() or "none"
    if not (key.isascii() and key.isprintable()):
        raise UserError("no key of a server: OPENAI_API_KEY: copy it anew, it is plain letters")
    return key


def cost(settings: Endpoint, tokens: Sequence[int]) -> float:
    """Cost of input and output tokens at the profile's prices."""
    return (tokens[0] * settings.price_input + tokens[1] * settings.price_output) / 1e6


def _bytes(request: Request) -> int:
    return sum(len(message["content"].encode()) for message in request.body["messages"])
