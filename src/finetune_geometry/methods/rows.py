"""Rows: the pool of rollouts as the training rows of each objective, and the order they come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from finetune_geometry.methods import losses
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import OBJECTIVES
from finetune_geometry.settings.sections import METHOD_SECTIONS, Method, Training


def reward(rows: pd.DataFrame) -> np.ndarray:
    """The reward as it is: (rows,)."""
    return rows["reward"].to_numpy(dtype=np.float64)


def distinct_reward(rows: pd.DataFrame) -> np.ndarray:
    """The reward, with 0 for a text that its group has already: (rows,)."""
    repeated = rows.duplicated(["group", "text"])
    return np.where(repeated, 0.0, rows["reward"])


def advantage(rows: pd.DataFrame, formula: Any, bias: float) -> np.ndarray:
    """Group advantages, (rows,); `formula` is one of `losses.group_advantage*`."""
    k = rows.groupby("group").size()
    if k.max() == 1:
        raise UserError(
            "every group has one rollout (K = 1), so no advantage within a group tells two apart: "
            "offline_grpo: set rollouts.k to 2 or more and sample again"
        )
    result = np.empty(len(rows))
    for positions in rows.groupby("group").indices.values():
        rewards = torch.tensor(rows["reward"].to_numpy()[positions], dtype=torch.float64)
        result[positions] = formula(rewards[None], bias)[0].numpy()
    return result


def paper_advantage(rows: pd.DataFrame, bias: float) -> np.ndarray:
    """`losses.group_advantage` of each row: (rows,)."""
    return advantage(rows, losses.group_advantage, bias)


def krafton_advantage(rows: pd.DataFrame, bias: float) -> np.ndarray:
    """`losses.group_advantage_krafton` of each row: (rows,)."""
    return advantage(rows, losses.group_advantage_krafton, bias)


def selected(pool: pd.DataFrame, training: Training, seed: int = 0) -> pd.DataFrame:
    """The rollouts that `training.pool` and `training.mixed_share` leave of the pool.

    A prompt is mixed if its rewards are not all the same. Of a share, prompts of the kind that
    there is too much of are dropped, drawn by `seed`. Raises UserError where nothing is left.
    """
    rewards = pool.groupby("group")["reward"]
    mixed = rewards.max() > rewards.min()
    kept = set(mixed.index[mixed]) if training.pool == "mixed" else set(mixed.index)
    if training.mixed_share is not None:
        share = training.mixed_share
        yes, no = (mixed.index[mixed == kind].to_numpy() for kind in (True, False))
        rng = np.random.default_rng(seed)
        if len(yes) < share * len(mixed):  # too few mixed ones: fewer of the others
            no = rng.permutation(no)[: round(len(yes) * (1 - share) / share)]
        else:
            yes = rng.permutation(yes)[: round(len(no) * share / (1 - share))]
        kept &= {*yes, *no}
    if not kept:
        raise UserError(
            "no prompt is left: training.pool, training.mixed_share: the pool has "
            f"{int(mixed.sum())} mixed prompts of {len(mixed)}"
        )
    return pool[pool["group"].isin(kept)]


def preference_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """DPO's pairs: of each group the first rollout of highest and the first of lowest reward.

    With rewards 0 and 1 these are the first right and the first wrong one.  A group whose rewards
    are all the same is not mixed and gives no pair.  Columns: group (in ascending order),
    prompt_ids, chosen_ids, rejected_ids.  Raises `UserError` if no group is mixed.
    """
    if rows.groupby("group").size().max() == 1:
        raise UserError(
            "every group has one rollout (K = 1), so no prompt has a right and a wrong one: dpo: "
            "set rollouts.k to 2 or more and sample again"
        )
    rows = rows.reset_index(drop=True)
    rewards = rows.groupby("group")["reward"]
    mixed = rewards.max() > rewards.min()
    best = rows.loc[rewards.idxmax()[mixed]]
    worst = rows.loc[rewards.idxmin()[mixed]]
    if best.empty:
        raise UserError(
            f"none of the {rows['group'].nunique()} groups is mixed, so there is no pair: dpo: "
            "raise rollouts.temperature, rollouts.k or rollouts.prompts and sample again"
        )
    pairs = best[["group", "prompt_ids"]].reset_index(drop=True)
    return pairs.assign(
        chosen_ids=best["completion_ids"].to_numpy(),
        rejected_ids=worst["completion_ids"].to_numpy(),
    )


def unpaired_rows(rows: pd.DataFrame, method: str, settings: Method) -> pd.DataFrame:
    """Rollouts as training rows: input_ids, labels (-100 on the prompt), weight.

    `weight` is what the objective needs to know of a row: reward, distinct reward or advantage, by
    the function of this module that its variant names.
    """
    variant = OBJECTIVES[method].variant(settings.variant)
    function = globals()[variant.weight]
    weight = function(rows, **{name: settings.constants[name] for name in variant.weight_takes})
    prompts, completions = rows["prompt_ids"], rows["completion_ids"]
    return pd.DataFrame(
        {
            "input_ids": [[*p, *c] for p, c in zip(prompts, completions, strict=True)],
            "labels": [
                [-100] * len(p) + list(c) for p, c in zip(prompts, completions, strict=True)
            ],
            "weight": weight,
        }
    )


def row_lengths(rows: pd.DataFrame) -> np.ndarray:
    """Tokens of each training row, (rows, 1), or of both sequences of each pair, (pairs, 2)."""
    if "chosen_ids" not in rows:
        return rows["input_ids"].map(len).to_numpy()[:, None]
    prompt = rows["prompt_ids"].map(len).to_numpy()
    answers = [rows[name].map(len).to_numpy() for name in ("chosen_ids", "rejected_ids")]
    return np.stack([prompt + answer for answer in answers], axis=1)


def row_order(lengths: np.ndarray, training: Training) -> list[int]:
    """Indices of the rows of every step, step by step: (steps * batch_size,).

    A batch is a uniform draw from one pass over the rows, without replacement: each pass shuffles
    all rows (with `training.seed`) and cuts them into batches, and what fills no whole batch is
    left out of that pass. So no row meets a copy of itself in a batch. A pool that is smaller than
    a batch cannot do that: each batch then holds every row as often as any other, or once more.

    Within a batch rows stand in order of length, so that those of similar length share a
    micro-batch, which needs less padding. The gradient of a step is a sum over its rows: length
    decides nothing else.
    """
    rng, batch, rows = np.random.default_rng(training.seed), training.batch_size, len(lengths)
    batches: list[np.ndarray] = []
    while len(batches) < training.steps:
        if rows < batch:
            passes = [rng.permutation(rows) for _ in range(-(-batch // rows))]
            batches.append(np.concatenate(passes)[:batch])
        else:
            whole = rows // batch * batch
            batches += list(rng.permutation(rows)[:whole].reshape(-1, batch))
    return [
        int(row)
        for drawn in batches[: training.steps]
        for row in drawn[np.argsort(lengths[drawn], kind="stable")]
    ]


def positions(lengths: np.ndarray, multiple: int, packed: bool = False) -> int:
    """Positions that a micro-batch computes, padding included.

    lengths: tokens of its sequences, in any shape.
    multiple: sequences are padded to the longest of them, rounded up to this; packed: they stand
    one behind the other, and only their end is rounded up.
    """
    held = int(lengths.sum() if packed else lengths.max())
    return -(-held // multiple) * multiple * (1 if packed else lengths.size)


def micro_batches(
    lengths: np.ndarray, training: Training, multiple: int, process: int = 0, packed: bool = False
) -> list[list[int]]:
    """The rows of one step, places 0 to batch_size - 1, as the micro-batches of one process.

    lengths: tokens of each row of the step, (rows, sequences of a row), in the step's order.

    With `micro_batch_tokens` a micro-batch holds as many rows, one after another, as have at most
    so many `positions`; else it holds `micro_batch_size` rows. Of several processes each gets one
    row, or micro-batch, after another in turn: all then have long ones and short ones.
    Raises UserError if a single row has more positions.
    """
    limit, processes = training.micro_batch_tokens, training.processes
    if limit is None:
        size = training.micro_batch_size
        whole = [list(range(i, i + size)) for i in range(0, len(lengths), size)]
        return whole[process::processes]
    cut: list[list[int]] = []
    for row in range(process, len(lengths), processes):
        alone = positions(lengths[row], multiple, packed)
        if alone > limit:
            raise UserError(
                f"a row has {alone} positions, a micro-batch at most {limit}: "
                "training.micro_batch_tokens: raise it, or lower rollouts.max_new_tokens"
            )
        if cut and positions(lengths[[*cut[-1], row]], multiple, packed) <= limit:
            cut[-1].append(row)
        else:
            cut.append([row])
    return cut


def batch_facts(
    lengths: np.ndarray,
    order: Sequence[int],
    training: Training,
    multiple: int,
    packed: bool = False,
) -> dict[str, Any]:
    """What the batches of an `order` are made of, as a card tells it.

    lengths: tokens of each row, as of `row_lengths`, or (rows,).
    multiple, packed: as of `positions`.

    `distinct_rows_per_batch`: the least and the mean number of different rows in an optimiser step.
    `padding`: share of the positions computed that hold no token, between 0 and 1.
    """
    steps = np.asarray(order).reshape(-1, training.batch_size)
    distinct = [len(set(step)) for step in steps.tolist()]
    held = lengths.reshape(len(lengths), -1)[steps]  # (steps, rows, sequences of a row)
    computed = sum(
        positions(step[rows], multiple, packed)
        for step in held
        for process in range(training.processes)
        for rows in micro_batches(step, training, multiple, process, packed)
    )
    return {
        "distinct_rows_per_batch": {"least": min(distinct), "mean": float(np.mean(distinct))},
        "padding": float(1 - held.sum() / computed),
    }


def rows_of_card(
    card: Mapping[str, Any], pool: pd.DataFrame
) -> tuple[Method, pd.DataFrame, pd.DataFrame, list[int]]:
    """What a finished training read, made again from its card and the pool.

    Returns the settings of the loss, the rollouts that it was given, its rows, and their indices
    in the order of the steps.
    """
    method, made = card["objective"], card["settings"]
    loss, training = METHOD_SECTIONS[method](**made["method"]), Training(**made["training"])
    left = selected(pool, training)
    paired = OBJECTIVES[method].paired
    rows = preference_pairs(left) if paired else unpaired_rows(left, method, loss)
    return loss, left, rows, row_order(row_lengths(rows).max(1), training)
