"""The binary reward: does the last boxed answer of a completion equal the gold answer?"""

from __future__ import annotations

import logging

from math_verify import parse, verify

# It warns at every call without a timeout, which `is_correct` leaves out on purpose.
logging.getLogger("math_verify").setLevel(logging.ERROR)


def extract_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` of `text`, nested braces included.

    The last one is taken here, not by the parser: math-verify reads two boxes as a set, which
    equals neither answer.  None where there is no complete box.
    """
    start = text.rfind("\\boxed{")
    while start >= 0:
        depth, begin = 1, start + len("\\boxed{")
        for position in range(begin, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[begin:position]
        start = text.rfind("\\boxed{", 0, start)  # the last box was cut off: try the one before
    return None


def is_correct(text: str, answer: str) -> bool:
    """Whether the last boxed answer of `text` equals the gold `answer`, judged by math-verify.

    Timeouts are off (they need the main thread's signals, and answers here are short).
    """
    boxed = extract_boxed(text)
    if boxed is None:
        return False
    gold = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    found = parse(f"\\boxed{{{boxed}}}", parsing_timeout=None)
    return bool(gold and found and verify(gold, found, timeout_seconds=None))
