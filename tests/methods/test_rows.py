"""Training rows of each objective from one pool, and the order they come in."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from toy import REWARDS, toy_pool
from trl.trainer.dpo_trainer import DataCollatorForPreference

from finetune_geometry.methods.losses import group_advantage, group_advantage_krafton
from finetune_geometry.methods.rows import (
    advantage,
    batch_facts,
    distinct_reward,
    preference_pairs,
    row_lengths,
    row_order,
    unpaired_rows,
)
from finetune_geometry.methods.trainers import RowCollator
from finetune_geometry.runs.keys import rows_hash
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.sections import METHOD_SECTIONS

UNPAIRED = [method for method in METHODS if method != "dpo"]


@pytest.fixture(scope="module")
def pool():
    pool = toy_pool()
    return pool[pool["split"] == "train"].reset_index(drop=True)


@pytest.mark.parametrize("method", UNPAIRED)
def test_every_unpaired_objective_has_all_rows_in_the_same_order(pool, method):
    rows = unpaired_rows(pool, method, METHOD_SECTIONS[method]())
    assert len(rows) == len(pool)
    for row, (_, source) in zip(rows.itertuples(), pool.iterrows(), strict=True):
        prompt, completion = list(source["prompt_ids"]), list(source["completion_ids"])
        assert row.input_ids == prompt + completion
        assert row.labels == [-100] * len(prompt) + completion
        assert row.labels[-1] == 1  # the end of the text is learnt too


def weight_of(pool, method, **own):
    return unpaired_rows(pool, method, METHOD_SECTIONS[method](**own))["weight"].to_numpy()


def test_weights_are_what_each_objective_needs(pool):
    reward = pool["reward"].to_numpy()
    for method in ("sft", "rft", "dft", "rift"):
        assert weight_of(pool, method).tolist() == reward.tolist()
    paper = unpaired_rows(pool, "offline_grpo", METHOD_SECTIONS["offline_grpo"]())[
        "weight"
    ].to_numpy()
    np.testing.assert_allclose(paper[:8], [0.1] * 4 + [0.35, -0.65, 0.35, 0.35], atol=1e-15)
    np.testing.assert_allclose(paper[8:12], 0.1)  # wrong answers, imitated
    krafton = unpaired_rows(
        pool, "offline_grpo", METHOD_SECTIONS["offline_grpo"](variant="krafton")
    )["weight"].to_numpy()
    np.testing.assert_allclose(krafton[:8], [0.1] * 4 + [0.25, -0.75, 0.25, 0.25], atol=1e-15)
    np.testing.assert_allclose(krafton[8:12], 0)


def test_advantages_do_not_depend_on_the_order_of_the_rows(pool):
    mixed = pool.sample(frac=1, random_state=0)
    for formula in (group_advantage, group_advantage_krafton):
        straight, shuffled = advantage(pool, formula, 0.1), advantage(mixed, formula, 0.1)
        np.testing.assert_array_equal(shuffled, straight[mixed.index.to_numpy()])


def test_distinct_rewards_count_a_text_once_in_its_group(pool):
    right = [sum(rewards) for rewards in REWARDS]
    distinct = distinct_reward(pool)
    sums = [distinct[pool["group"] == group].sum() for group in range(len(REWARDS))]
    assert sums == [min(1, count) for count in right]  # gold texts are all the same
    assert (distinct <= pool["reward"]).all()
    rows = unpaired_rows(pool, "rft", METHOD_SECTIONS["rft"](variant="distinct"))
    assert rows["weight"].tolist() == distinct.tolist()


def test_a_pair_is_the_first_right_and_the_first_wrong_rollout_of_a_mixed_group(pool):
    pairs = preference_pairs(pool)
    assert list(pairs) == ["group", "prompt_ids", "chosen_ids", "rejected_ids"]
    mixed = [g for g, rewards in enumerate(REWARDS) if 0 < sum(rewards) < len(rewards)]
    assert pairs["group"].tolist() == mixed
    for pair in pairs.itertuples():
        group = pool[pool["group"] == pair.group]
        for ids, reward in ((pair.chosen_ids, 1), (pair.rejected_ids, 0)):
            first = group[group["reward"] == reward].iloc[0]
            assert list(ids) == list(first["completion_ids"])
            assert list(pair.prompt_ids) == list(first["prompt_ids"])


def test_a_pair_is_of_whole_rollouts_whatever_is_missing(pool):
    """A value that one rollout lacks is not taken from the next one."""
    spoilt = pool.assign(text=pool["text"].where(pool["sample"] > 1))
    first = spoilt.index[(spoilt["group"] == 1) & (spoilt["sample"] == 0)]
    spoilt.loc[first, ["completion_ids", "steps"]] = None
    pair = preference_pairs(spoilt).set_index("group").loc[1]
    assert pair["chosen_ids"] is None
    assert list(pair["rejected_ids"]) == list(pool["completion_ids"][first[0] + 1])


def test_graded_rewards_make_pairs_of_the_best_and_the_worst(pool):
    graded = pool[pool["group"] < 4].copy()
    graded["reward"] = [0.5, 1, 0, 1, 0.5, 0.5, 0, 0, 1, 0.5, 0.5, 1, 0.5, 0.5, 0.5, 0.5]
    pairs = preference_pairs(graded)
    assert pairs["group"].tolist() == [0, 1, 2]  # the fourth has no better and no worse one
    chosen, rejected = [1, 4, 8], [2, 6, 9]
    for pair, best, worst in zip(pairs.itertuples(), chosen, rejected, strict=True):
        assert list(pair.chosen_ids) == list(graded["completion_ids"].iloc[best])
        assert list(pair.rejected_ids) == list(graded["completion_ids"].iloc[worst])
        assert list(pair.prompt_ids) == list(graded["prompt_ids"].iloc[best])


def test_pairs_do_not_depend_on_the_labels_of_the_rows(pool):
    relabelled = pool.set_axis(np.zeros(len(pool), dtype=int))
    assert rows_hash(preference_pairs(relabelled)) == rows_hash(preference_pairs(pool))


def test_one_rollout_a_prompt_is_refused_where_a_contrast_is_needed(pool):
    single = pool.groupby("group").head(1)
    with pytest.raises(UserError, match=r"K = 1.*offline_grpo.*rollouts\.k"):
        unpaired_rows(single, "offline_grpo", METHOD_SECTIONS["offline_grpo"]())
    with pytest.raises(UserError, match=r"K = 1.*dpo.*rollouts\.k"):
        preference_pairs(single)
    assert len(unpaired_rows(single, "sft", METHOD_SECTIONS["sft"]())) == len(single)


def test_no_mixed_group_is_refused(pool):
    plain = pool[pool["group"].isin([0, 2, 3])]
    with pytest.raises(UserError, match=r"none of the 3 groups is mixed.*dpo.*temperature"):
        preference_pairs(plain)


def test_the_hash_sees_tokens_rewards_and_order(pool):
    before = rows_hash(pool)
    assert before == rows_hash(pool.copy())
    changed = pool.copy()
    changed.loc[3, "reward"] = 0.5
    other = pool.copy()
    other.at[3, "completion_ids"] = [*other.at[3, "completion_ids"][:-1], 7]
    moved = pool.copy()  # a token goes from one column to the next
    moved.at[0, "prompt_ids"] = pool.at[0, "prompt_ids"][:-1]
    moved.at[0, "completion_ids"] = [pool.at[0, "prompt_ids"][-1], *pool.at[0, "completion_ids"]]
    hashes = [rows_hash(p) for p in (pool, pool[::-1], changed, other, moved)]
    assert len(set(hashes)) == 5
    assert rows_hash(pool.assign(text="other words", steps=1)) == before


def test_the_hash_of_training_rows_sees_their_tokens(pool):
    rows = unpaired_rows(pool, "sft", METHOD_SECTIONS["sft"]())
    other = rows.copy()
    other.at[3, "input_ids"] = [7, *other.at[3, "input_ids"][1:]]
    unlearnt = rows.copy()
    unlearnt.at[3, "labels"] = [-100, *unlearnt.at[3, "labels"][:-1]]
    assert len({rows_hash(r) for r in (rows, other, unlearnt)}) == 3


@pytest.fixture
def training():
    return load_profile("tiny", {"training.steps": 60, "training.batch_size": 8}).training


def by_batch(order, training):
    return np.array(order).reshape(training.steps, training.batch_size)


def test_every_row_comes_once_a_pass(training):
    lengths = np.random.default_rng(0).integers(50, 300, 160)  # 480 rows: three passes
    order = row_order(lengths, training)
    assert len(order) == 60 * 8
    for one in range(3):
        assert sorted(order[160 * one : 160 * (one + 1)]) == list(range(160))


@pytest.mark.parametrize("rows", [8, 9, 11, 15, 16, 27, 177])
def test_no_batch_holds_a_row_twice(training, rows):
    """Passes that do not divide into batches included: copies of DPO's pairs met there."""
    lengths = np.random.default_rng(0).integers(50, 300, rows)
    order = row_order(lengths, training)
    assert all(len(set(batch)) == 8 for batch in by_batch(order, training).tolist())
    facts = batch_facts(lengths, order, training, 32)
    assert facts["distinct_rows_per_batch"] == {"least": 8, "mean": 8}
    counts = np.bincount(order, minlength=rows)
    passes = -(-60 // (rows // 8))
    assert counts.max() <= passes
    assert counts.min() > 0  # what a pass leaves out is drawn anew each time


def test_a_pool_smaller_than_a_batch_fills_it_evenly(training):
    order = row_order(np.array([10, 20, 30]), training)
    assert len(order) == 480
    for batch in by_batch(order, training):
        counts = np.bincount(batch, minlength=3)
        assert counts.max() - counts.min() == 1
    facts = batch_facts(np.array([10, 20, 30]), order, training, 32)
    assert facts["distinct_rows_per_batch"] == {"least": 3, "mean": 3}


def test_the_order_is_that_of_the_seed(training):
    lengths = np.random.default_rng(0).integers(50, 300, 200)
    other = load_profile("tiny", {"training.steps": 60, "training.batch_size": 8,
                                  "training.seed": 7}).training  # fmt: skip
    assert row_order(lengths, training) == row_order(lengths, training)
    assert row_order(lengths, training) != row_order(lengths, other)


def test_a_batch_is_a_uniform_draw_whatever_the_lengths(training):
    """Lengths decide the places in a batch and nothing else."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(50, 300, 480)
    batches = by_batch(row_order(lengths, training), training)
    assert (np.diff(lengths[batches], axis=1) >= 0).all()  # alike lengths share a micro-batch
    shuffled = by_batch(row_order(rng.permutation(lengths), training), training)
    assert [set(b) for b in batches.tolist()] == [set(b) for b in shuffled.tolist()]
    # The mean length of a batch varies as that of a random draw of 8 does, not as sorted ones do.
    means = lengths[batches].mean(1)
    assert means.std() == pytest.approx(lengths.std() / np.sqrt(8), rel=0.3)


def test_the_padding_of_a_card_is_that_of_the_collators(training):
    """Counted in the batches that TRL's collators make of rows and of pairs."""
    rng = np.random.default_rng(0)
    micro = dataclasses.replace(training, micro_batch_size=4)

    def ids(n):
        return [5] * int(n)

    a, b, c = rng.integers(5, 90, (3, 64))
    pairs = pd.DataFrame(
        {"prompt_ids": map(ids, a), "chosen_ids": map(ids, b), "rejected_ids": map(ids, c)}
    )
    rows = pd.DataFrame({"input_ids": map(ids, a), "labels": map(ids, a), "weight": 1.0})
    collators = {
        "rows": RowCollator(0, pad_to_multiple_of=32),
        "pairs": DataCollatorForPreference(0, pad_to_multiple_of=32),
    }
    for table, collator in zip((rows, pairs), collators.values(), strict=True):
        sizes = row_lengths(table)
        order = row_order(sizes.max(1), micro)
        masks = [
            collator(table.iloc[order[i : i + 4]].to_dict("records"))["attention_mask"]
            for i in range(0, len(order), 4)
        ]
        filled, places = sum(m.sum().item() for m in masks), sum(m.numel() for m in masks)
        assert batch_facts(sizes, order, micro, 32)["padding"] == pytest.approx(1 - filled / places)
        assert 0.05 < 1 - filled / places < 0.6
