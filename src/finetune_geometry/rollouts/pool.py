"""The pool of rollouts: sampled shard by shard, verified, in groups, described.

One pool feeds all six objectives.  A group is the K rollouts of one prompt; a group is mixed if
some of its rollouts are right and some wrong.  Held-out groups (split "heldout") are sampled in
the same way and never trained on.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.models.loading import load_model
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.rollouts.teacher import sample_shard
from finetune_geometry.runs.keys import rollouts_key, rows_hash
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError

POOL, CARD = "rollouts/rollouts.parquet", "rollouts/card.json"
SHARD_PROMPTS = 256  # prompts sampled between two writes: what a killed run loses at most


def sample_rollouts(run: Run) -> dict[str, Any]:
    """Sample, verify and write the run's pool of rollouts; returns its card.

    Written shard by shard under `rollouts/shards/`, so that a killed run goes on where it was.
    The pool's columns: prompt (problem id), question, group, sample, split ("train" or "heldout"),
    steps, prompt_ids, completion_ids, text, answer, reward (0 or 1), unverifiable (the check was
    given up: reward 0).
    """
    settings = run.profile.rollouts
    problems = load_problems(run.profile, "rollouts")
    wanted = settings.prompts + settings.heldout_prompts
    if len(problems) < wanted:
        raise UserError(
            f"{wanted} prompts asked for, {len(problems)} problems at hand: rollouts: raise "
            "problems.rollouts or lower rollouts.prompts"
        )
    problems = problems[:wanted]
    key = rollouts_key(run.profile, problems, SHARD_PROMPTS)
    begun, shards, model, tokenizer = time.perf_counter(), [], None, None
    for first in range(0, wanted, SHARD_PROMPTS):
        name = f"rollouts/shards/{key}-{first:06d}.parquet"
        if not run.path(name).exists():
            if model is None:
                model, tokenizer = load_model(run.profile, "teacher")
            part = problems[first : first + SHARD_PROMPTS]
            run.write_table(name, sample_shard(model, tokenizer, part, first, run.profile))
            done, seconds = first + len(part), time.perf_counter() - begun
            print(f"{done} of {wanted} prompts sampled, {seconds:.0f} s", flush=True)
        shards.append(run.read_table(name))
    pool = pd.concat(shards, ignore_index=True)
    heldout = pool["group"] >= settings.prompts
    pool.insert(4, "split", np.where(heldout, "heldout", "train"))
    run.write_table(POOL, pool)
    card = describe(pool)
    card |= {
        "temperature": settings.temperature,
        "k": settings.k,
        "teacher": run.profile.model.teacher,
        "seconds": time.perf_counter() - begun,
        "pool_sha256": rows_hash(pool),
    }
    run.write_json(CARD, card)
    return card


def describe(pool: pd.DataFrame) -> dict[str, Any]:
    """Counts of the training rollouts, shares of all-right, mixed and all-wrong groups, duplicates.

    `repeated` is the share of rollouts whose text an earlier one of their group has, `identical`
    the share of groups of one text only; `unverifiable` counts the checks that were given up.
    """
    train = pool[pool["split"] == "train"]
    groups = train.groupby("group")
    share = groups["reward"].mean()
    lengths = train["completion_ids"].map(len)
    return {
        "rows": len(train),
        "groups": len(share),
        "heldout_rows": int((pool["split"] == "heldout").sum()),
        "mean_reward": float(train["reward"].mean()),
        "all_right": float((share == 1).mean()),
        "mixed": float(((share > 0) & (share < 1)).mean()),
        "all_wrong": float((share == 0).mean()),
        "pairs": int(((share > 0) & (share < 1)).sum()),
        "unverifiable": int(train["unverifiable"].sum()),
        "repeated": float(train.duplicated(["group", "text"]).mean()),
        "identical": float(groups["text"].nunique().eq(1).mean()),
        "mean_tokens": float(lengths.mean()),
        "max_tokens": int(lengths.max()),
    }


def load_rollouts(run: Run, split: str = "train") -> pd.DataFrame:
    """The run's rollouts of one split ("train" or "heldout"), sampled first if there are none."""
    if not run.path(POOL).exists():
        print("this run has no rollouts yet: sampling them first")
        sample_rollouts(run)
    pool = run.read_table(POOL)
    return pool[pool["split"] == split].reset_index(drop=True)
