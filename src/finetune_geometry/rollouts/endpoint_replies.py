"""What comes back from a server: an answer, a reason to ask again, or a line for the person."""

from __future__ import annotations

import datetime
import json
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import openai

from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.sections import Endpoint

AGAIN = {408, 409, 425, 429}  # and all from 500: busy, or broken for the moment
LONGEST_WAIT = 600.0  # seconds; a server may ask for more
#: Reasons for an end that are none of the model's: what came is not an answer.
INTERRUPTED = {"insufficient_system_resource", "error"}
TOO_LONG = ("context length", "context_length", "context size", "context window", "max_model_len")


class Again(Exception):
    """This attempt failed, another may not.

    lost: it may have been worked on and charged for; wait: seconds that the server asks for.
    """

    def __init__(self, why: str, lost: bool, wait: float = 0.0) -> None:
        super().__init__(why)
        self.lost, self.wait = lost, wait


class PromptTooLong(Exception):
    """The server's context has no room for this prompt and its answer."""


def host(settings: Endpoint) -> str:
    """The server's name and port, without what else may stand in its address."""
    parts = urlsplit(settings.base_url)
    return parts.netloc.rpartition("@")[2]


def address(settings: Endpoint) -> str:
    """The server's address, without a password or a key that may stand in it."""
    parts = urlsplit(settings.base_url)
    return f"{parts.scheme}://{host(settings)}{parts.path}"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_answer(text: str, settings: Endpoint) -> dict[str, Any]:
    """The parts of a chat completion that are kept; `usage` is None where the server gives none.

    Raises Again where it is none, and UserError where the address is no such server's.
    """
    if text.lstrip().startswith("<"):
        raise UserError(
            f"a web page where an answer should be: {address(settings)}: mend "
            "rollouts.endpoint.base_url, which ends in /v1 at most servers"
        )
    try:
        reply = json.loads(text)
        choice = reply["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content = message.get("content") or ""
        # Two names for what a model thought before it answered.
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        if not (isinstance(content, str) and isinstance(thought, str)):
            raise TypeError
        usage = reply.get("usage")
        if not _whole(usage, "prompt_tokens") or not _whole(usage, "completion_tokens"):
            usage = None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Again(f"unreadable reply {_short(text)!r}", lost=True) from None
    if finish in INTERRUPTED:
        raise Again(f"interrupted ({finish})", lost=True)
    return {
        "text": _sound(content),
        "finish_reason": str(finish),
        "model": _sound(str(reply.get("model") or settings.model)),
        "fingerprint": _named(reply, "system_fingerprint"),
        "id": _named(reply, "id"),
        "usage": usage,
        "reasoning": _sound(thought),
    }


def failure(error: openai.APIError, settings: Endpoint, heard: bool) -> Exception:
    """What to do about an error: Again, PromptTooLong, or a UserError that ends the run.

    heard: the server has answered before, so it was reachable once.
    """
    where = host(settings)
    if isinstance(error, openai.APIStatusError):
        return _refusal(error, settings)
    if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
        if heard:
            return Again("not reachable any more", lost=False)
        return UserError(
            f"no server there: {address(settings)}: start it, or mend rollouts.endpoint.base_url "
            f"({_short(str(error.__cause__)) or 'no connection'})"
        )
    if isinstance(error, openai.APITimeoutError):
        return Again(f"no answer within {settings.timeout:g} s", lost=True)
    return Again(f"connection to {where} lost", lost=True)


def _refusal(error: openai.APIStatusError, settings: Endpoint) -> Exception:
    status, words, where = error.status_code, _message(error), host(settings)
    said = _short(words)
    if status in (401, 403):
        return UserError(
            f"refused with {status}: {where}: set OPENAI_API_KEY to a key of this server that may "
            f"use {settings.model}"
        )
    if status == 402 or error.code == "insufficient_quota":
        return UserError(f"the account has nothing left: {where}: top it up and start again")
    if status in AGAIN or status >= 500:
        why = f"refused with {status}" + (f" ({said})" if said else "")
        return Again(why, lost=False, wait=_wait(error))
    told = f"{error.code} {words}".lower()
    if status in (400, 413, 422) and any(mark in told for mark in TOO_LONG):
        return PromptTooLong(said)
    return UserError(
        f"refused with {status}: {where}: {said or 'no reason given'}; what a server does not take "
        'can be left out by rollouts.endpoint.extra_body, such as {"seed": null}'
    )


def _message(error: openai.APIStatusError) -> str:
    """The server's own words, wherever it put them."""
    body: Any = error.body
    if isinstance(body, dict):
        inner = body.get("error")
        body = body.get("message") or (inner if isinstance(inner, str) else None) or body
    return body if isinstance(body, str) else json.dumps(body) if body else ""


def _wait(error: openai.APIStatusError) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 0 without one."""
    given = error.response.headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            then = parsedate_to_datetime(given)
        except ValueError:
            return 0.0
        seconds = then.timestamp() - datetime.datetime.now(datetime.UTC).timestamp()
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _whole(usage: Any, name: str) -> bool:
    return isinstance(usage, dict) and type(usage.get(name)) is int and usage[name] >= 0


def _named(reply: dict[str, Any], name: str) -> str | None:
    return None if reply.get(name) is None else _sound(str(reply[name]))


def _sound(text: str) -> str:
    """`text` without halves of surrogate pairs, which no file takes."""
    return text.encode("utf-8", "replace").decode()


def _short(text: str) -> str:
    words = " ".join(_sound(text).split())
    return words if len(words) <= 160 else f"{words[:157]}..."
