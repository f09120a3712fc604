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
# **What you will learn.** How one pool of solutions is sampled from the teacher and checked, and how the same pool becomes rows for five objectives and pairs for the sixth. The share of *mixed* groups, in which some solutions are right and some are wrong, decides how different the objectives can be at all.
#
# ## One pool for all
#
# For each of {number}`rollouts.groups:,` prompts the teacher writes {number}`profile.rollouts.k` solutions at temperature {number}`profile.rollouts.temperature`. A solution is called a rollout, the solutions of one prompt a group. A verifier compares the last boxed answer with the true one: reward 1 if they are equal, otherwise 0. Nobody looks at the steps in between, so a rollout with a wrong step and a lucky answer gets reward 1.
#
# The paper does the same with four rollouts per prompt of a much larger teacher, on {ref}`the prompts of a public data set <tab-protocol>`. Neither the student's own solutions nor the gold solutions are used.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
prompts: int | None = None  # prompts to train on; None: the profile's value
k: int | None = None  # rollouts of each prompt; None: the profile's value
temperature: float | None = None  # of the teacher's sampling; None: the profile's value

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.method_plots import group_outcomes
from finetune_geometry.objectives import group_advantage
from finetune_geometry.palette import set_style
from finetune_geometry.profiles import METHODS
from finetune_geometry.records import Run, check_parameters
from finetune_geometry.rollouts import load_rollouts, sample_rollouts
from finetune_geometry.rows import advantage, preference_pairs, rows_hash
from finetune_geometry.tables import show_table

check_parameters(globals())
set_style()
chosen = {"prompts": prompts, "k": k, "temperature": temperature}
this_run = Run.open(profile, run, {f"rollouts.{key}": value for key, value in chosen.items()})

# %%
card = sample_rollouts(this_run)
rows = load_rollouts(this_run)
pd.Series(
    {
        "rollouts to train on": f"{card['rows']:,}",
        "held-out rollouts, never trained on": f"{card['heldout_rows']:,}",
        "share of right rollouts": f"{card['mean_reward']:.1%}",
        "all-right groups": f"{card['all_right']:.1%}",
        "mixed groups": f"{card['mixed']:.1%}",
        "all-wrong groups": f"{card['all_wrong']:.1%}",
        "tokens in a rollout, mean": f"{card['mean_tokens']:.0f}",
        "tokens in a rollout, longest": card["max_tokens"],
        "pool (SHA-256)": card["pool_sha256"][:16],
    },
    name="value",
).to_frame()

# %% mystnb={"figure": {"name": "fig-groups", "caption": "How often do the rollouts of one prompt disagree? In {number}`rollouts.mixed:.1%` of the groups some are right and some are wrong; {number}`rollouts.all_right:.1%` are all right and {number}`rollouts.all_wrong:.1%` all wrong. The paper's pool has about ten mixed groups in a hundred. Temperature and length of the problems were set to come near that share, before any training. The bars say nothing about why a rollout is wrong."}, "image": {"alt": "Bars: share of groups with 0 to 4 right rollouts, split by the length of the problem."}} tags=["hide-input"]
group_outcomes(rows)
# %% [markdown]
# ## A mixed group
#
# Here is a mixed group in full. Look for the first line in which the two differ. And read the right one closely, too: the verifier saw only its last number.

# %%
share = rows.groupby("group")["reward"].mean()
mixed = share[(share > 0) & (share < 1)]
group = mixed.index[0] if len(mixed) else share.index[0]
shown = rows[rows["group"] == group]
print(shown["question"].iloc[0], "  [answer:", shown["answer"].iloc[0] + "]")
for reward, rollout in shown.groupby("reward").first()["text"].items():
    print(f"\nreward {reward:.0f}\n{rollout}")

# %% [markdown]
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
# "The same data" therefore means the same pool. In the numbers of rows and of passes over them the objectives differ, DPO most of all.

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
this_run.record(
    "rollouts",
    {
        **{
            key: card[key] for key in ("rows", "groups", "heldout_rows", "mean_reward", "all_right")
        },
        **{key: card[key] for key in ("mixed", "all_wrong", "mean_tokens", "max_tokens")},
        "pairs": len(pairs),
        "pairs_sha256": rows_hash(pairs)[:16],
        "pool_sha256": card["pool_sha256"][:16],
        "seconds": card["seconds"],
    },
)

# %% [markdown]
# ## How to read the share of mixed groups
#
# In an all-right group SFT, RFT and Offline GRPO pull at the same tokens, with different strengths. Only wrong rollouts separate SFT from RFT, and only mixed groups let Offline GRPO push anything away. With few of them, the first gradients of SFT, RFT and the printed RIFT are close by algebra alone. Whoever reads "the methods are nearly collinear" should ask for this share first.
#
# ## One thing to vary
#
# `temperature`: at 0.7 the teacher errs less and agrees more with itself. Use another `run`, so that the pool of this one stays as it is.
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
# Suppose every rollout is right with the same probability $p$, independently. Which share of groups of four is mixed? Compare with the share in this pool at its own $p$ = {number}`rollouts.mean_reward:.3f`. Why is the real share lower?
#
# *Hint.* A group is not mixed if it is all right or all wrong.
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
# One pool, one order, one verifier. {number}`rollouts.pairs` of {number}`rollouts.groups:,` groups carry all that Offline GRPO and DPO can know beyond imitation.
