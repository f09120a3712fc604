"""What a folder's name and files say, and what they are not taken to say."""

import json

import pytest

from finetune_geometry.deltas.folder_facts import (
    Facts,
    Grid,
    facts_of_files,
    facts_of_names,
    together,
)

GRID = Grid(seeds=(42, 123), rates=(5e-7, 5e-6, 5e-5))


def said(name: str, grid: Grid = GRID) -> Facts:
    return facts_of_names([name], grid)[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sft_seed42_lr5e-6_step1000", Facts("sft", "", 42, 5e-6, 1000)),
        ("SFT seed42 lr5e-6/checkpoint-1000", Facts("sft", "", 42, 5e-6, 1000)),
        ("main/RIFT-seed-42-lr-5e-06-step-1k", Facts("rift", "", 42, 5e-6, 1000)),
        ("dpo_seed=123_lr=0.0000005", Facts("dpo", "", 123, 5e-7)),
        ("dft_s123_5e-7", Facts("dft", "", 123, 5e-7)),
        ("rft-42", Facts("rft", "", 42)),
        ("grpo_offline.lr5e-5.seed42", Facts("offline_grpo", "", 42, 5e-5)),
        ("OfflineGRPO", Facts("offline_grpo")),
        ("adapters/offgrpo_lr5e-6_s42", Facts("offline_grpo", "", 42, 5e-6)),
        ("online/grpo_on-policy_600steps", Facts("online_grpo", step=600)),
        ("DAPO-step600", Facts("online_dapo", step=600)),
        ("qwen3-4b-sft-lora-r32", Facts("sft")),
    ],
)
def test_a_name_says_what_it_says(name, expected):
    assert said(name) == expected


@pytest.mark.parametrize(
    ("name", "method", "variant"),
    [
        ("grpo", "", "grpo"),  # online or offline?
        ("sftx", "", "sftx"),  # no word of its own
        ("rsft-run", "", "rsft"),
        ("rift_lambda0.2", "rift", "lambda0.2"),
        ("sft-final", "sft", "final"),
        ("sft_s7", "sft", "s7"),  # not a seed of the grid: a step, a size?
        ("sft_1e-4", "sft", "1e-4"),  # nor a rate of it
        ("sft_lr5e6", "sft", "lr5e6"),  # no rate: its sign is lost
        ("sft-order", "sft", "order"),
    ],
)
def test_what_is_not_certain_is_left_as_it_is(name, method, variant):
    facts = said(name)
    assert (facts.method, facts.variant) == (method, variant)
    assert (facts.seed, facts.learning_rate, facts.step) == (None, None, None)


def test_two_statements_of_one_name_cancel_each_other():
    facts = said("dpo_from_sft_seed1_seed2")
    assert (facts.method, facts.seed) == ("", None)
    assert facts.doubts == ("method: dpo or sft in the name", "seed: 1 or 2 in the name")


def test_a_number_without_a_word_needs_the_grid():
    assert said("sft_42_5e-6", Grid()) == Facts("sft", "42-5e-6")


def test_words_that_all_names_share_say_nothing():
    facts = facts_of_names(["paper-v2/sft", "paper-v2/dpo"])
    assert facts["paper-v2/sft"] == Facts("sft")
    assert facts_of_names(["paper-v2/sft"])["paper-v2/sft"].variant == "paper-v2"


def test_files_beside_the_weights_say_more(tmp_path):
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 1000, "epoch": 0.4}))
    (tmp_path / "train.json").write_text(json.dumps({"objective": "Offline GRPO", "lr": 5e-6}))
    (tmp_path / "README.md").write_text("### Training\n\n- learning_rate: 5e-06\n- seed: 42\n")
    # What PEFT writes says nothing of a training, and broken JSON nothing at all.
    (tmp_path / "adapter_config.json").write_text(json.dumps({"seed": 7}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    assert facts_of_files(tmp_path) == Facts("offline_grpo", "", 42, 5e-6, 1000)


def test_steps_are_a_plan_but_in_the_card_of_a_training_of_this_book(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"steps": 1500}))
    assert facts_of_files(tmp_path) == Facts()
    card = {"objective": "rft", "variant": "paper", "seed": 43, "learning_rate": 1e-3, "steps": 100}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert facts_of_files(tmp_path) == Facts("rft", "", 43, 1e-3, 100)


def test_files_that_differ_and_values_of_another_kind_say_nothing(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"seed": 1, "step": "many", "method": "kto"}))
    (tmp_path / "b.json").write_text(json.dumps({"seed": 2, "lr": True, "variant": "paper"}))
    facts = facts_of_files(tmp_path)
    assert facts == Facts(doubts=("seed: 1 or 2 in the files",))


def test_name_and_files_complete_or_contradict_each_other():
    files = Facts("sft", "v2", 42, None, 1000)
    both = together(Facts("sft", "clip", 123, 5e-6), files)
    assert both == Facts(
        "sft", "v2-clip", None, 5e-6, 1000, doubts=("seed: 123 in the name, 42 in the files",)
    )
    clash = together(Facts("dpo"), files)
    assert clash.method == ""
    assert clash.doubts == ("method: dpo in the name, sft in the files",)
