"""Profiles: every shipped one loads, and every mistake is told by name, place and remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS, OBJECTIVES
from finetune_geometry.settings.profiles import (
    PROFILES,
    load_profile,
    parse_overrides,
    profile_names,
)
from finetune_geometry.settings.revisions import needed


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_load(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert list(profile.methods) == list(METHODS)
    assert profile.model.max_length > profile.rollouts.max_new_tokens
    if profile.problems.source == "generated":
        needed = profile.rollouts.prompts + profile.rollouts.heldout_prompts
        assert profile.problems.rollouts >= needed


@pytest.mark.parametrize("name", profile_names())
def test_learning_rates_keep_the_papers_ratio(name: str) -> None:
    profile = load_profile(name)
    dpo = profile.training_of("dpo").learning_rate
    for method in METHODS:
        if method != "dpo":
            assert profile.training_of(method).learning_rate == pytest.approx(10 * dpo)


def test_paper_profile_is_the_papers_protocol() -> None:
    paper = load_profile("qwen3-4b")
    assert paper.model.base == "Qwen/Qwen3-4B-Instruct-2507"
    assert (paper.lora.r, paper.lora.alpha, paper.lora.dropout, paper.lora.seed) == (32, 64, 0, 42)
    assert set(paper.lora.target_modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    sft = paper.training_of("sft")
    assert (sft.batch_size, sft.steps, sft.schedule_steps) == (32, 1000, 1500)
    assert (sft.learning_rate, sft.scheduler, sft.warmup_ratio) == (5e-6, "cosine", 0.05)
    assert (sft.weight_decay, sft.max_grad_norm) == (0.01, 1.0)
    assert paper.training_of("dpo").learning_rate == 5e-7
    assert paper.methods["dpo"].beta == 0.1
    assert (paper.rollouts.k, paper.geometry.k) == (4, 10)


@pytest.mark.parametrize("name", ["qwen3-4b", "llama-3.2-3b", "qwen3-0.6b"])
def test_profiles_of_real_models_are_pinned_and_need_a_gpu(name: str) -> None:
    profile = load_profile(name)
    assert profile.model.needs_gpu
    assert "\\boxed{}" in profile.prompt.instruction
    sources = {"qwen3-4b": "endpoint", "llama-3.2-3b": "traces", "qwen3-0.6b": "model"}
    assert profile.rollouts.source == sources[name]
    open_ones = {item.key for item in needed(profile) if not item.revision}
    assert open_ones <= {"rollouts.traces.dataset"}
    ids = [item.repo for item in needed(profile)]
    assert "openai/gsm8k" in ids
    assert ("MathArena/aime_2026" in ids) == (name != "qwen3-0.6b")


def test_test_set_has_the_size_of_gsm8k() -> None:
    assert load_profile("tiny").problems.test == load_profile("qwen3-4b").problems.test == 1319


def test_smoke_changes_size_only() -> None:
    """What a test of the smoke profile shows, it shows for tiny."""
    smoke, tiny = load_profile("smoke").flat(), load_profile("tiny").flat()
    for key in ("model.base", "model.teacher", "lora.r", "lora.alpha", "rollouts.k"):
        assert smoke[key] == tiny[key]


def test_overrides_replace_one_value_and_no_other() -> None:
    before = load_profile("tiny").flat()
    after = load_profile("tiny", {"methods.dpo.learning_rate": "1e-3"}).flat()
    assert {key for key in before if before[key] != after[key]} == {"methods.dpo.learning_rate"}
    assert after["methods.dpo.learning_rate"] == 1e-3


def test_every_value_can_be_overridden_by_its_own_text() -> None:
    """flat() names what load_profile takes, and text is read as the declared type."""
    profile = load_profile("tiny")
    for key, value in profile.flat().items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert load_profile("tiny", {key: text}) == profile, key


def test_a_method_replaces_shared_training_values() -> None:
    profile = load_profile("tiny", {"methods.dft.steps": 7, "training.seed": 5})
    assert profile.training_of("dft") == dataclasses.replace(profile.training, steps=7)
    assert profile.training_of("sft") == profile.training


def test_a_method_has_the_constants_of_its_objective_and_no_other() -> None:
    profile = load_profile("tiny")
    for name, objective in OBJECTIVES.items():
        assert profile.methods[name].constants == dict(objective.constants)
        assert profile.methods[name].variant == objective.variants[0].name == "paper"
    changed = load_profile("tiny", {"methods.rift.reward_lambda": "0.25"}).methods["rift"]
    assert changed.constants == {"reward_lambda": 0.25, "negative_reward": -0.2}


def test_profiles_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_profile("tiny").training.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("tinny", {}, ["'tinny'", "did you mean", "'tiny'"]),
        ("no/such.yaml", {}, ["no/such.yaml", "no such file"]),
        ("tiny", {"training.stepz": 1}, ["training.stepz", "'steps'", "tiny.yaml"]),
        ("tiny", {"trainning.steps": 1}, ["trainning", "'training'"]),
        ("tiny", {"methods.dpoo.beta": 1}, ["dpoo", "'dpo'"]),
        ("tiny", {"methods.dpo.bta": 1}, ["methods.dpo.bta", "'beta'"]),
        ("tiny", {"methods.sft.beta": 1}, ["unknown key 'methods.sft.beta'", "valid names"]),
        ("tiny", {"methods": 3}, ["methods", "section"]),
        ("tiny", {"training.steps": 1.5}, ["training.steps", "1.5", "whole number"]),
        ("tiny", {"training.steps": "many"}, ["training.steps", "many", "whole number"]),
        ("tiny", {"training.steps": True}, ["training.steps", "whole number"]),
        ("tiny", {"training.steps": None}, ["training.steps", "None"]),
        ("tiny", {"training.learning_rate": "fast"}, ["training.learning_rate", "a number"]),
        ("tiny", {"training.learning_rate": float("nan")}, ["learning_rate", "above 0"]),
        ("tiny", {"geometry.ks": 4}, ["geometry.ks", "a list"]),
        ("tiny", {"model.base": 4}, ["model.base", "text"]),
        ("tiny", {"lora": 3}, ["lora", "section"]),
        ("tiny", {"lora.r.x": 3}, ["lora.r.x", "'r'"]),
        ("tiny", {"rollouts.k": 0}, ["rollouts.k", "at least 1"]),
        ("tiny", {"problems.source": "web"}, ["problems.source", "generated"]),
        ("tiny", {"training.micro_batch_size": 5}, ["batch_size", "multiple"]),
    ],
)
def test_mistakes_are_told_in_one_line(name: str, overrides: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_profile(name, overrides)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("key", "least", "below", "words"),
    [
        ("rollouts.k", 1, 0, "at least 1"),
        ("rollouts.prompts", 1, 0, "at least 1"),
        ("rollouts.temperature", 0, -0.1, "at least 0"),
        ("lora.r", 1, 0, "at least 1"),
        ("training.processes", 1, 0, "at least 1"),
        ("lora.dropout", 0, -0.1, "at least 0 and below 1"),
        ("lora.dropout", 0.99, 1, "at least 0 and below 1"),
        ("evaluation.confidence", 0.01, 0, "between 0 and 1"),
        ("evaluation.confidence", 0.99, 1, "between 0 and 1"),
        ("evaluation.equivalence_margin", 0.01, 0, "above 0"),
        ("geometry.k", 1, 0, "at least 1"),
        ("geometry.lmc_alphas", 3, 2, "at least 3"),
        ("geometry.lmc_answered", 1, 0, "at least 1"),
        ("geometry.ray_factors", (1e-9,), (0.0, 1.0), "all above 0"),
        ("methods.dpo.steps", 1, 0, "at least 1"),
        ("methods.dpo.micro_batch_size", 1, 0, "at least 1"),
        ("methods.dpo.learning_rate", 1e-9, 0, "above 0"),
        ("methods.dpo.batch_size", 16, 0, "at least 1"),
        ("methods.dpo.batch_size", 16, 15, "a multiple of micro_batch_size"),
        ("problems.source", "hub", "web", "generated or hub"),
    ],
)
def test_limits_hold_at_their_edge(key: str, least: object, below: object, words: str) -> None:
    sizes = {"training.batch_size": 16, "methods.dpo.micro_batch_size": 2} | {key: least}
    load_profile("tiny", sizes)
    with pytest.raises(UserError) as caught:
        load_profile("tiny", sizes | {key: below})
    wanted = f"{key} is out of range: {PROFILES / 'tiny.yaml'}: it must be {words}"
    assert str(caught.value) == wanted


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: smoke\ntraining:\n  learning_rate: 2e-4\n", encoding="utf-8")
    mine = load_profile(path)
    assert mine.name == "mine"
    assert mine.training.learning_rate == 2e-4  # YAML itself reads 2e-4 as text
    assert mine.lora == load_profile("smoke").lora


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training: [unclosed", "not valid YAML"),
        ("- a list", "not a profile"),
        ("extends: loop.yaml", "extends itself"),
        ("model: {base: a, teacher: b}", "missing key 'problems'"),
        ("extends: tiny\nmodel: {}\nmodle: {}", "'model'"),
    ],
)
def test_broken_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words) as caught:
        load_profile("loop.yaml")
    assert "loop.yaml" in str(caught.value)


def test_a_commit_goes_with_the_repository_that_it_pins(tmp_path: Path) -> None:
    pinned = {"model.base": "owner/model", "model.base_revision": "a" * 40}
    assert load_profile("tiny", pinned).model.base_revision == "a" * 40
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    text = "extends: tiny\nmodel:\n  base: owner/model\n  base_revision: " + "a" * 40
    below.write_text(text)
    assert load_profile(below).model.base_revision == "a" * 40
    assert load_profile(below, {"model.base": "owner/other"}).model.base_revision == ""
    assert load_profile(below, {"model.teacher": "owner/other"}).model.base_revision == "a" * 40
    above.write_text(f"extends: {below}\nmodel:\n  base: owner/other\n")
    assert load_profile(above).model.base_revision == ""
    above.write_text(f"extends: {below}\nlora:\n  r: 2\n")
    assert load_profile(above).model.base_revision == "a" * 40


def test_overrides_as_text() -> None:
    text = "methods.dpo.learning_rate=1e-3  training.steps=20"
    assert parse_overrides(text) == {"methods.dpo.learning_rate": "1e-3", "training.steps": "20"}
    assert parse_overrides("") == {}
    assert parse_overrides("model.base=a=b") == {"model.base": "a=b"}
    for wrong in ("training.steps", "=3", "training.steps="):
        with pytest.raises(UserError, match="key=value"):
            parse_overrides(wrong)


def test_yaml_files_repeat_no_key() -> None:
    """PyYAML keeps the last of two equal keys without a word."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
            return super().construct_mapping(node, deep)

    for path in PROFILES.glob("*.yaml"):
        yaml.load(path.read_text(encoding="utf-8"), Strict)
