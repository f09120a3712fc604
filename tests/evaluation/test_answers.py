"""Answers are kept per model and made again exactly when something that decides them changes."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from finetune_geometry.evaluation import answers as evaluation
from finetune_geometry.evaluation.answers import evaluate_models
from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError

PROBLEMS = [Problem(f"p{i}", f"question {i}", "", str(i), 2) for i in range(4)]


def save_adapter(folder, value: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "x"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    factors = {"lora_A": torch.ones(2, 3), "lora_B": torch.full((3, 2), value)}
    save_file(
        {f"base_model.model.layer.{side}.weight": t for side, t in factors.items()},
        folder / "adapter_model.safetensors",
    )


def run_of(folder, **changes) -> Run:
    """The run of the models in `folder`; `evaluation__batch_size=1` changes a value."""
    models = {f"model.{name}": str(folder / "models" / name) for name in ("base", "teacher")}
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return Run.open("smoke", "answers", models | changed)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A run with two adapters, on a model of one linear layer that answers at once."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    answered: list[tuple[str, float]] = []

    def predict(model, tokenizer, problems, name, profile, parts=None):
        assert tokenizer == f"tokenizer of {model.role}"
        assert (model.role == "teacher") == (name == "teacher")
        assert profile.name == "smoke"
        answered.append((name, model(torch.ones(1, 1, 3)).sum().item()))
        columns = {"answer": [p.answer for p in problems], "text": "", "tokens": 1}
        right = [i % 2 == 0 for i in range(len(problems))]
        return pd.DataFrame(
            {"problem": [p.id for p in problems], "model": name, "correct": right, **columns}
        )

    def load_model(profile, role="base"):
        assert profile.name == "smoke"
        model = torch.nn.Module()
        model.role = role
        model.layer = torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.zeros_(model.layer.weight)
        model.forward = lambda x: model.layer(x)
        model.device = torch.device("cpu")
        return model, f"tokenizer of {role}"

    def load_problems(profile, split):
        assert (profile.name, split) == ("smoke", "test")
        return PROBLEMS

    monkeypatch.setattr(evaluation, "load_model", load_model)
    monkeypatch.setattr(evaluation, "predict", predict)
    monkeypatch.setattr(evaluation, "load_problems", load_problems)
    for name in ("base", "teacher"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.safetensors").write_text(f"the {name}")
    run = run_of(tmp_path)
    save_adapter(run.adapter_dir("sft"), 1.0)
    save_adapter(run.adapter_dir("dpo"), 2.0)
    return run, answered


def test_every_model_answers_as_itself(asked):
    run, answered = asked
    table = evaluate_models(run, ["sft", "dpo"])
    assert list(table["model"].unique()) == ["base", "sft", "dpo", "teacher"]
    assert len(table) == 4 * len(PROBLEMS)
    assert table.index.tolist() == [*range(4 * len(PROBLEMS))]
    np.testing.assert_allclose(
        [value for _, value in answered], [0, 18, 36, 0]
    )  # sum of scale * B A 1


def test_answers_are_kept_until_weights_or_problems_change(asked, monkeypatch):
    run, answered = asked
    first = evaluate_models(run, ["sft", "dpo"])
    del answered[:]
    pd.testing.assert_frame_equal(evaluate_models(run, ["sft", "dpo"]), first)
    assert answered == []
    alone = evaluate_models(run, ["dpo"], beside=())
    assert list(alone["model"].unique()) == ["dpo"]
    save_adapter(run.adapter_dir("dpo"), 3.0)
    evaluate_models(run, ["sft", "dpo"])
    assert [name for name, _ in answered] == ["dpo"]
    del answered[:]
    monkeypatch.setattr(evaluation, "load_problems", lambda profile, split: PROBLEMS[:3])
    assert len(evaluate_models(run, ["sft"])) == 3 * 3
    assert [name for name, _ in answered] == ["base", "sft", "teacher"]


def test_a_second_test_set_is_answered_beside_the_first(asked, monkeypatch):
    run, answered = asked
    first = evaluate_models(run, ["sft"])
    del answered[:]
    monkeypatch.setattr(
        evaluation,
        "load_problems",
        lambda profile, split: {"test": PROBLEMS, "aime": PROBLEMS[:2]}[split],
    )
    second = evaluate_models(run, ["sft"], split="aime")
    assert len(second) == 3 * 2
    assert [name for name, _ in answered] == ["base", "sft", "teacher"]
    del answered[:]
    pd.testing.assert_frame_equal(evaluate_models(run, ["sft"]), first)
    pd.testing.assert_frame_equal(evaluate_models(run, ["sft"], split="aime"), second)
    assert answered == []


@pytest.mark.parametrize("source", ["endpoint", "traces"])
def test_a_teacher_that_is_no_model_here_is_not_asked(asked, tmp_path, source):
    _, answered = asked
    table = evaluate_models(run_of(tmp_path, rollouts__source=source), ["sft"])
    assert list(table["model"].unique()) == ["base", "sft"]
    assert "teacher" not in dict(answered)


@pytest.mark.parametrize(
    ("changed", "again"),
    [("base", ["base", "sft", "dpo"]), ("teacher", ["teacher"])],
)
@pytest.mark.parametrize("file", ["model.safetensors", "chat_template.jinja"])
def test_each_model_s_answers_hang_on_its_own_files(asked, tmp_path, changed, again, file):
    run, answered = asked
    evaluate_models(run, ["sft", "dpo"])
    (tmp_path / "models" / changed / file).write_text("another")
    del answered[:]
    evaluate_models(run, ["sft", "dpo"])
    assert [name for name, _ in answered] == again


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation__max_new_tokens": 50},
        {"evaluation__batch_size": 3},
        {"model__dtype": "bfloat16"},
        {"model__attention": "sdpa"},
    ],
    ids=str,
)
def test_answers_are_made_again_under_other_settings(asked, tmp_path, changes):
    run, answered = asked
    evaluate_models(run, ["sft"])
    del answered[:]
    evaluate_models(run_of(tmp_path, evaluation__confidence=0.5), ["sft"])
    assert answered == []
    evaluate_models(run_of(tmp_path, **changes), ["sft"])
    assert [name for name, _ in answered] == ["base", "sft", "teacher"]


@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_problem_that_was_reworded_is_answered_again(asked, monkeypatch, field):
    run, answered = asked
    evaluate_models(run, ["sft"])
    del answered[:]
    other = [dataclasses.replace(PROBLEMS[0], **{field: "77"}), *PROBLEMS[1:]]
    monkeypatch.setattr(evaluation, "load_problems", lambda profile, split: other)
    evaluate_models(run, ["sft"])
    assert [name for name, _ in answered] == ["base", "sft", "teacher"]


def test_an_interrupted_evaluation_goes_on_where_it_was(asked, monkeypatch):
    run, answered = asked
    predict = evaluation.predict

    def stop_at_dpo(model, tokenizer, problems, name, profile, parts=None):
        if name == "dpo":
            raise KeyboardInterrupt
        return predict(model, tokenizer, problems, name, profile, parts)

    monkeypatch.setattr(evaluation, "predict", stop_at_dpo)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(run, ["sft", "dpo"])
    monkeypatch.setattr(evaluation, "predict", predict)
    del answered[:]
    evaluate_models(run, ["sft", "dpo"])
    assert [name for name, _ in answered] == ["dpo", "teacher"]


def test_a_missing_adapter_is_named_with_its_notebook(asked):
    run, _ = asked
    with pytest.raises(UserError, match="notebooks/methods/rft"):
        evaluate_models(run, ["sft", "rft"])


def test_what_the_shipped_models_answered_ships(asked, tmp_path, monkeypatch, capsys):
    run, answered = asked
    evaluate_models(run, ["sft"])
    shipped = tmp_path / "checkout" / evaluation.SHIPPED
    shipped.mkdir(parents=True)
    for name in ("base", "teacher", "sft"):
        path = run.dir / "evaluation" / "predictions" / f"{name}.parquet"
        path.rename(shipped / path.name)
    monkeypatch.setattr(evaluation, "project_root", lambda: tmp_path / "checkout")
    answered.clear()
    capsys.readouterr()
    table = evaluate_models(run, ["sft"])
    assert [name for name, _ in answered] == ["sft"]  # an adapter is the run's own
    assert list(dict.fromkeys(table["model"])) == ["base", "sft", "teacher"]
    assert capsys.readouterr().out.count("answers of the reference run") == 2
    assert (run.dir / "evaluation" / "predictions" / "base.parquet").is_file()


@pytest.mark.parametrize("reason", ["other settings", "asked to execute"])
def test_answers_that_ship_are_not_those_of_another_run(asked, tmp_path, monkeypatch, reason):
    run, answered = asked
    evaluate_models(run, ["sft"])
    shipped = tmp_path / "checkout" / evaluation.SHIPPED
    shipped.mkdir(parents=True)
    for path in (run.dir / "evaluation" / "predictions").glob("*.parquet"):
        path.rename(shipped / path.name)
    monkeypatch.setattr(evaluation, "project_root", lambda: tmp_path / "checkout")
    if reason == "other settings":
        run = run_of(tmp_path, evaluation__batch_size=3)
    else:
        (run.dir / evaluation.EXECUTE).write_text("base_model", encoding="utf-8")
    answered.clear()
    evaluate_models(run, ["sft"])
    assert [name for name, _ in answered] == ["base", "sft", "teacher"]
