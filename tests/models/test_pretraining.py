"""Raising the tiny models: what a batch holds, the schedule, going on, and who learns from whom."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM

from finetune_geometry.models import pretraining
from finetune_geometry.models.pretraining import raise_models, train_from_scratch
from finetune_geometry.models.tiny import build_config, build_tokenizer
from finetune_geometry.problems.generator import Difficulty, generate_problems

EASY = Difficulty(2, 3)


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """The same architecture of 2 layers, width 32."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    monkeypatch.setattr(
        pretraining,
        "build_config",
        lambda n, **more: build_config(n, **small, **heads, **more),
    )


def raised(folder: Path, problems: int = 60, **options) -> dict:
    settings = {"difficulty": EASY, "seed": 3, "tokens_per_batch": 256, "save_every": 5}
    return train_from_scratch(folder, problems=problems, **settings | options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_only_the_solution_and_its_end_are_learnt():
    tokenizer = build_tokenizer()
    problems = generate_problems("train", 40, 0, Difficulty(2, 8))
    batches = pretraining._batches(pretraining._rows(tokenizer, problems), 512, 0)
    solutions = {problem.solution for problem in problems}
    questions = {problem.question for problem in problems}
    learnt = set()
    for ids, labels in batches:
        assert ids.shape == labels.shape
        assert ids.shape[1] % 32 == 0
        assert len(ids) == max(1, 512 // ids.shape[1])
        for row, label in zip(ids, labels, strict=True):
            wanted = label != -100
            assert torch.equal(row[wanted], label[wanted])
            text = tokenizer.decode(row[wanted])
            assert text.endswith("<eos>")
            learnt.add(text.removesuffix("<eos>"))
            start, end = wanted.nonzero()[0, 0], wanted.nonzero()[-1, 0]
            assert tokenizer.decode(row[:start]).removesuffix("<answer>") in questions
            assert (row[end + 1 :] == 0).all()
    assert learnt <= solutions
    assert len(learnt) > 20  # the rest waits for a batch that is full


def test_a_model_learns_and_its_card_says_how(tmp_path):
    asked = []

    def accuracy(model, tokenizer) -> float:
        asked.append(model.training)
        return 0.25 * len(asked)

    card = raised(tmp_path, problems=400, evaluate=accuracy, save_every=50)
    steps = card["step"]
    assert [step for step, _ in card["loss"]] == list(range(25, steps + 1, 25))
    assert card["loss"][-1][1] < card["loss"][0][1] / 1.5
    saves = sorted({*range(50, steps + 1, 50), steps})
    assert card["accuracy"] == [[step, 0.25 * (i + 1)] for i, step in enumerate(saves)]
    assert not any(asked)  # measured in evaluation mode
    assert card["tokens"] <= 256 * steps
    assert card["seconds"] > 0
    assert (card["min_steps"], card["max_steps"], card["problems"]) == (2, 3, 400)
    assert card["start_from"] is None
    model = Qwen3ForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert json.loads((tmp_path / "card.json").read_text()) == card
    assert not list(tmp_path.glob("training_state*"))


def test_the_rate_warms_up_and_falls_to_a_tenth(tmp_path, monkeypatch):
    rates = []

    class Watched(torch.optim.AdamW):
        def step(self, *args, **kwargs):
            rates.append({group["lr"] for group in self.param_groups})
            return super().step(*args, **kwargs)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    steps = raised(tmp_path, problems=200, learning_rate=1e-2, save_every=1000)["step"]
    assert len(rates) == steps
    warmup = steps * 3 // 100
    assert warmup > 1
    found = [rate for (rate,) in rates]
    assert found[:warmup] == pytest.approx(
        [1e-2 * (i + 1) / warmup for i in range(warmup)], rel=0.02
    )
    assert max(found) <= 1e-2
    assert found[steps // 2] == pytest.approx(0.55e-2, rel=0.03)
    assert found[-1] == pytest.approx(0.1e-2, rel=0.02)
    late = [1e-2 * (0.55 + 0.45 * math.cos(math.pi * i / steps)) for i in range(warmup, steps)]
    assert found[warmup:] == pytest.approx(late)


def test_a_stopped_training_goes_on_to_the_same_model(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    card = raised(whole)
    save = pretraining._save_state

    def dies_after(*args):
        save(*args)
        if args[-1]["step"] == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "_save_state", dies_after)
        with pytest.raises(KeyboardInterrupt):
            raised(stopped)
    assert not (stopped / "card.json").exists()
    assert raised(stopped)["loss"] == card["loss"]
    assert same(whole, stopped)


def test_another_seed_is_another_model_and_the_same_is_the_same(tmp_path):
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        raised(tmp_path / name, problems=20, seed=seed)
    assert same(tmp_path / "one", tmp_path / "again")
    assert not same(tmp_path / "one", tmp_path / "other")


def test_the_teacher_goes_on_from_the_student(tmp_path):
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    raised(student, problems=60)
    card = raised(teacher, problems=20, seed=4, start_from=student, learning_rate=0.0)
    assert card["start_from"] == "student"
    assert same(student, teacher)  # at a rate of 0 it stays what it started from


def test_student_first_then_the_teacher_and_what_is_finished_is_kept(tmp_path, monkeypatch):
    calls = []

    def pretend(output, **options):
        output.mkdir(parents=True)
        (output / "card.json").write_text("{}")
        calls.append((output.name, options))

    monkeypatch.setattr(pretraining, "train_from_scratch", pretend)
    monkeypatch.setattr(pretraining, "generate_problems", lambda *args: [])
    raise_models(tmp_path, 11, 7)
    (first, student), (second, teacher) = calls
    assert (first, second) == ("student", "teacher")
    assert (student["problems"], teacher["problems"]) == (11, 7)
    assert (student["difficulty"], teacher["difficulty"]) == (Difficulty(2, 4), Difficulty(2, 8))
    assert student.get("start_from") is None
    assert teacher["start_from"] == tmp_path / "student"
    assert student["seed"] != teacher["seed"]
    raise_models(tmp_path, 11, 7)
    assert len(calls) == 2
    (tmp_path / "teacher/card.json").unlink()
    (tmp_path / "teacher").rmdir()
    raise_models(tmp_path, 11, 7)
    assert [name for name, _ in calls] == ["student", "teacher", "teacher"]


def test_the_accuracy_is_the_share_of_right_greedy_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(
        pretraining, "train_from_scratch", lambda *args, **options: found.append(options)
    )
    found: list = []
    raise_models(tmp_path, 1, 1)
    tokenizer = build_tokenizer()
    problems = generate_problems("validation", 210, 42, Difficulty(2, 8))

    def answers(model, tokenizer, ids, **options):
        assert len(ids) == 210
        texts = [p.solution if i % 3 else "\\boxed{-1}" for i, p in enumerate(problems)]
        return [tokenizer(text).input_ids for text in texts]

    monkeypatch.setattr(pretraining, "generate", answers)
    assert [call["evaluate"](None, tokenizer) for call in found] == [140 / 210] * 2
