"""The list of further trainings: distinct names, one change each, and cells that can be judged."""

from collections import Counter

import pytest

from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.variations import (
    STUDENT_SEED,
    cells,
    jobs,
    kind_of,
    students,
    variations,
)

TINY = load_profile("tiny")


def test_each_kind_has_as_many_as_the_profile_asks_for():
    count = Counter(kind_of(variation) for variation in variations(TINY).values())
    six, seven = len(METHODS), len(METHODS) + 1
    assert count["order"] == 4 * six
    assert count["draw"] == count["student"] == 3 * seven
    assert count["sgd"] == six
    assert count["annealed"] == 3 * six
    assert count["first"] == 2 * six
    assert count["rate"] == count["contrast"] == count["fast"] == 3
    few = load_profile("tiny", {"spread.orders": 1, "spread.draws": 0, "spread.students": 0})
    fewer = Counter(map(kind_of, variations(few).values()))
    assert fewer["order"] == six
    assert not {"draw", "student"} & set(fewer)
    assert fewer["rate"] == 2


@pytest.mark.parametrize(
    "name", ["dpo-order2", "dpo-draw2", "dpo-student2", "dpo-annealed", "dpo-first1"]
)
def test_a_variation_changes_what_its_name_says(name):
    found = variations(TINY)[name]
    before = TINY.flat()
    after = load_profile("tiny", dict(found.changes)).flat()
    changed = {key for key in before if before[key] != after[key]}
    expected = {
        "order": {"methods.dpo.seed"},
        "draw": {"methods.dpo.seed", "lora.seed"},
        "student": set(),
        "annealed": {"training.schedule_steps"},
        "first": {"methods.dpo.seed"},
    }
    assert changed == expected[kind_of(found)]
    assert found.method == "dpo"
    assert found.student == (2 if name == "dpo-student2" else 0)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("sft-rate", {"methods.sft.learning_rate"}),
        ("sft-mixed2", {"methods.sft.learning_rate", "methods.sft.seed", "training.pool"}),
        ("rft-chosen1", {"methods.rft.learning_rate", "methods.rft.seed", "training.pool"}),
        ("dpo-fast", {"methods.dpo.learning_rate"}),
        ("dpo-annealed2", {"training.schedule_steps", "methods.dpo.seed"}),
        ("offline_grpo-bias1", {"methods.offline_grpo.bias"}),
        ("dpo-share3", {"training.mixed_share"}),
        ("rift-variant1", {"methods.rift.variant"}),
        ("sft-sgd", {"training.optimizer", "methods.sft.learning_rate"}),
    ],
)
def test_a_rung_or_a_dial_changes_one_thing(name, changed):
    before = TINY.flat()
    after = load_profile("tiny", dict(variations(TINY)[name].changes)).flat()
    assert {key for key in before if before[key] != after[key]} == changed


def test_the_ladder_ends_at_the_rate_of_dpo():
    after = load_profile("tiny", dict(variations(TINY)["sft-rate"].changes))
    assert after.training_of("sft").learning_rate == TINY.training_of("dpo").learning_rate
    fast = load_profile("tiny", dict(variations(TINY)["dpo-fast"].changes))
    assert fast.training_of("dpo").learning_rate == TINY.training_of("sft").learning_rate


def test_replays_start_where_a_training_keeps_its_adapter():
    found = variations(TINY)
    starts = {v.replay.step for v in found.values() if v.replay and v.method == "sft"}
    assert starts - {0} <= {*TINY.training_of("sft").snapshot_steps}
    assert max(starts) == TINY.training_of("sft").steps // 2
    assert found["sft-replay0"].adapters == ["sft-from0-raw", "sft-from0-sgd", "sft-from0-adam"]
    names = [name for variation in found.values() for name in variation.adapters]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_jobs_make_every_training_once_and_in_order(size):
    profile = load_profile("tiny", {"spread.per_job": size})
    made = [variation.name for part in jobs(profile).values() for variation in part]
    assert made == list(variations(profile))
    assert max(len(part) for part in jobs(profile).values()) <= size


def test_annealed_means_that_the_schedule_ends_with_the_steps():
    found = variations(TINY)["sft-annealed"]
    training = load_profile("tiny", dict(found.changes)).training_of("sft")
    assert training.schedule_steps == training.steps


def test_repetitions_of_one_order_have_one_order():
    found = variations(TINY)
    for other in ("sft-annealed2", "sft-first2", "sft-mixed2"):
        for key, seed in found["sft-order2"].changes.items():
            assert found[other].changes[key] == seed


def test_no_two_variations_share_their_seeds():
    seeds = [
        tuple(sorted(variation.changes.items()))
        for variation in variations(TINY).values()
        if kind_of(variation) in ("order", "draw")
    ]
    assert len(seeds) == len(set(seeds))


def test_every_cell_is_made_of_trainings_that_exist():
    known = {*variations(TINY), *METHODS, "sft-order"}
    found = cells(TINY)
    assert Counter(cell.kind for cell in found) == {"run": 1, "order": 4, "draw": 3, "student": 3}
    for cell in found:
        assert set(cell.adapters) == {*METHODS, "sft-order"}
        assert set(cell.adapters.values()) <= known
        assert cell.adapters["sft-order"] != cell.adapters["sft"]


def test_the_yardstick_of_a_cell_has_its_own_a_and_base():
    trainings = variations(TINY)
    for cell in cells(TINY):
        if cell.kind in ("draw", "student"):
            one, two = (trainings[cell.adapters[role]] for role in ("sft", "sft-order"))
            assert one.changes.get("lora.seed") == two.changes.get("lora.seed")
            assert one.student == two.student == cell.student
            assert one.changes.get("methods.sft.seed") != two.changes.get("methods.sft.seed")


def test_only_generated_problems_can_raise_another_student():
    assert students(TINY) == {1: STUDENT_SEED, 2: STUDENT_SEED + 1, 3: STUDENT_SEED + 2}
    assert students(load_profile("qwen3-4b", {"spread.students": 3})) == {}
    assert students(load_profile("smollm2-135m")) == {}
