"""Small files in the schema of each public data set of generations, as a test wants them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

NUMINA = "PrimeIntellect/NuminaMath-QwQ-CoT-5M"
DEEPSCALER = "lime-nlp/DeepScaleR_Difficulty"
OPENR1 = "open-r1/OpenR1-Math-220k"
GSM8K = "openai/grade-school-math"
WRITERS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

Response = tuple[int, str, bool]  # number of the problem, text, the data set's verdict


def boxed(answer: object, before: str = "So") -> str:
    return f"{before} it is \\boxed{{{answer}}}."


def question(problem: int) -> str:
    """Of a problem whose answer is its number; no two of them share thirteen words."""
    return f"What is problem {problem}, told in {problem + 7} words?"


def write_numina(
    folder: Path,
    responses: Sequence[Response],
    part: int = 0,
    block: int = 2,
    **columns: Sequence[Any],
) -> Path:
    """A file of NuminaMath-QwQ-CoT-5M with `block` rows in a row group; columns replace others."""
    table = {
        "prompt": [question(problem) for problem, _, _ in responses],
        "response": [text for _, text, _ in responses],
        "problem_id": [problem for problem, _, _ in responses],
        "ground_truth": [str(problem) for problem, _, _ in responses],
        "correct": [right for _, _, right in responses],
    }
    path = folder / f"data/train-{part:05d}-of-00088.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table({**table, **columns}), path, row_group_size=block)
    return path


def write_deepscaler(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    path = folder / "Qwen2.5-Math-7B--deepscaler.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def openr1_row(problem: int, texts: Sequence[str], **values: Any) -> dict[str, Any]:
    """A row of OpenR1-Math-220k: a problem with all that was generated for it."""
    row = {
        "problem": question(problem),
        "solution": "gold",
        "answer": str(problem),
        "uuid": f"u{problem}",
        "is_reasoning_complete": [True] * len(texts),
        "generations": list(texts),
        "correctness_math_verify": [f"\\boxed{{{problem}}}" in text for text in texts],
        "correctness_llama": None,
        "finish_reasons": ["stop"] * len(texts),
    }
    return row | values


def write_openr1(folder: Path, rows: Sequence[Mapping[str, Any]], part: int = 0) -> Path:
    flags, texts = pa.list_(pa.bool_()), pa.list_(pa.string())
    schema = pa.schema(
        {
            **dict.fromkeys(("problem", "solution", "answer", "uuid"), pa.string()),
            "is_reasoning_complete": flags,
            "generations": texts,
            "correctness_math_verify": flags,
            "correctness_llama": flags,
            "finish_reasons": texts,
        }
    )
    path = folder / f"data/train-{part:05d}-of-00010.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(list(rows), schema), path)
    return path


def gsm8k_row(problem: int, solutions: Sequence[str], verdicts: Sequence[bool]) -> dict[str, Any]:
    """A row of GSM8K's published solutions: one of each of four models."""
    told = zip(WRITERS, solutions, verdicts, strict=True)
    return {
        "question": question(problem),
        "ground_truth": f"It is {problem}*1=<<{problem}*1={problem}>>{problem}\nA: {problem}",
        **{name: {"is_correct": right, "solution": text} for name, text, right in told},
    }


def write_gsm8k(folder: Path, rows: Sequence[Mapping[str, Any]], zipped: bool = True) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    if zipped:
        path = folder / "model_solutions.jsonl.gz"
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path = folder / "example_model_solutions.jsonl"
        path.write_text(lines, encoding="utf-8")
    return path
