"""Rows: the pool of rollouts as the training rows of each objective, and the order they come in."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
import torch

from finetune_geometry import objectives
from finetune_geometry.profiles import Method, Training, UserError


def rows_hash(rows: pd.DataFrame) -> str:
    """SHA-256 of token ids and rewards, in row order: equal hashes mean equal training data."""
    digest = hashlib.sha256()
    known = "prompt_ids completion_ids chosen_ids rejected_ids input_ids labels weight reward"
    columns = [column for column in known.split() if column in rows]
    for row in rows[columns].itertuples(index=False):
        for value in row:
            digest.update(np.asarray(value, dtype=np.float64).tobytes() + b"|")
    return digest.hexdigest()


def distinct_reward(rows: pd.DataFrame) -> np.ndarray:
    """The reward, with 0 for a text that its group has already: (rows,)."""
    repeated = rows.duplicated(["group", "text"])
    return np.where(repeated, 0.0, rows["reward"])


def advantage(rows: pd.DataFrame, formula: Any, bias: float) -> np.ndarray:
    """Group advantages, (rows,); `formula` is one of `objectives.group_advantage*`."""
    k = rows.groupby("group").size()
    if k.max() == 1:
        raise UserError(
            "every group has one rollout (K = 1), so an advantage within a group is always 0: "
            "offline_grpo: set rollouts.k to 2 or more and sample again"
        )
    result = np.empty(len(rows))
    for positions in rows.groupby("group").indices.values():
        reward = torch.tensor(rows["reward"].to_numpy()[positions], dtype=torch.float64)
        result[positions] = formula(reward[None], bias)[0].numpy()
    return result


def preference_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """DPO's pairs: the first right and the first wrong rollout of each mixed group.

    Columns: group, prompt_ids, chosen_ids, rejected_ids.
    """
    if rows.groupby("group").size().max() == 1:
        raise UserError(
            "every group has one rollout (K = 1), so no prompt has a right and a wrong one: dpo: "
            "set rollouts.k to 2 or more and sample again"
        )
    right = rows[rows["reward"] == 1].groupby("group").first()
    wrong = rows[rows["reward"] == 0].groupby("group").first()
    both = right.merge(wrong, on="group", suffixes=("", "_wrong"))
    if both.empty:
        raise UserError(
            f"none of the {rows['group'].nunique()} groups is mixed, so there is no pair: dpo: "
            "raise rollouts.temperature, rollouts.k or rollouts.prompts and sample again"
        )
    names = {"completion_ids": "chosen_ids", "completion_ids_wrong": "rejected_ids"}
    return both.reset_index().rename(columns=names)[
        ["group", "prompt_ids", "chosen_ids", "rejected_ids"]
    ]


def unpaired_rows(rows: pd.DataFrame, method: str, settings: Method) -> pd.DataFrame:
    """Rollouts as training rows: input_ids, labels (-100 on the prompt), weight.

    `weight` is what the objective needs to know of a row: reward, distinct reward or advantage.
    """
    if method == "offline_grpo":
        krafton = settings.variant == "krafton"
        formula = objectives.group_advantage_krafton if krafton else objectives.group_advantage
        weight = advantage(rows, formula, settings.bias)
    elif method == "rft" and settings.variant == "distinct":
        weight = distinct_reward(rows)
    else:
        weight = rows["reward"].to_numpy(dtype=np.float64)
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


def row_order(lengths: np.ndarray, training: Training) -> list[int]:
    """Indices of the rows of every step: (steps * batch_size,).

    Epochs are shuffled with `training.seed`.  Within stretches of 20 batches rows of similar
    length go together, which halves the padding; the batches of a stretch are shuffled again.
    """
    rng, batch = np.random.default_rng(training.seed), training.batch_size
    wanted = training.steps * batch
    shuffled = np.concatenate(
        [rng.permutation(len(lengths)) for _ in range(-(-wanted // len(lengths)))]
    )[:wanted]
    order: list[int] = []
    for start in range(0, wanted, 20 * batch):
        stretch = shuffled[start : start + 20 * batch]
        batches = np.sort_complex(lengths[stretch] + 1j * np.arange(len(stretch))).imag.astype(int)
        batches = stretch[batches].reshape(-1, batch)
        order += rng.permutation(batches).ravel().tolist()
    return order
