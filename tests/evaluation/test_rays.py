"""Along the ray of an adapter: what is measured where, what is chosen, and what a kill costs."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_answers import PROBLEMS, run_of, save_adapter

from finetune_geometry.evaluation import rays
from finetune_geometry.evaluation.rays import along_rays, answers_at, best_factors

ROWS = [([1], [2, 3]), ([4], [5])]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A run with two adapters on one linear layer; what the model gave at each measurement."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    met: list[tuple[str, float]] = []
    right = {"share": 0.5}

    def where(model) -> float:
        """1 for every unit of the weights' change: `save_adapter` gives 18 for a value of 1."""
        return model(torch.ones(1, 1, 3)).sum().item() / 18

    def logprobs(model, rows):
        assert rows == ROWS
        met.append(("read", where(model)))
        return [np.full(len(completion), -2.0 - where(model)) for _, completion in rows]

    def predict(model, tokenizer, problems, name, profile, parts=None):
        met.append(("answer", where(model)))
        correct = [i < right["share"] * len(problems) for i in range(len(problems))]
        return pd.DataFrame(
            {"problem": [p.id for p in problems], "model": name, "correct": correct}
        )

    def load_model(profile):
        model = torch.nn.Module()
        model.layer = torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.zeros_(model.layer.weight)
        model.forward = lambda x: model.layer(x)
        model.device = torch.device("cpu")
        return model, None

    monkeypatch.setattr(rays, "completion_logprobs", logprobs)
    monkeypatch.setattr(rays, "predict", predict)
    monkeypatch.setattr(rays, "load_model", load_model)
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "models" / "base" / "model.safetensors").write_text("the base")
    run = run_of(tmp_path)
    save_adapter(run.adapter_dir("sft"), 1.0)
    save_adapter(run.adapter_dir("dpo"), 2.0)
    return run, met, right


def test_every_factor_of_every_adapter_is_measured_once(asked):
    run, met, _ = asked
    table = along_rays(run, ["sft", "dpo"], [0.0, 0.5, 1.5], ROWS, PROBLEMS)
    assert list(zip(table["model"], table["factor"], strict=True)) == [
        ("base", 0.0), ("sft", 0.5), ("sft", 1.5), ("dpo", 0.5), ("dpo", 1.5),
    ]  # fmt: skip
    # 2 nats a token at the base, one more for every unit of the change.
    assert table["loss"].tolist() == pytest.approx([2, 2.5, 3.5, 3, 5])
    assert table["right"].tolist() == [2] * 5
    assert table["problems"].tolist() == [4] * 5
    assert [kind for kind, _ in met] == ["read", "answer"] * 5
    assert not (run.dir / "parts").exists()


def test_a_killed_measurement_goes_on(asked, monkeypatch):
    run, met, _ = asked
    whole = along_rays(run, ["sft", "dpo"], [0.5, 1.0], ROWS, PROBLEMS)
    met.clear()
    read = rays.completion_logprobs

    def killed(model, rows):
        if len(met) == 6:  # three points, each read and answered
            raise KeyboardInterrupt
        return read(model, rows)

    monkeypatch.setattr(rays, "completion_logprobs", killed)
    with pytest.raises(KeyboardInterrupt):
        along_rays(run, ["sft", "dpo"], [0.5, 1.0], ROWS, PROBLEMS)
    met.clear()
    monkeypatch.setattr(rays, "completion_logprobs", read)
    again = along_rays(run, ["sft", "dpo"], [0.5, 1.0], ROWS, PROBLEMS)
    pd.testing.assert_frame_equal(again, whole)
    assert len(met) == 4  # the two points that were left


def test_a_base_at_the_floor_leaves_the_choice_to_the_loss(asked):
    run, met, right = asked
    right["share"] = 0.0
    table = along_rays(run, ["sft"], [0.5, 1.0], ROWS, PROBLEMS)
    assert [kind for kind, _ in met] == ["read", "answer", "read", "read"]
    assert table["problems"].tolist() == [4, 0, 0]
    assert best_factors(table).to_dict() == {"sft": 0.0}  # the loss rises from the base on


def test_the_most_right_answers_choose_and_of_equal_ones_the_nearest_to_1():
    rows = [
        ("base", 0.0, 1.0, 50, 100),
        ("sft", 0.5, 0.9, 60, 100), ("sft", 0.75, 0.8, 60, 100), ("sft", 1.0, 0.7, 40, 100),
        ("dpo", 0.5, 0.9, 49, 100), ("dpo", 1.0, 0.8, 30, 100),
        ("rft", 0.5, 0.9, 60, 100), ("rft", 1.0, 0.9, 60, 100), ("rft", 1.5, 0.9, 60, 100),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["model", "factor", "loss", "right", "problems"])
    assert best_factors(table).to_dict() == {"sft": 0.75, "dpo": 0.0, "rft": 1.0}
    unanswered = table.assign(problems=np.where(table["model"] == "base", 100, 0))
    assert best_factors(unanswered).to_dict() == {"sft": 1.0, "dpo": 1.0, "rft": 1.0}


def test_answers_are_given_where_the_factor_says(asked):
    run, met, _ = asked
    answers = answers_at(run, {"sft": 0.5, "dpo": 0.25}, PROBLEMS)
    assert answers["model"].tolist() == ["sft"] * 4 + ["dpo"] * 4
    assert [at for _, at in met] == pytest.approx([0.5, 0.5])
