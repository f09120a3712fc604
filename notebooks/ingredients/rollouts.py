# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (rollouts)=
# # Verified rollouts
#
# **The answer.** Of the {number}`rollouts.groups:,` groups {number}`rollouts.all_right:.0%` are all right and {number}`rollouts.mixed:.0%` mixed. The mixed ones, {number}`rollouts.pairs` pairs, are all that a contrast between right and wrong can be drawn from.
#
# **What you will learn.** How one pool of solutions is sampled from the teacher and checked, and how the same pool becomes rows for five objectives and pairs for the sixth. What the pool is like, before any training: how many groups are *mixed*, with right and wrong solutions in them, and how many solutions are copies of one another.
#
# ## One pool for all
#
# For each of {number}`rollouts.groups:,` prompts the teacher writes {number}`profile.rollouts.k` solutions at temperature {number}`profile.rollouts.temperature`. A solution is called a rollout, the solutions of one prompt a group. A verifier compares the last boxed answer with the true one: reward 1 if they are equal, otherwise 0. Nobody looks at the steps in between, so a rollout with a wrong step and a lucky answer gets reward 1. An answer that takes the verifier too long to work out counts as wrong, and is counted apart.
#
# The paper does the same with four rollouts per prompt of a much larger teacher, on {ref}`the prompts of a public data set <tab-protocol>`. Neither the student's own solutions nor the gold solutions are used.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
prompts: int | None = None  # prompts to train on; None: the profile's value
k: int | None = None  # rollouts of each prompt; None: the profile's value
temperature: float | None = None  # of the teacher's sampling; None: the profile's value

# %% tags=["hide-input"]
from itertools import takewhile

import pandas as pd

from finetune_geometry.figures.method_plots import group_outcomes
from finetune_geometry.figures.palette import set_style
from finetune_geometry.methods.losses import group_advantage
from finetune_geometry.methods.rows import (
    advantage,
    preference_pairs,
    row_lengths,
    row_order,
    unpaired_rows,
)
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.card_table import card_table, shorten
from finetune_geometry.rollouts.pool import load_rollouts, sample_rollouts
from finetune_geometry.runs.keys import rows_hash
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
chosen = {"prompts": prompts, "k": k, "temperature": temperature}
this_run = Run.open(profile, run, {f"rollouts.{key}": value for key, value in chosen.items()})

# %%
card = sample_rollouts(this_run)
rows = load_rollouts(this_run)
card_table(card)

# %% [markdown]
# The table has the same rows wherever the rollouts come from: a model at hand, a server, or a public data set of generations (here `rollouts.source` is *{number}`profile.rollouts.source`*). Problems that repeat an earlier one or stand in a test set go before anything is sampled. A group that the student cannot read whole goes as a whole: if wrong rollouts are the longer ones, to drop only what is too long would raise the share of right ones.

# %% mystnb={"figure": {"name": "fig-groups", "caption": "How often do the rollouts of one prompt disagree? In {number}`rollouts.mixed:.1%` of the groups some are right and some are wrong; {number}`rollouts.all_right:.1%` are all right and {number}`rollouts.all_wrong:.1%` all wrong. The paper does not state its share; about ten in a hundred follows from its numbers of rows and pairs, if every mixed group gave one pair. In the default profile, temperature and length of the problems were set to come near that, before any training. The bars say nothing about why a rollout is wrong."}, "image": {"alt": "Bars: share of groups with 0 to 4 right rollouts, split by the length of the problem."}} tags=["hide-input"]
group_outcomes(rows)
# %% [markdown]
# ## A mixed group
#
# Here are the first wrong and the first right rollout of a mixed group. Look for the first line in which the two differ. And read the right one closely, too: the verifier saw only its last number.

# %%
share = rows.groupby("group")["reward"].mean()
mixed = share[(share > 0) & (share < 1)]
group = mixed.index[0] if len(mixed) else share.index[0]
shown = rows[rows["group"] == group]
print(shown["question"].iloc[0], "  [answer:", shown["answer"].iloc[0] + "]")
for reward, rollout in shown.groupby("reward").first()["text"].items():
    print(f"\nreward {reward:.0f}\n{shorten(rollout)}")

# %% [markdown]
# ## Copies
#
# How often does the teacher say the same thing twice? In this pool {number}`rollouts.repeated:.1%` of the rollouts are, word for word, an earlier rollout of their group, and in {number}`rollouts.identical:.1%` of the groups all {number}`profile.rollouts.k` are one text. Three things follow.
#
# - **There are fewer different texts than rows.** A "row that the training has not met before" may be a copy of one that it has met.
# - **A copy weighs like an original.** A text that a training meets three times pulls three times. Nobody chose these weights; the teacher's certainty did.
# - **Published RFT removes copies.** It keeps one solution for each list of equations {cite}`yuan2023scaling`; in the paper we found no such step. The variant `distinct` of [RFT](../methods/rft) keeps one rollout for each text, which removes fewer.
#
# ## What each objective sees of it
#
# The five unpaired objectives read every rollout of the pool, in the same order, and differ in a weight. DPO reads one pair of each mixed group: its first right and its first wrong rollout. This is what they make of the group above:

# %%
settings = this_run.profile.methods
group_size = rows.groupby("group").size().max()
weights = pd.DataFrame({"reward": shown["reward"]})
weights[METHODS["sft"]] = 1.0
weights[METHODS["rft"]] = shown["reward"]
weights[METHODS["dft"]] = "its own probability"
weights[METHODS["rift"]] = 1 - settings["rift"].reward_lambda * shown["reward"]
if group_size > 1:
    weights[METHODS["offline_grpo"]] = advantage(
        shown.reset_index(drop=True), group_advantage, settings["offline_grpo"].bias
    )
weights[METHODS["dpo"]] = [
    {1.0: "chosen", 0.0: "rejected"}[reward] if len(mixed) and not repeated else "not used"
    for reward, repeated in zip(shown["reward"], shown.duplicated("reward"), strict=True)
]
numeric = [METHODS[name] for name in METHODS if name not in ("dft", "dpo")]
formats = dict.fromkeys([column for column in numeric if column in weights], "{:.2f}")
show_table(weights, {"reward": "{:.0f}", **formats})

# %% [markdown]
# "The same data" therefore means the same pool. In rows or pairs, and in passes over them, DPO need not be like the other five:

# %%
pairs = preference_pairs(rows) if len(mixed) else rows.iloc[:0]
seen = {name: this_run.profile.training_of(name) for name in METHODS}
amount = {name: len(pairs) if name == "dpo" else len(rows) for name in METHODS}
pd.DataFrame(
    {
        label: {
            "rows or pairs": f"{amount[name]:,}",
            "updates": seen[name].steps,
            "rows or pairs in an update": seen[name].batch_size,
            "passes over them": f"{seen[name].steps * seen[name].batch_size / max(amount[name], 1):.2f}",
        }
        for name, label in METHODS.items()
    }
).T

# %% tags=["remove-cell"]
# How much of a chosen rollout is a beginning that the rejected one has, too: it cancels in DPO.
begun = [
    sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(*texts, strict=False)))
    for texts in (pairs[["chosen_ids", "rejected_ids"]].to_numpy() if len(mixed) else [])
]
chosen_tokens = sum(map(len, pairs["chosen_ids"])) if len(mixed) else 0
# Which rollouts of the mixed groups a training comes to: only a group that is met whole has
# weights in the contrast of Offline GRPO that sum to zero.
lengths = row_lengths(unpaired_rows(rows, "sft", settings["sft"])).max(1)
order = row_order(lengths, seen["offline_grpo"])
met = pd.Series(rows.index.isin(order), rows.index).groupby(rows["group"]).mean()[mixed.index]
this_run.record(
    "rollouts",
    {
        **{
            key: card[key] for key in ("rows", "groups", "heldout_rows", "mean_reward", "all_right")
        },
        **{key: card[key] for key in ("mixed", "all_wrong", "mean_tokens", "max_tokens")},
        **{key: card[key] for key in ("repeated", "identical", "unverifiable")},
        "pairs": len(pairs),
        "shared_prefix": sum(begun) / chosen_tokens if chosen_tokens else float("nan"),
        "root_mean_reward": card["mean_reward"] ** 0.5,
        "mixed_whole": int((met == 1).sum()),
        "mixed_unseen": int((met == 0).sum()),
        "pairs_sha256": rows_hash(pairs)[:16],
        "pool_sha256": card["pool_sha256"][:16],
        "seconds": card["seconds"],
    },
)

# %% [markdown]
# ## How to read the share of mixed groups
#
# In an all-right group SFT, RFT and Offline GRPO pull at the same tokens, with different strengths. Only wrong rollouts separate SFT from RFT, and only mixed groups let Offline GRPO push anything away. Where few rollouts are wrong, and their gradients are not much longer than the others', the first gradients of SFT, RFT and the printed RIFT are close by algebra alone ({prf:ref}`prop-angle`). Whoever reads "the methods are nearly collinear" should ask for these shares first. They do not tell how far apart the trained deltas end: that also depends on which rows a run comes to, and with [another order of the rows](../controls/reshuffled) SFT has a cosine of {number}`cosine.sft_reshuffled:.2f` with itself.
#
# Below one pass a run does not come to all the rows, hence not to all of a group. SFT makes {number}`sft.epochs:.2f` passes here. Of the {number}`rollouts.pairs` mixed groups a training of the five unpaired objectives meets {number}`rollouts.mixed_whole` with all their rollouts and {number}`rollouts.mixed_unseen` with none. DPO does not have this problem: it meets its pairs whole. But {number}`rollouts.shared_prefix:.0%` of the tokens of its right rollouts are a beginning that the wrong one shares, and that cancels in its gradient ({prf:ref}`prop-prefix`).
#
# ## One thing to vary
#
# `temperature`: does the teacher err less at 0.7, and agree more with itself? Use another `run`, so that the pool of this one stays as it is.
#
# ```
# papermill notebooks/ingredients/rollouts.ipynb out.ipynb -p run cooler -p temperature 0.7
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-rollouts
#
# *Derivation · ★ · 5 minutes*
#
# Suppose every rollout is right with the same probability $p$, independently. Which share of groups of four is mixed? Compare with the share in this pool at its own $p$ = {number}`rollouts.mean_reward:.3f`. Why is the real share lower?
# ```
#
# ```{dropdown} Hint
# A group is not mixed if it is all right or all wrong.
# ```
#
# ````{solution} ex-rollouts
# :label: sol-rollouts
# :class: dropdown
#
# It is $1 - p^4 - (1 - p)^4$. The real share is lower because prompts differ: on easy ones the teacher is nearly always right, on hard ones often wrong, and errors gather in the hard groups.
# ````
#
# ## Take-away
#
# One pool, one order, one verifier. {number}`rollouts.pairs` of {number}`rollouts.groups:,` groups carry all the contrast that Offline GRPO and DPO can draw on. And a good part of the rows may be copies: ask for that share, too.
