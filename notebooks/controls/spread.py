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
# (control-spread)=
# # The spread: what is the loss, and what is the draw?
#
# **The answer.** Over {number}`spread.cells` repetitions of the whole experiment {number}`spread.stable.count` of the {number}`spread.judged` claims that weights and answers can judge get one and the same verdict every time: {number}`spread.stable.claims`. The others depend on the draw: {number}`spread.unstable.claims`.
#
# **What you will learn.** How far each headline number moves when the rows come in another order, when the initial $A$ is another, and when the base is another; which verdicts survive that; and how wide an honest interval is.
#
# ## The question
#
# A training draws twice, an order and an $A$, and starts from a base that was itself drawn. The paper has one run of each method, and the chapters so far have one, too, with SFT repeated ([](second_seed)). Their intervals are over modules or problems: they say how firmly *these models* differ. Whether *the losses* differ is asked of repetitions.
#
# Each repetition, a **cell**, trains all six methods alike:
#
# - {number}`profile.spread.orders` further **orders** of the rows, with the run's $A$ and base;
# - {number}`profile.spread.draws` further **draws** of $A$ and order together, the same base;
# - {number}`spread.students` further **students**, raised like the first from another seed, with the run's $A$ and order. The pool of rollouts is the same: the teacher does not change.
#
# Each cell has a yardstick, SFT in another order with the cell's own $A$ and base, and is judged by the rules of the ledger as if it were a run of its own. Lines between models and hidden states were not measured in the cells, so the claims about them (C6, C8, C9) stay with the one run.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import numpy as np

from finetune_geometry.evaluation.claims import load_ledger
from finetune_geometry.evaluation.judging import UNTESTABLE
from finetune_geometry.figures.bases_plots import verdict_tiles
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.spread_plots import component_bars, repetitions
from finetune_geometry.repetitions.cells import read_cells
from finetune_geometry.report.bases import listed
from finetune_geometry.report.cells import components, judged_cells, margins
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.repetitions import MEASUREMENTS
from finetune_geometry.settings.variations import students

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
evaluation = this_run.profile.evaluation

# %% [markdown]
# ## The verdicts, cell by cell

# %%
chosen = MEASUREMENTS["spread"].cells(this_run.profile)
repeated = {cell.name: cell for cell in chosen}
numbers = read_cells(this_run, chosen, "headlines")
this_run.write_table("controls/spread.csv", numbers)
judged = judged_cells(load_ledger(), read_cells(this_run, chosen, "measures"))
this_run.write_table("controls/spread_claims.csv", judged)
kinds = {name: cell.kind for name, cell in repeated.items()}
verdicts = judged.pivot_table(index="claim", columns="cell", values="verdict", aggfunc="first")
verdicts = verdicts.assign(title=judged.drop_duplicates("claim").set_index("claim")["title"])
order = judged["claim"].drop_duplicates()
verdicts = verdicts.loc[[c for c in order if (verdicts.loc[c, list(kinds)] != UNTESTABLE).any()]]

# %% mystnb={"figure": {"name": "fig-spread-verdicts", "caption": "Does a verdict survive another draw? One row a claim, one tile a cell: the run of this book, other orders, other draws of A and order, other students. {number}`spread.stable.claims` have one verdict in all {number}`spread.cells` cells. A row of one colour says that the verdict does not hang on the draw; it does not say that the claim is true elsewhere. Each cell has one training of each method."}, "image": {"alt": "Rows of coloured tiles: the verdict on each claim in every repetition."}} tags=["hide-input"]
verdict_tiles(verdicts.reset_index(), {name: name for name in kinds})
# %% [markdown]
# How far is each claim's number from its line, in units of its own spread over the orders? A margin of less than two standard deviations is one that another order may cross. Empty: the claim was not decided by the same number in every cell, or has no spread.

# %%
margin = margins(judged[judged["claim"].isin(verdicts.index)], kinds)
shares = margin.assign(share=margin["same"] / margin["cells"])
columns = {
    "claim": "claim",
    "title": "what it says",
    "verdict": "the run's verdict",
    "share": "share of cells",
    "value": "mean",
    "line_value": "line",
    "spread": "spread",
    "margin": "margin",
}
show_table(
    shares[list(columns)].rename(columns=columns),
    {
        "share of cells": "{:.0%}",
        **dict.fromkeys(["mean", "line", "spread"], "{:.3g}"),
        "margin": "{:+.1f}",
    },
)

# %% [markdown]
# ## The cosines

# %% tags=["hide-input"]
pairs = numbers[numbers["quantity"] == "cosine"]
pairs = pairs.assign(key=list(zip(pairs["a"], pairs["b"], strict=True)))
own = pairs[pairs["cell"] == "run"].sort_values("value", ascending=False)
names = {key: f"{label(key[0])}, {label(key[1])}" for key in own["key"]}

# %% mystnb={"figure": {"name": "fig-spread-cosines", "caption": "How far does a cosine move from one repetition to the next? Every pair of the six methods, and SFT (reshuffled) of each cell; one mark a cell. SFT and RFT have {number}`spread.cosine.sft_rft.mean:.3f` ({number}`spread.cosine.sft_rft.low:.3f` to {number}`spread.cosine.sft_rft.high:.3f`, {number}`profile.evaluation.confidence:.0%`, over orders), SFT and DFT {number}`spread.cosine.sft_dft.mean:.3f` ({number}`spread.cosine.sft_dft.low:.3f` to {number}`spread.cosine.sft_dft.high:.3f`), SFT and Offline GRPO {number}`spread.cosine.sft_offline_grpo.mean:.3f` ({number}`spread.cosine.sft_offline_grpo.low:.3f` to {number}`spread.cosine.sft_offline_grpo.high:.3f`), SFT and DPO {number}`spread.cosine.sft_dpo.mean:.3f` ({number}`spread.cosine.sft_dpo.low:.3f` to {number}`spread.cosine.sft_dpo.high:.3f`). Where two rows do not overlap, the order of these pairs is no accident of one draw."}, "image": {"alt": "One row a pair of methods with marks for its cosine in every repetition, by kind of repetition."}} tags=["hide-input"]
repetitions(pairs, names, xlabel="global cosine")
# %% mystnb={"figure": {"name": "fig-spread-components", "caption": "What moves a cosine: the order, the A, or the base? Standard deviations over cells that differ in the one thing. Median over the pairs: order {number}`spread.deviation.order:.3f`, A alone {number}`spread.deviation.initial:.3f`, base {number}`spread.deviation.base:.3f`. Each is estimated from three to five cells, so a bar may be off by a factor of two. That of A is a difference of two such numbers and is 0 where it came out negative. All six of a cell share their A: between cells with different A a cosine would be near chance ([](second_seed))."}, "image": {"alt": "Three bars for each pair of methods: the standard deviation of its cosine over orders, over initial A, and over bases."}} tags=["hide-input"]
parts = components(numbers, evaluation.confidence)
this_run.write_table("controls/spread_components.csv", parts)
of_cosines = parts[parts["quantity"] == "cosine"]
of_cosines = of_cosines.assign(key=list(zip(of_cosines["a"], of_cosines["b"], strict=True)))
component_bars(of_cosines, names, xlabel="standard deviation of the global cosine")
# %% [markdown]
# ## Accuracy, length, rank

# %% tags=["hide-input"]
right = numbers[numbers["quantity"] == "accuracy"].assign(key=lambda table: table["a"])

# %% mystnb={"figure": {"name": "fig-spread-accuracy", "caption": "Which differences in accuracy are the loss's? Test accuracy of each method in every cell. The six means over orders have a standard deviation of {number}`spread.accuracy.loss:.1%`; one method over orders has {number}`spread.accuracy.order:.1%`, over draws of A and order {number}`spread.accuracy.draw:.1%`, over students {number}`spread.accuracy.base:.1%` (medians over the six). McNemar's test knows of none of these: it compares two models, not two losses."}, "image": {"alt": "One row a method with marks for its test accuracy in every repetition."}} tags=["hide-input"]
repetitions(right, {method: label(method) for method in METHODS}, xlabel="test accuracy")
# %%
shown = parts[parts["quantity"].isin(["accuracy", "norm", "rank"])]
shown = shown.assign(method=shown["a"])
shown = shown[shown["method"].isin(METHODS)]
show_table(
    shown[["quantity", "method", "mean", "low", "high", "order", "initial", "base"]].rename(
        columns={"initial": "A"}
    ),
    {"method": label, **dict.fromkeys(["mean", "low", "high", "order", "A", "base"], "{:.3g}")},
)

# %% [markdown]
# ## What was expected
#
# Written down before any of these trainings (`book/predictions.yaml`); standard deviations are over orders unless it says otherwise. For another profile, of which nothing was expected, the numbers stand alone.

# %%
share = shares.set_index("claim")["share"]
ratios = of_cosines[["initial", "base"]].div(of_cosines["order"].replace(0.0, np.nan), axis=0)
order_of = of_cosines.set_index(["a", "b"])["order"]
show_expected(
    this_run.profile.name,
    "spread",
    {
        **{f"cells_with_the_runs_verdict_on_{claim}": share[claim] for claim in share.index},
        "order_deviation_of_the_cosine_of_sft_and_rft": order_of["sft", "rft"],
        "order_deviation_of_the_cosine_of_sft_and_dft": order_of["sft", "dft"],
        "order_deviation_of_an_accuracy": parts.query("quantity == 'accuracy'")["order"].max(),
        "initial_against_order_deviation_of_cosines": ratios["initial"].median(),
        "base_against_order_deviation_of_cosines": ratios["base"].median(),
    },
)

# %% [markdown]
# ## What it means
#
# - **For every headline there are two intervals.** The one over modules or problems, in the chapters, is about these models. The one here is about the loss on this base. Quote the second when you write about a loss.
# - **A base is a draw, too.** Cells that differ in the student alone differ by {number}`spread.ratio.base:.1f` times as much as cells that differ in the order, in the median over pairs. A statement about "fine-tuning" needs several bases; [](another_base) adds one of another family.
# - **Not every small spread is a strong finding.** SFT and RFT are close in every cell because they share rows in every cell ([](../geometry/cosine)).
# - **Many claims, many looks.** A row of the table above is one of {number}`spread.judged` rows. Among that many, a margin of two in one row is expected now and then by chance. None of the sentences here is drawn from the most extreme row alone.
#
# ## How to read the figures, and how not to
#
# - **Five orders are few.** An interval from five numbers is wide for that reason and right only if they scatter like a bell curve.
# - **The components are not additive in general.** "A alone" is a difference of variances of different cells.
# - **Students share their teacher.** Another pool of rollouts would move all cells together.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-spread
#
# *Derivation · ★★ · 10 minutes*
#
# (a) Two methods differ by 4 points in accuracy, one training each, and the standard deviation over orders is 1.5 points. How large is the standard deviation of the difference, and how many of them are 4 points? (b) The same orders are used for both methods and their accuracies go up and down together. What does that change? (c) How many orders are needed to halve an interval from five?
# ```
#
# ```{dropdown} Hint
# (a) The variances of independent numbers add up, also in a difference. (c) An interval from $n$ values is as wide as $t / \sqrt n$, with $t$ for $n - 1$ degrees of freedom.
# ```
#
# ````{solution} ex-spread
# :label: sol-spread
# :class: dropdown
#
# (a) $1.5 \sqrt 2 = 2.1$ points; 4 points are 1.9 of them: hardly evidence. (b) The common part cancels in the difference, which is then better known; take the differences cell by cell. (c) Without the factor of $t$, which also falls, four times as many: twenty. With it, about twelve: $t / \sqrt n$ is 1.24 at five and 0.64 at twelve.
# ````
#
# ## Take-away
#
# One run shows what can happen. How often it happens is a question to repetitions, and {number}`spread.unstable.count` of {number}`spread.judged` verdicts of this book's run changed with a draw.

# %% tags=["remove-cell"]


def of_pair(a: str, b: str) -> dict[str, float]:
    rows = of_cosines[(of_cosines["a"] == a) & (of_cosines["b"] == b)]
    if rows.empty:
        rows = of_cosines[(of_cosines["a"] == b) & (of_cosines["b"] == a)]
    return {name: float(rows[name].iloc[0]) for name in ("mean", "low", "high", "order", "base")}


accuracy = parts[parts["quantity"] == "accuracy"]
ratio = ratios["base"].median()
stable = shares[shares["same"] == shares["cells"]]["claim"]
unstable = shares[shares["same"] < shares["cells"]]["claim"]
this_run.record(
    "spread",
    {
        "cells": len(repeated),
        "students": len(students(this_run.profile)),
        "judged": len(shares),
        "stable": {"count": len(stable), "claims": listed(stable)},
        "unstable": {"count": len(unstable), "claims": listed(unstable)},
        "share": dict(zip(shares["claim"], shares["share"].astype(float), strict=True)),
        "cosine": {
            f"{a}_{b}": of_pair(a, b)
            for a, b in [
                ("sft", "rft"),
                ("sft", "rift"),
                ("sft", "dft"),
                ("sft", "offline_grpo"),
                ("sft", "dpo"),
                ("rft", "rift"),
            ]
        },
        "deviation": {
            name: float(of_cosines[name].median()) for name in ("order", "initial", "base")
        },
        "accuracy": {
            "loss": float(accuracy["mean"].std()),
            **{name: float(accuracy[name].median()) for name in ("order", "draw", "base")},
        },
        "ratio": {"base": float(ratio)},
    },
)
