"""The pool of rollouts: collected shard by shard, verified, in groups, described.

One pool feeds all six objectives.  A group is the K rollouts of one prompt; a group is mixed if
some of its rollouts are right and some wrong.  Held-out groups (split "heldout") are sampled in
the same way and never trained on.

The pool is text: whoever wrote it, the student reads it with its own tokenizer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.models.loading import load_tokenizer
from finetune_geometry.models.prompts import completion_ids, prompt_ids
from finetune_geometry.problems.answer_check import RIGHT, TOO_LONG, UNVERIFIABLE, judge_whole
from finetune_geometry.problems.cleaning import clean
from finetune_geometry.problems.problem import Problem
from finetune_geometry.problems.sources import exam_problems
from finetune_geometry.rollouts.sources import LENGTH, STOP, Rollout, open_source
from finetune_geometry.runs.keys import rows_hash
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile

POOL, CARD = "rollouts/rollouts.parquet", "rollouts/card.json"
SHARD_PROMPTS = 256  # prompts sampled between two writes: what a killed run loses at most


def sample_rollouts(run: Run) -> dict[str, Any]:
    """Collect, verify and write the run's pool of rollouts; returns its card.

    Written shard by shard under `rollouts/shards/`, so that a killed run goes on where it was.
    The pool's columns: prompt (problem id), question, group, sample, split ("train" or "heldout"),
    steps (0: not known), text, finish ("stop" or "length"), source (who wrote it), answer, reward
    (0 or 1), verdict ("right", "wrong", "too long", "unverifiable").
    """
    settings, begun = run.profile.rollouts, time.perf_counter()
    source = open_source(run)
    generated = run.profile.problems.source == "generated" and settings.source != "traces"
    problems, left_out = clean(
        source.problems(), exam_problems(run.profile), by_words=not generated
    )
    wanted = settings.prompts + settings.heldout_prompts
    if len(problems) < wanted:
        raise UserError(
            f"{wanted} prompts asked for, {len(problems)} problems at hand: rollouts: raise "
            "problems.rollouts or lower rollouts.prompts"
        )
    problems, shards = problems[:wanted], []
    key = source.key(problems, SHARD_PROMPTS)
    for first in range(0, wanted, SHARD_PROMPTS):
        name = f"rollouts/shards/{key}-{first:06d}.parquet"
        if not run.path(name).exists():
            part = problems[first : first + SHARD_PROMPTS]
            run.write_table(name, judged(part, source.sample(part, first), first))
            done, seconds = first + len(part), time.perf_counter() - begun
            print(f"{done} of {wanted} prompts sampled, {seconds:.0f} s", flush=True)
        shards.append(run.read_table(name))
    pool = pd.concat(shards, ignore_index=True)
    heldout = pool["group"] >= settings.prompts
    pool.insert(4, "split", np.where(heldout, "heldout", "train"))
    pool, tokens = fitting(pool, run.profile)
    run.write_table(POOL, pool)
    card = describe(tokens)
    card |= {
        "temperature": settings.temperature,
        "k": settings.k,
        "source": settings.source,
        **source.facts(),
        "problems_left_out": left_out,
        "groups_left_out": wanted - int(pool["group"].nunique()),
        "seconds": time.perf_counter() - begun,
        "pool_sha256": rows_hash(tokens),
    }
    run.write_json(CARD, card)
    return card


def judged(problems: Sequence[Problem], found: list[list[Rollout]], first: int) -> pd.DataFrame:
    """Rollouts with their verdicts, one a row; `first` is the group number of the first problem."""
    rows = []
    for number, (problem, rollouts) in enumerate(zip(problems, found, strict=True), first):
        for sample, rollout in enumerate(rollouts):
            finished = rollout.finish == STOP
            verdict = judge_whole(rollout.text, problem.answer, finished)
            rows.append(
                {
                    "prompt": problem.id,
                    "question": problem.question,
                    "group": number,
                    "sample": sample,
                    "steps": problem.steps,
                    "text": rollout.text,
                    "finish": rollout.finish,
                    "source": rollout.source,
                    "answer": problem.answer,
                    "reward": float(verdict == RIGHT),
                    "verdict": verdict,
                }
            )
    return pd.DataFrame(rows)


def fitting(pool: pd.DataFrame, profile: Profile) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The groups that fit whole into the student's context, and the same as its tokens.

    A group goes as a whole: wrong rollouts are the longer ones, and to drop these alone would
    leave a pool of right ones.  One with an empty rollout goes, too: there is nothing to train on.
    Raises UserError if no group is left.
    """
    tokens = tokenised(pool, profile)
    lengths = tokens["prompt_ids"].map(len) + tokens["completion_ids"].map(len)
    fits = (lengths <= profile.model.max_length) & (pool["text"].str.strip() != "")
    fits = fits.groupby(pool["group"]).transform("all")
    if not fits[pool["split"] == "train"].any():
        raise UserError(
            f"no group fits into {profile.model.max_length} tokens: rollouts: raise "
            "model.max_length or lower rollouts.max_new_tokens (empty rollouts do not fit, either)"
        )
    return pool[fits].reset_index(drop=True), tokens[fits].reset_index(drop=True)


def tokenised(pool: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The pool and, of each rollout, `prompt_ids` and `completion_ids` as the student reads it.

    The end of a turn is among them only where the teacher came to it.
    """
    tokenizer = load_tokenizer(profile)
    questions = {
        question: prompt_ids(tokenizer, question, profile.prompt)
        for question in pool["question"].unique()
    }
    written = completion_ids(
        tokenizer, pool["text"].tolist(), (pool["finish"] == STOP).tolist(), profile.prompt
    )
    return pool.assign(
        prompt_ids=pool["question"].map(questions), completion_ids=pd.Series(written, pool.index)
    )


def describe(pool: pd.DataFrame) -> dict[str, Any]:
    """Counts of the training rollouts, shares of all-right, mixed and all-wrong groups, duplicates.

    `repeated` is the share of rollouts whose text an earlier one of their group has, `identical`
    the share of groups of one text only; `unverifiable` counts the checks that were given up,
    `too_long` the rollouts cut off without an answer, `unfinished` all that were cut off.
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
        "unverifiable": int((train["verdict"] == UNVERIFIABLE).sum()),
        "too_long": int((train["verdict"] == TOO_LONG).sum()),
        "unfinished": int((train["finish"] == LENGTH).sum()),
        "repeated": float(train.duplicated(["group", "text"]).mean()),
        "identical": float(groups["text"].nunique().eq(1).mean()),
        "mean_tokens": float(lengths.mean()),
        "max_tokens": int(lengths.max()),
    }


def load_rollouts(run: Run, split: str = "train") -> pd.DataFrame:
    """The run's rollouts of one split ("train" or "heldout") as text and as the student's tokens.

    Collected first if there are none.
    """
    if not run.path(POOL).exists():
        print("this run has no rollouts yet: sampling them first")
        sample_rollouts(run)
    pool = run.read_table(POOL)
    return tokenised(pool[pool["split"] == split].reset_index(drop=True), run.profile)
