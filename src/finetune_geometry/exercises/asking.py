"""How a check asks: it calls the reader's function, and compares with right and with wrong answers.

A check that is passed prints one sentence. One that is not raises `WrongAnswer`, whose text says
what went wrong. A function that nobody has written yet is neither: the check says so and goes on,
so that a notebook with open tasks runs to its end.
"""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Answer = Callable[..., Any]
#: A result that people get by a known mistake, and what to tell them.
Mistake = tuple[Any, str]

TOLERANCE = 1e-6
#: Wider: a reader's version of a mistake may have a small constant against division by zero.
ALIKE = 1e-3


class WrongAnswer(AssertionError):
    """What is wrong with an answer. IPython shows the text alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


class Unwritten(Exception):
    """The function still raises NotImplementedError."""


def check(praise: str) -> Callable[[Callable[[Answer], None]], Callable[[Answer], None]]:
    """Makes a check of a function that raises `WrongAnswer`; `praise` is printed when it does not.

    The check returns nothing and never raises for an unwritten function.
    """

    def decorate(body: Callable[[Answer], None]) -> Callable[[Answer], None]:
        @functools.wraps(body)
        def asked(answer: Answer) -> None:
            name = getattr(answer, "__name__", "the function")
            try:
                body(answer)
            except Unwritten:
                print(f"Still to do: write {name} in the cell above, run it, then run this again.")
            else:
                print(f"Right. {praise}")

        return asked

    return decorate


def call(answer: Answer, *arguments: Any) -> Any:
    """The result of `answer` on copies of the arguments.

    Raises `Unwritten` for a body that raises NotImplementedError, and `WrongAnswer` for one that
    returns nothing or changes what it was given. Other errors are the reader's to see.
    """
    given = [_copy(argument) for argument in arguments]
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            result = answer(*given)
    except NotImplementedError:
        raise Unwritten from None
    if result is None or result is Ellipsis:
        raise WrongAnswer("The function returns nothing: is there a `return`?")
    if not all(map(_same, given, arguments)):
        raise WrongAnswer(
            "The function changes its arguments, which the caller may still need. Assign the "
            "result to a new name instead of writing into an array."
        )
    return result


def ask(answer: Answer, *arguments: Any, shape: tuple[int, ...] = ()) -> Array:
    """The result as an fp64 array of this shape; `WrongAnswer` says which shape came instead."""
    result = np.asarray(call(answer, *arguments), dtype=np.float64)
    if result.shape != shape:
        wanted = f"an array of shape {shape}" if shape else "one number"
        raise WrongAnswer(f"The result should be {wanted}, and yours has shape {result.shape}.")
    return result


def ask_thinly(answer: Answer, *factors: Any, entries: int, shape: tuple[int, ...] = ()) -> Array:
    """As `ask`, but the memory of a matrix of `entries` numbers must not be used."""
    call(answer, *factors)  # whatever is imported or cached at the first call does not count
    tracemalloc.start()
    try:
        result = ask(answer, *factors, shape=shape)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Copies of the factors and small products come to far less than half of it.
    if peak > entries * 8 / 2:
        raise WrongAnswer(
            f"The call took {peak:,} bytes, as much as the full matrix B @ A. Multiply the thin "
            "factors in another order, so that only r x r matrices appear."
        )
    return result


def judge(found: Any, right: Any, mistakes: Sequence[Mistake], where: str) -> None:
    """Raises `WrongAnswer` unless `found` is `right`, with the words for a known mistake.

    `where` says on which input the two differ, for a mistake that is not known.
    """
    if np.allclose(found, right, rtol=TOLERANCE, atol=1e-9, equal_nan=True):
        return
    for wrong, message in mistakes:
        if np.shape(wrong) == np.shape(found) and np.allclose(found, wrong, rtol=ALIKE, atol=1e-6):
            raise WrongAnswer(message)
    raise WrongAnswer(f"{where}: yours is {_shown(found)}, it should be {_shown(right)}.")


def _shown(value: Any) -> str:
    return np.array2string(np.asarray(value), precision=4, suppress_small=True, separator=", ")


def _copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        return type(value)(map(_copy, value))
    return value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other))
