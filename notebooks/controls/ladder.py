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
# (control-ladder)=
# # What makes DPO? A ladder from SFT with one thing changed a rung
#
# **The answer.** From SFT to DPO the cosine with SFT falls most on the rung "{number}`ladder.largest`". SFT with DPO's rate is already {number}`ladder.length.rate:.2f` times as long as SFT, where DPO is {number}`ladder.length.dpo:.2f` times (means over {number}`ladder.orders` orders).
#
# **What you will learn.** Which of the things that set DPO apart, its rate, its rows, its pushing away of wrong rollouts, or its sigmoid with pairs and a reference, makes its delta short, and which makes it point elsewhere.
#
# ## The question
#
# DPO's delta is the shortest and stands across all others (claims C7 and C12). Between SFT and DPO five things change at once. A ladder changes them one at a time:
#
# | rung | what is new |
# |---|---|
# | SFT | |
# | SFT at DPO's rate | the learning rate |
# | ... on mixed prompts | the rows: prompts with right and wrong rollouts alone |
# | ... on their right ones (RFT) | no wrong rollout is imitated |
# | plain contrast (Offline GRPO with $b = 0$) | wrong ones are pushed away, as hard as right ones are pulled |
# | DPO | one right and one wrong of each prompt; a sigmoid that lets go of what is learnt; the base as reference |
#
# All of it for {number}`ladder.orders` orders of the rows. The rung where the cosine with SFT falls has the cause in it. DPO was also trained at {number}`ladder.rates` other rates.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.figures.palette import set_style
from finetune_geometry.figures.spread_plots import rungs
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.similarity import cosine, inner_products
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.dials import DPO_RATES
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.variation import repeated_orders

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
orders = repeated_orders(this_run.profile)

# %% [markdown]
# ## The ladder

# %%
steps = {
    "sft": "SFT",
    "sft-rate": "SFT at DPO's rate",
    "sft-mixed": "... on mixed prompts",
    "rft-chosen": "... on their right ones",
    "offline_grpo-contrast": "plain contrast",
    "dpo": "DPO",
}
faster = {f"dpo-{name}": f"DPO at {factor:g} x SFT's rate" for name, factor in DPO_RATES.items()}


def adapter_of(step: str, order: str) -> str:
    """The adapter of a rung in one order: those of the run and of its cells have other names."""
    if "-" in step:
        return f"{step}{order}"
    return f"{step}-order{order}" if order else step


rows = []
for order in orders:
    names = {step: adapter_of(step, order) for step in [*steps, *faster]}
    adapters = [load_adapter(this_run.adapter_dir(name), name) for name in names.values()]
    gram = sum(part.inner for part in map_modules(inner_products, adapters))
    between = pd.DataFrame(cosine(gram), list(names), list(names))
    length = pd.Series(gram.diagonal() ** 0.5, list(names))
    rows += [
        (order, step, float(between.loc[step, "sft"]), float(between.loc[step, "dpo"]),
         float(length[step] / length["sft"]))
        for step in names
    ]  # fmt: skip
table = pd.DataFrame(rows, columns=["order", "step", "with_sft", "with_dpo", "length"])
this_run.write_table("controls/ladder.csv", table)
means = table.groupby("step", sort=False)[["with_sft", "with_dpo", "length"]].mean()

# %% mystnb={"figure": {"name": "fig-ladder", "caption": "On which rung does DPO become DPO? From top to bottom one thing is changed at a time; marks are orders, the line joins their means. Left, the cosine with SFT: {number}`ladder.with_sft.rate:.2f` after the rate, {number}`ladder.with_sft.mixed:.2f` after the rows, {number}`ladder.with_sft.chosen:.2f` after the wrong ones are left out, {number}`ladder.with_sft.contrast:.2f` when they are pushed away, {number}`ladder.with_sft.dpo:.2f` for DPO. Right, the length in units of SFT's: {number}`ladder.length.rate:.2f`, {number}`ladder.length.mixed:.2f`, {number}`ladder.length.chosen:.2f`, {number}`ladder.length.contrast:.2f` and {number}`ladder.length.dpo:.2f`. The largest fall of the cosine is on the rung \"{number}`ladder.largest`\". A ladder has one order of its rungs; another order might share out the fall otherwise."}, "image": {"alt": "Two panels with six rows from SFT down to DPO: cosine with SFT, and length in units of SFT's, with marks for each order and a line through the means."}} tags=["hide-input"]
rungs(
    table[table["step"].isin(steps)],
    steps,
    {"with_sft": "cosine with SFT", "length": "length / that of SFT"},
)
# %% [markdown]
# ## DPO at other rates

# %%
shown = means.loc[["dpo", *faster]].reset_index()
shown["step"] = ["DPO", *faster.values()]
show_table(
    shown.rename(
        columns={"step": "", "with_sft": "with SFT", "with_dpo": "with DPO", "length": "length"}
    ),
    dict.fromkeys(["with SFT", "with DPO", "length"], "{:.3f}"),
)

# %% [markdown]
# From its slowest to its fastest rate DPO's length goes from {number}`ladder.length.slow:.2f` to {number}`ladder.length.fast:.2f` of SFT's, its cosine with SFT from {number}`ladder.with_sft.slow:.3f` to {number}`ladder.with_sft.fast:.3f`. At SFT's own rate it is {number}`ladder.length.fast:.2f` times as long as SFT.
#
# ## What was expected
#
# Written down before any rung was trained (`book/predictions.yaml`); means over the orders, lengths in units of SFT's. For another profile, of which nothing was expected, the numbers stand alone.

# %%
with_sft, length = means["with_sft"], means["length"]
show_expected(
    this_run.profile.name,
    "ladder",
    {
        "cosine_with_sft_at_the_low_rate": with_sft["sft-rate"],
        "cosine_on_mixed_prompts": with_sft["sft-mixed"],
        "cosine_on_chosen_ones_alone": with_sft["rft-chosen"],
        "cosine_of_the_plain_contrast": with_sft["offline_grpo-contrast"],
        "cosine_of_dpo": with_sft["dpo"],
        "length_of_sft_at_the_low_rate": length["sft-rate"],
        "length_of_dpo": length["dpo"],
    },
)

# %% [markdown]
# ## What it means
#
# - **Short (C12).** The rate alone takes SFT to {number}`ladder.length.rate:.2f` of its length; DPO has {number}`ladder.length.dpo:.2f`. The nearer these are, the less is left for the loss to explain.
# - **Across (C7).** From the rung before the contrast to the contrast the cosine falls by {number}`ladder.fall.contrast:.2f`; all other rungs together make {number}`ladder.fall.others:.2f` of the way. If the first is the larger, what turns the arrow is that wrong rollouts are pushed away: any loss with weights that sum to about nothing would do, with a sigmoid or without.
# - **The plain contrast and DPO** have a cosine of {number}`ladder.contrast_dpo:.2f` with each other. What the sigmoid, the pairs and the reference add is the rest of that angle.
#
# ## How to read this, and how not to
#
# - **{number}`ladder.orders` orders** show a range. A fall that is smaller than the range of the marks on a rung is none.
# - **Fewer rows, more passes.** On mixed prompts alone each rollout is seen several times as often; that is part of the rung "mixed prompts".
#
# ## Exercise
#
# ```{exercise}
# :label: ex-ladder
#
# *Derivation · ★ · 10 minutes*
#
# (a) Which weights does the plain contrast give to the right and the wrong rollouts of a group of four with one right one? (b) Show that they sum to zero in every group. (c) If all rollouts shared one common gradient and nothing else, how long would its delta be?
# ```
#
# ```{dropdown} Hint
# Write down the four rewards, then their deviations from the mean.
# ```
#
# ````{solution} ex-ladder
# :label: sol-ladder
# :class: dropdown
#
# (a) With $r = (1, 0, 0, 0)$ and mean $\tfrac14$ the deviations are $\tfrac34$ and three times $-\tfrac14$, divided by the same standard deviation. (b) Deviations from a mean sum to zero. (c) 0: the common part cancels in every group. What is left is what tells right from wrong.
# ````
#
# ## Take-away
#
# "DPO is orthogonal" is a sentence about a contrast, "DPO is short" one about a rate, as far as the ladder says so. Neither needs the sigmoid.

# %% tags=["remove-cell"]
falls = -means["with_sft"][list(steps)].diff().dropna()
own = {step: step.partition("-")[2] or step for step in [*steps, *faster]}
this_run.record(
    "ladder",
    {
        "orders": len(orders),
        "rates": len(DPO_RATES),
        "with_sft": {own[step]: float(means.loc[step, "with_sft"]) for step in own},
        "length": {own[step]: float(means.loc[step, "length"]) for step in own},
        "largest": steps[falls.idxmax()],
        "fall": {
            "contrast": float(falls["offline_grpo-contrast"]),
            "others": float(falls.drop("offline_grpo-contrast").sum()),
        },
        "contrast_dpo": float(means.loc["offline_grpo-contrast", "with_dpo"]),
    },
)
