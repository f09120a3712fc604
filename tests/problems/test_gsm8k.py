"""Gold solutions of GSM8K (Cobbe et al. 2021, MIT licence) are read and verified.

A few rows lie beside this file. All 8,792 are tried where $FINETUNE_GEOMETRY_DATA names a folder
that holds `gsm8k/train.jsonl` and `gsm8k/test.jsonl`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from finetune_geometry.problems.answer_check import RIGHT, WRONG, judge
from finetune_geometry.problems.sources import read_problem

SAMPLE = Path(__file__).with_name("gsm8k_sample.jsonl")
DATA = Path(os.environ.get("FINETUNE_GEOMETRY_DATA") or "nowhere") / "gsm8k"


def check(lines: list[str]) -> None:
    """Each gold answer as it is written is right for the problem as it is read, another is not."""
    for number, line in enumerate(lines):
        row = json.loads(line)
        problem = read_problem(row, f"gsm8k/{number}")
        written = row["answer"].rpartition("####")[2].strip()
        assert problem.question == row["question"]
        assert problem.solution
        assert "####" not in problem.solution
        assert judge(f"{problem.solution}\n\\boxed{{{written}}}", problem.answer) == RIGHT, line
        assert judge(f"{problem.solution}\n\\boxed{{{written}1}}", problem.answer) == WRONG, line


def test_gold_solutions_are_read_and_right() -> None:
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    answers = [read_problem(json.loads(line), "x").answer for line in lines]
    assert answers == ["72", "10", "18", "3", "1080", "109200000", "-7", "0"]
    check(lines)


@pytest.mark.skipif(not DATA.is_dir(), reason="FINETUNE_GEOMETRY_DATA names no folder with gsm8k/")
@pytest.mark.parametrize(("part", "problems"), [("train", 7473), ("test", 1319)])
def test_all_gold_solutions_are_read_and_right(part: str, problems: int) -> None:
    lines = (DATA / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == problems
    check(lines)
