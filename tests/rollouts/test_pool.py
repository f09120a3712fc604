"""The pool of rollouts: groups, rewards, splits, its card, and going on after a kill."""

import dataclasses
import shutil

import numpy as np
import pytest

from finetune_geometry.evaluation import answers
from finetune_geometry.evaluation.answers import predict
from finetune_geometry.models.tiny import build_tokenizer
from finetune_geometry.problems.rewards import RIGHT, UNVERIFIABLE, WRONG, is_correct
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
    monkeypatch.setattr(rollouts, "load_model", teacher.load)
    monkeypatch.setattr(sampling, "generate", teacher.generate)
    monkeypatch.setattr(rollouts, "SHARD_PROMPTS", 4)
    return teacher


def test_the_pool_holds_groups_of_k_verified_rollouts(run, teacher):
    card = sample_rollouts(run)
    pool = run.read_table(rollouts.POOL)
    assert len(pool) == 14 * 3
    assert pool.groupby("group")["prompt"].nunique().eq(1).all()
    assert pool.groupby("group")["sample"].apply(list).map(lambda s: s == [0, 1, 2]).all()
    for row in pool.itertuples():
        assert row.reward == float(is_correct(row.text, row.answer))
        assert teacher.tokenizer.decode(row.completion_ids, skip_special_tokens=True) == row.text
        assert row.completion_ids[-1] == teacher.tokenizer.eos_token_id
        assert teacher.tokenizer.decode(row.prompt_ids[:-1]) == row.question
    columns = "prompt question group sample split steps prompt_ids completion_ids text answer"
    assert list(pool) == [*columns.split(), "reward", "unverifiable"]
    assert list(load_rollouts(run)) == list(pool)
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
        return [[tokenizer.eos_token_id]] * len(prompts)

    monkeypatch.setattr(sampling, "generate", generate)
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
        return RIGHT if is_correct(text, answer) else WRONG

    plain = sample_rollouts(run)
    rewards = run.read_table(rollouts.POOL)["reward"]
    shutil.rmtree(run.dir / "rollouts")
    monkeypatch.setattr(sampling, "judge", judge)
    card = sample_rollouts(run)
    pool = run.read_table(rollouts.POOL)
    given_up = pool["text"].str.contains("boxed{9", regex=False)
    assert pool["unverifiable"].dtype == bool
    assert pool["unverifiable"].equals(given_up)
    assert pool["reward"].equals(rewards)
    assert card["unverifiable"] == given_up[pool["split"] == "train"].sum() > 0
    assert plain["unverifiable"] == 0
    assert given_up.sum() > card["unverifiable"]  # held-out ones are not the card's


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

    monkeypatch.setattr(sampling, "generate", dies)
    with pytest.raises(KeyboardInterrupt):
        sample_rollouts(run)
    assert teacher.prompts == 8 * 3  # two shards of four prompts
    assert not (run.dir / rollouts.POOL).exists()
    monkeypatch.setattr(sampling, "generate", teacher.generate)
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
    monkeypatch.setattr(rollouts, "load_problems", lambda profile, split: reworded)
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
    columns = ["problem", "model", "correct", "unverifiable", "answer", "text", "tokens"]
    assert list(table.columns) == columns
    assert table["problem"].tolist() == [p.id for p in problems]
    assert table["answer"].tolist() == [p.answer for p in problems]
    assert not table["correct"].any()  # random weights
    assert not table["unverifiable"].any()
    assert table["tokens"].between(1, 9).all()


def test_a_model_is_asked_the_problems_greedily_and_its_text_has_no_marks(run, monkeypatch):
    tokenizer, asked = build_tokenizer(), []
    run = Run.open("smoke", "p", {"evaluation.max_new_tokens": 77, "evaluation.batch_size": 3})
    problems = load_problems(run.profile, "test")[:4]

    def generate(model, tokenizer, prompts, **given):
        asked.append(([tokenizer.decode(ids) for ids in prompts], given))
        texts = [problem.solution for problem in problems]
        return [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in texts]

    monkeypatch.setattr(answers, "generate", generate)
    table = predict(None, tokenizer, problems, "base", run.profile)
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
    monkeypatch.setattr(answers, "judge", lambda text, answer: verdicts[answer])
    table = predict(*load_model(run.profile), problems, "base", run.profile)
    assert table["correct"].tolist() == [True, False, False]
    assert table["unverifiable"].tolist() == [False, True, False]
