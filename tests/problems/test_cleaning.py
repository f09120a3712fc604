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


def test_the_splits_of_the_generator_lose_nothing():
    profile = load_profile("smoke")
    given = load_problems(profile, "rollouts")
    assert clean(given, load_problems(profile, "test"), by_words=False)[0] == given
