"""The last boxed answer of a text, and whether it equals the gold answer."""

import threading

import pytest

from finetune_geometry.rewards import extract_boxed, is_correct


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"So \boxed{12}.", "12"),
        (r"\boxed{1} or rather \boxed{2}.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\sqrt{\frac{a}{b}}} then {x}", r"\sqrt{\frac{a}{b}}"),
        (r"\boxed{7} and then \boxed{8", "7"),
        (r"\boxed{}", ""),
        ("no box, 12", None),
        (r"\boxed{12", None),
        (r"\boxed 12", None),
        ("", None),
    ],
)
def test_the_last_whole_box_is_taken(text, boxed):
    assert extract_boxed(text) == boxed


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        (r"The answer is \boxed{12}.", "12", True),
        (r"The answer is \boxed{12}.", "13", False),
        (r"\boxed{12} but \boxed{13}", "12", False),
        (r"\boxed{13} but \boxed{12}", "12", True),
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        (r"\boxed{0.5}", r"\frac{1}{2}", True),
        (r"\boxed{\dfrac{2}{4}}", r"\frac{1}{2}", True),
        (r"\boxed{1,206}", "1206", True),
        (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", True),
        (r"\boxed{012}", "12", True),
        (r"\boxed{}", "12", False),
        ("12", "12", False),
        (r"\boxed{12", "12", False),
        (r"\boxed{1 2 }}{", "12", False),
        (r"\boxed{apples}", "12", False),
    ],
)
def test_answers_are_compared_as_mathematics(text, answer, right):
    assert is_correct(text, answer) is right


def test_it_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(is_correct(r"\boxed{3}", "3")))
    thread.start()
    thread.join()
    assert found == [True]
