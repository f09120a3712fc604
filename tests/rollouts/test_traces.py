"""Rollouts from public data sets: what is selected, what is left out, and where verdicts differ."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from fake_hub import FakeHub
from hypothesis import given
from hypothesis import strategies as st
from trace_files import (
    DEEPSCALER,
    GSM8K,
    NUMINA,
    OPENR1,
    WRITERS,
    boxed,
    gsm8k_row,
    openr1_row,
    question,
    write_deepscaler,
    write_gsm8k,
    write_numina,
    write_openr1,
)

from finetune_geometry.cli import main
from finetune_geometry.models.tiny import build_tokenizer
from finetune_geometry.problems.answer_check import RIGHT, UNVERIFIABLE, WRONG, judge
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.rollouts import trace_tables
from finetune_geometry.rollouts.card_table import card_table, shorten
from finetune_geometry.rollouts.pool import CARD, POOL, sample_rollouts
from finetune_geometry.rollouts.sources import open_source
from finetune_geometry.rollouts.trace_readers import READERS, reader
from finetune_geometry.rollouts.traces import DISAGREEMENTS, TraceSource, first_of_each
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.trace_sets import TRACE_SETS, needed_files, trace_set

DATA = os.environ.get("FINETUNE_GEOMETRY_DATA", "")


@pytest.fixture(autouse=True)
def _results(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "set"


def run_of(folder, dataset=NUMINA, prompts=2, heldout=1, k=2, name="traces", **more):
    settings = {
        "rollouts.source": "traces",
        "rollouts.traces.dataset": dataset,
        "rollouts.traces.folder": str(folder),
        "rollouts.prompts": prompts,
        "rollouts.heldout_prompts": heldout,
        "rollouts.k": k,
    }
    return Run.open("smoke", name, settings | {k.replace("__", "."): v for k, v in more.items()})


def pool_of(*args, **settings):
    """The card and the pool of a run."""
    run = run_of(*args, **settings)
    return sample_rollouts(run), run.read_table(POOL)


def groups_of(pool):
    """Texts by question."""
    return pool.groupby("question", sort=False)["text"].apply(list).to_dict()


def both(problem, right=(True, True), before=("One", "Two")):
    """Two responses to a problem, right or wrong."""
    return [
        (problem, boxed(problem if is_right else 999, word), is_right)
        for is_right, word in zip(right, before, strict=True)
    ]


def met(problems, **left_out):
    """What became of the problems of a data set; none but those named was left out."""
    none = dict.fromkeys(("too_few", "several_questions", "unfinished", "no_answer"), 0)
    return {"problems": problems, **none, **left_out}


# ----- The selection


def test_the_first_k_are_taken_before_anybody_looks_at_right_and_wrong(folder):
    """Of four responses the first two are wrong: whoever looked first would have a mixed group."""
    rows = []
    for problem in (1, 2, 3):
        rows += both(problem, (False, False), ("a", "b")) + both(problem, (True, True), ("c", "d"))
    write_numina(folder, rows)
    card, pool = pool_of(folder)
    assert set(pool["verdict"]) == {WRONG}
    assert (card["all_wrong"], card["mixed"], card["all_right"]) == (1, 0, 0)
    assert groups_of(pool)[question(2)] == [boxed(999, "a"), boxed(999, "b")]
    assert pool["sample"].tolist() == [0, 1] * 3


def test_the_data_set_s_verdicts_are_not_even_read_to_select(folder, monkeypatch):
    path = write_numina(folder, [row for n in range(1, 200) for row in both(n)], block=2)
    asked = []
    iter_batches = pa.parquet.ParquetFile.iter_batches

    def watched(self, *args, row_groups, columns):
        asked.append((tuple(columns), row_groups[0]))
        return iter_batches(self, *args, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pa.parquet.ParquetFile, "iter_batches", watched)
    pool_of(folder)
    blocks = pa.parquet.ParquetFile(path).num_row_groups
    assert asked[:blocks] == [(("problem_id",), block) for block in range(blocks)]
    texts = [block for columns, block in asked[blocks:] if "response" in columns]
    assert texts == list(range(len(texts)))  # each once, in order,
    assert len(texts) == 64 + 3  # and none beyond what may be needed: here a row group is a problem


rows_of_problems = st.lists(st.integers(0, 6), max_size=60)


@given(rows_of_problems, st.integers(1, 4))
def test_first_of_each_is_what_a_loop_finds(problems, k):
    met, groups = {}, []
    for row, problem in enumerate(problems):
        met.setdefault(problem, []).append(row)
        if len(met[problem]) == k:
            groups.append(list(met[problem]))
    found, fewer = first_of_each(np.array(problems, dtype=np.int64), k)
    assert found.tolist() == groups
    assert sorted(fewer.tolist()) == sorted(r[0] for r in met.values() if len(r) < k)


def test_responses_may_lie_apart_and_in_several_files(folder, tmp_path):
    """The first answers of all problems, then the second ones: the pool is the same."""
    rows = {n: both(n) for n in (1, 2, 3)}
    write_numina(folder, [row for n in rows for row in rows[n]])
    write_numina(tmp_path / "apart", [rows[n][0] for n in rows])
    write_numina(tmp_path / "apart", [rows[n][1] for n in rows], part=1, block=1)
    (_, together) = pool_of(folder)
    (card, apart) = pool_of(tmp_path / "apart", name="apart", rollouts__traces__files=2)
    assert groups_of(apart) == groups_of(together)
    assert card["files"] == [f"train-0000{part}-of-00088.parquet" for part in (0, 1)]
    with pytest.raises(UserError, match=r"3 prompts asked for, 0 problems.*too_few 3"):
        pool_of(tmp_path / "apart", name="one", rollouts__traces__files=1)


def test_what_was_left_out_is_counted_by_reason_up_to_the_last_that_is_needed(folder):
    test = load_problems(load_profile("smoke"), "test")[0]
    texts = {
        1: [boxed(1), boxed(1)],
        2: [boxed(2)],  # too few
        3: ["x" * 9_000, boxed(3)],  # cut off: no answer, and long enough for the whole budget
        4: [boxed(4), boxed(4)],  # no gold answer
        5: [boxed(5), boxed(5)],  # as problem 1
        6: [boxed(6), boxed(6)],  # of the test set
        7: ["I give up.", boxed(7)],  # short and without an answer: it ended by itself
        8: [boxed(8), boxed(8)],
        9: ["x" * 9_000, boxed(9)],  # comes after the last that is needed
    }
    rows = [(n, text, True) for n in texts for text in texts[n]]
    questions = [question(n) for n, _, _ in rows]
    answers = [str(n) if n != 4 else " " for n, _, _ in rows]
    for row, (n, _, _) in enumerate(rows):
        questions[row] = {5: question(1).upper(), 6: test.question}.get(n, questions[row])
    write_numina(folder, rows, prompt=questions, ground_truth=answers)
    card, pool = pool_of(folder)
    assert list(groups_of(pool)) == [question(n) for n in (1, 7, 8)]
    assert card["selection"] == met(8, too_few=1, unfinished=1, no_answer=1)
    assert card["problems_left_out"] == {"repeated": 1, "in_test": 1}
    assert pool[pool["question"] == question(7)]["verdict"].tolist() == [WRONG, RIGHT]
    assert pool["split"].tolist() == ["train"] * 4 + ["heldout"] * 2
    assert set(pool["finish"]) == {"stop"}
    assert pool["prompt"].tolist()[2] == f"{NUMINA}/{[n for n, _, _ in rows].index(7)}"


@pytest.mark.parametrize("name", [1, None])
def test_responses_to_several_questions_are_no_group(folder, name):
    """A data set that repeats a name, or has none for some of its rows."""
    rows = [*both(1), *both(2), *both(3), *both(4)]
    write_numina(folder, rows, problem_id=[name, 2, 2, name, 3, 3, 4, 4])
    card, pool = pool_of(folder, prompts=1)
    assert groups_of(pool).keys() == {question(3), question(4)}
    assert card["selection"] == met(4, several_questions=2)
    assert card_table(card)["value"]["problems left out, several questions under one name"] == 2


def test_the_validation_is_not_trained_on_either(folder):
    """By it the learning rate is chosen."""
    asked = load_problems(load_profile("smoke"), "validation")[0].question
    questions = [asked, asked, *(question(n) for n in (2, 2, 3, 3, 4, 4))]
    write_numina(folder, [row for n in (1, 2, 3, 4) for row in both(n)], prompt=questions)
    card, pool = pool_of(folder)
    assert asked not in set(pool["question"])
    assert card["problems_left_out"] == {"repeated": 0, "in_test": 1}


def test_more_is_read_until_enough_is_left(folder):
    """What is left out of the first look is made up for by what comes behind."""
    cut = [(n, "x" * 9_000, False) for n in range(1, 101) for _ in range(2)]
    write_numina(folder, cut + [row for n in range(101, 104) for row in both(n)])
    card, pool = pool_of(folder)
    assert list(groups_of(pool)) == [question(n) for n in (101, 102, 103)]
    assert card["selection"]["unfinished"] == 100


def test_too_few_problems_say_why(folder):
    write_numina(folder, [*both(1), (2, boxed(2), True), *[(3, "x" * 9_000, True)] * 2])
    wanted = r"3 prompts asked for, 1 problems at hand: .*repeated 0, in_test 0, too_few 1, "
    wanted += r"unfinished 1\): lower rollouts\.prompts or rollouts\.k, or raise .*traces\.files"
    with pytest.raises(UserError, match=wanted) as raised:
        pool_of(folder)
    assert "\n" not in str(raised.value)


def test_one_response_a_problem(folder):
    write_numina(folder, [row for n in (1, 2, 3) for row in both(n, (n != 2, True))])
    card, pool = pool_of(folder, k=1)
    assert pool["reward"].tolist() == [1, 0, 1]
    assert (card["mixed"], card["all_right"], card["all_wrong"]) == (0, 1 / 2, 1 / 2)


def test_other_scripts_are_read_as_they_are(folder):
    text = "Ответ 😀 数学: \\boxed{½}"
    rows = [(n, text, True) for n in (1, 2, 3) for _ in range(2)]
    asked = [f"Сколько будет {n}? 好的 <|im_end|>" for n, _, _ in rows]
    write_numina(folder, rows, prompt=asked, ground_truth=["\\frac{1}{2}"] * 6)
    _, pool = pool_of(folder, model__max_length=4096)
    assert pool["text"].tolist() == [text] * 6
    assert pool["question"].tolist() == asked


# ----- The data sets


def test_deepscaler_s_file_of_responses(folder):
    """Commas, quotes and lines in a cell; answers that are numbers first, and LaTeX later."""
    answers = {1: "12", 2: "\\frac{1}{2}", 3: "10{,}000", 4: "[0,1)"}
    texts = {n: [f'Say "{n}",\nthen: {boxed(answers[n])}', boxed("7")] for n in answers}
    rows = [
        {"problem": question(n), "ground_truth": answers[n], "response": text, "solved": "50.0"}
        for n in answers
        for text in texts[n]
    ]
    write_deepscaler(folder, rows)
    card, pool = pool_of(folder, DEEPSCALER, prompts=3)
    assert groups_of(pool) == {question(n): texts[n] for n in answers}
    assert pool["answer"].tolist() == [answers[n] for n in answers for _ in range(2)]
    assert pool["verdict"].tolist() == [RIGHT, WRONG] * 4
    assert set(pool["source"]) == {f"{DEEPSCALER}: Qwen/Qwen2.5-Math-7B"}
    assert card["temperature"] == 0.6
    assert card["disagreement"]["judged"] == 0  # no verdicts there


def test_answers_in_a_csv_file_are_text_though_all_look_like_numbers(folder):
    answers = ["1.50", "007", "2e3"]
    rows = [
        {"problem": question(n), "ground_truth": answer, "response": "1.0"}
        for n, answer in enumerate(answers)
    ]
    write_deepscaler(folder, rows)
    _, pool = pool_of(folder, DEEPSCALER, k=1)
    assert pool["answer"].tolist() == answers
    assert set(pool["text"]) == {"1.0"}


def test_a_cell_of_many_lines_may_lie_across_blocks(folder, monkeypatch):
    monkeypatch.setattr(trace_tables, "BLOCK", 4096)
    texts = [f"{n}\n" + f'line, "{n}"\n' * 50 for n in range(40)]
    row = {"problem": "a", "ground_truth": "1"}
    path = write_deepscaler(folder, [row | {"response": text} for text in texts])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as a spreadsheet begins a file
    assert [row["problem"] for row in trace_tables.rows(path, ["problem"])] == ["a"] * 40
    assert [row["response"] for row in trace_tables.rows(path, ["response"])] == texts


@pytest.mark.parametrize(("written", "said"), [("True", 6), ("0", 6), ("maybe", 0)])
def test_verdicts_in_a_csv_file(folder, written, said):
    row = {"ground_truth": "1", "response": boxed(1), "correct": written}
    write_deepscaler(folder, [{"problem": question(n), **row} for n in (1, 2, 3) for _ in range(2)])
    card, _ = pool_of(folder, DEEPSCALER)
    assert card["disagreement"]["judged"] == said
    assert card["disagreement"]["right_here_only"] == (6 if written == "0" else 0)


def test_of_openr1_the_solution_behind_the_thinking_is_kept(folder):
    thought = "<think>\nIt may be \\boxed{5}.\n</think>\n\n**Solution.** It is \\boxed{%d}."
    unwrapped = "**Solution.** It is \\boxed{%d}."
    third = {"finish_reasons": ["stop", "stop", "length"]}  # not among the first two
    rows = [openr1_row(n, [thought % n, unwrapped % (n + 1), "cut"], **third) for n in (1, 2)]
    cut = [
        openr1_row(3, [thought % 3] * 2, finish_reasons=["stop", "length"]),
        openr1_row(4, ["<think>\nIt may be \\boxed{4}.", thought % 4]),
        openr1_row(5, [thought % 5, "<think>all\n</think>\n "]),
        openr1_row(6, [thought % 6] * 2, finish_reasons=None, is_reasoning_complete=[True, False]),
    ]
    few = openr1_row(7, [thought % 7])
    last = openr1_row(8, [thought % 8] * 2, finish_reasons=None, correctness_math_verify=None)
    write_openr1(folder, [*rows, *cut, few, last])
    card, pool = pool_of(folder, OPENR1)
    assert groups_of(pool) == {
        question(1): [unwrapped % 1, unwrapped % 2],
        question(2): [unwrapped % 2, unwrapped % 3],
        question(8): [unwrapped % 8] * 2,
    }
    assert pool["verdict"].tolist() == [RIGHT, WRONG] * 2 + [RIGHT] * 2
    assert card["selection"] == met(8, too_few=1, unfinished=4)
    assert card["disagreement"]["judged"] == 4
    assert card["revision"] == ""  # of files in a folder nobody knows it
    assert set(pool["source"]) == {f"{OPENR1}: deepseek-ai/DeepSeek-R1"}


@pytest.mark.parametrize("zipped", [True, False])
def test_gsm8k_s_solutions_of_four_models(folder, zipped):
    plain = "He has 2*3=<<2*3=6>>6 eggs.\nSo 6-4=$<<6-4=2.0>>2 are left\nA: 2"
    read = "He has 2*3=6 eggs.\nSo 6-4=$2 are left\nThe answer is \\boxed{2}."
    rows = [
        gsm8k_row(2, [plain, "A: 3", "No.\nA: 2,000", "A: 2.0\n"], [True, False, False, True]),
        gsm8k_row(9, [plain, "He has 333333", plain, plain], [False] * 4),  # one was cut off
        gsm8k_row(3, [plain] * 4, [False] * 4),
        gsm8k_row(4, [plain] * 4, [False] * 4),
    ]
    write_gsm8k(folder, rows, zipped)
    card, pool = pool_of(folder, GSM8K, k=4)
    assert groups_of(pool)[question(2)] == [
        read,
        "The answer is \\boxed{3}.",
        "No.\nThe answer is \\boxed{2,000}.",
        "The answer is \\boxed{2.0}.",
    ]
    assert pool["verdict"].tolist()[:4] == [RIGHT, WRONG, WRONG, RIGHT]
    assert pool["source"].tolist()[:4] == [f"{GSM8K}: {name}" for name in WRITERS]
    assert card["selection"] == met(4, unfinished=1)
    assert card["teacher"] == "175b_finetuning, 175b_verification, 6b_finetuning, 6b_verification"
    disagreement = {"judged": 12, "right_there_only": 0, "right_here_only": 0, "undecided_here": 0}
    assert card["disagreement"] == disagreement
    assert open_source(run_of(folder, GSM8K, k=4)).problems()[0].answer == "2"


def test_a_gold_answer_loses_the_commas_of_its_thousands(folder):
    rows = [gsm8k_row(n, ["A: 12000"] * 4, [True] * 4) for n in (1, 2, 3)]
    for row in rows:
        row["ground_truth"] = "12*1000=<<12*1000=12000>>12,000\nA: 12,000"
    write_gsm8k(folder, rows)
    _, pool = pool_of(folder, GSM8K, k=4)
    assert set(pool["answer"]) == {"12000"}
    assert set(pool["verdict"]) == {RIGHT}


@pytest.mark.parametrize(("dataset", "budget"), [(NUMINA, 8_192), (DEEPSCALER, 4_096)])
def test_a_response_without_an_answer_that_may_have_spent_its_tokens_was_cut_off(dataset, budget):
    row = {"prompt": "a", "problem": "a", "ground_truth": "1", "correct": False}

    def ended(text):
        return [trace.finished for trace in reader(dataset).traces({**row, "response": text})]

    assert ended("x" * (budget - 1)) == [True]
    assert ended("x" * budget) == [False]
    assert ended("x" * budget + boxed(1)) == [True]
    assert ended("x" * budget + "\\boxed{1") == [False]


# ----- The card and the table


def test_where_verdicts_differ_is_counted_by_direction_and_listed(folder, monkeypatch):
    """The data set says right of 1, wrong of 2 and 3; ours are wrong, right, undecided."""
    rows = [
        *[(1, boxed(999), True), (1, boxed(1), True)],
        *[(2, boxed(2), False), (2, boxed(8), False)],
        *[(3, boxed("hard"), False), (3, boxed(3), True)],
    ]

    def undecided(text, answer):
        return UNVERIFIABLE if "hard" in text else judge(text, answer)

    monkeypatch.setattr("finetune_geometry.problems.answer_check.judge", undecided)
    write_numina(folder, rows)
    run = run_of(folder)
    card = sample_rollouts(run)
    disagreement = {"judged": 6, "right_there_only": 1, "right_here_only": 1, "undecided_here": 1}
    assert card["disagreement"] == disagreement
    table = run.read_table(DISAGREEMENTS)
    assert table["data_set"].tolist() == [RIGHT, WRONG, WRONG]
    assert table["verdict"].tolist() == [WRONG, RIGHT, UNVERIFIABLE]
    assert table["found"].tolist() == ["999", "2", "hard"]
    assert table["answer"].tolist() == ["1", "2", "3"]
    assert table["text"].tolist() == [boxed(999), boxed(2), boxed("hard")]
    assert table["split"].tolist() == ["train", "train", "heldout"]


def test_the_card_says_where_the_pool_comes_from(folder):
    write_numina(folder, [row for n in (1, 2, 3) for row in both(n)])
    run = run_of(folder)
    card = sample_rollouts(run)
    assert run.read_json(CARD) == card
    assert card["data_set"] == NUMINA
    assert card["source"] == "traces"
    assert card["licence"] == "MIT"
    assert card["teacher"] == "Qwen/QwQ-32B-Preview"
    assert card["temperature"] is None  # nobody states it
    assert card["revision"] == ""  # a folder has none
    assert card["text"] == "the response as it is"


def test_a_second_start_takes_the_shards_and_another_text_does_not(folder, tmp_path, monkeypatch):
    rows = [row for n in (1, 2, 3) for row in both(n)]
    write_numina(folder, rows)
    card, pool = pool_of(folder)
    sampled = []
    sample = TraceSource.sample
    monkeypatch.setattr(
        TraceSource, "sample", lambda self, *args: sampled.append(1) or sample(self, *args)
    )
    again, _ = pool_of(folder)
    write_numina(tmp_path / "moved", rows, block=5)
    moved, _ = pool_of(tmp_path / "moved")
    assert not sampled
    assert again["pool_sha256"] == moved["pool_sha256"] == card["pool_sha256"]
    rows[0] = (1, boxed(1, "Another"), True)
    write_numina(folder, rows)
    _, other = pool_of(folder)
    assert sampled == [1]
    assert other["text"].tolist() == [boxed(1, "Another"), *pool["text"].tolist()[1:]]


def test_the_key_is_of_what_was_selected(folder, tmp_path):
    rows = [row for n in (1, 2, 3) for row in both(n)]

    def key(place, rows, shard=4, name="key", **changes):
        columns = {column: changes.pop(column) for column in ("ground_truth",) if column in changes}
        write_numina(place, rows, **columns)
        source = TraceSource(run_of(place, name=name, **changes))
        return source.key(source.problems(), shard)

    one = key(folder, rows)
    assert one == key(tmp_path / "elsewhere", [*rows, *both(4)])  # what is behind was not met
    others = {
        key(folder, rows, shard=5),
        key(folder, rows, k=1),
        key(folder, rows, prompts=1),
        key(folder, rows[::-1]),
        key(folder, rows, ground_truth=["5"] * 6),
    }
    assert len(others | {one}) == 6


# ----- Files


@pytest.mark.parametrize("k", [2, 5])
def test_which_files_are_needed_is_known_beforehand(k):
    def files(dataset, prompts, **more):
        settings = {"rollouts.traces.dataset": dataset, "rollouts.prompts": prompts}
        more = {"rollouts.k": k, "rollouts.heldout_prompts": 0, **more}
        return needed_files(load_profile("smoke", settings | more))

    def parts(*numbers):
        return tuple(f"data/train-{n:05d}-of-*.parquet" for n in numbers)

    if k == 2:
        assert files(NUMINA, 1) == files(NUMINA, 4_000) == parts(0)
        assert files(NUMINA, 4_001) == parts(0, 1)
        assert files(NUMINA, 3_999, **{"rollouts.heldout_prompts": 2}) == parts(0, 1)
        assert len(files(NUMINA, 10**7)) == 88
        assert files(OPENR1, 6_001) == parts(0, 1)
    else:  # more than most problems have
        assert len(files(NUMINA, 1)) == 88
        assert len(files(OPENR1, 1)) == 10
        assert files(NUMINA, 1, **{"rollouts.traces.files": 3}) == parts(0, 1, 2)
    assert files(DEEPSCALER, 40_000) == ("Qwen2.5-Math-7B--deepscaler.csv",)
    with pytest.raises(UserError, match=r"rollouts\.traces\.files = 0: .*at least 1"):
        files(NUMINA, 1, **{"rollouts.traces.files": 0})


def test_a_data_set_that_is_on_no_hub_needs_a_folder():
    with pytest.raises(UserError, match=r"not on the hub: .*: set rollouts\.traces\.folder"):
        open_source(run_of("", GSM8K)).problems()


def test_an_unknown_data_set_is_told_the_known_ones(folder):
    with pytest.raises(UserError, match=r"unknown data set 'x/y'") as raised:
        open_source(run_of(folder, "x/y"))
    assert all(name in str(raised.value) for name in TRACE_SETS)


def test_every_data_set_has_its_licence_and_a_reader():
    assert READERS.keys() == TRACE_SETS.keys()
    licences = {name: trace_set(name).licence for name in TRACE_SETS}
    assert licences == {NUMINA: "MIT", DEEPSCALER: "MIT", OPENR1: "Apache-2.0", GSM8K: "MIT"}


def test_an_empty_folder_is_named(folder):
    folder.mkdir()
    with pytest.raises(UserError, match=r"no file data/train-00000-of-\*\.parquet: .*set: put"):
        pool_of(folder)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_missing_column_is_named_with_those_that_are_there(folder, kind):
    if kind == "parquet":
        path, dataset = write_numina(folder, both(1)), NUMINA
        table = pa.parquet.read_table(path).rename_columns(
            ["prompt", "answer", "problem_id", "ground_truth", "correct"]
        )
        pa.parquet.write_table(table, path)
    elif kind == "csv":
        row = {"problem": "a", "ground_truth": "1", "answer": "b"}
        path, dataset = write_deepscaler(folder, [row] * 2), DEEPSCALER
    else:
        row = gsm8k_row(1, [""] * 4, [True] * 4)
        del row["175b_finetuning"]
        path, dataset = write_gsm8k(folder, [row]), GSM8K
    missing = "175b_finetuning" if kind == "jsonl" else "response"
    wanted = rf"no column {missing}: .*{path.name}: it has .*\w; .*rollouts\.traces\.revision"
    with pytest.raises(UserError, match=wanted) as raised:
        pool_of(folder, dataset, prompts=1, heldout=0)
    assert "\n" not in str(raised.value)
    assert kind == "jsonl" or "answer" in str(raised.value)


@pytest.mark.parametrize(
    ("dataset", "fault"),
    [
        *itertools.product((NUMINA, DEEPSCALER, OPENR1, GSM8K), ("cut", "text", "list")),
        *[(OPENR1, "row"), (GSM8K, "row")],  # those that hold more than text
        (GSM8K, "inside"),
    ],
)
def test_a_broken_file_is_one_line(folder, dataset, fault):
    if dataset == NUMINA:
        path = write_numina(folder, both(1), ground_truth=[1, 2])
    elif dataset == OPENR1:
        row = openr1_row(1, ["a", "b"], finish_reasons=["stop"] if fault == "row" else None)
        path = write_openr1(folder, [row])
    elif dataset == GSM8K:
        row = gsm8k_row(1, ["x" * 300] * 4, [True] * 4)
        path = write_gsm8k(folder, [row | ({"6b_finetuning": None} if fault == "row" else {})])
    else:
        row = {"problem": "a", "ground_truth": "1", "response": "b"}
        path = write_deepscaler(folder, [row] * 2)
    if fault == "cut":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + (b'"' if dataset == DEEPSCALER else b""))
    elif fault == "inside":  # of a compressed file
        content = bytearray(path.read_bytes())
        content[20:60] = b"\xff" * 40
        path.write_bytes(content)
    elif fault == "text":
        path.write_bytes(b"\xff\xfe{")
    elif fault == "list":
        path.write_bytes(b"[1]\n")
    with pytest.raises(UserError) as raised:
        pool_of(folder, dataset, prompts=1, heldout=0)
    said = str(raised.value)
    assert "\n" not in said
    assert str(path) in said
    assert ("row 1 is not one of" in said) == (fault == "row")


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1),
    data=st.data(),
)
def test_any_rows_of_a_file_come_in_their_order(tmp_path_factory, kind, texts, data):
    chosen = data.draw(st.sets(st.integers(0, len(texts) - 1)))
    folder = tmp_path_factory.mktemp("rows")
    if kind == "parquet":
        path = folder / "a.parquet"
        pa.parquet.write_table(pa.table({"a": texts, "b": texts}), path, row_group_size=3)
    elif kind == "csv":
        rows = [{"a": f"x{text}\n", "b": "1"} for text in texts]
        path = write_deepscaler(folder, rows)
        texts = [row["a"] for row in rows]
    else:
        path = folder / "a.jsonl"
        path.write_text("".join(json.dumps({"a": text}) + "\n" for text in texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_tables, "ROWS", 2)
        patch.setattr(trace_tables, "BLOCK", 1 << 14)
        found = list(trace_tables.rows(path, ["a"], ["c"]))
        some = list(trace_tables.rows(path, ["a"], (), np.array(sorted(chosen), dtype=np.int64)))
    assert found == [{"a": text} for text in texts]
    assert some == [{"a": texts[row]} for row in sorted(chosen)]


# ----- From the hub


def test_of_a_large_data_set_the_files_that_suffice_are_fetched(folder, tmp_path, monkeypatch):
    """Prefetched at the newest commit, of which the run makes a note, and read without the hub."""
    for part in range(3):
        write_numina(folder, [row for n in range(4) for row in both(1 + n + 4 * part)], part)
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*.parquet")}
    settings = {"rollouts__traces__files": 2, "prompts": 4, "heldout": 2}
    with FakeHub(tmp_path / "hub") as hub:
        hub.put_in_place(monkeypatch, tmp_path / "cache")
        commit = hub.add(NUMINA, files, "dataset")
        with pytest.raises(UserError, match=r"no commit is fixed: .*finetune-geometry prefetch"):
            pool_of("", **settings)
        changes = (
            f"rollouts.source=traces rollouts.traces.dataset={NUMINA} rollouts.traces.files=2 "
            "rollouts.k=2 rollouts.prompts=4 rollouts.heldout_prompts=2"
        )
        command = ["prefetch", "--profile", "smoke", "--run", "traces", "--set", changes]
        assert main(command) == 0
        asked = " ".join(hub.requests)
        assert "train-00000-of" in asked
        assert "train-00001-of" in asked
        assert "train-00002-of" not in asked
    card, pool = pool_of("", **settings)  # the hub is gone
    assert card["revision"] == commit
    assert card["files"] == ["train-00000-of-00088.parquet", "train-00001-of-00088.parquet"]
    assert list(groups_of(pool)) == [question(n) for n in range(1, 7)]
    with pytest.raises(UserError, match=r"not fetched: Prime.*finetune-geometry prefetch"):
        pool_of("", **settings | {"rollouts__traces__files": 3})


# ----- What a person reads


def test_the_table_of_a_card(folder):
    rows = [row for n in (1, 2, 3) for row in both(n, (True, n != 2))]
    write_numina(folder, [(9, boxed(9), True), *rows])
    card, _ = pool_of(folder)
    table = card_table(card)["value"]
    assert table["rollouts to train on"] == "4"
    assert table["held-out rollouts, never trained on"] == "2"
    assert table["share of right rollouts"] == "75.0%"
    assert table["mixed groups"] == "50.0%"
    assert table["problems met in the data set"] == "4"
    assert table["problems left out, fewer than K responses"] == 1
    assert table["rollouts that the data set judges, too"] == "6"
    assert table["its commit"] == "files of a folder"
    assert table["written by"] == "Qwen/QwQ-32B-Preview"
    four = card_table(card | {"teacher": "a, b, c, d"})["value"]
    assert four["written by"] == "a, b and others"
    assert all(len(str(value)) <= 50 for value in table)  # or pandas cuts it short
    plain = card_table({key: value for key, value in card.items() if key != "selection"})["value"]
    assert set(table.index) - set(plain.index) == set(table.index[16:-1])
    assert plain["pool (SHA-256)"] == table["pool (SHA-256)"] == card["pool_sha256"][:16]


def test_a_long_rollout_is_shortened_in_its_middle():
    assert shorten("x" * 3000) == "x" * 3000
    assert shorten("abcdefghij", 6) == "abcd\n[... 4 characters ...]\nij"
    assert shorten("abcdefghi" * 1000, 9).startswith("abcdef\n[... 8,991 characters")


@pytest.mark.skipif(not DATA, reason="FINETUNE_GEOMETRY_DATA names no folder with GSM8K")
def test_the_real_solutions_of_gsm8k(monkeypatch):
    """Shares as counted by the data set's own verdicts, with which the verifier agrees."""
    monkeypatch.setattr("finetune_geometry.rollouts.pool.load_tokenizer", lambda profile: plain)
    plain = build_tokenizer()
    folder = Path(DATA) / "gsm8k"
    size = {"prompts": 1299, "heldout": 10, "model__max_length": 4096}
    card, pool = pool_of(folder, GSM8K, k=4, **size)
    assert card["selection"] == met(1319, unfinished=10)
    assert card["disagreement"]["judged"] == len(pool) == 4 * 1309
    assert [n for key, n in card["disagreement"].items() if key != "judged"] == [0, 0, 0]
    shares = [card[key] for key in ("all_right", "mixed", "all_wrong", "mean_reward")]
    assert shares == pytest.approx([0.12, 0.55, 0.33, 0.38], abs=0.01)
