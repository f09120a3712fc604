r"""How a row of each public data set of verified generations is read.

A reader says which columns it needs, which one tells problems apart, and what traces a row holds.
It changes as little of a text as training on it needs, and says what in `text`, for the pool's
card.  Whether a response was cut off stands in one of the data sets only: see each reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_geometry.problems.answer_check import extract_boxed
from finetune_geometry.problems.sources import THOUSANDS
from finetune_geometry.settings.trace_sets import trace_set

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """One response to one problem, with what the data set says of it.

    finished: whether its writer came to an end. right: the data set's own verdict, None: it has
    none. writer: the model, as the data set names it.
    """

    question: str
    answer: str
    text: str
    finished: bool
    right: bool | None
    writer: str


@dataclass(frozen=True)
class Reader:
    """The schema of one data set.

    whole: a row is a problem with all its responses; otherwise it is one response, and `problem` is
    the column that tells problems apart (of whole ones: a short column, to count the rows by).
    """

    columns: tuple[str, ...]
    problem: str
    whole: bool
    traces: Callable[[Row], list[Trace]]
    text: str  # which part of a response is kept, in words
    optional: tuple[str, ...] = ()


def reader(dataset: str) -> Reader:
    """The reader of a data set; raises UserError, which lists the known ones."""
    return READERS[trace_set(dataset).name]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _flag(value: Any) -> bool | None:
    """A verdict, or what a CSV file has for it."""
    if value is None or isinstance(value, bool):
        return value
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(
        str(value).strip().lower()
    )


def _ended(text: str, budget: int) -> bool:
    """Whether a response came to its end, where the data set does not say.

    It did if it gives an answer, or has fewer characters than its writer had tokens to spend: a
    token is one character at least.  One that gave its answer and was cut off later passes; it is
    `budget` tokens long, and the student's context is shorter.
    """
    return extract_boxed(text) is not None or len(text) < budget


# PrimeIntellect/NuminaMath-QwQ-CoT-5M: a row is one response.  Its authors sampled up to 8,192
# tokens and asked for a boxed answer at the end.
def _numina_qwq(row: Row) -> list[Trace]:
    text = _text(row["response"])
    return [
        Trace(
            _text(row["prompt"]),
            _text(row["ground_truth"]),
            text,
            _ended(text, 8_192),
            _flag(row["correct"]),
            "Qwen/QwQ-32B-Preview",
        )
    ]


# lime-nlp/DeepScaleR_Difficulty: the file "Response" of its card, a row is one of the 128 responses
# to a problem, of up to 4,096 tokens.  Its verdicts are not known to be in that file.
def _deepscaler(row: Row) -> list[Trace]:
    text = _text(row["response"])
    return [
        Trace(
            _text(row["problem"]),
            _text(row["ground_truth"]),
            text,
            _ended(text, 4_096),
            _flag(row.get("correct")),
            "Qwen/Qwen2.5-Math-7B",
        )
    ]


# open-r1/OpenR1-Math-220k: a row is a problem with its two to four responses.
def _openr1(row: Row) -> list[Trace]:
    responses = [_text(response) for response in row["generations"]]
    unknown = [None] * len(responses)
    reasons = row.get("finish_reasons") or unknown
    complete = row.get("is_reasoning_complete") or unknown
    verdicts = row["correctness_math_verify"] or unknown
    traces = []
    for text, reason, thought, right in zip(responses, reasons, complete, verdicts, strict=True):
        _, closed, solution = text.rpartition("</think>")
        ended = (reason == "stop" if reason else thought is not False) and bool(solution.strip())
        ended = ended and (bool(closed) or "<think>" not in text)
        traces.append(
            Trace(
                _text(row["problem"]),
                _text(row["answer"]),
                solution.strip(),
                ended,
                _flag(right),
                "deepseek-ai/DeepSeek-R1",
            )
        )
    return traces


# openai/grade-school-math: a row is a problem of GSM8K with one response of each of four models.
WRITERS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
CALCULATOR = re.compile(r"<<[^<>\n]*>>")
LAST_LINE = re.compile(r"(?:^|\n)A:[ \t]*([^\n]+)$")


def _gsm8k(row: Row) -> list[Trace]:
    gold = LAST_LINE.search(_text(row["ground_truth"]).rstrip())
    answer = gold[1].strip() if gold else ""
    if THOUSANDS.fullmatch(answer):
        answer = answer.replace(",", "")
    traces = []
    for writer in WRITERS:
        solution = _text(row[writer]["solution"]).rstrip()
        said = LAST_LINE.search(solution)
        text = CALCULATOR.sub("", solution[: said.start()] if said else solution)
        if said:
            text = f"{text}\nThe answer is \\boxed{{{said[1].strip()}}}.".lstrip()
        right = _flag(row[writer]["is_correct"])
        traces.append(Trace(_text(row["question"]), answer, text, bool(said), right, writer))
    return traces


READERS = {
    "PrimeIntellect/NuminaMath-QwQ-CoT-5M": Reader(
        columns=("problem_id", "prompt", "response", "ground_truth", "correct"),
        problem="problem_id",
        whole=False,
        traces=_numina_qwq,
        text="the response as it is",
    ),
    "lime-nlp/DeepScaleR_Difficulty": Reader(
        columns=("problem", "ground_truth", "response"),
        problem="problem",
        whole=False,
        traces=_deepscaler,
        text="the response as it is",
        optional=("correct",),
    ),
    "open-r1/OpenR1-Math-220k": Reader(
        columns=("problem", "answer", "generations", "correctness_math_verify"),
        problem="answer",
        whole=True,
        traces=_openr1,
        text="the solution that follows </think>",
        optional=("finish_reasons", "is_reasoning_complete"),
    ),
    "openai/grade-school-math": Reader(
        columns=("question", "ground_truth", *WRITERS),
        problem="question",
        whole=True,
        traces=_gsm8k,
        text="all but calculator marks; its last line boxed",
    ),
}
