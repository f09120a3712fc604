"""Measurements go on part by part: answers, lines and hidden states, with the same numbers."""

import dataclasses

import numpy as np
import pytest
from toy import toy_run

from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.evaluation import answers
from finetune_geometry.geometry import hidden_states as states_module
from finetune_geometry.geometry import line_scores
from finetune_geometry.geometry.hidden_states import all_hidden_states, sample_tokens
from finetune_geometry.geometry.line_scores import make_tasks, score_points
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.loading import load_model
from finetune_geometry.problems.generator import Difficulty, generate_problems
from finetune_geometry.rollouts import teacher
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs import keys
from finetune_geometry.runs.parts import Parts
from finetune_geometry.settings.errors import UserError

EASY = Difficulty(2, 6)
OUT = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"


class Stopped(BaseException):
    """Stands for a kill."""


def dies_at(function, call):
    """`function`, which is stopped at its n-th call; and the list of its calls."""
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise Stopped
        return function(*args, **kwargs)

    return counted, calls


@pytest.fixture
def run(toy_model, tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    return toy_run(toy_model, evaluation__batch_size=4, evaluation__max_new_tokens=6)


@pytest.fixture
def mixture(run):
    model, _ = load_model(run.profile)
    rng = np.random.default_rng(0)
    shape = model.get_submodule("model.layers.1.self_attn.o_proj").weight.shape
    adapters = {
        name: {
            "model.layers.1.self_attn.o_proj": LowRankDelta(
                rng.normal(size=(shape[0], 2)), rng.normal(size=(2, shape[1])), 0.1
            )
        }
        for name in ("sft", "dpo")
    }
    with Mixture(model, adapters) as mixture:
        yield mixture


def test_a_part_is_measured_once_until_what_decides_it_changes(run):
    values = iter(range(10))

    def measure():
        return np.array([[next(values), 0.1]])

    parts = Parts(run, "some", ["weights", 1])
    assert parts.of(["a", 3], measure).tolist() == [[0, 0.1]]
    assert Parts(run, "some", ["weights", 1]).of(["a", 3], measure).tolist() == [[0, 0.1]]
    assert parts.of(["a", 4], measure).tolist() == [[1, 0.1]]
    assert Parts(run, "some", ["weights", 2]).of(["a", 3], measure).tolist() == [[2, 0.1]]
    parts.clear()
    assert not (run.dir / "parts").exists()
    assert parts.of(["a", 3], measure).tolist() == [[3, 0.1]]
    other = Parts(run, "other/b", 0)
    other.of(0, measure)
    parts.clear()
    assert [path.name for path in (run.dir / "parts").iterdir()] == ["other"]


def test_a_part_that_was_not_whole_is_not_there(run):
    parts = Parts(run, "some", 0)
    with pytest.raises(Stopped):
        parts.of(0, dies_at(None, 1)[0])
    assert not parts.folder.exists() or not [*parts.folder.iterdir()]


def test_the_models_key_holds_weights_and_device(run, monkeypatch):
    folder = run.dir / "adapters/x"
    folder.mkdir(parents=True)
    found = {keys.models_key(run.profile, []), keys.models_key(run.profile, [str(folder)])}
    (folder / "adapter_model.safetensors").write_bytes(b"1")
    found.add(keys.models_key(run.profile, [str(folder)]))
    monkeypatch.setattr(keys, "device_type", lambda: "cuda")
    found.add(keys.models_key(run.profile, [str(folder)]))
    assert len(found) == 4


def test_answers_go_on_with_the_next_batches(run, monkeypatch):
    model, tokenizer = load_model(run.profile)
    problems = generate_problems("test", 18, 0, EASY)
    problems += problems[3:5]  # equal prompts lie in one batch
    whole = answers.predict(model, tokenizer, problems, "base", run.profile)
    assert whole["tokens"].nunique() > 1 or whole["text"].nunique() > 1
    monkeypatch.setattr(answers, "PART_ROWS", 9)  # of two batches of four
    dying, calls = dies_at(answers.complete, 3)
    with monkeypatch.context() as patch:
        patch.setattr(answers, "complete", dying)
        with pytest.raises(Stopped):
            answers._answer(run, model, tokenizer, problems, "base", "key", "test")
    assert [len(prompts) for _, _, prompts in calls] == [8, 8, 4]
    rest, calls = dies_at(answers.complete, 9)
    monkeypatch.setattr(answers, "complete", rest)
    found = answers._answer(run, model, tokenizer, problems, "base", "key", "test")
    assert [len(prompts) for _, _, prompts in calls] == [4]
    assert found.equals(whole)
    assert not (run.dir / "parts").exists()


def test_lines_go_on_with_the_next_points(run, mixture, monkeypatch):
    _, tokenizer = load_model(run.profile)
    heldout, problems = load_rollouts(run, "heldout"), generate_problems("test", 3, 0, EASY)
    tasks = make_tasks(tokenizer, heldout, problems, 2, 5, run.profile.prompt, 4)
    points = [(), (("sft", 1.0),), (("sft", 0.5), ("dpo", 0.5)), (("sft", 0.2), ("dpo", 0.8))]
    whole = score_points(mixture, tokenizer, tasks, points, at_once=1)
    dying, calls = dies_at(line_scores.score, 7)
    with monkeypatch.context() as patch:
        patch.setattr(line_scores, "score", dying)
        with pytest.raises(Stopped):
            score_points(mixture, tokenizer, tasks, points, 1, Parts(run, "lines", "key"))
    rest, calls = dies_at(line_scores.score, 99)
    monkeypatch.setattr(line_scores, "score", rest)
    found = score_points(mixture, tokenizer, tasks, points, 1, Parts(run, "lines", "key"))
    assert len(calls) == 3 * 4 - 6
    assert found.keys() == whole.keys()
    for point, scores in whole.items():
        for metric, (sums, counts) in vars(scores).items():
            again = getattr(found[point], metric)
            assert np.array_equal(again[0], sums)
            assert np.array_equal(again[1], counts)
    other = dataclasses.replace(tasks, max_new_tokens=4)
    score_points(mixture, tokenizer, other, points[:1], 1, Parts(run, "lines", "key"))
    assert len(calls) == 3 * 4 - 6 + 3


def test_hidden_states_go_on_with_the_next_model(run, mixture, monkeypatch):
    rollouts = load_rollouts(run, "train")[:5]
    rows = list(zip(rollouts["prompt_ids"], rollouts["completion_ids"], strict=True))
    places, names = sample_tokens(rows, 9, 0), ["base", "sft", "dpo"]
    whole = all_hidden_states(mixture, names, rows, places, 4)
    dying, _ = dies_at(states_module.hidden_states, 3)
    with monkeypatch.context() as patch:
        patch.setattr(states_module, "hidden_states", dying)
        with pytest.raises(Stopped):
            all_hidden_states(mixture, names, rows, places, 4, Parts(run, "cka", "key"))
    rest, calls = dies_at(states_module.hidden_states, 9)
    monkeypatch.setattr(states_module, "hidden_states", rest)
    parts = Parts(run, "cka", "key")
    found = all_hidden_states(mixture, names, rows, places, 4, parts)
    assert len(calls) == 1
    assert all(np.array_equal(found[name], whole[name]) for name in names)
    assert not np.array_equal(whole["base"], whole["sft"])
    parts.clear()
    assert found["sft"].sum() == whole["sft"].sum()  # they can still be read
    all_hidden_states(mixture, names[:1], rows, places[:8], 4, Parts(run, "cka", "key"))
    assert len(calls) == 2


def too_much(*args, **kwargs):
    raise RuntimeError(OUT)


def test_out_of_memory_names_what_to_lower(run, mixture, monkeypatch):
    wanted = r"^out of memory \(.*\): evaluation\.batch_size = 4: lower it"
    model, tokenizer = load_model(run.profile)
    monkeypatch.setattr(answers, "complete", too_much)
    with pytest.raises(UserError, match=wanted):
        answers.predict(
            model, tokenizer, generate_problems("test", 2, 0, EASY), "base", run.profile
        )
    monkeypatch.setattr(line_scores, "completion_logprobs", too_much)
    tasks = make_tasks(tokenizer, load_rollouts(run), [], 0, 5, run.profile.prompt, 4)
    with pytest.raises(UserError, match=wanted):
        score_points(mixture, tokenizer, tasks, [()])
    monkeypatch.setattr(states_module, "hidden_states", too_much)
    with pytest.raises(UserError, match=wanted):
        all_hidden_states(mixture, ["base"], [], [], 4)


def test_sampling_that_runs_out_of_memory_names_what_to_lower(run, monkeypatch):
    monkeypatch.setattr(teacher, "complete", too_much)
    source = teacher.TeacherSource(run)
    with pytest.raises(UserError, match=r"^out of memory \(.*\): rollouts\.batch_size = 256: "):
        source.sample(generate_problems("rollouts", 2, 0, EASY), 0)
