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
# (geometry-mode-connectivity)=
# # Mode connectivity: what lies between two models?
#
# **What you will learn.** How to walk in a straight line from one trained model to another, what a barrier on that line is, and why the answer depends on what you measure along the way.
#
# ## The question
#
# Cosines and angles say where the methods went. They do not say whether the model would mind if we went somewhere in between. If two models lie in one wide valley of the loss, every mixture of the two is as good as they are. If a ridge separates them, they have found different solutions.
#
# The paper draws such lines and reports a barrier towards DPO and none towards Offline GRPO.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
others: str = ""  # further adapters of this run to compare, apart by commas: dpo-varied
alphas: int | None = None  # points on each line, both ends included; None: the profile's value
rows: int | None = None  # held-out rollouts that the loss is measured on; None: the profile's value
problems: int | None = None  # test problems whose boxed answer is read; None: the profile's value
answered: int | None = None  # of these, problems answered in full; None: the profile's value

# %% tags=["hide-input", "remove-stderr"]
import numpy as np
import pandas as pd
import torch

from finetune_geometry.connectivity import (
    METRICS,
    barrier,
    connectivity_table,
    line_points,
    make_tasks,
    score_points,
    spread_rows,
)
from finetune_geometry.deltas import BASE, load_adapter
from finetune_geometry.evaluation import check_adapters
from finetune_geometry.mixture import Mixture
from finetune_geometry.models import load_model
from finetune_geometry.palette import label, set_style
from finetune_geometry.plots import pair_heatmap, toy
from finetune_geometry.problems import load_problems
from finetune_geometry.profiles import METHODS
from finetune_geometry.records import Run, check_parameters
from finetune_geometry.result_plots import line_panels, lines_from
from finetune_geometry.rollouts import load_rollouts

check_parameters(globals())
set_style()
this_run = Run.open(
    profile,
    run,
    {
        "geometry.lmc_alphas": alphas,
        "geometry.lmc_rows": rows,
        "geometry.lmc_problems": problems,
        "geometry.lmc_answered": answered,
    },
)
settings = this_run.profile.geometry
torch.set_num_threads(this_run.profile.training.threads)
adapters = [*METHODS, *(name.strip() for name in others.split(",") if name.strip())]
check_adapters(this_run, adapters)

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Linear path and barrier
# :label: def-barrier
#
# For two weight changes $\Delta W_a$ and $\Delta W_b$ of one base model, the linear path is
#
# $$
# W(\alpha) = W_{\text{base}} + (1 - \alpha)\, \Delta W_a + \alpha\, \Delta W_b, \qquad 0 \le \alpha \le 1 .
# $$ (eq-path)
#
# For a loss $L$ the barrier is its largest rise above the straight line between the two ends {cite}`frankle2020linear`:
#
# $$
# \max_{\alpha}\; L(W(\alpha)) - \big[(1 - \alpha)\, L(W(0)) + \alpha\, L(W(1))\big] .
# $$ (eq-barrier)
# ```
#
# Two details matter. First, it is $\Delta W$ that is mixed, not the factors $A$ and $B$: the pairs $(B, A)$ and $(-B, -A)$ are the same change, and halfway between their *factors* lies nothing at all. Second, nothing is merged. Each module adds the low-rank products to its output in fp32, because a merge into bf16 weights would round small changes away.
#
# By {eq}`eq-barrier` a loss that climbs evenly, or late, towards a worse end has no barrier. One that climbs early has, even if it never exceeds that end; and a hump has.
#
# ## A toy with a known answer
#
# Three losses on a line, whose barriers follow by hand: a valley ($L = (2\alpha - 1)^2$, barrier 0, because it lies below the line between its ends), a slope that bends upwards early ($L = \sqrt{\alpha}$, barrier $\tfrac14$ at $\alpha = \tfrac14$) and two wells with a ridge ($L = ((2\alpha - 1)^2 - 1)^2$, barrier 1 at $\alpha = \tfrac12$).

# %% mystnb={"figure": {"name": "fig-connectivity-toy", "caption": "Does the barrier of the definition find a ridge and only a ridge? Lines: three losses along a path. Dots: where their barrier was found with {number}`mode_connectivity.alphas` points. The valley has barrier {number}`mode_connectivity.toy.valley:.2f`, the slope {number}`mode_connectivity.toy.slope:.2f`, the ridge {number}`mode_connectivity.toy.ridge:.2f`. The slope never rises above its worse end and still has a barrier, since it is worse than the mixture of its ends would suggest. The figure holds no model."}, "image": {"alt": "Three toy losses along a line from 0 to 1: a valley, a slope and a ridge, with the barrier's position marked on each."}} tags=["hide-input"]
t = np.linspace(0, 1, settings.lmc_alphas)
fine = np.linspace(0, 1, 201)
toys = {
    "valley": lambda x: (2 * x - 1) ** 2,
    "slope": np.sqrt,
    "ridge": lambda x: ((2 * x - 1) ** 2 - 1) ** 2,
}
found = {name: barrier(t, loss(t)) for name, loss in toys.items()}
toy(
    {name: (fine, loss(fine)) for name, loss in toys.items()},
    {name: ([found[name][1]], [loss(found[name][1])]) for name, loss in toys.items()},
    xlabel=r"position $\alpha$ on the line",
    ylabel="loss",
)
# %% [markdown]
# ## The six methods and the base
#
# Every point of every line between the base and the six adapters is measured on the same tasks:
#
# 1. **held-out SFT cross-entropy**: nats per completion token on {number}`mode_connectivity.rows` of the teacher's rollouts to prompts that no method was trained on, right and wrong ones;
# 2. **the paper's metric**: cross-entropy of the tokens of the gold answer `\boxed{...}` placed *directly after the prompt*, {number}`mode_connectivity.problems` test problems;
# 3. **accuracy**: greedy answers to the first {number}`mode_connectivity.answered` of these problems, because an answer written out takes several times as long as a box that is read.

# %%
model, tokenizer = load_model(this_run.profile)
names = [BASE, *adapters]
heldout = spread_rows(load_rollouts(this_run, "heldout"), settings.lmc_rows)
tasks = make_tasks(
    tokenizer,
    heldout,
    load_problems(this_run.profile, "test")[: settings.lmc_problems],
    settings.lmc_answered,
    this_run.profile.evaluation.max_new_tokens,
)
loaded = {name: load_adapter(this_run.adapter_dir(name), name) for name in adapters}
with Mixture(model, loaded) as mixture:
    scores = score_points(mixture, tokenizer, tasks, line_points(names, t))
table = connectivity_table(
    scores,
    names,
    t,
    confidence=this_run.profile.evaluation.confidence,
    seed=settings.seed,
)
this_run.write_table("geometry/mode_connectivity.csv", table)
print(f"{len(scores)} different models on {len(names) * (len(names) - 1) // 2} lines")


def along(metric: str) -> pd.DataFrame:
    return table[table["metric"] == metric]


# %% mystnb={"figure": {"name": "fig-lmc-sft", "caption": "Does the SFT loss rise between SFT and the others? Held-out SFT cross-entropy (nats per token) on the way from SFT to each other model; the dashed line joins the two ends, and a barrier is what stands above it. Bands: {number}`profile.evaluation.confidence:.0%` bootstrap over prompts of the height above the dashed line. The largest barrier on these lines is {number}`mode_connectivity.sft.largest:.3f` nats. This is the loss that SFT itself minimises; a small barrier here says nothing about other abilities of the model."}, "image": {"alt": "Six panels: held-out SFT cross-entropy from SFT to the base and to each other method, with the straight line between the ends."}} tags=["hide-input"]
lines_from(along("sft_cross_entropy"), "sft", ylabel="cross-entropy (nats per token)")
# %% mystnb={"figure": {"name": "fig-lmc-boxed", "caption": "What does the paper's own metric say on the paper's own lines? Cross-entropy of the gold boxed answer directly after the prompt. SFT to Offline GRPO: barrier {number}`mode_connectivity.boxed.sft_offline_grpo:.2f` nats. Offline GRPO to RIFT: {number}`mode_connectivity.boxed.rift_offline_grpo:.2f`. RIFT to DPO: {number}`mode_connectivity.boxed.rift_dpo:.2f`. Over all models these values lie between {number}`mode_connectivity.boxed_values.least:.1f` and {number}`mode_connectivity.boxed_values.largest:.1f` nats; a blind guess among all tokens would cost {number}`mode_connectivity.blind:.1f`. The metric shows how firmly a model refuses to answer at once, hardly what it knows."}, "image": {"alt": "Three panels: boxed-answer cross-entropy from SFT to Offline GRPO, from Offline GRPO to RIFT and from RIFT to DPO."}} tags=["hide-input"]
line_panels(
    along("boxed_cross_entropy"),
    [("sft", "offline_grpo"), ("offline_grpo", "rift"), ("rift", "dpo")],
    ylabel="cross-entropy (nats per token)",
)
# %% mystnb={"figure": {"name": "fig-lmc-accuracy", "caption": "Do mixtures of two models solve fewer problems? Accuracy on {number}`mode_connectivity.answered` test problems on the way from SFT to each other model; the band is a {number}`profile.evaluation.confidence:.0%` bootstrap over problems of the distance from the dashed line. With so few problems one answer moves a point by {number}`mode_connectivity.accuracy.step:.1%`; a dip is noise where the dashed line is inside the band. For accuracy a barrier is a dip below the dashed line; a curve above it means that mixtures solve more than their ends suggest."}, "image": {"alt": "Six panels: accuracy from SFT to the base and to each other method, with the straight line between the ends."}} tags=["hide-input"]
lines_from(along("accuracy"), "sft", ylabel="accuracy", percent=True)
# %% mystnb={"figure": {"name": "fig-lmc-barriers", "caption": "Which pairs have a barrier? Barrier of the boxed answer's cross-entropy for every pair, in nats per token. 0 means that no mixture is worse than the straight line between its ends. The highest, {number}`mode_connectivity.boxed_pairs.largest:.2f`, is that of {number}`mode_connectivity.boxed_pairs.largest_label`. Of the held-out SFT loss the highest barrier of all pairs is {number}`mode_connectivity.pairs.largest:.3f`. A barrier is a maximum, so it is never negative, and noise can only raise it; the table below has the intervals."}, "image": {"alt": "Lower-triangle heat map of the boxed-answer barrier for all pairs of base and six methods."}} tags=["hide-input"]
barriers = table[table["quantity"] == "barrier"]
sft_barriers = barriers[barriers["metric"] == "sft_cross_entropy"]
boxed_barriers = barriers[barriers["metric"] == "boxed_cross_entropy"]
pair_heatmap(
    boxed_barriers,
    title="",
    fmt=".2f",
    vmin=0,
    vmax=max(0.1, float(boxed_barriers["value"].max())),  # no drama where all barriers are tiny
    cmap="magma_r",
    colorbar_label="barrier (nats per token)",
)
# %% [markdown]
# ## The chance level and controls
#
# A barrier cannot be negative: it is a maximum that includes both ends, where it is 0. So the question is never whether it is above 0 but whether it is above what resampling the prompts gives. The table therefore holds an interval for each barrier; `geometry/mode_connectivity.csv` has the signed rise at the midpoint beside it. The base is a control, too: on the line from the base to a method the training itself has walked, more or less, downhill.

# %%
shown = barriers.assign(
    between=[f"{label(row.a)} and {label(row.b)}" for row in barriers.itertuples()],
    barrier=[f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" for row in barriers.itertuples()],
)
in_order = shown["between"].unique()
shown = shown.pivot_table(index="between", columns="metric", values="barrier", aggfunc="first")
shown.loc[in_order, [*METRICS]].rename(columns=METRICS)

# %% tags=["remove-cell"]


def worst(rows):
    row = rows.loc[rows["value"].idxmax()]
    return float(row["value"]), f"{label(row['a'])} and {label(row['b'])}", row


def pick(metric: str, quantity: str) -> dict[str, float]:
    chosen = table[(table["metric"] == metric) & (table["quantity"] == quantity)]
    return {f"{row.a}_{row.b}": float(row.value) for row in chosen.itertuples()}


from_sft = sft_barriers[(sft_barriers["a"] == "sft") | (sft_barriers["b"] == "sft")]
largest, _, where = worst(from_sft)
largest_pair, pair_label, _ = worst(sft_barriers)
largest_boxed, boxed_label, _ = worst(boxed_barriers)
boxed_curves = along("boxed_cross_entropy").query("quantity == 'curve'")
this_run.record(
    "mode_connectivity",
    {
        "alphas": len(t),
        "rows": len(tasks.rows),
        "problems": len(tasks.prompts),
        "answered": len(tasks.answers),
        "models": len(scores),
        "toy": {name: float(height) for name, (height, _) in found.items()},
        "sft": {
            **pick("sft_cross_entropy", "barrier"),
            "largest": largest,
            "largest_label": label(where["b"] if where["a"] == "sft" else where["a"]),
        },
        "boxed": pick("boxed_cross_entropy", "barrier"),
        "boxed_values": {
            "least": float(boxed_curves["value"].min()),
            "largest": float(boxed_curves["value"].max()),
        },
        "blind": float(np.log(len(tokenizer))),
        "boxed_midpoint": pick("boxed_cross_entropy", "midpoint"),
        "accuracy": {
            **pick("accuracy", "barrier"),
            "step": 1 / len(tasks.answers),
        },
        "midpoint": pick("sft_cross_entropy", "midpoint"),
        "pairs": {"largest": largest_pair, "largest_label": pair_label},
        "boxed_pairs": {"largest": largest_boxed, "largest_label": boxed_label},
    },
)

# %% [markdown]
# ## How to read the figures, and how not to
#
# - **Compare with the dashed line, not with the left end.** The paper reads 3.82, 7.06, 8.64 from RIFT to DPO as a barrier. A curve that rises to a worse end can do so without any ridge. On that line this run has a boxed-answer barrier of {number}`mode_connectivity.boxed.rift_dpo:.2f` nats, and {number}`mode_connectivity.sft.rift_dpo:.3f` nats for the held-out SFT loss.
# - **Is a barrier towards DPO special?** Ask how high the others are. For the boxed answer, SFT has {number}`mode_connectivity.boxed.sft_dpo:.2f` nats towards DPO, {number}`mode_connectivity.boxed.sft_offline_grpo:.2f` towards Offline GRPO, {number}`mode_connectivity.boxed.sft_dft:.2f` towards DFT and {number}`mode_connectivity.boxed.base_sft:.2f` towards the base. With {number}`mode_connectivity.problems` problems the intervals in the table above are wide; where two of them overlap, the order of the barriers is undecided.
# - **A path from DPO is nearly a path from the base.** Where DPO moved little ([norms](cosine)) and its curves look like those of the base, that is why.
# - **The metric decides.** The boxed answer directly after the prompt is a question that none of the models was trained on. It punishes a model for wanting to reason first.
# - **A straight path is one of many.** A barrier on it does not show that no other path is flat.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-connectivity
#
# Let the loss be exactly quadratic along a path, $L(\alpha) = p + q\alpha + s\alpha^2$. For which $s$ is there a barrier, where does it stand, and how high is it?
#
# *Hint.* Subtract the line through the two ends.
# ```
#
# ````{solution} ex-connectivity
# :label: sol-connectivity
# :class: dropdown
#
# The line through the ends is $p + (q + s)\alpha$, so the rise above it is $-s\,\alpha(1 - \alpha)$. For $s \ge 0$, a valley, it is never positive and the barrier is 0. For $s < 0$ the barrier is $-s/4$ and stands at $\alpha = \tfrac12$, whatever $p$ and $q$ are: also where the curve is monotone.
# ````
#
# ## Take-away
#
# Mix the changes, not their factors. Measure the rise above the line between the ends, for a loss that you can defend, and show how much of it a resampling of the prompts could have made.
