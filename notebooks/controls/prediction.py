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
# (control-prediction)=
# # Can it be predicted? From the weights, from the first gradient, from later ones
#
# **The answer.** The plain sum of first gradients misses the trained cosines by {number}`prediction.miss.raw:.2f` on average, the same gradients through Adam by {number}`prediction.miss.adam:.2f`, the weights on the rows alone, without any model, by {number}`prediction.miss.weights:.2f`. Gradients taken at step {number}`prediction.half` miss them by {number}`prediction.miss.half:.2f` (the first three: means over {number}`prediction.cells` orders of the rows).
#
# **What you will learn.** Whether the geometry of fine-tuning is there in the first gradient, when it leaves it, how much of it Adam makes, and what a prediction that needs no model assumes.
#
# ## The question
#
# Two deltas can be alike for a dull reason: both are sums of gradients at nearly the same weights, and gradients of one model on one task are alike. If that were all, the cosine table of this book could be had from one pass over the data, before any training. Three predictions of growing cost are held against what was trained:
#
# 1. **from the weights**, {eq}`eq-prediction`: no model, only how often and how strongly each loss met each rollout;
# 2. **from frozen gradients**: every batch is read at the base's weights, and its gradient goes to an optimiser that never moves the model. A plain sum; each gradient times the rate of its step (SGD); AdamW with its moments;
# 3. **from later gradients**: the same, but frozen at the weights after some steps. The delta so far is taken as it is, the rest is predicted.
#
# The first two are made for {number}`prediction.cells` repetitions, the run and other orders of the rows ([](spread)), the third for the run.
#
# ## What the prediction from the weights assumes
#
# ```{prf:proposition}
# :label: prop-weights-only
#
# Let a training be plain SGD with one rate, let the gradient of rollout $i$ be $g_i$ wherever the weights stand, and let $\inner{g_i}{g_j} = \kappa + [i = j]$ in some unit. Let $w_i$ be the sum of the signed weights with which a method met rollout $i$. Then the cosine of the deltas of two methods is
#
# $$
# \frac{\sum_i w_i w'_i + \kappa\, W W'}{\sqrt{\sum_i w_i^2 + \kappa W^2}\,\sqrt{\sum_i w_i'^2 + \kappa W'^2}},
# \qquad W = \sum_i w_i,\quad W' = \sum_i w'_i .
# $$ (eq-weights-only)
# ```
#
# ```{prf:proof}
# The deltas are $-\eta \sum_i w_i g_i$ and $-\eta \sum_i w'_i g_i$. Their inner product is $\eta^2 \sum_{i, j} w_i w'_j \big(\kappa + [i = j]\big) = \eta^2 \big(\kappa W W' + \sum_i w_i w'_i\big)$, and the norms are the same with $w' = w$.
# ```
#
# Four assumptions, and each can fail on its own: gradients that do not change along the training; one inner product for all pairs; equal lengths; SGD. The frozen replays drop the second and the third and keep the first; AdamW in them drops the fourth. Moving the point where they are frozen tests the first.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
from itertools import combinations

import pandas as pd

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.figures.geometry_plots import predictions
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.step_plots import along_steps
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.prediction import predicted_cosines, rollout_weights
from finetune_geometry.geometry.similarity import cosine, inner_products
from finetune_geometry.methods.rows import rows_of_card
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.variation import repeated_orders
from finetune_geometry.settings.variations import FROZEN, kind_of, variations

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
further = variations(this_run.profile).values()
replays = [variation.replay for variation in further if variation.replay]
starts = sorted({replay.step for replay in replays})
steps = sorted({step for variation in further for step in variation.snapshots})
pairs = list(combinations(METHODS, 2))
# Pattern of the adapters' names in each repetition.
patterns = {
    f"order{order}" if order else "run": f"{{}}-order{order}" if order else "{}"
    for order in repeated_orders(this_run.profile)
}
pool = load_rollouts(this_run)

# %% [markdown]
# ## One table of all cosines

# %%
names = [pattern.format(method) for pattern in patterns.values() for method in METHODS]
for variation in further:
    if kind_of(variation) in ("path", "replay", "sgd", "first"):
        names += variation.adapters
adapters = [load_adapter(this_run.adapter_dir(name), name) for name in names]
gram = sum(part.inner for part in map_modules(inner_products, adapters))
between = pd.DataFrame(cosine(gram), names, names)
lengths = pd.Series(gram.diagonal() ** 0.5, names)


def table_of(name: str) -> pd.Series:
    """The cosines of all pairs of methods, under the adapters called by this pattern."""
    return pd.Series({(a, b): float(between.loc[name.format(a), name.format(b)]) for a, b in pairs})


def from_the_weights(pattern: str) -> pd.Series:
    """What the weights on the rollouts alone say; of losses that they do not settle nothing."""
    weights = {}
    for method in METHODS:
        card = this_run.read_json(f"adapters/{pattern.format(method)}/card.json")
        loss, left, rows, order = rows_of_card(card, pool)
        seen = rollout_weights(method, loss, left, rows, order)
        if seen is not None:
            weights[method] = seen
    return predicted_cosines(weights).set_index(["a", "b"])["value"]


tables = {}
for cell, pattern in patterns.items():
    columns = {"trained": table_of(pattern), "weights": from_the_weights(pattern)}
    columns |= {kind: table_of(f"{pattern}-from0-{kind}") for kind in FROZEN}
    tables[cell] = pd.DataFrame(columns).rename_axis(["a", "b"])
own_table = tables["run"].rename(columns={"adam": "adam0"}).reindex(pairs)
for step in starts[1:]:
    own_table[f"adam{step}"] = table_of(f"{{}}-from{step}-adam")
own_table["by_sgd"] = table_of("{}-sgd")
trained = own_table["trained"]
table = (
    pd.concat(
        [tables[cell].assign(cell=cell) for cell in tables if cell != "run"]
        + [own_table.assign(cell="run")]
    )
    .rename_axis(["a", "b"])
    .reset_index()
)
this_run.write_table("controls/prediction.csv", table)
words = {
    "a": "first",
    "b": "second",
    "trained": "trained",
    "weights": "from the weights",
    "raw": "plain sum",
    "sgd": "with the rates",
    **{f"adam{step}": f"Adam, frozen at {step}" for step in starts},
}
show_table(
    own_table.reset_index()[list(words)].rename(columns=words),
    {
        **dict.fromkeys(["first", "second"], label),
        **dict.fromkeys(list(words.values())[2:], "{:.3f}"),
    },
)

# %% mystnb={"figure": {"name": "fig-prediction", "caption": "Is the geometry there in the first gradient? Dots: the trained cosine of a pair. Diamonds: the plain sum of the gradients of all batches, taken at the base. Triangles: the same gradients through AdamW. SFT and DFT are trained to {number}`prediction.pair.sft_dft.trained:.2f`; the sum says {number}`prediction.pair.sft_dft.raw:.2f`, Adam {number}`prediction.pair.sft_dft.adam:.2f`. SFT and DPO: {number}`prediction.pair.sft_dpo.trained:.2f`, {number}`prediction.pair.sft_dpo.raw:.2f` and {number}`prediction.pair.sft_dpo.adam:.2f`. Where the marks part, the weights moved on from where the first gradient pointed. The run's own order; in {number}`prediction.cells` orders the sum misses the cosines by {number}`prediction.miss.raw_low:.2f` to {number}`prediction.miss.raw_high:.2f`, Adam by {number}`prediction.miss.adam_low:.2f` to {number}`prediction.miss.adam_high:.2f`."}, "image": {"alt": "One row a pair of methods: a dot for the trained cosine, a diamond for the plain sum of first gradients, a triangle for the same through Adam."}} tags=["hide-input"]
drawn = pd.concat(
    [
        pd.DataFrame({"a": trained.index.get_level_values(0), "b": trained.index.get_level_values(1),
                      "quantity": quantity, "value": values.to_numpy(), "low": values.to_numpy(),
                      "high": values.to_numpy()})
        for quantity, values in {
            "trained": trained, "predicted": own_table["raw"], "predicted_common": own_table["adam0"],
        }.items()
    ]
)  # fmt: skip
predictions(
    drawn,
    None,
    xlabel="global cosine",
    names=[f"{label(a)}, {label(b)}" for a, b in pairs],
    words={"predicted": "sum of first gradients", "predicted_common": "through AdamW"},
)
# %% [markdown]
# ## When does the geometry leave the first gradient?

# %%
own = pd.DataFrame(
    [
        (step, method, float(between.loc[f"{method}-from{step}-adam", method]))
        for step in starts
        for method in METHODS
        if f"{method}-from{step}-adam" in between.index
    ],
    columns=["step", "name", "value"],
)
misses = pd.DataFrame(
    {
        cell: rows.drop(columns="trained").sub(rows["trained"], axis=0).abs().mean()
        for cell, rows in tables.items()
    }
)
later = {step: float((own_table[f"adam{step}"] - trained).abs().mean()) for step in starts[1:]}

# %% mystnb={"figure": {"name": "fig-prediction-steps", "caption": "From when on is a delta foreseen? Cosine of the predicted delta with the trained one, by the step at which the gradients are frozen (AdamW; the delta up to there is the real one, so the lines must end at 1). Frozen at the base, SFT's prediction has {number}`prediction.own.sft:.2f`, DFT's {number}`prediction.own.dft:.2f`, DPO's {number}`prediction.own.dpo:.2f`. A line that starts high belongs to a method that goes where its first gradients point. One run of each."}, "image": {"alt": "Cosine of predicted and trained delta over the step of freezing, one line a method."}} tags=["hide-input"]
along_steps(own, ylabel="cosine with the trained delta")
# %% [markdown]
# ## The cosines along the training

# %%
path = pd.DataFrame(
    [
        (step, f"{a} {b}", float(between.loc[f"{a}-step{step}", f"{b}-step{step}"]))
        for step in steps
        for a, b in pairs
        if a == "sft"
    ],
    columns=["step", "pair", "value"],
)
path["name"] = path["pair"].str.split().str[1]

# %% mystnb={"figure": {"name": "fig-prediction-path", "caption": "Do the losses part at once or by and by? Cosine with SFT after as many steps, both on their way. DFT goes from {number}`prediction.path.first.dft:.2f` to {number}`prediction.path.last.dft:.2f`, Offline GRPO from {number}`prediction.path.first.offline_grpo:.2f` to {number}`prediction.path.last.offline_grpo:.2f`, RFT from {number}`prediction.path.first.rft:.2f` to {number}`prediction.path.last.rft:.2f`, DPO from {number}`prediction.path.first.dpo:.2f` to {number}`prediction.path.last.dpo:.2f`. A line that falls all the way is noise or difference adding up; one that starts low was apart from the first steps on."}, "image": {"alt": "Cosine with SFT over the steps of the training, one line for each other method."}} tags=["hide-input"]
along_steps(path, ylabel="cosine with SFT")
# %% [markdown]
# ```{explorable} film
# ```
#
# ## How much is Adam's?
#
# The same six by plain SGD, with the rate at which SFT learns well and a tenth of it for DPO as ever. The rate of an SGD is not that of an Adam; compare directions, not lengths.

# %%
by_sgd = pd.DataFrame(
    {
        "pair": [f"{label(a)}, {label(b)}" for a, b in pairs],
        "AdamW": trained.to_numpy(),
        "SGD": own_table["by_sgd"].to_numpy(),
        "sum of first gradients": own_table["raw"].to_numpy(),
    }
)
show_table(by_sgd, dict.fromkeys(by_sgd.columns[1:], "{:.3f}"))
same = pd.Series({method: float(between.loc[method, f"{method}-sgd"]) for method in METHODS})

# %% [markdown]
# One training of each by SGD. A method by SGD has a cosine of {number}`prediction.same.least:.2f` to {number}`prediction.same.most:.2f` with itself by AdamW. Between the losses the cosines by SGD differ from those by AdamW by {number}`prediction.sgd.mean:.2f` on average; they differ from the sum of first gradients by {number}`prediction.sgd.from_raw:.2f`.
#
# ## What was expected
#
# Written down before any of these replays was made (`book/predictions.yaml`); misses are means over the 15 pairs, of frozen gradients and of the weights over the repetitions, too. For another profile, of which nothing was expected, the numbers stand alone.

# %%
mean_miss = misses.mean(axis=1)
first_own = own[own["step"] == 0].set_index("name")["value"]
show_expected(
    this_run.profile.name,
    "prediction",
    {
        "miss_of_the_plain_sum": mean_miss["raw"],
        "miss_of_frozen_adam": mean_miss["adam"],
        "miss_of_weights_only": mean_miss["weights"],
        "miss_of_adam_from_half_way": later[starts[-1]],
        "frozen_adam_with_trained_sft": first_own["sft"],
        "frozen_adam_with_trained_dpo": first_own["dpo"],
        "cosine_of_sft_and_dft_by_sgd_minus_by_adamw": float(
            own_table.loc[("sft", "dft"), "by_sgd"] - trained["sft", "dft"]
        ),
    },
)

# %% [markdown]
# ## What it means
#
# - **A likeness in the first gradient is cheap.** Everything that teaches the format has it, also pairs that end apart. A cosine of 0.99 between first gradients says little about two losses.
# - **The weights on the rows come as near as a gradient does, or nearer**, if {number}`prediction.miss.weights:.2f` is below {number}`prediction.miss.adam:.2f`: they leave out what all rollouts share and what the training therefore learns first and is done with.
# - **The orthogonality of DPO**, {number}`prediction.pair.sft_dpo.trained:.2f` as trained, is in the first gradients only as far as {number}`prediction.pair.sft_dpo.raw:.2f` (sum) and {number}`prediction.pair.sft_dpo.adam:.2f` (Adam) say.
#
# ## How to read this, and how not to
#
# - **Adam's moments start at zero in each replay**, also at a later step, where the training had them. The first steps of a replay are therefore as long as the rate allows.
# - **What is repeated and what is not.** Frozen gradients at the base and weights were repeated over orders; later freezing points, the path and SGD are of one run. How far cosines move from one order to the next is in [](spread); a miss smaller than that is none.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-prediction
#
# *Derivation · ★★ · 15 minutes*
#
# (a) In {eq}`eq-weights-only` let $\kappa \to \infty$. What is the cosine of SFT and RFT, and what of SFT and DPO, whose weights sum to zero? (b) Which line of the first figure is like that? (c) A replay frozen at the last step misses nothing. Why is that no achievement?
# ```
#
# ```{dropdown} Hint
# Divide the numerator and both roots by $\kappa$. Which terms are left, and which of them hold $W$?
# ```
#
# ````{solution} ex-prediction
# :label: sol-prediction
# :class: dropdown
#
# (a) 1 for any two methods with $W, W' > 0$: only the common part is left. DPO has $W = 0$ and no common part; its cosine with the others is $\sum w w' / \big(\sqrt\kappa\, W \sqrt{\sum w'^2}\big) \to 0$. (b) The plain sum: pairs without DPO are near 1. (c) The delta up to there is the trained one; nothing is left to predict.
# ````
#
# ## Take-away
#
# A first gradient tells what a loss wants before anything is learnt. The deltas are made of what it wants afterwards.

# %% tags=["remove-cell"]
half = starts[-1]
chosen = [("sft", "dft"), ("sft", "dpo"), ("sft", "rft"), ("sft", "offline_grpo")]
by_step = path.set_index(["step", "name"])["value"]
apart = (own_table["by_sgd"] - trained).abs()


def over_orders(kind: str) -> dict[str, float]:
    found = misses.loc[kind]
    ends = {"": found.mean(), "_low": found.min(), "_high": found.max()}
    return {f"{kind}{end}": float(value) for end, value in ends.items()}


this_run.record(
    "prediction",
    {
        "half": half,
        "cells": len(tables),
        "miss": {
            **{key: v for kind in misses.index for key, v in over_orders(kind).items()},
            "half": later[half],
        },
        "pair": {
            f"{a}_{b}": {
                "trained": float(trained[a, b]),
                "raw": float(own_table.loc[(a, b), "raw"]),
                "adam": float(own_table.loc[(a, b), "adam0"]),
            }
            for a, b in chosen
        },
        "own": own[own["step"] == 0].set_index("name")["value"].astype(float).to_dict(),
        "path": {
            where: {method: float(by_step[step, method]) for method in METHODS if method != "sft"}
            for where, step in (("first", steps[0]), ("last", steps[-1]))
        },
        "same": {**same.to_dict(), "least": float(same.min()), "most": float(same.max())},
        "sgd": {
            "mean": float(apart.mean()),
            "from_raw": float((own_table["by_sgd"] - own_table["raw"]).abs().mean()),
        },
        "length": {method: float(lengths[f"{method}-sgd"]) for method in METHODS},
    },
)
