"""Who plays which role: only what is known counts, and two candidates are none."""

import dataclasses

import pytest

from finetune_geometry.deltas.collection import Row
from finetune_geometry.evaluation.adapter_roles import Protocol, cast, filled, kinds_of_pairs
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import load_profile

PAPER = Protocol.of(load_profile("qwen3-4b"))
MAIN = [Row(m, m, "", 42, 5e-7 if m == "dpo" else 5e-6, 1000) for m in METHODS]
SFT = MAIN[list(METHODS).index("sft")]
GRID = [
    dataclasses.replace(SFT, folder="seed", seed=123),
    dataclasses.replace(SFT, folder="low", learning_rate=5e-7),
    dataclasses.replace(SFT, folder="high", learning_rate=5e-5),
    dataclasses.replace(SFT, folder="late", step=1500),
    dataclasses.replace(SFT, folder="order", variant="order", seed=7),
    Row("online", "online_grpo", step=600),
]


def played(rows):
    return {role: row.folder for role, row in cast(rows, PAPER).played.items()}


def test_the_protocol_is_the_profile_s():
    assert PAPER.rates["sft"] == 5e-6
    assert PAPER.rates["dpo"] == 5e-7
    assert set(PAPER.seeds.values()) == {42}
    assert set(PAPER.steps.values()) == {1000}


def test_each_part_is_played_by_the_one_that_is_known_to_be_it():
    assert played([*GRID, *reversed(MAIN)]) == {
        **{method: method for method in METHODS},
        "sft-seed": "seed",
        "sft-lr": "low",
        "sft-order": "order",
        "online_grpo": "online",
    }


def test_what_stays_out_plays_nothing():
    rows = [dataclasses.replace(row, use=row.method != "dpo") for row in MAIN]
    found = cast(rows, PAPER)
    assert "dpo" not in found.played
    assert found.open["dpo"] == "no folder with method dpo, seed 42, learning_rate 5e-07, step 1000"
    assert "dpo" not in found.names


def test_a_variant_is_not_the_paper_s():
    assert "rift" not in played([Row("x", "rift", "lambda0.2", 42, 5e-6, 1000)])


@pytest.mark.parametrize("cell", ["seed", "learning_rate", "step"])
def test_an_empty_cell_leaves_the_part_open_and_says_what_to_fill_in(cell):
    rows = [dataclasses.replace(SFT, **{cell: None})]
    found = cast(rows, PAPER)
    assert "sft" not in found.played
    assert found.open["sft"] == f"sft may fit: fill in {cell}"


def test_a_known_cell_that_differs_rules_out_whatever_is_empty():
    found = cast([Row("x", "sft", step=500)], PAPER)
    assert found.open["sft"].startswith("no folder with")


def test_two_that_fit_are_none():
    twin = dataclasses.replace(SFT, folder="twin")
    found = cast([SFT, twin], PAPER)
    assert "sft" not in found.played
    assert found.open["sft"] == "2 folders fit: sft, twin: leave one with yes under use"


def test_a_known_one_comes_before_one_that_may_fit():
    assert played([SFT, dataclasses.replace(SFT, folder="maybe", seed=None)])["sft"] == "sft"


def test_of_several_seeds_the_smallest_is_taken():
    rows = [dataclasses.replace(SFT, folder=str(seed), seed=seed) for seed in (9, 3, 42, 11)]
    assert played(rows)["sft-seed"] == "3"


def test_empty_cells_mean_the_paper_only_if_a_person_says_so():
    rows = [Row(method, method) for method in METHODS]
    assert played(filled(rows, PAPER, "unknown")) == {}
    assert played(filled(rows, PAPER, "paper")) == {method: method for method in METHODS}
    other = Row("x", "kto")
    assert filled([other], PAPER, "paper") == [other]
    stated = Row("y", "sft", seed=7, learning_rate=1e-4, step=3)
    assert filled([stated], PAPER, "paper") == [stated]
    with pytest.raises(UserError, match="unknown or paper"):
        filled(rows, PAPER, "papers")


def test_names_are_distinct_and_say_what_sets_a_folder_apart():
    twin = dataclasses.replace(GRID[2], folder="a/twin")
    names = cast([*MAIN, *GRID, twin, Row("what is this")], PAPER).names
    assert len(set(names.values())) == len(names) == len(MAIN) + len(GRID) + 2
    assert names["seed"] == "sft-seed"
    assert names["high"] == "sft-seed42-lr5e05-step1000"
    assert names["a/twin"] == "a/twin"
    assert names["what is this"] == "what is this"


def test_pairs_that_differ_in_one_thing():
    rows = {row.folder: row for row in [*MAIN, *GRID]}
    pairs = {
        ("sft", "dpo"): "loss",  # each at its own rate
        ("rft", "dft"): "loss",
        ("sft", "seed"): "seed",
        ("sft", "low"): "rate",
        ("high", "sft"): "rate",
        ("low", "high"): "",  # a factor of a hundred
        ("sft", "late"): "step",
        ("seed", "late"): "",  # two things
        ("order", "sft"): "order",
        ("rft", "seed"): "",  # a loss and a seed
        ("online", "dpo"): "online",
        ("online", "late"): "",
    }
    assert kinds_of_pairs(list(pairs), rows, PAPER) == list(pairs.values())
    unknown = {"a": Row("a", "sft", seed=1), "b": Row("b", "sft", seed=2), "c": Row("c")}
    assert kinds_of_pairs([("a", "b"), ("a", "c")], unknown, PAPER) == ["", ""]
