"""The binary reward: does the last boxed answer of a completion equal the gold answer?

Plain integers are compared here, everything else by math-verify in a process of its own
(`verifier_process`): a model may write an answer that takes for ever to work out.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

from finetune_geometry.settings.errors import UserError

RIGHT, WRONG, UNVERIFIABLE = "right", "wrong", "unverifiable"
TOO_LONG = "too long"
#: Processor time of one check.  Ordinary ones take a hundredth of a second.
SECONDS = 5.0
#: Seconds by the clock after which a process that says nothing is given up: far more than SECONDS,
#: because on a busy machine it gets little of the processor.
PATIENCE = 120.0
BRACE = re.compile(r"\\boxed\{|[{}]")
INTEGER = re.compile(r"-?[0-9]{1,15}")


def extract_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` of `text`, nested braces included.

    The last one is taken here, not by the parser: math-verify reads two boxes as a set, which
    equals neither answer.  None where there is no complete box.
    """
    # One pass: a model that loops writes thousands of boxes and closes none.
    last, content, opened = -1, None, list[int]()
    for mark in BRACE.finditer(text):
        if mark[0] != "}":
            opened.append(mark.end() if mark[0] != "{" else -1)
        elif opened and (begin := opened.pop()) > last:  # a plain brace closes nothing that counts
            last, content = begin, text[begin : mark.start()]
    return content


def judge(text: str, answer: str) -> str:
    """RIGHT if the last boxed answer of `text` equals the gold `answer`, WRONG if not or if none.

    UNVERIFIABLE if the check was given up after SECONDS of processor time, or ends its process
    each time: no reward, but not known to be wrong either.  Raises UserError if math-verify does
    not start.
    """
    boxed = extract_boxed(text)
    if boxed is None:
        return WRONG
    one, two = boxed.strip(), answer.strip()
    if INTEGER.fullmatch(one) and INTEGER.fullmatch(two):  # what math-verify says of them, at once
        return RIGHT if int(one) == int(two) else WRONG
    return _asked(answer, boxed)


def judge_whole(text: str, answer: str, finished: bool) -> str:
    """`judge` of what a model wrote; TOO_LONG if it was cut off before a right answer."""
    verdict = judge(text, answer)
    return TOO_LONG if verdict == WRONG and not finished else verdict


def is_correct(text: str, answer: str) -> bool:
    """Whether `judge` finds the last boxed answer of `text` right."""
    return judge(text, answer) == RIGHT


class _Verifier:
    """A running `verifier_process`."""

    def __init__(self) -> None:
        sources = str(Path(__file__).parents[2])  # this copy of the package, and no other
        path = os.pathsep.join([sources, *filter(None, [os.environ.get("PYTHONPATH")])])
        watched, self.lifeline = os.pipe()  # closes with this process, however that ends
        module = "finetune_geometry.problems.verifier_process"
        try:
            self.process = subprocess.Popen(
                # -P: no module of the folder that is worked in takes the place of a library's.
                [sys.executable, "-P", "-m", module, str(watched)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # parsers complain there about what a model wrote
                bufsize=0,
                env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
                pass_fds=[watched],
            )
        except BaseException:
            os.close(self.lifeline)
            raise
        finally:
            os.close(watched)
        try:
            if self.reply() != b"ready\n":
                raise UserError(
                    f"the verifier does not start: {sys.executable}: see what `python -m "
                    "finetune_geometry.problems.verifier_process` says there"
                )
        except BaseException:
            self.stop()
            raise

    def reply(self) -> bytes | None:
        """The next line it writes, nothing at its end; None after PATIENCE seconds of silence."""
        assert self.process.stdout is not None
        written = select.poll()
        written.register(self.process.stdout, select.POLLIN)
        return self.process.stdout.readline() if written.poll(1000 * PATIENCE) else None

    def ask(self, gold: str, found: str) -> str | None:
        """RIGHT or WRONG; UNVERIFIABLE if it took too long; None if the process ended otherwise."""
        assert self.process.stdin is not None
        request = json.dumps([SECONDS, gold, found]).encode() + b"\n"
        try:
            while request:  # a signal may cut the writing of a long one short
                request = request[self.process.stdin.write(request) :]
            reply = self.reply()
        except BrokenPipeError:
            reply = b""
        if reply == b"":
            return UNVERIFIABLE if self.process.wait() == -signal.SIGPROF else None
        return {b"true\n": RIGHT, b"false\n": WRONG}.get(reply or b"", UNVERIFIABLE)

    def stop(self) -> None:
        """End the process and leave nothing of it."""
        self.process.kill()
        self.process.wait()
        self.forget()

    def forget(self) -> None:
        """Close this side's ends of the pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        os.close(self.lifeline)


_running: list[_Verifier] = []  # one at most, started by the first answer that needs it
_lock = threading.Lock()


def _asked(gold: str, found: str) -> str:
    with _lock:
        for _ in range(2):  # a process that somebody ended is not the answer's fault, at first
            if not _running:
                _running.append(_Verifier())
            said = None
            try:
                said = _running[0].ask(gold, found)
            finally:  # an interruption too: the next check must not read this one's reply
                if said not in (RIGHT, WRONG):
                    _running.pop().stop()
            if said is not None:
                return said
        return UNVERIFIABLE


@atexit.register
def _stop() -> None:
    while _running:
        _running.pop().stop()


def _leave_to_parent() -> None:
    """In a forked process: the verifier is its parent's, to ask and to wait for."""
    global _lock
    _lock = threading.Lock()
    while _running:
        verifier = _running.pop()
        verifier.process.returncode = 0
        verifier.forget()


os.register_at_fork(after_in_child=_leave_to_parent)
