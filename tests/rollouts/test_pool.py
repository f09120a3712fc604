"""The pool of rollouts: groups, rewards, splits, its card, and going on after a kill."""

import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.evaluation import answers
from finetune_geometry.evaluation.answers import predict
from finetune_geometry.models.tiny import build_tokenizer
from finetune_geometry.problems.answer_check import RIGHT, TOO_LONG, UNVERIFIABLE, WRONG, is_correct
from finetune_geometry.problems.answer_check import judge as judge_plainly
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.rollouts import pool as rollouts
from finetune_geometry.rollouts import teacher as sampling
from finetune_geometry.rollouts.pool import describe, load_rollouts, sample_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError

SETTINGS = {
    "problems.rollouts": 14,
    "rollouts.prompts": 10,
    "rollouts.heldout_prompts": 4,
    "rollouts.k": 3,
}


class Teacher:
    """Stands in for the sampled model: right at some rollouts, and it counts what it is asked."""

    generation_config = SimpleNamespace(eos_token_id=[build_tokenizer().eos_token_id])

    def __init__(self, run: Run) -> None:
        self.tokenizer = build_tokenizer()
        self.solutions = {p.question: p.solution for p in load_problems(run.profile, "rollouts")}
        self.prompts, self.loaded = 0, 0

    def load(self, profile, role):
        self.loaded += 1
        assert role == "teacher"
        assert profile.rollouts.k == SETTINGS["rollouts.k"]
        return self, self.tokenizer

    def generate(self, model, tokenizer, prompts, *, seed, **settings):
        assert (model, tokenizer) == (self, self.tokenizer)
        self.prompts += len(prompts)
        completions = []
        for number, prompt in enumerate(prompts):
            solution = self.solutions[self.tokenizer.decode(prompt[:-1])]
            group, sample = number // 3 + seed, number % 3
            wrong = (group % 4 == 1 and sample == 0) or group % 4 == 2
            text = solution.replace("boxed{", "boxed{9") if wrong else solution
            completions.append([*self.tokenizer(text).input_ids, self.tokenizer.eos_token_id])
        return completions


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    return Run.open("smoke", "pool", SETTINGS | {"rollouts.seed": 0})


@pytest.fixture
def teacher(run, monkeypatch):
    teacher = Teacher(run)
    monkeypatch.setattr(sampling, "load_model", teacher.load)
    monkeypatch.setattr(sampling, "complete", teacher.generate)
    monkeypatch.setattr(rollouts, "SHARD_PROMPTS", 4)
    return teacher


def test_the_pool_holds_groups_of_k_verified_rollouts(run, teacher):
    card = sample_rollouts(run)
    pool = pd.concat([load_rollouts(run), load_rollouts(run, "heldout")], ignore_index=True)
    assert len(pool) == 14 * 3
    assert pool.groupby("group")["prompt"].nunique().eq(1).all()
    assert pool.groupby("group")["sample"].apply(list).map(lambda s: s == [0, 1, 2]).all()
    for row in pool.itertuples():
        assert row.reward == float(is_correct(row.text, row.answer))
        assert teacher.tokenizer.decode(row.completion_ids, skip_special_tokens=True) == row.text
        assert row.completion_ids[-1] == teacher.tokenizer.eos_token_id
        assert teacher.tokenizer.decode(row.prompt_ids[:-1]) == row.question
    columns = "prompt question group sample split steps text finish source answer reward verdict"
    kept = run.read_table(rollouts.POOL)
    assert list(kept) == columns.split()  # text alone: whoever reads it has a tokenizer
    assert list(load_rollouts(run)) == [*columns.split(), "prompt_ids", "completion_ids"]
    assert set(kept["finish"]) == {"stop"}
    assert set(kept["source"]) == {run.profile.model.teacher}
    steps = {problem.id: problem.steps for problem in load_problems(run.profile, "rollouts")}
    assert pool["steps"].tolist() == pool["prompt"].map(steps).tolist()
    assert card["k"] == 3
    assert card["temperature"] == run.profile.rollouts.temperature
    assert card["teacher"] == run.profile.model.teacher
    assert 0 < card["seconds"] < 60


def test_sampling_says_how_far_it_is(run, teacher, capsys):
    load_rollouts(run)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "this run has no rollouts yet: sampling them first"
    done = [line.split(", ")[0] for line in said[1:]]
    assert done == [f"{n} of 14 prompts sampled" for n in (4, 8, 12, 14)]
    sample_rollouts(run)
    assert capsys.readouterr().out == ""


def test_shards_of_another_size_are_others(run, teacher, monkeypatch):
    """Each shard has a seed of its own, so another size draws other rollouts."""
    sample_rollouts(run)
    teacher.prompts = 0
    monkeypatch.setattr(rollouts, "SHARD_PROMPTS", 8)
    sample_rollouts(run)
    assert teacher.prompts == 14 * 3


def test_the_teacher_is_sampled_as_the_settings_say(run, teacher, monkeypatch):
    settings = {"temperature": 0.7, "max_new_tokens": 77, "batch_size": 5, "seed": 100}
    changes = {f"rollouts.{key}": value for key, value in settings.items()}
    asked = []

    def generate(model, tokenizer, prompts, **given):
        asked.append((len(prompts), given))
        return [[*tokenizer("7").input_ids, tokenizer.eos_token_id]] * len(prompts)

    monkeypatch.setattr(sampling, "complete", generate)
    sample_rollouts(Run.open("smoke", "pool", SETTINGS | changes))
    shards = [(4, 100), (4, 104), (4, 108), (2, 112)]  # prompts, and a seed for each shard
    assert asked == [(3 * n, settings | {"seed": seed}) for n, seed in shards]


def test_held_out_prompts_are_never_trained_on(run, teacher):
    sample_rollouts(run)
    train, heldout = load_rollouts(run), load_rollouts(run, "heldout")
    assert (train["group"].nunique(), heldout["group"].nunique()) == (10, 4)
    assert set(train["prompt"]).isdisjoint(heldout["prompt"])
    assert set(train["question"]).isdisjoint(heldout["question"])
    assert len(train) + len(heldout) == 14 * 3


def test_the_card_counts_the_groups_of_the_training_split(run, teacher):
    card = sample_rollouts(run)
    means = load_rollouts(run).groupby("group")["reward"].mean().to_numpy()
    assert card["all_right"] == np.mean(means == 1)
    assert card["all_wrong"] == np.mean(means == 0)
    assert card["mixed"] == pytest.approx(1 - card["all_right"] - card["all_wrong"])
    assert 0 < card["mixed"] < 1
    assert card["pairs"] == round(10 * card["mixed"])
    assert (card["rows"], card["groups"], card["heldout_rows"]) == (30, 10, 12)
    assert run.read_json(rollouts.CARD) == card


def test_the_card_by_hand():
    from toy import REWARDS, toy_pool

    card = describe(toy_pool())
    assert card["rows"] == 4 * len(REWARDS)
    assert card["all_right"] == 2 / 6
    assert card["mixed"] == 3 / 6
    assert card["all_wrong"] == 1 / 6
    assert card["pairs"] == 3
    assert card["mean_reward"] == sum(map(sum, REWARDS)) / 24
    pool = toy_pool()
    lengths = [len(ids) for ids in pool.loc[pool["split"] == "train", "completion_ids"]]
    assert card["mean_tokens"] == pytest.approx(sum(lengths) / 24)
    assert card["max_tokens"] == max(lengths)


def test_checks_that_were_given_up_earn_nothing_and_are_counted_apart(run, teacher, monkeypatch):
    def judge(text, answer):
        if "boxed{9" in text:  # how the teacher errs
            return UNVERIFIABLE
        return judge_plainly(text, answer)

    plain = sample_rollouts(run)
    rewards = run.read_table(rollouts.POOL)["reward"]
    shutil.rmtree(run.dir / "rollouts")
    monkeypatch.setattr("finetune_geometry.problems.answer_check.judge", judge)
    card = sample_rollouts(run)
    pool = run.read_table(rollouts.POOL)
    given_up = pool["text"].str.contains("boxed{9", regex=False)
    assert (pool["verdict"] == UNVERIFIABLE).equals(given_up)
    assert pool["reward"].equals(rewards)
    assert card["unverifiable"] == given_up[pool["split"] == "train"].sum() > 0
    assert plain["unverifiable"] == 0
    assert given_up.sum() > card["unverifiable"]  # held-out ones are not the card's


def test_a_rollout_that_was_cut_off_has_no_end_of_turn_and_is_too_long(run, teacher, monkeypatch):
    eos = teacher.tokenizer.eos_token_id
    cut_solution = []

    def generate(model, tokenizer, prompts, **settings):
        whole = teacher.generate(model, tokenizer, prompts, **settings)
        for n, ids in enumerate(whole):
            if n % 3 == 2:  # the last of a group: without its answer
                whole[n] = ids[:-6]
            elif n % 3 == 1:  # the second: all but its end
                whole[n] = ids[:-1]
        cut_solution.extend(whole)
        return whole

    monkeypatch.setattr(sampling, "complete", generate)
    card = sample_rollouts(run)
    pool = pd.concat([load_rollouts(run), load_rollouts(run, "heldout")], ignore_index=True)
    assert pool["completion_ids"].tolist() == cut_solution
    assert pool["finish"].tolist() == ["stop", "length", "length"] * 14
    assert [ids[-1] == eos for ids in pool["completion_ids"]] == [True, False, False] * 14
    assert set(pool.loc[pool["sample"] == 2, "verdict"]) == {TOO_LONG}
    # One that came to its answer is judged by it.
    answered = pool[pool["sample"] == 1]
    right = [is_correct(row.text, row.answer) for row in answered.itertuples()]
    assert 0 < sum(right) < len(right)
    assert answered["verdict"].tolist() == [RIGHT if is_right else TOO_LONG for is_right in right]
    train = pool[pool["split"] == "train"]
    assert card["unfinished"] == 20
    assert card["too_long"] == (train["verdict"] == TOO_LONG).sum()


def test_a_group_that_does_not_fit_into_the_context_is_left_out_whole(run, teacher):
    whole = sample_rollouts(run)
    rows = load_rollouts(run)
    length = rows["prompt_ids"].map(len) + rows["completion_ids"].map(len)
    longest = length.groupby(rows["group"]).max()
    limit = int(longest.sort_values().iloc[-2])  # the longest group does not fit
    # A wrong rollout has one token more than the right ones of its group: those would fit.
    small = Run.open("smoke", "small", SETTINGS | {"rollouts.seed": 0, "model.max_length": limit})
    card = sample_rollouts(small)
    kept = load_rollouts(small)
    assert set(kept["group"]) == set(longest[longest <= limit].index)
    assert kept.groupby("group").size().eq(3).all()
    heldout = small.read_table(rollouts.POOL).query("split == 'heldout'")["group"].nunique()
    assert card["groups_left_out"] == 14 - kept["group"].nunique() - heldout > 0
    assert whole["groups_left_out"] == 0
    assert card["groups"] == kept["group"].nunique()
    none = Run.open("smoke", "none", SETTINGS | {"rollouts.seed": 0, "model.max_length": 9})
    with pytest.raises(UserError, match=r"no group fits into 9 tokens: rollouts: raise model\.max"):
        sample_rollouts(none)


def test_duplicates_within_a_group_are_counted():
    from toy import toy_pool

    pool = toy_pool([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]])
    pool.loc[pool["split"] == "train", "text"] = [*"aaaa", *"aaba", *"abcd"]
    plain = describe(pool)
    pool.loc[pool["group"] == 1, "text"] = [*"bbbb"]
    card = describe(pool)
    assert card["repeated"] == 6 / 12  # three of aaaa, three of bbbb: the first of each is new
    assert (plain["repeated"], plain["identical"]) == (5 / 12, 1 / 3)
    assert card["identical"] == 2 / 3
    other = describe(pool.assign(text=[*"abcd", *"abcd", *"abcd", *"xx"]))  # not across groups
    assert (other["repeated"], other["identical"]) == (0, 0)  # nor of held-out ones


def test_a_killed_sampling_goes_on_where_it_was(run, teacher, monkeypatch, tmp_path):
    whole = sample_rollouts(Run.open("smoke", "whole", SETTINGS | {"rollouts.seed": 0}))
    assert teacher.prompts == 14 * 3
    teacher.prompts, teacher.loaded = 0, 0

    def dies(*args, seed, **settings):
        if seed == 8:
            raise KeyboardInterrupt
        return teacher.generate(*args, seed=seed, **settings)

    monkeypatch.setattr(sampling, "complete", dies)
    with pytest.raises(KeyboardInterrupt):
        sample_rollouts(run)
    assert teacher.prompts == 8 * 3  # two shards of four prompts
    assert not (run.dir / rollouts.POOL).exists()
    monkeypatch.setattr(sampling, "complete", teacher.generate)
    card = sample_rollouts(run)
    assert teacher.prompts == 14 * 3
    assert card["pool_sha256"] == whole["pool_sha256"]


def test_a_finished_pool_asks_the_model_for_nothing(run, teacher):
    first = sample_rollouts(run)
    teacher.prompts, teacher.loaded = 0, 0
    again = sample_rollouts(run)
    assert (teacher.prompts, teacher.loaded) == (0, 0)
    assert again["pool_sha256"] == first["pool_sha256"]


def test_other_settings_do_not_reuse_the_shards(run, teacher):
    sample_rollouts(run)
    teacher.prompts = 0
    sample_rollouts(Run.open("smoke", "pool", SETTINGS | {"rollouts.temperature": 0.3}))
    assert teacher.prompts == 14 * 3


def test_a_retrained_teacher_or_another_wording_is_asked_anew(run, teacher, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    run = Run.open("smoke", "pool", SETTINGS | {"model.teacher": str(folder)})
    for n in range(2):
        (folder / "model.safetensors").write_text(f"weights {n}")
        teacher.prompts = 0
        for _ in range(2):
            sample_rollouts(run)
        assert teacher.prompts == 14 * 3
    problems = load_problems(run.profile, "rollouts")
    reworded = [dataclasses.replace(p, question=p.question + " ") for p in problems]
    teacher.solutions |= {p.question: p.solution for p in reworded}
    monkeypatch.setattr(sampling, "load_problems", lambda profile, split: reworded)
    teacher.prompts = 0
    sample_rollouts(run)
    assert teacher.prompts == 14 * 3


def test_rollouts_are_sampled_when_first_asked_for(run, teacher):
    assert len(load_rollouts(run)) == 30
    assert teacher.loaded == 1


def test_more_prompts_than_problems_are_refused(run, teacher):
    greedy = Run.open("smoke", "pool", SETTINGS | {"rollouts.prompts": 100})
    with pytest.raises(UserError, match="104 prompts asked for, 14 problems"):
        sample_rollouts(greedy)


def test_predictions_have_one_row_a_problem(run, toy_model):
    from finetune_geometry.models.loading import load_model

    run = Run.open("smoke", "p", {"model.base": str(toy_model), "evaluation.max_new_tokens": 9})
    problems = load_problems(run.profile, "test")[:5]
    table = predict(*load_model(run.profile), problems, "base", run.profile)
    columns = ["problem", "model", "correct", "verdict", "answer", "text", "tokens"]
    assert list(table.columns) == columns
    assert table["problem"].tolist() == [p.id for p in problems]
    assert table["answer"].tolist() == [p.answer for p in problems]
    assert not table["correct"].any()  # random weights
    assert set(table["verdict"]) <= {WRONG, TOO_LONG}
    assert ((table["verdict"] == TOO_LONG) <= (table["tokens"] == 9)).all()
    assert table["tokens"].between(1, 9).all()


def test_a_model_is_asked_the_problems_greedily_and_its_text_has_no_marks(run, monkeypatch):
    tokenizer, asked = build_tokenizer(), []
    run = Run.open("smoke", "p", {"evaluation.max_new_tokens": 77, "evaluation.batch_size": 3})
    problems = load_problems(run.profile, "test")[:4]

    def generate(model, tokenizer, prompts, **given):
        asked.append(([tokenizer.decode(ids) for ids in prompts], given))
        texts = [problem.solution for problem in problems]
        return [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in texts]

    monkeypatch.setattr(answers, "complete", generate)
    table = predict(Teacher, tokenizer, problems, "base", run.profile)
    questions = [f"{problem.question}<answer>" for problem in problems]
    assert asked == [(questions, {"max_new_tokens": 77, "batch_size": 3})]
    assert table["text"].tolist() == [problem.solution for problem in problems]
    assert table["correct"].all()
    assert set(table["model"]) == {"base"}
    lengths = [len(tokenizer(problem.solution).input_ids) + 1 for problem in problems]
    assert table["tokens"].tolist() == lengths


def test_predictions_count_the_checks_that_were_given_up(run, toy_model, monkeypatch):
    from finetune_geometry.models.loading import load_model

    run = Run.open("smoke", "p", {"model.base": str(toy_model), "evaluation.max_new_tokens": 9})
    problems = load_problems(run.profile, "test")[:3]
    verdicts = {
        problem.answer: said
        for problem, said in zip(problems, (RIGHT, UNVERIFIABLE, WRONG), strict=True)
    }
    assert len(verdicts) == 3
    judge = "finetune_geometry.problems.answer_check.judge"
    monkeypatch.setattr(judge, lambda text, answer: verdicts[answer])
    monkeypatch.setattr(answers, "end_tokens", lambda model: set(range(10_000)))  # all have ended
    table = predict(*load_model(run.profile), problems, "base", run.profile)
    assert table["correct"].tolist() == [True, False, False]
    assert table["verdict"].tolist() == [RIGHT, UNVERIFIABLE, WRONG]
    monkeypatch.setattr(answers, "end_tokens", lambda model: set())  # all were cut off
    table = predict(*load_model(run.profile), problems, "base", run.profile)
    assert table["verdict"].tolist() == [RIGHT, UNVERIFIABLE, TOO_LONG]
