"""What a server was asked and what it answered: files of JSON lines that only grow.

A line is one event of one request, under the request's key:

- `sent`: an attempt begins; `bound` is the most that it can cost, in tokens (input, output);
- `refused`: the server answered that attempt with an error, which costs nothing;
- `answer`: the text, and all that came with it; `counted` is what it cost, in tokens.

An attempt that was sent and has neither is under way or lost.  A lost one may have been charged
for, so it keeps its bound.  A kill at any moment leaves whole lines and at most a torn last one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from finetune_geometry.runs.files import explain_full_disk
from finetune_geometry.settings.errors import UserError

Tokens = tuple[int, int]  # input, output


class Answer(NamedTuple):
    """What is counted of an answer; its line, at byte `begin` of the file, has the rest."""

    path: Path
    begin: int
    counted: Tokens
    date: str
    model: str
    fingerprint: str
    finish_reason: str
    with_usage: bool
    empty: bool
    thought: bool


@dataclasses.dataclass(slots=True)
class Asked:
    """What is known of one request."""

    open: list[Tokens] = dataclasses.field(default_factory=list)  # bounds of attempts, no reply yet
    refused: int = 0
    answer: Answer | None = None


class Journal:
    """The files of one run, `folder`/*.jsonl, and what they hold by request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: dict[str, Asked] = {}
        self.answered = [0, 0]  # tokens of all answers
        self.open = [0, 0]  # bounds of all attempts without a reply
        self._read_to: dict[Path, int] = {}
        self._writing: tuple[Path, IO[bytes]] | None = None

    def has(self, key: str) -> bool:
        return key in self.asked and self.asked[key].answer is not None

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Write to `name`.jsonl in this block; UserError if another process writes for the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.jsonl"
        with open(self.folder / ".lock", "a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process asks for this run's rollouts: {self.folder}: wait for it, "
                    "or choose another name with RUN="
                ) from None
            self.refresh(mend=True)
            with open(path, "ab", buffering=0) as file:
                self._writing = path, file
                try:
                    yield
                finally:
                    self._writing = None

    def refresh(self, mend: bool = False) -> None:
        """Read what was added since; with `mend`, cut off a last line that a kill tore.

        Raises UserError, which says where, for a whole line that is none of this project's.
        """
        for path in sorted(self.folder.glob("*.jsonl")):
            begin = self._read_to.get(path, 0)
            with open(path, "rb") as file:
                file.seek(begin)
                for line in file:
                    if not line.endswith(b"\n"):
                        if mend:
                            os.truncate(path, begin)
                        break
                    try:
                        self._note(json.loads(line), path, begin)
                    except (ValueError, LookupError, TypeError, AttributeError):
                        raise UserError(
                            f"not a line of this project: {path}: delete the line at byte {begin}; "
                            "what it held is asked again"
                        ) from None
                    begin += len(line)
            self._read_to[path] = begin

    def sent(self, key: str, bound: Tokens, date: str) -> None:
        """An attempt begins.  Written before it does: after a kill, it counts as lost."""
        self._append({"sent": key, "bound": bound, "date": date})

    def refused(self, key: str, why: str) -> None:
        self._append({"refused": key, "why": why})

    def keep(self, key: str, answer: Mapping[str, Any]) -> None:
        """An answer, on the disk for good when this returns."""
        self._append({"answer": key, **answer}, sync=True)

    def read(self, key: str) -> dict[str, Any]:
        """The whole answer to a request that has one."""
        answer = self.asked[key].answer
        assert answer is not None
        with open(answer.path, "rb") as file:
            file.seek(answer.begin)
            line: dict[str, Any] = json.loads(file.readline())
        return line

    def _append(self, event: Mapping[str, Any], sync: bool = False) -> None:
        assert self._writing is not None
        path, file = self._writing
        begin, line = self._read_to.get(path, 0), json.dumps(event, ensure_ascii=False) + "\n"
        left = line.encode()
        size = len(left)
        try:
            while left:  # a nearly full disk takes a part
                left = left[file.write(left) :]
            if sync:
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # what another request adds begins a line
                os.truncate(path, begin)
            explain_full_disk(error, path)
            raise
        self._note(json.loads(line), path, begin)
        self._read_to[path] = begin + size

    def _note(self, event: dict[str, Any], path: Path, begin: int) -> None:
        if "sent" in event:
            bound = _tokens(event["bound"])
            self.asked.setdefault(event["sent"], Asked()).open.append(bound)
            _add(self.open, bound)
            return
        if "refused" in event:
            asked = self.asked.setdefault(event["refused"], Asked())
            asked.refused += 1
        else:
            answer = self._answer(event, path, begin)
            asked = self.asked.setdefault(event["answer"], Asked())
            asked.answer = answer
            _add(self.answered, answer.counted)
        if asked.open:
            _add(self.open, asked.open.pop(), -1)

    @staticmethod
    def _answer(event: Mapping[str, Any], path: Path, begin: int) -> Answer:
        return Answer(
            path,
            begin,
            counted=_tokens(event["counted"]),
            date=event["date"],
            # The same few words in every line: one copy of each.
            model=sys.intern(event["model"]),
            fingerprint=sys.intern(str(event["fingerprint"])),
            finish_reason=sys.intern(event["finish_reason"]),
            with_usage=event["usage"] is not None,
            empty=not event["text"].strip(),
            thought=bool(event["reasoning"]),
        )


def _tokens(value: Any) -> Tokens:
    return int(value[0]), int(value[1])


def _add(total: list[int], tokens: Tokens, times: int = 1) -> None:
    total[0] += times * tokens[0]
    total[1] += times * tokens[1]
