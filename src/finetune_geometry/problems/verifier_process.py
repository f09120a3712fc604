"""The verifier's own process: math-verify compares there, so that no answer hangs who asks.

`python -m finetune_geometry.problems.verifier_process [FD]` reads one JSON list
[seconds, gold, found] a line and writes `true` or `false` for each.  FD is the end of a pipe that
nobody writes to: it closes with the process that asks.  `answer_check` starts it, asks it, and
starts another when it has ended.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import signal
import sys

from math_verify import parse, verify


def equal(gold: str, found: str) -> bool:
    """Whether math-verify takes two answers, the contents of two boxes, for the same.

    It can run for ever (`9^{9^{9}}`): its own timeouts need Python to go on between two steps, and
    one power of integers is a single step.  `serve` sets a limit that does not.
    """
    one = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    two = parse(f"\\boxed{{{found}}}", parsing_timeout=None)
    return bool(one and two and verify(one, two, timeout_seconds=None))


def serve(lifeline: int | None = None) -> None:
    """Answer until standard input ends.

    A check that takes more than `seconds` of processor time (not of the clock: a busy machine
    judges alike) ends the process, by a signal that nothing here handles.  So does the end of
    `lifeline`, in the middle of a check too (on Linux; elsewhere once the check has ended).
    """
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns when there is no timeout
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    for ending in (signal.SIGPROF, signal.SIGIO):
        signal.signal(ending, signal.SIG_DFL)
    if lifeline is not None:
        _end_with(lifeline)
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing that a parser prints is a reply
    print("ready", file=replies, flush=True)
    for line in sys.stdin.buffer:
        seconds, gold, found = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        same = equal(gold, found)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(same), file=replies, flush=True)


def _end_with(lifeline: int) -> None:
    """Have SIGIO sent when the other end of a pipe is closed.

    Not of standard input, which would need no second pipe: what is sent for a request can arrive
    after the request was read, and would end the check of it.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    watched = select.poll()
    watched.register(lifeline, select.POLLIN)
    if watched.poll(0):  # it had ended before the flag was set
        sys.exit()


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:2]))
