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
# (control-path)=
# # Along the training: when do the losses part?
#
# **The answer.** After {number}`path.early.step` of {number}`path.steps` steps SFT has a cosine of {number}`path.early.with_sft.dft:.2f` with DFT, {number}`path.early.with_sft.offline_grpo:.2f` with Offline GRPO and {number}`path.early.with_sft.dpo:.2f` with DPO; at the end {number}`path.end.with_sft.dft:.2f`, {number}`path.end.with_sft.offline_grpo:.2f` and {number}`path.end.with_sft.dpo:.2f`. SFT with itself, its rows in another order, goes from {number}`path.early.with_sft.sft-order:.2f` to {number}`path.end.with_sft.sft-order:.2f` (means over {number}`path.cells` repetitions).
#
# **What you will learn.** Whether two losses point apart from their first steps on or drift apart by and by, how much of that two orders of one loss do as well, and how to tell a straight path from a random walk by two numbers.
#
# ## The question
#
# Every cosine of this book is taken at the end of a training. A small one can come about in several ways. The losses may want different things from the first steps on. Or they want the same at first, part when that is learnt, and go on apart. Or they want the same all the time, and the noise of their batches hides it. Which of these it is shows on the way, not at the end. Two orders of SFT's rows, which want the same by definition, show what the noise of the batches does.
#
# So the adapter is kept at some of the steps (`training.snapshots`), and the deltas of all methods are compared after the same share of their steps. Nothing is trained anew for it. All of it for {number}`path.cells` repetitions from one base (the table below lists them): the run and, as far as the profile has them, one with the rows in another order and one with another initial $A$ as well.
#
# ## A straight path and a random walk
#
# ```{prf:proposition}
# :label: prop-walk
#
# Let the steps of a training have lengths $\ell_1, \dots, \ell_T$, and let $\Delta_t$ be the delta after $t$ of them. (a) If all steps have one direction and sense, then $\cos(\Delta_t, \Delta_T) = 1$ and $\norm{\Delta_t} / \norm{\Delta_T} = \sum_{s \le t} \ell_s / \sum_s \ell_s$. (b) If every two steps are orthogonal, then both are the same number,
#
# $$
# \cos(\Delta_t, \Delta_T) = \frac{\norm{\Delta_t}}{\norm{\Delta_T}} = \sqrt{\frac{\sum_{s \le t} \ell_s^2}{\sum_s \ell_s^2}} .
# $$ (eq-walk)
# ```
#
# ```{prf:proof}
# (a) All deltas are multiples of one direction. (b) The squared length of a sum of orthogonal steps is the sum of their squared lengths. $\inner{\Delta_t}{\Delta_T}$ holds the products of the first $t$ steps with themselves and nothing else, so it is $\norm{\Delta_t}^2$; divide by $\norm{\Delta_t} \norm{\Delta_T}$.
# ```
#
# In many dimensions the steps of a random walk are nearly orthogonal, so (b) is its picture. With Adam the steps of the parameters are roughly in proportion to the learning rate, so both pictures can be drawn from the schedule alone.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.step_plots import along_steps, lengths_along_steps
from finetune_geometry.methods.schedule import rates_of
from finetune_geometry.repetitions.cells import made_where, read_cells
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.repetitions import MEASUREMENTS

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
chosen = MEASUREMENTS["path"].cells(this_run.profile)

# %% [markdown]
# ## The cosines on the way
#
# Each repetition is measured by a job of its own ([`measure_path`](../../book/api/repetitions.md)), and this page lays their tables side by side.

# %%
table = read_cells(this_run, chosen, "path")
lengths = read_cells(this_run, chosen, "path_lengths")
this_run.write_table("controls/path.csv", table)
this_run.write_table("controls/path_lengths.csv", lengths)
# "sft-order": SFT with the rows in another order and the repetition's own A.
with_sft = table[table["a"] == "sft"].rename(columns={"b": "name"})
shares = sorted(table["share"].unique())
early = min(shares, key=lambda share: abs(share - 0.1))
half = min(shares, key=lambda share: abs(share - 0.5))
show_table(made_where(this_run, chosen, "path"), {"minutes": "{:.1f}"})

# %% mystnb={"figure": {"name": "fig-path", "caption": "Do the losses part at once or by and by? Cosine with SFT after as many steps, both on their way; faint: the repetitions, with marks: their mean. From {number}`path.early.step` steps to the end RFT goes from {number}`path.early.with_sft.rft:.2f` to {number}`path.end.with_sft.rft:.2f`, RIFT from {number}`path.early.with_sft.rift:.2f` to {number}`path.end.with_sft.rift:.2f`, DFT from {number}`path.early.with_sft.dft:.2f` to {number}`path.end.with_sft.dft:.2f`, Offline GRPO from {number}`path.early.with_sft.offline_grpo:.2f` to {number}`path.end.with_sft.offline_grpo:.2f`, DPO from {number}`path.early.with_sft.dpo:.2f` to {number}`path.end.with_sft.dpo:.2f`. SFT in another order, which wants the same, goes from {number}`path.early.with_sft.sft-order:.2f` to {number}`path.end.with_sft.sft-order:.2f`. The four others on single rollouts see the same rows in SFT's order, which makes their noise alike: a line below that of another order is there in spite of it, a line above says little."}, "image": {"alt": "Cosine with SFT over the steps of the training, one line for each other method and for SFT in another order."}} tags=["hide-input"]
along_steps(with_sft, ylabel="cosine with SFT")
# %% [markdown]
# ```{explorable} film
# ```
#
# ## The shape of each path

# %% tags=["hide-input"]
training = this_run.profile.training_of("sft")
rates = np.array(rates_of(training))
walked = pd.DataFrame(
    {
        "step": range(1, len(rates) + 1),
        "straight": rates.cumsum() / rates.sum(),
        "walk": np.sqrt((rates**2).cumsum() / (rates**2).sum()),
    }
)
at_end = lengths[lengths["share"] == 1].set_index(["cell", "role"])["norm"]
of_end = at_end.reindex(pd.MultiIndex.from_frame(lengths[["cell", "role"]])).to_numpy()
shape = lengths.assign(name=lengths["role"], length=lengths["norm"] / of_end)
shape = shape[shape["role"].isin(METHODS)]

# %% mystnb={"figure": {"name": "fig-path-shape", "caption": "Is the way to the end straight, or a random walk? Left: cosine of the delta on its way with its own end. Right: its length as a share of that at the end. Dashed: a straight path, on the left a line at 1; dotted: a random walk with the same schedule, by the proposition one curve in both panels. At step {number}`path.half.step` SFT has a cosine of {number}`path.half.to_end.sft:.2f` with its end and {number}`path.half.length.sft:.0%` of its length, RFT {number}`path.half.to_end.rft:.2f` and {number}`path.half.length.rft:.0%`, DFT {number}`path.half.to_end.dft:.2f` and {number}`path.half.length.dft:.0%`, Offline GRPO {number}`path.half.to_end.offline_grpo:.2f` and {number}`path.half.length.offline_grpo:.0%`, DPO {number}`path.half.to_end.dpo:.2f` and {number}`path.half.length.dpo:.0%`; a walk would have {number}`path.walk:.2f` and {number}`path.walk:.0%`, a straight path 1 and {number}`path.straight:.0%`. Means over the repetitions. A path between the two curves may hold both, a drift and noise; or it bends."}, "image": {"alt": "Two panels over the steps: the cosine of each delta with its own end, and its length as a share of the end's, with the curves of a straight path and of a random walk."}} tags=["hide-input"]
lengths_along_steps(shape, walked)
# %%
means = shape.groupby(["share", "name"])[["to_end", "length"]].mean()
at_half = means.loc[half].loc[list(METHODS)]
show_table(
    at_half.reset_index().rename(
        columns={
            "name": "method",
            "to_end": "cosine with its end",
            "length": "share of its length",
        }
    ),
    {"method": label, "cosine with its end": "{:.2f}", "share of its length": "{:.0%}"},
)

# %% [markdown]
# The table is of step {number}`path.half.step`, means over the repetitions.
#
# ## What was expected
#
# Written down before any adapter on the way had been looked at (`book/predictions.yaml`); means over the repetitions. For another profile, of which nothing was expected, the numbers stand alone.

# %%
mean = with_sft.groupby(["share", "name"])["value"].mean()
show_expected(
    this_run.profile.name,
    "path",
    {
        "sft_and_dft_after_a_tenth": mean[early, "dft"],
        "sft_and_offline_grpo_after_a_tenth": mean[early, "offline_grpo"],
        "sft_and_dpo_after_a_tenth": mean[early, "dpo"],
        "sft_and_its_other_order_after_a_tenth": mean[early, "sft-order"],
        "sft_at_half_way_with_its_end": at_half.loc["sft", "to_end"],
        "length_of_sft_at_half_way": at_half.loc["sft", "length"],
    },
)

# %% [markdown]
# ## What it means
#
# - **What another order does.** Between step {number}`path.early.step` and the end the cosine of two orders of SFT changes by {number}`path.change.sft-order:+.2f`, that of DFT with SFT by {number}`path.change.dft:+.2f`, of Offline GRPO by {number}`path.change.offline_grpo:+.2f`, of RFT by {number}`path.change.rft:+.2f`. What was lost before step {number}`path.early.step` is not in these numbers: a cosine of two losses that is below that of two orders there was lost in the first steps or was never there.
# - **For C4, C5 and C7** a cosine at the end is a statement about this many steps at this rate. Had both been stopped earlier, it would be what the line in the first figure says.
# - **DPO** starts at {number}`path.start.with_sft.dpo:.2f` (step {number}`path.start.step`), where SFT and its other order have {number}`path.start.with_sft.sft-order:.2f`.
#
# ## How to read the figures, and how not to
#
# - **All start from one $A$.** $B$ starts at zero, and while it is zero $A$ has no gradient. So the first step that counts gives $B A$ with the $A$ that all share, which no loss has chosen. From the next step on $A$ moves, too.
# - **The first frames are few steps.** The first step of the warm-up has a rate of 0: after {number}`path.start.step` steps a delta holds one step less than that.
# - **DPO runs at a tenth of the rate.** Its line compares deltas after equally many steps, not after equally long ways. [A matched rate](matched_rate) is another control.
# - **{number}`path.cells` repetitions** show a range, no interval. SFT of the run is also the other order of the repetition with another order, where there is one, so these two are not independent. Between two marks nothing was kept.
# - **The two curves know the schedule and no more.** Adam's steps are shorter where gradients disagree, and a step of $B$ moves a delta the further the longer $A$ is.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-path
#
# *Derivation · ★★ · 15 minutes*
#
# Each step of a training is $\ell\,(a\,u + n_t)$ with a fixed unit direction $u$, $a > 0$, and noise $n_t$ of length 1, orthogonal to $u$, to the noise of every other step, and to all noise of another such training. (a) How long is $\Delta_t$? (b) What is the cosine of two such trainings after $t$ steps? Does it rise or fall? (c) So what does it mean if the cosine of two orders of one loss falls all the way?
# ```
#
# ```{dropdown} Hint
# $\Delta_t = \ell\,(t\,a\,u + \sum_s n_s)$. The sum of $t$ orthogonal unit vectors has length $\sqrt t$.
# ```
#
# ````{solution} ex-path
# :label: sol-path
# :class: dropdown
#
# (a) $\ell \sqrt{t^2 a^2 + t}$. (b) $t^2 a^2 / (t^2 a^2 + t) = t a^2 / (t a^2 + 1)$: it *rises* with $t$, as a drift grows faster than noise. (c) That the picture is wrong there: what both want is soon done and the drift shrinks while the noise goes on; or it turns, in each by its own past; or the noise grows, or is alike from step to step. Independent noise about a steady drift would make the two more alike, not less.
# ````
#
# ## Take-away
#
# A cosine has a time. Before it is said that two losses disagree, look where their paths part, and where two orders of one loss do.

# %% tags=["remove-cell"]


def with_sft_at(share: float) -> dict[str, object]:
    rows = with_sft[with_sft["share"] == share]
    return {
        "step": int(rows["step"].iloc[0]),
        "with_sft": rows.groupby("name")["value"].mean().astype(float).to_dict(),
    }


ends = {"start": shares[0], "early": early, "half": half, "end": 1.0}
recorded = {name: with_sft_at(share) for name, share in ends.items()}
at_step = walked.set_index("step").loc[recorded["half"]["step"]]
recorded["half"] |= {name: at_half[name].astype(float).to_dict() for name in ("to_end", "length")}
this_run.record(
    "path",
    {
        "cells": len(chosen),
        "steps": training.steps,
        **recorded,
        "change": (mean[1.0] - mean[early]).astype(float).to_dict(),
        "walk": float(at_step["walk"]),
        "straight": float(at_step["straight"]),
    },
)
