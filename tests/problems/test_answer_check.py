"""The last boxed answer of a text, and whether it equals the gold answer."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from finetune_geometry.problems import answer_check
from finetune_geometry.problems.answer_check import (
    RIGHT,
    UNVERIFIABLE,
    WRONG,
    extract_boxed,
    is_correct,
    judge,
)
from finetune_geometry.problems.verifier_process import equal
from finetune_geometry.settings.errors import UserError


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"So \boxed{12}.", "12"),
        (r"\boxed{1} or rather \boxed{2}.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\sqrt{\frac{a}{b}}} then {x}", r"\sqrt{\frac{a}{b}}"),
        (r"\boxed{7} and then \boxed{8", "7"),
        (r"\boxed{7} and then \boxed{8 {", "7"),
        (r"\boxed{1 \boxed{2} 3}", "2"),
        (r"} { \boxed{7} } }", "7"),
        (r"\boxed{}", ""),
        ("no box, 12", None),
        (r"\boxed{12", None),
        (r"\boxed 12", None),
        ("", None),
    ],
)
def test_the_last_whole_box_is_taken(text, boxed):
    assert extract_boxed(text) == boxed


def test_a_text_that_loops_is_read_once():
    """As a model writes it that has lost itself: thousands of boxes, and none is closed."""
    begun = time.monotonic()
    assert extract_boxed("\\boxed{3} " + "\\boxed{" * 4000) == "3"
    assert time.monotonic() - begun < 2  # begun anew at each box: twenty


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


PATHOLOGICAL = ["9^{9^{9}}", "2^{10^{10}}", "10000000!"]


@pytest.fixture
def impatient(monkeypatch):
    """A limit that the tests can wait for; ordinary checks take a hundredth of it."""
    monkeypatch.setattr(answer_check, "SECONDS", 1.0)


@pytest.fixture
def verifier():
    """The process that has just judged; no other has, so that a test may end it."""
    assert judge(r"\boxed{0.5}", r"\frac{1}{2}") == RIGHT
    return answer_check._running[0].process


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process ends within some seconds, and leaves no zombie."""
    until = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize("answer", PATHOLOGICAL)
def test_an_answer_that_takes_for_ever_is_given_up(impatient, verifier, answer):
    begun = time.monotonic()
    assert judge(rf"\boxed{{{answer}}}", "12") == UNVERIFIABLE
    assert not is_correct(rf"\boxed{{{answer}}}", "12")
    assert time.monotonic() - begun < 60  # two of a second each, on a machine that may be busy
    assert not psutil.pid_exists(verifier.pid)
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") == RIGHT  # by another process


def test_a_gold_answer_that_takes_for_ever_is_given_up(impatient):
    assert judge(r"\boxed{12}", "9^{9^{9}}") == UNVERIFIABLE
    assert judge(r"\boxed{\frac{1}{2}}", "10000000!") == UNVERIFIABLE
    assert judge("no box", "9^{9^{9}}") == WRONG


def test_a_check_of_ordinary_length_is_not_given_up(impatient, verifier):
    for n in range(200):  # three seconds in all: the limit is of one check
        assert judge(rf"\boxed{{\frac{{{n}}}{{201}}}}", rf"\frac{{{n}}}{{201}}") == RIGHT
    assert answer_check._running[0].process is verifier


def test_plain_integers_need_no_process(monkeypatch):
    monkeypatch.setattr(answer_check, "_asked", None)
    assert judge(r"\boxed{ 012 }", "12") == RIGHT
    assert judge(r"\boxed{-0}", "0") == RIGHT
    assert judge(r"\boxed{12}", "-12") == WRONG
    for other in ("1234567890123456", "1.0", "+1", "1,000", "--1", "", "٣", "1 2"):
        with pytest.raises(TypeError):
            judge(rf"\boxed{{{other}}}", "12")
        with pytest.raises(TypeError):
            judge(r"\boxed{12}", other)


def test_plain_integers_are_judged_as_math_verify_judges_them():
    rng = random.Random(0)
    pads = ("", " ", "\n", "\t", "\u00a0", "\u3000", "\x0c")

    def number() -> str:
        digits = "".join(rng.choice("0012389") for _ in range(rng.randint(1, 15)))
        return rng.choice(("", "-")) + digits

    right = 0
    for _ in range(300):
        gold = number()
        near = (gold, str(int(gold)), str(-int(gold)), "-" + gold.lstrip("-"), number())
        found = rng.choice(pads) + rng.choice(near) + rng.choice(pads)
        assert is_correct(rf"\boxed{{{found}}}", gold) is equal(gold, found)
        right += equal(gold, found)
    assert 50 < right < 250


def test_a_verifier_that_has_ended_is_replaced(verifier):
    verifier.kill()
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") == RIGHT
    assert not psutil.pid_exists(verifier.pid)


def test_an_answer_that_ends_every_verifier_is_given_up(verifier, monkeypatch):
    started, start = [], answer_check._Verifier

    def ends():
        started.append(start())
        started[-1].process.kill()
        return started[-1]

    monkeypatch.setattr(answer_check, "_Verifier", ends)
    verifier.kill()
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") == UNVERIFIABLE
    assert len(started) == 1
    assert answer_check._running == []


def test_a_verifier_that_is_stuck_is_given_up(verifier, monkeypatch):
    monkeypatch.setattr(answer_check, "PATIENCE", 0.5)
    verifier.send_signal(signal.SIGSTOP)  # takes no processor time, and does not answer
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") == UNVERIFIABLE
    assert not psutil.pid_exists(verifier.pid)
    monkeypatch.undo()
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") == RIGHT


def test_an_interrupted_check_leaves_no_reply_for_the_next(verifier, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(answer_check._Verifier, "reply", interrupt)
        with pytest.raises(KeyboardInterrupt):
            judge(r"\boxed{\frac{1}{3}}", "0.5")  # wrong
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") == RIGHT


def test_an_answer_of_many_characters_and_odd_ones_reaches_the_verifier():
    long = r"\frac{1}{2}" + " " * 200_000  # more than a pipe holds
    assert judge(rf"\boxed{{{long}}}", "0.5") == RIGHT
    assert judge("\\boxed{\n½ \u2028 é \x00}", "0.5") == WRONG


def test_a_verifier_that_cannot_start_is_an_error_and_no_verdict(verifier, monkeypatch):
    answer_check._stop()
    monkeypatch.setattr(answer_check.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="the verifier does not start: /bin/false"):
        judge(r"\boxed{\frac{2}{4}}", "0.5")
    assert answer_check._running == []


def test_the_verifier_is_of_the_copy_that_asks(verifier, monkeypatch):
    """Of an installed package and a checkout beside it, both processes run the same."""
    answer_check._stop()
    given, start = [], subprocess.Popen
    monkeypatch.setattr(
        answer_check.subprocess,
        "Popen",
        lambda *args, env, **more: given.append(env["PYTHONPATH"]) or start(*args, env=env, **more),
    )
    assert judge(r"\boxed{\frac{2}{4}}", "0.5") == RIGHT
    first = Path(given[0].split(os.pathsep)[0])
    assert first / "finetune_geometry" / "problems" == Path(answer_check.__file__).parent


ASK = """
import os, sys, time
from finetune_geometry.problems import answer_check
answer_check.SECONDS = 60.0
answer_check.judge(r"\\boxed{1/2}", "0.5")
print(answer_check._running[0].process.pid, flush=True)
"""


@pytest.mark.parametrize(
    "ends",
    [
        "",  # the script is over
        "raise SystemExit(3)",
        "os._exit(1)",
        "os.kill(os.getpid(), 9)",
        # And is killed meanwhile.
        "print(flush=True); answer_check.judge(r'\\boxed{9^{9^{9}}}', '1')",
    ],
)
def test_the_verifier_ends_with_the_process_that_asks(ends):
    script = subprocess.Popen([sys.executable, "-c", ASK + ends], stdout=subprocess.PIPE, text=True)
    pid = int(script.stdout.readline())
    if "9^" in ends:
        script.stdout.readline()
        time.sleep(0.5)  # the check goes on: it could for a minute
        assert psutil.pid_exists(pid)
        script.kill()
    script.communicate()
    assert gone(pid)


def test_a_forked_process_asks_a_verifier_of_its_own(verifier):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            verdict = judge(r"\boxed{\frac{2}{4}}", "0.5")
            own = answer_check._running[0].process.pid != verifier.pid
            answer_check._stop()
            os.write(write, f"{verdict} {own}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"right True"
    for end in (read, write):
        os.close(end)
    assert verifier.poll() is None
    assert judge(r"\boxed{\frac{1}{3}}", "0.5") == WRONG
    assert answer_check._running[0].process is verifier


def test_modules_of_the_working_folder_do_not_take_the_place_of_libraries(verifier, tmp_path):
    answer_check._stop()
    (tmp_path / "sympy.py").write_text("raise SystemExit('not this one')")
    script = (
        "from finetune_geometry.problems.answer_check import judge\n"
        'print(judge(r"\\boxed{1/2}", "0.5"))'
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout == "right\n"
    assert said.stderr == ""


def test_threads_share_one_verifier(verifier):
    """And a thread that ends takes nothing with it."""
    found = {}

    def ask(n: int) -> None:
        found[n] = judge(rf"\boxed{{\frac{{{n}}}{{4}}}}", "0.5")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: RIGHT if n == 2 else WRONG for n in range(8)}
    assert answer_check._running[0].process is verifier
