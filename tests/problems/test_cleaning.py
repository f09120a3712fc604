"""Problems left out of the prompts: repeated ones, and those of a test set."""

import pytest

from finetune_geometry.problems.cleaning import SHARED_WORDS, clean
from finetune_geometry.problems.problem import Problem
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.settings.profiles import load_profile

LONG = " ".join(f"word{chr(97 + n)}" for n in range(20))


def problem(text: str, name: str = "") -> Problem:
    return Problem(name or text, text, "", "1", 0)


def test_a_text_that_came_before_is_left_out_whatever_its_case_and_space():
    given = [problem("How many  apples?", "a"), problem("how many apples ?", "b"), problem("Else?")]
    kept, left_out = clean(given, [], by_words=False)
    assert [p.id for p in kept] == ["a", "Else?"]
    assert left_out == {"repeated": 1, "in_test": 0}


def test_numbers_and_signs_make_another_problem():
    given = [problem(text) for text in ("What is 12 + 3?", "What is 1 + 23?", "What is 12 - 3?")]
    assert clean(given, [], by_words=False)[0] == given


@pytest.mark.parametrize("by_words", [False, True])
def test_the_text_of_a_test_problem_is_left_out(by_words):
    kept, left_out = clean([problem("A b?"), problem("C d?")], [problem("a B ?")], by_words)
    assert [p.id for p in kept] == ["C d?"]
    assert left_out == {"repeated": 0, "in_test": 1}


def test_a_run_of_words_shared_with_a_test_problem_counts_for_real_problems_alone():
    words = LONG.split()
    shares = problem("Before. " + " ".join(words[:SHARED_WORDS]) + " behind?")
    one_less = problem("Before. " + " ".join(words[: SHARED_WORDS - 1]) + " behind?")
    kept, left_out = clean([shares, one_less], [problem(LONG)], by_words=True)
    assert kept == [one_less]
    assert left_out == {"repeated": 0, "in_test": 1}
    assert clean([shares, one_less], [problem(LONG)], by_words=False)[0] == [shares, one_less]


def test_signs_are_no_words():
    """Problems that share their letters, as AIME's do, or a price, as GSM8K's."""
    exams = [
        problem("Let $a$, $b$, and $c$ be the sides of a triangle of area 6. Find the largest."),
        problem("The shirt costs $0.50, how much will he earn after selling 12 of them to Ann?"),
    ]
    others = [
        problem("Let $a$, $b$, and $c$ be whole numbers with $abc = 6$. Find $a + b + c$."),
        problem("A pen costs $0.50, how much will he earn after a week of work in the shop?"),
    ]
    assert clean(others, exams, by_words=True) == (others, {"repeated": 0, "in_test": 0})
    reset = problem("So: let a, b and c be the sides of a triangle of area 6.")
    assert clean([reset], exams, by_words=True)[1]["in_test"] == 1


def test_another_script_that_parts_no_words_is_seen_too():
    exams = [problem("小明有十二个苹果，他又买了三个苹果，一共多少？")]
    reworded = problem("问：小明有十二个苹果，他又买了三个苹果，共几个？")
    assert clean([reworded], exams, by_words=True)[1]["in_test"] == 1


def test_the_splits_of_the_generator_lose_nothing():
    profile = load_profile("smoke")
    given = load_problems(profile, "rollouts")
    assert clean(given, load_problems(profile, "test"), by_words=False)[0] == given
