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
# **The answer.** On the lines between two models the held-out loss rises at most {number}`mode_connectivity.pairs.largest:.3f` nats above the straight line between its ends. The paper's metric, the boxed answer, rises up to {number}`mode_connectivity.boxed_pairs.largest:.2f`, and {number}`mode_connectivity.ends.worse` of {number}`mode_connectivity.ends.models` models are no better at it than a blind guess.
#
# **What you will learn.** How to walk in a straight line from one trained model to another, two ways to say how much stands in the way, and why the answer depends on what you measure along the way.
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
every_line: bool = False  # all metrics on the lines between every two models (three times as long)

# %% tags=["hide-input", "remove-stderr"]
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from finetune_geometry.deltas.adapters import BASE, load_adapter
from finetune_geometry.evaluation.answers import check_adapters
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.plots import toy
from finetune_geometry.figures.result_plots import line_panels, lines_from
from finetune_geometry.geometry.connectivity import (
    METRICS,
    barrier,
    connectivity_table,
    height,
    line_points,
)
from finetune_geometry.geometry.line_scores import make_tasks, score_points, spread_rows
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.loading import load_model
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.keys import models_key
from finetune_geometry.runs.parts import Parts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

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
# ```{prf:definition} Linear path, height and barrier
# :label: def-barrier
#
# For two weight changes $\Delta W_a$ and $\Delta W_b$ of one base model, the linear path is
#
# $$
# W(\alpha) = W_{\text{base}} + (1 - \alpha)\, \Delta W_a + \alpha\, \Delta W_b, \qquad 0 \le \alpha \le 1 .
# $$ (eq-path)
#
# Write $L(\alpha)$ for the loss at $W(\alpha)$. Its **height** is the largest rise above the straight line between the two ends, the barrier of {cite}`entezari2022role`:
#
# $$
# \max_{\alpha}\; L(\alpha) - \big[(1 - \alpha)\, L(0) + \alpha\, L(1)\big] .
# $$ (eq-height)
#
# **Frankle's barrier** is the largest loss on the path, ends included, minus the mean of the two ends {cite}`frankle2020linear`:
#
# $$
# \max_{\alpha}\; L(\alpha) - \tfrac12 \big[L(0) + L(1)\big] .
# $$ (eq-barrier)
# ```
#
# Two details matter. First, it is $\Delta W$ that is mixed, not the factors $A$ and $B$: the pairs $(B, A)$ and $(-B, -A)$ are the same change, and halfway between their *factors* lies nothing at all. Second, nothing is merged. Each module adds the low-rank products to its output in fp32, because a merge into bf16 weights would round small changes away.
#
# Where the two ends are equally good the two definitions agree. Frankle's was made for that case: two runs of one training that differ only in their noise. Where the ends differ, they part. Frankle's barrier is what the path rises above its *worse* end, plus half the gap between the ends. So an even slope, with nothing in the way, has a barrier of half its rise, and two losses of very different success always have one. The height of an even slope is 0. It has a weakness of its own: a loss that climbs early towards a worse end has a height, even if it never exceeds that end.
#
# The methods compared here have different ends by design. The figures therefore show the **height**, which a slope does not move; the tables below hold both, and `geometry/mode_connectivity.csv` has the rise above the worse end, too (`overshoot`).
#
# ## A toy with a known answer
#
# Three losses on a line, whose numbers follow by hand: an even slope ($L = \alpha$: height 0, Frankle's barrier $\tfrac12$), a slope that bends upwards early ($L = \sqrt{\alpha}$: height $\tfrac14$ at $\alpha = \tfrac14$, Frankle's barrier $\tfrac12$) and two wells with a ridge ($L = ((2\alpha - 1)^2 - 1)^2$: both 1, at $\alpha = \tfrac12$). A valley between equal ends has neither.

# %% mystnb={"figure": {"name": "fig-connectivity-toy", "caption": "Which of the two numbers finds a ridge and only a ridge? Lines: three losses along a path. Marks on a line, \"measured\": where its height was found with {number}`mode_connectivity.alphas` points. Triangles: its largest value, from which Frankle's barrier is counted. Heights: even slope {number}`mode_connectivity.toy.slope:.2f`, bend {number}`mode_connectivity.toy.bend:.2f`, ridge {number}`mode_connectivity.toy.ridge:.2f`. Frankle's barriers: {number}`mode_connectivity.toy_frankle.slope:.2f`, {number}`mode_connectivity.toy_frankle.bend:.2f` and {number}`mode_connectivity.toy_frankle.ridge:.2f`. Frankle's sees half the gap between the ends as a barrier, the height does not; neither is 0 for the bend, which never rises above its worse end. The figure holds no model."}, "image": {"alt": "Three toy losses along a line from 0 to 1: an even slope, a slope that bends early and a ridge, with the place of the largest height and the largest value marked on each."}} tags=["hide-input"]
t = np.linspace(0, 1, settings.lmc_alphas)
fine = np.linspace(0, 1, 201)
toys = {
    "slope": lambda x: 1.0 * x,
    "bend": np.sqrt,
    "ridge": lambda x: ((2 * x - 1) ** 2 - 1) ** 2,
}
found = {name: height(t, loss(t)) for name, loss in toys.items()}
highest = {name: barrier(t, loss(t)) for name, loss in toys.items()}
at_top = [(where, toys[name](where)) for name, (_, where) in highest.items()]
toy(
    {name: (fine, loss(fine)) for name, loss in toys.items()},
    {name: ([found[name][1]], [loss(found[name][1])]) for name, loss in toys.items()}
    | {"largest value": tuple(zip(*at_top, strict=True))},
    xlabel=r"position $\alpha$ on the line",
    ylabel="loss",
)
# %% [markdown]
# ## The six methods and the base
#
# Every point of a line is measured on the same tasks:
#
# 1. **held-out SFT cross-entropy**: nats per completion token on {number}`mode_connectivity.rows` of the teacher's rollouts to prompts that no method was trained on, right and wrong ones;
# 2. **the paper's metric**: cross-entropy of the tokens of the gold answer `\boxed{...}` placed *directly after the prompt*, {number}`mode_connectivity.problems` test problems;
# 3. **accuracy**: greedy answers to the first {number}`mode_connectivity.answered` of these problems, because an answer is written token by token, and a box is read at once.
#
# Not every line is walked, because each one is {number}`mode_connectivity.alphas` models to measure. The cell says which: the paper's three; from SFT to the base and to DPO, to compare with; and, for the loss that SFT itself minimises, from SFT to every other model. The parameter `every_line` walks all of them.

# %%
names = [BASE, *adapters]
from_sft = [("sft", name) for name in names if name != "sft"]
paper = [("sft", "offline_grpo"), ("offline_grpo", "rift"), ("rift", "dpo")]
compared = [("sft", BASE), ("sft", "dpo"), *(("sft", name) for name in names[len(METHODS) + 1 :])]
lines = {
    "sft_cross_entropy": [*from_sft, *paper],
    "boxed_cross_entropy": [*paper, *compared],
    "accuracy": [*paper[:1], *compared],
}
if every_line:
    lines = dict.fromkeys(METRICS, tuple(combinations(names, 2)))

model, tokenizer = load_model(this_run.profile)
heldout = spread_rows(load_rollouts(this_run, "heldout"), settings.lmc_rows)
tasks = make_tasks(
    tokenizer,
    heldout,
    load_problems(this_run.profile, "test")[: settings.lmc_problems],
    settings.lmc_answered,
    this_run.profile.evaluation.max_new_tokens,
    this_run.profile.prompt,
    this_run.profile.evaluation.batch_size,
)
decided_by = models_key(this_run.profile, [str(this_run.adapter_dir(n)) for n in adapters])
parts = Parts(this_run, "mode_connectivity", decided_by)  # a killed measurement goes on
loaded = {name: load_adapter(this_run.adapter_dir(name), name) for name in adapters}
with Mixture(model, loaded) as mixture:
    points = {metric: line_points(names, t, pairs) for metric, pairs in lines.items()}
    scores = score_points(mixture, tokenizer, tasks, points, parts=parts)
table = connectivity_table(
    scores,
    names,
    t,
    confidence=this_run.profile.evaluation.confidence,
    seed=settings.seed,
    vocabulary=len(tokenizer),
    lines=lines,
)
this_run.write_table("geometry/mode_connectivity.csv", table)
parts.clear()
walked = {frozenset(pair) for pairs in lines.values() for pair in pairs}
print(f"{len(scores)} different models on {len(walked)} lines")


def along(metric: str) -> pd.DataFrame:
    return table[table["metric"] == metric]


# %% mystnb={"figure": {"name": "fig-lmc-sft", "caption": "Does the SFT loss rise between SFT and the others? Held-out SFT cross-entropy (nats per token) on the way from SFT to each other model; the dashed line joins the two ends, and the height is the most that the curve stands above it. Bands: {number}`profile.evaluation.confidence:.0%` bootstrap over prompts of the distance from the dashed line. The largest height on these lines is {number}`mode_connectivity.sft.largest:.3f` nats. This is the loss that SFT itself minimises; a small height here says nothing about other abilities of the model."}, "image": {"alt": "Six panels: held-out SFT cross-entropy from SFT to the base and to each other method, with the straight line between the ends."}} tags=["hide-input"]
lines_from(along("sft_cross_entropy"), "sft", ylabel="cross-entropy (nats per token)")
# %% mystnb={"figure": {"name": "fig-lmc-boxed", "caption": "What does the paper's own metric say on the paper's own lines, and on two more? Cross-entropy of the gold boxed answer directly after the prompt; the dashed line joins the ends. Heights above that line: SFT to Offline GRPO {number}`mode_connectivity.boxed.sft_offline_grpo:.2f` nats, Offline GRPO to RIFT {number}`mode_connectivity.boxed.rift_offline_grpo:.2f`, RIFT to DPO {number}`mode_connectivity.boxed.rift_dpo:.2f`; SFT to the base {number}`mode_connectivity.boxed.base_sft:.2f`, SFT to DPO {number}`mode_connectivity.boxed.sft_dpo:.2f`. Over these lines the metric lies between {number}`mode_connectivity.boxed_values.least:.1f` and {number}`mode_connectivity.boxed_values.largest:.1f` nats; a blind guess among all tokens would cost {number}`mode_connectivity.blind:.1f`. Above that the metric shows how firmly a model refuses to answer at once, not what it knows."}, "image": {"alt": "Five panels: boxed-answer cross-entropy from SFT to Offline GRPO, from Offline GRPO to RIFT, from RIFT to DPO, from SFT to the base and from SFT to DPO."}} tags=["hide-input"]
line_panels(
    along("boxed_cross_entropy"),
    [*paper, *compared],
    ylabel="cross-entropy (nats per token)",
)
# %% mystnb={"figure": {"name": "fig-lmc-accuracy", "caption": "Do mixtures of two models solve fewer problems? Accuracy on {number}`mode_connectivity.answered` test problems from SFT to Offline GRPO, to the base and to DPO; the band is a {number}`profile.evaluation.confidence:.0%` bootstrap over problems of the distance from the dashed line. With so few problems one answer moves a point by {number}`mode_connectivity.accuracy.step:.1%`; a dip is noise where the dashed line is inside the band. For accuracy the height is that of the error rate, a dip below the dashed line; a curve above it means that mixtures solve more than their ends suggest."}, "image": {"alt": "Three panels: accuracy from SFT to Offline GRPO, to the base and to DPO, with the straight line between the ends."}} tags=["hide-input"]
line_panels(along("accuracy"), lines["accuracy"], ylabel="accuracy", percent=True)
# %% [markdown]
# ```{explorable} line
# ```
#
# ## Is the metric better than a blind guess?
#
# A guess that gives every token the same probability knows nothing and costs $\ln V$ nats per token, {number}`mode_connectivity.blind:.2f` for the {number}`mode_connectivity.vocabulary:,` tokens here. The models themselves, before any mixing:

# %%
ends = table[table["quantity"] == "end"].pivot_table(index="a", columns="metric", values="value")
ends = ends.loc[names, [*METRICS]]
blind = table[table["quantity"] == "blind"].set_index("metric")["value"]
shown = pd.concat([ends, blind.to_frame("blind guess").T]).reset_index(names="model")
show_table(
    shown.rename(columns=METRICS),
    {
        "model": lambda name: label(name) if name in names else name,
        **dict.fromkeys(list(METRICS.values())[:2], "{:.2f}"),
        METRICS["accuracy"]: lambda value: "" if np.isnan(value) else f"{value:.1%}",
    },
)

# %% [markdown]
# For the boxed answer the models lie between {number}`mode_connectivity.ends.least:.1f` ({number}`mode_connectivity.ends.least_label`) and {number}`mode_connectivity.ends.largest:.1f` nats ({number}`mode_connectivity.ends.largest_label`); {number}`mode_connectivity.ends.worse` of {number}`mode_connectivity.ends.models` do worse than the blind guess.
#
# A model that does worse need not be ignorant of the answer. It puts its probability elsewhere: on its reasoning, perhaps. The metric then measures how sure it is of that, and a rise along a line may be nothing but a mixture that wants to reason more firmly than its ends. It says nothing about a valley in which *answers* are good. So where one of the models that a claim is about is no better than a blind guess, the [ledger](../evaluation/verdict) calls what rests on this metric not testable, whatever the height or the barrier. It becomes testable with a base that can name an answer at once, or with the box placed after the model's own reasoning, which is another metric.
#
# ## The chance level and controls
#
# A height cannot be negative: it is a maximum that includes both ends, where it is 0. So "above 0" is no evidence by itself, and noise raises it. The tables have an interval over prompts ({number}`profile.evaluation.confidence:.0%`) for each number; `geometry/mode_connectivity.csv` has the signed rise at the midpoint beside it, which noise does not raise. The base is a control, too. Training need not have gone straight from the base to a method; the line is the chord of its path, and nothing says that the loss falls evenly, or at all, along a chord. What rises there owes nothing to a second method.
#
# Heights above the straight line between the ends, empty where a metric was not measured. The largest of the held-out SFT loss is {number}`mode_connectivity.pairs.largest:.3f`; that of the boxed answer, {number}`mode_connectivity.boxed_pairs.largest:.2f`, stands between {number}`mode_connectivity.boxed_pairs.largest_label`.

# %% tags=["hide-input"]


def by_pair(quantity: str) -> pd.DataFrame:
    """One row a pair: the quantity with its interval for each metric."""
    rows = table[table["quantity"] == quantity]
    numbers = zip(rows["value"], rows["low"], rows["high"], strict=True)
    rows = rows.assign(
        between=[f"{label(a)} and {label(b)}" for a, b in zip(rows["a"], rows["b"], strict=True)],
        shown=[f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in numbers],
    )
    wide = rows.pivot_table(index="between", columns="metric", values="shown", aggfunc="first")
    return wide.loc[rows["between"].unique(), [*METRICS]].rename(columns=METRICS).fillna("")


by_pair("height")

# %% [markdown]
# Frankle's barriers. They contain half the gap between the ends, so compare them only where the ends are about equally good:

# %% tags=["hide-input"]
by_pair("barrier")

# %% tags=["remove-cell"]


def worst(rows):
    row = rows.loc[rows["value"].idxmax()]
    return float(row["value"]), f"{label(row['a'])} and {label(row['b'])}"


def pick(metric: str, quantity: str) -> dict[str, float]:
    chosen = table[(table["metric"] == metric) & (table["quantity"] == quantity)]
    return {f"{row.a}_{row.b}": float(row.value) for row in chosen.itertuples()}


heights = table[table["quantity"] == "height"]
sft_heights = heights[heights["metric"] == "sft_cross_entropy"]
boxed_heights = heights[heights["metric"] == "boxed_cross_entropy"]
largest, _ = worst(sft_heights[(sft_heights["a"] == "sft") | (sft_heights["b"] == "sft")])
largest_pair, pair_label = worst(sft_heights)
largest_boxed, boxed_label = worst(boxed_heights)
boxed_ends = ends["boxed_cross_entropy"]
boxed_curves = along("boxed_cross_entropy").query("quantity == 'curve'")
this_run.record(
    "mode_connectivity",
    {
        "alphas": len(t),
        "rows": len(tasks.rows),
        "problems": len(tasks.prompts),
        "answered": len(tasks.answers),
        "models": len(scores),
        "toy": {name: float(value) for name, (value, _) in found.items()},
        "toy_frankle": {name: float(value) for name, (value, _) in highest.items()},
        # By pair: heights, as in the figures; Frankle's barriers are under `frankle`.
        "sft": {
            **pick("sft_cross_entropy", "height"),
            "largest": largest,
        },
        "boxed": pick("boxed_cross_entropy", "height"),
        "boxed_values": {
            "least": float(boxed_curves["value"].min()),
            "largest": float(boxed_curves["value"].max()),
        },
        "vocabulary": len(tokenizer),
        "blind": float(blind["boxed_cross_entropy"]),
        "ends": {
            "boxed": {name: float(value) for name, value in boxed_ends.items()},
            "least": float(boxed_ends.min()),
            "least_label": label(str(boxed_ends.idxmin())),
            "largest": float(boxed_ends.max()),
            "largest_label": label(str(boxed_ends.idxmax())),
            "worse": int((boxed_ends >= blind["boxed_cross_entropy"]).sum()),
            "models": len(boxed_ends),
        },
        "boxed_midpoint": pick("boxed_cross_entropy", "midpoint"),
        "accuracy": {
            **pick("accuracy", "height"),
            "step": 1 / len(tasks.answers),
        },
        "frankle": {
            "sft": pick("sft_cross_entropy", "barrier"),
            "boxed": pick("boxed_cross_entropy", "barrier"),
            "accuracy": pick("accuracy", "barrier"),
        },
        "midpoint": pick("sft_cross_entropy", "midpoint"),
        "pairs": {"largest": largest_pair, "largest_label": pair_label},
        "boxed_pairs": {"largest": largest_boxed, "largest_label": boxed_label},
    },
)

# %% [markdown]
# ## How to read the figures, and how not to
#
# - **Compare with the dashed line, not with the left end.** The paper reads 3.82, 7.06, 8.64 from RIFT to DPO as a barrier. A curve that rises to a worse end can do so without any ridge. On that line this run has a boxed-answer height of {number}`mode_connectivity.boxed.rift_dpo:.2f` nats and a Frankle barrier of {number}`mode_connectivity.frankle.boxed.rift_dpo:.2f`; of the held-out SFT loss, {number}`mode_connectivity.sft.rift_dpo:.3f` and {number}`mode_connectivity.frankle.sft.rift_dpo:.3f`. Where the second is large and the first is not, the ends differ and nothing stands between them.
# - **Is a rise towards DPO special?** Ask how high the others are. The boxed answer's height between SFT and DPO is {number}`mode_connectivity.boxed.sft_dpo:.2f` nats, between SFT and Offline GRPO {number}`mode_connectivity.boxed.sft_offline_grpo:.2f`, between SFT and the base {number}`mode_connectivity.boxed.base_sft:.2f`. With {number}`mode_connectivity.problems` problems the intervals in the tables above are wide; where two of them overlap, the order of the heights is undecided.
# - **A path from DPO may be nearly a path from the base.** Where DPO moved little ([norms](cosine)) and its curves look like those of the base, that is why.
# - **The metric decides.** The boxed answer directly after the prompt is nothing that one of the six trainings asked for. It punishes a model for wanting to reason first.
# - **A straight path is one of many.** A rise on it does not show that no other path is flat.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-connectivity
#
# *Derivation · ★★ · 10 minutes*
#
# Let the loss be exactly quadratic along a path, $L(\alpha) = p + q\alpha + s\alpha^2$. For which $s$ is there a height above 0, where does it stand, and how high is it? What is Frankle's barrier for $s = 0$?
# ```
#
# ```{dropdown} Hint
# Subtract the line through the two ends.
# ```
#
# ````{solution} ex-connectivity
# :label: sol-connectivity
# :class: dropdown
#
# The line through the ends is $p + (q + s)\alpha$, so the rise above it is $-s\,\alpha(1 - \alpha)$. For $s \ge 0$, a valley or a slope, it is never positive and the height is 0. For $s < 0$ the height is $-s/4$ and stands at $\alpha = \tfrac12$, whatever $p$ and $q$ are: also where the curve is monotone. For $s = 0$ the largest loss is that of the worse end, $|q|/2$ above the mean of the two: Frankle's barrier is $|q|/2$, though nothing stands in the way.
# ````
#
# ## Take-away
#
# Mix the changes, not their factors. Say which barrier you mean: where the ends differ, measure the rise above the line between them, for a loss that you can defend and that beats a blind guess, and give its interval over prompts.
