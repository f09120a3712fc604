"""The sums that a model writes in its solutions: how many of them are right.

A solution can be wrong at the end and right in most of its steps. Where a model is right on next to
no problem, the share of right sums still tells models apart.
"""

from __future__ import annotations

import re
from fractions import Fraction

import pandas as pd

_NUMBER = r"-?\d+(?:\.\d+)?"
_SIGN = r"\s*([-+*/×÷])\s*"
_SUM = re.compile(rf"({_NUMBER}){_SIGN}({_NUMBER})")
#: Two numbers or more, as many as stand before the equals sign.
_LINE = re.compile(
    rf"(?<![\d.])({_NUMBER}(?:\s*[-+*/×÷]\s*{_NUMBER})+)\s*=\s*\$?({_NUMBER})(?!\d|\.\d)"
)


def written_sums(text: str) -> tuple[int, int]:
    """(right, all) sums of two numbers, as "11*4=44", in a text.

    Spaces, a dollar sign before the result and separators of thousands do not matter; what chains
    more than two numbers is not counted. A division by 0 counts as wrong.
    """
    right = found = 0
    for line, result in _LINE.findall(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)):
        numbers = _SUM.fullmatch(line)
        if numbers is None:
            continue
        one, sign, two = numbers.groups()
        a, b = Fraction(one), Fraction(two)
        if sign in "/÷":
            value = a / b if b else None
        else:
            value = a + b if sign == "+" else a - b if sign == "-" else a * b
        found += 1
        right += value == Fraction(result)
    return right, found


def sums_by_model(answers: pd.DataFrame) -> pd.DataFrame:
    """One row a model: answers, answers with a box, sums written, and how many of them are right.

    answers: columns model, text (`answers.predict`). Columns: model, answers, boxed, sums, right.
    """
    rows = []
    for model, part in answers.groupby("model", sort=False):
        counts = [written_sums(text) for text in part["text"]]
        boxed = int(part["text"].str.contains(r"\boxed{", regex=False).sum())
        right, sums = (sum(column) for column in zip(*counts, strict=True))
        rows.append((model, len(part), boxed, sums, right))
    return pd.DataFrame(rows, columns=["model", "answers", "boxed", "sums", "right"])
