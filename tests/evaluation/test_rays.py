"""Along the ray of an adapter: what is measured where, what is chosen, and what a kill costs."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_answers import PROBLEMS, run_of, save_adapter

from finetune_geometry.evaluation.choice import best_factors
from finetune_geometry.geometry import line_scores, rays
from finetune_geometry.geometry.rays import along_rays, answers_at, measure_points

HELDOUT = pd.DataFrame(
    {"prompt": ["a", "b"], "prompt_ids": [[1], [4]], "completion_ids": [[2, 3], [5]]}
)
VALUE = {"sft": 1.0, "dpo": 2.0}  # that `save_adapter` is given


class Tokenizer:
    def encode(self, text, add_special_tokens):
        return [len(text)]

    def apply_chat_template(self, *args, **kwargs):
        return [7]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A run with two adapters, on a model of one linear layer; what was measured, in order."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    met: list[tuple[str, tuple]] = []
    share = {"right": 0.5}

    def score(mixture, tokenizer, tasks, points, metric):
        """2 nats a token at the base, one more for every unit of the change."""
        found = []
        for point in points:
            met.append((metric, tuple(point)))
            away = sum(weight * VALUE[name] for name, weight in point)
            if metric == "sft_cross_entropy":
                tokens = np.array([2.0, 1.0])
                found.append((tokens * (2 + away), tokens))
            else:
                right = np.arange(len(PROBLEMS)) < share["right"] * len(PROBLEMS)
                found.append((right.astype(float), np.ones(len(PROBLEMS))))
        return found

    def predict(model, tokenizer, problems, name, profile, parts=None):
        met.append(("answers", model(torch.ones(1, 1, 3)).sum().item() / 18))
        return pd.DataFrame({"problem": [p.id for p in problems], "model": name, "correct": True})

    def load_model(profile):
        model = torch.nn.Module()
        model.layer = torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.zeros_(model.layer.weight)
        model.forward = lambda x: model.layer(x)
        model.device = torch.device("cpu")
        return model, Tokenizer()

    monkeypatch.setattr(line_scores, "score", score)
    monkeypatch.setattr(line_scores, "prompt_ids", lambda *args: [7])
    monkeypatch.setattr(rays, "predict", predict)
    monkeypatch.setattr(rays, "load_model", load_model)
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "models" / "base" / "model.safetensors").write_text("the base")
    run = run_of(tmp_path)
    for name, value in VALUE.items():
        save_adapter(run.adapter_dir(name), value)
    return run, met, share


def test_every_factor_of_every_adapter_is_measured_once(asked):
    run, met, _ = asked
    table = along_rays(run, ["sft", "dpo"], [0.0, 0.5, 1.5], HELDOUT, PROBLEMS, "rays")
    assert list(zip(table["model"], table["factor"], strict=True)) == [
        ("base", 0.0), ("sft", 0.5), ("sft", 1.5), ("dpo", 0.5), ("dpo", 1.5),
    ]  # fmt: skip
    assert table["loss"].tolist() == pytest.approx([2, 2.5, 3.5, 3, 5])
    assert table["right"].tolist() == [2] * 5
    assert table["problems"].tolist() == [4] * 5
    assert len(met) == len(set(met)) == 10
    assert (run.dir / "parts" / "rays").is_dir()  # until the table is written


def test_sums_of_adapters_are_told_by_their_names(asked):
    run, _, _ = asked
    loaded = rays._loaded(run, ["sft", "dpo"])
    points = {
        "one": (("sft", 1.0),),
        "off": (("dpo", 1.0), ("sft", -0.5)),
        "again": (("sft", 1.0),),
    }
    table = measure_points(run, loaded, points, HELDOUT, [], "sums")
    assert table["model"].tolist() == ["base", "one", "off", "again"]
    assert table["loss"].tolist() == pytest.approx([2, 3, 3.5, 3])
    assert table["problems"].tolist() == [0] * 4


def test_a_killed_measurement_goes_on(asked, monkeypatch):
    run, met, _ = asked
    whole = along_rays(run, ["sft", "dpo"], [0.5, 1.0], HELDOUT, PROBLEMS, "whole")
    met.clear()
    score = line_scores.score

    def killed(mixture, tokenizer, tasks, points, metric):
        if len(met) == 4:  # the base's answers, the base's loss, and two points of SFT
            raise KeyboardInterrupt
        return score(mixture, tokenizer, tasks, points, metric)

    monkeypatch.setattr(line_scores, "score", killed)
    with pytest.raises(KeyboardInterrupt):
        along_rays(run, ["sft", "dpo"], [0.5, 1.0], HELDOUT, PROBLEMS, "rays")
    met.clear()
    monkeypatch.setattr(line_scores, "score", score)
    again = along_rays(run, ["sft", "dpo"], [0.5, 1.0], HELDOUT, PROBLEMS, "rays")
    pd.testing.assert_frame_equal(again, whole)
    assert len(met) == 6  # DPO's loss, and the answers of all four


def test_a_base_at_the_floor_leaves_the_choice_to_the_loss(asked):
    run, met, share = asked
    share["right"] = 0.0
    table = along_rays(run, ["sft"], [0.5, 1.0], HELDOUT, PROBLEMS, "rays")
    assert [metric for metric, _ in met] == ["accuracy", *["sft_cross_entropy"] * 3]
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
    answers = answers_at(run, {"sft": 0.5, "dpo": 0.25}, PROBLEMS, "answers")
    assert answers["model"].tolist() == ["sft"] * 4 + ["dpo"] * 4
    assert [at for _, at in met] == pytest.approx([0.5, 0.5])
