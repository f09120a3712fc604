"""The generated problems: solved again from their words alone, split, tokenised, and bounded."""

import functools
import json
import re
from fractions import Fraction

import pytest

from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.models.tiny import build_tokenizer
from finetune_geometry.problems.answer_check import is_correct
from finetune_geometry.problems.generator import SPLITS, Difficulty, generate_problems
from finetune_geometry.problems.phrasings import (
    CONTAINERS,
    DISTRACTORS,
    FRACTIONS,
    NAMES,
    OPENINGS,
    QUESTIONS,
    STEP_KINDS,
    THINGS,
    TIMES,
)
from finetune_geometry.problems.sources import load_problems, read_problem
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile

ALL_NAMES = {name for names in NAMES.values() for name in names}


@pytest.fixture(scope="module")
def many():
    """Enough problems of every split for every phrasing to occur."""
    return {
        split: generate_problems(split, 400, 3, Difficulty(distractors=0.3)) for split in SPLITS
    }


@functools.cache
def pattern(template: str, **known: str) -> re.Pattern[str]:
    """A regular expression for a phrasing; `known` are words that must stand where they belong."""
    words = {
        "n": r"\d+",
        "who": "|".join(sorted(ALL_NAMES)),
        "other": "|".join(sorted(ALL_NAMES)),
        "They": "He|She",
        "they": "he|she",
        "things": "|".join([*THINGS, *CONTAINERS, "dollars"]),
        "new": "|".join([*THINGS, *CONTAINERS, "dollars"]),
        "New": "|".join(thing.capitalize() for thing in THINGS),
        "box": "|".join(CONTAINERS),
        "times": "|".join(TIMES.values()),
        "fraction": "|".join(FRACTIONS.values()),
    } | {key: re.escape(word) for key, word in known.items()}
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{words[name]})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(template)))


def match_of(template: str, sentence: str, **known: str) -> re.Match[str] | None:
    """As `pattern` with the known words; most templates are ruled out by the one without them,
    which need not be compiled for every name."""
    if pattern(template).fullmatch(sentence) is None:
        return None
    return pattern(template, **known).fullmatch(sentence)


def solve(question: str) -> int:
    """The answer of a problem from its words alone, by exact fractions."""
    sentences = re.findall(r"[^.?]*[.?]", question)
    start = next(m for t in OPENINGS if (m := pattern(t).fullmatch(sentences[0])))
    who, things, value = start["who"], start["things"], Fraction(start["n"])
    amounts, people = {who: value}, {who}
    for sentence in (s.strip() for s in sentences[1:-1]):
        outcomes = set()
        for kind, templates in STEP_KINDS.items():
            for template in templates:
                match = match_of(template, sentence, who=who, things=things)
                if not match:
                    continue
                found = match.groupdict()
                words = {w: k for options in (TIMES, FRACTIONS) for k, w in options.items()}
                word = found.get("times") or found.get("fraction")
                number = words[word] if word else found.get("n")
                n, other = Fraction(number or 2), found.get("other")
                new = found.get("new") or (found.get("New") or "").lower() or found.get("box")
                result = {
                    "add": value + n,
                    "subtract": value - n,
                    "multiply": value * n,
                    "half": value / 2,
                    "fraction": value - value / n,
                    "percent_less": value * (1 - n / 100),
                    "percent_more": value * (1 + n / 100),
                    "more_than": value + n,
                    "fewer_than": value - n,
                    "times_as_many": value * n,
                    "part_as_many": value / n,
                    "together": value + amounts.get(other, 0),
                    "share": value / n,
                    "pack": value / n,
                    "unpack": value * n,
                    "sell": value * n,
                    "spend": value / n,
                }[kind]
                compares = kind in ("more_than", "fewer_than", "times_as_many", "part_as_many")
                gained = "dollars" if kind == "sell" else new or things
                outcomes.add((result, other if compares else who, gained))
        if outcomes:
            assert len(outcomes) == 1, (sentence, outcomes)
            before = who
            value, who, gained = outcomes.pop()
            assert who == before or who not in people, f"{who} comes back: {question}"
            people.add(who)
            amounts = {} if gained != things else amounts
            things = gained
            amounts[who] = value
        else:
            assert any(match_of(t, sentence, who=who) for t in DISTRACTORS), sentence
    last = sentences[-1].strip()
    assert any(match_of(t, last, who=who, things=things) for t in QUESTIONS)
    assert value.denominator == 1
    return int(value)


def check_solution(solution: str, answer: str) -> None:
    """Recompute a solution line by line: every equation holds, every line starts from the last."""
    *lines, last = solution.split("\n")
    value = None
    for line in lines:
        for percent, of, part in re.findall(r"(\d+)% of (\d+) is (\d+)", line):
            assert int(percent) * int(of) == 100 * int(part), line
        equations = re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", line)
        assert equations, line
        for left, sign, right, result in equations:
            a, b, c = int(left), int(right), int(result)
            assert {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": a == b * c}[sign], line
            assert value is None or a == value, line
        value = int(equations[-1][3])
    assert last == f"The answer is \\boxed{{{value}}}."
    assert str(value) == answer


def test_there_are_many_kinds_and_phrasings():
    assert len(STEP_KINDS) >= 12
    assert min(map(len, STEP_KINDS.values())) >= 4
    everything = [t for templates in STEP_KINDS.values() for t in templates]
    assert len(set(everything)) == len(everything)


def test_every_phrasing_occurs(many):
    text = "\n".join(p.question for problems in many.values() for p in problems)
    templates = [t for ts in STEP_KINDS.values() for t in ts]
    for template in [*templates, *OPENINGS, *DISTRACTORS, *QUESTIONS]:
        assert pattern(template).search(text), template
    assert "{" not in text


def test_every_answer_follows_from_the_words(many):
    for problem in (p for problems in many.values() for p in problems[:150]):
        assert solve(problem.question) == int(problem.answer), problem


def test_every_solution_holds_line_by_line(many):
    for problem in (p for problems in many.values() for p in problems):
        check_solution(problem.solution, problem.answer)
        assert problem.solution.count("\n") == problem.steps


def test_splits_are_disjoint(many):
    for one in SPLITS:
        for two in SPLITS:
            if one != two:
                for field in ("id", "question", "solution"):
                    texts = {getattr(p, field) for p in many[one]}
                    if field != "solution":  # short sums may be shared; the question is not
                        assert texts.isdisjoint(getattr(p, field) for p in many[two])
    assert len({p.id for problems in many.values() for p in problems}) == 4 * 400
    assert sorted(n for owned in SPLITS.values() for n in owned) == list(range(100))


def test_same_seed_same_problems():
    one = generate_problems("test", 20, 5, Difficulty())
    assert generate_problems("test", 20, 5, Difficulty()) == one
    assert generate_problems("test", 40, 5, Difficulty())[:20] == one
    assert generate_problems("test", 20, 6, Difficulty()) != one


@pytest.mark.parametrize("steps", [(2, 2), (2, 8), (5, 6)])
def test_number_of_steps_is_respected(steps):
    counts = {p.steps for p in generate_problems("train", 150, 0, Difficulty(*steps))}
    assert counts == set(range(steps[0], steps[1] + 1))


@pytest.mark.parametrize("max_value", [20, 60, 500])
def test_number_range_is_respected(max_value):
    values = []
    for problem in generate_problems("train", 150, 0, Difficulty(max_value=max_value)):
        values += [int(v) for v in re.findall(r"=(\d+)", problem.solution)]
        values.append(int(problem.answer))
    assert min(values) > 0
    assert max(values) <= max_value
    assert max(values) > max_value // 2


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_share_of_distractors_is_respected(share):
    problems = generate_problems("train", 200, 0, Difficulty(distractors=share))
    steps = sum(p.steps for p in problems)
    found = sum(
        len(re.findall(r"[.?]", p.question)) - p.steps - 2  # beside opening, steps and question
        for p in problems
    )
    assert found / steps == pytest.approx(share, abs=0.0 if share in (0, 1) else 0.06)


def test_every_text_survives_the_tokenizer(many):
    tokenizer = build_tokenizer()
    unknown = tokenizer.unk_token_id
    for problem in (p for problems in many.values() for p in problems):
        prompt = prompt_ids(tokenizer, problem.question)
        for ids, text in (
            (prompt[:-1], problem.question),
            (tokenizer(problem.solution).input_ids, problem.solution),
        ):
            assert unknown not in ids, text
            assert tokenizer.decode(ids) == text
        assert prompt[-1] == tokenizer.convert_tokens_to_ids("<answer>")


def test_digits_are_single_tokens():
    tokenizer = build_tokenizer()
    digits = tokenizer("0123456789").input_ids
    assert len(digits) == len(set(digits)) == 10
    assert tokenizer("907+13=920").input_ids.count(digits[9]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_steps": 5, "max_steps": 3}, "min_steps"),
        ({"min_steps": 0}, "min_steps"),
        ({"max_value": 4}, "max_value"),
        ({"distractors": 1.5}, "distractors"),
    ],
)
def test_a_difficulty_that_cannot_be_met_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Difficulty(**changes)


def test_asking_for_more_problems_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"only .* of 30 different problems"):
        generate_problems("validation", 30, 0, Difficulty(1, 1, max_value=6, distractors=0.0))


def test_an_unknown_split_is_refused():
    with pytest.raises(UserError, match="unknown split 'dev'"):
        generate_problems("dev", 1, 0, Difficulty())


def test_load_problems_takes_the_profile_s_settings():
    profile = load_profile("smoke", {"problems.max_value": 30, "problems.max_steps": 3})
    problems = load_problems(profile, "test")
    assert len(problems) == profile.problems.test
    assert max(p.steps for p in problems) <= 3
    assert max(int(p.answer) for p in problems) <= 30


def test_rows_of_real_datasets_are_read():
    gsm8k = read_problem({"question": "Q?", "answer": "It is 2 * 3.\n#### 1,206"}, "gsm8k/0")
    assert (gsm8k.answer, gsm8k.solution) == ("1206", "It is 2 * 3.")
    deepscaler = read_problem({"problem": "P?", "answer": "\\frac{1}{2}", "solution": "S"}, "d/1")
    assert (deepscaler.question, deepscaler.answer, deepscaler.solution) == (
        "P?", "\\frac{1}{2}", "S",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"columns \['text'\] are not a problem: x/3"):
        read_problem({"text": "?"}, "x/3")


@pytest.mark.parametrize(
    ("gold", "kept"),
    [("1,234", "1234"), ("-12,345,678", "-12345678"), ("1,23", "1,23"), ("(1,234)", "(1,234)"),
     ("7", "7")],
)  # fmt: skip
def test_gsm8k_s_separators_of_thousands_are_stripped_and_nothing_else(gold, kept):
    assert read_problem({"question": "Q?", "answer": f"So.\n#### {gold}"}, "gsm8k/0").answer == kept


@pytest.mark.parametrize(
    ("gold", "another"),
    [
        *(("(1,2)", "(12)"), ("(1,2)", "(2,1)"), ("[0,1)", "[0,2)"), ("[0,1)", "(0,1)")),
        *(("10{,}000", "10"), (r"10,\!000", "1000"), ("1,234", "1235"), ("1,2", "12")),
        *((r"\{1,2,3\}", r"\{1,2\}"), (r"(-\infty,2]", r"(-\infty,2)")),
        *((r"(-1,0)\cup(1,2)", "(-1,0)"), (r"(0, \frac{1}{2})", "(0,2)")),
    ],
)
def test_a_gold_answer_with_commas_verifies_against_its_own_text(gold, another):
    problem = read_problem({"problem": "P?", "answer": gold, "solution": ""}, "d/0")
    assert problem.answer == gold
    assert is_correct(f"It is \\boxed{{{gold}}}.", problem.answer)
    assert not is_correct(f"It is \\boxed{{{another}}}.", problem.answer)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set of ten problems in a folder, in GSM8K's columns; what it caches lies beside it."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "arrow"))
    made = tmp_path / "problems"
    made.mkdir()
    for split in ("train", "test"):
        rows = [{"question": f"{split} {i}?", "answer": f"#### {i}"} for i in range(10)]
        (made / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(made)


def from_hub(folder: str, rollouts: int, validation: int, seed: int = 0):
    names = {"rollout_dataset": folder, "test_dataset": folder, "source": "hub"}
    counts = {"rollouts": rollouts, "validation": validation, "test": 4, "seed": seed}
    changes = {f"problems.{key}": value for key, value in {**names, **counts}.items()}
    return load_profile("smoke", changes)


def test_real_prompts_for_rollouts_and_validation_are_disjoint(folder):
    profile = from_hub(folder, 6, 4)
    parts = [{p.id for p in load_problems(profile, split)} for split in ("rollouts", "validation")]
    assert [len(part) for part in parts] == [6, 4]
    assert len(parts[0] | parts[1]) == 10
    assert {p.question for p in load_problems(profile, "test")} == {f"test {i}?" for i in range(4)}
    assert load_problems(from_hub(folder, 6, 0), "validation") == []
    assert load_problems(from_hub(folder, 6, 4, seed=1), "rollouts") != load_problems(
        profile, "rollouts"
    )


def test_a_dataset_that_is_too_small_for_disjoint_parts_is_refused(folder):
    for split in ("rollouts", "validation"):
        with pytest.raises(UserError, match=r"11 problems asked for, 10 there: .*problems"):
            load_problems(from_hub(folder, 7, 4), split)


def test_an_exam_may_be_easier_than_the_rollouts_and_shares_no_problem_with_them():
    easy = {
        "problems.test_min_steps": 1,
        "problems.test_max_steps": 2,
        "problems.test_max_value": 40,
        "problems.test": 60,
    }
    profile, plain = load_profile("smoke", easy), load_profile("smoke", {"problems.test": 60})
    test = load_problems(profile, "test")
    assert {problem.steps for problem in test} == {1, 2}
    assert max(int(problem.answer) for problem in test) <= 40
    rollouts = load_problems(profile, "rollouts")
    assert rollouts == load_problems(plain, "rollouts")
    assert not {p.id for p in test} & {p.id for p in rollouts}
    assert min(problem.steps for problem in load_problems(plain, "test")) >= 2
