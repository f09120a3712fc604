"""Sums in a text: found, worked out again, counted by model."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_geometry.evaluation.written_sums import sums_by_model, written_sums
from finetune_geometry.problems.generator import Difficulty, generate_problems


@pytest.mark.parametrize(
    ("text", "right", "found"),
    [
        ("Tom has 11*4=44 apples.", 1, 1),
        ("Tom has 11*4=46 apples.", 0, 1),
        ("12 + 23 = 35, then 35 - 40 = -5", 2, 2),
        ("a price of 3 × 5 = $15", 1, 1),
        ("1,200/4=300", 1, 1),
        ("7/2=3.5", 1, 1),
        ("7/0=7", 0, 1),
        ("5 + 23 + 1 = 29", 0, 0),  # three numbers: it would be judged by two of them
        ("10% of 50 is 5", 0, 0),
        ("there are 12 apples", 0, 0),
        ("2+2=45", 0, 1),
    ],
)
def test_sums_of_two_numbers_are_worked_out(text, right, found):
    assert written_sums(text) == (right, found)


def test_every_sum_of_the_generator_s_own_solutions_is_right():
    for problem in generate_problems("train", 40, 1, Difficulty(2, 8, 200)):
        right, found = written_sums(problem.solution)
        assert right == found >= problem.steps


@given(st.integers(-999, 999), st.integers(0, 999), st.integers(-3, 3))
def test_a_result_that_is_off_is_wrong(a, b, off):
    assert written_sums(f"so {a}+{b}={a + b + off}.") == (int(off == 0), 1)


def test_models_are_counted_apart():
    texts = ["1+1=2 and \\boxed{2}", "1+1=3", "none"]
    answers = pd.DataFrame({"model": ["x", "x", "y"], "text": texts})
    expected = [("x", 2, 1, 2, 1), ("y", 1, 0, 0, 0)]
    assert [tuple(row) for row in sums_by_model(answers).itertuples(index=False)] == expected
