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
# (control-second-seed)=
# # A second seed: do two losses differ more than two runs of one?
#
# **What you will learn.** How much of a delta's direction is chance, which part of that chance the shared initialisation hides, and what is left of "nearly collinear" when the yardstick is a second run of the same loss.
#
# ## The question
#
# The cosine chapter says how alike two losses are. Alike compared with what? The natural yardstick is one loss, trained twice. If SFT differs from SFT as much as it differs from RFT, then the geometry has not told the two losses apart.
#
# A training draws at random twice: the initial matrix $A$ of every module, and the order of the rows. All six methods share the first, and the five that learn from single rollouts share the second. So this chapter trains SFT two more times:
#
# - **SFT (order)**: the same initial $A$, the rows in another order. A run of {number}`sft.epochs:.2f` passes does not come to all the rows, so another order also means other rows;
# - **SFT (seed)**: another initial $A$ and another order. This is the paper's second seed (claim C14).

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
seed: int = 123  # the second seed, of the order of the rows and of the initial A

# %% tags=["hide-input", "remove-stderr"]
import numpy as np
import pandas as pd
import torch

from finetune_geometry.connectivity import (
    METRICS,
    connectivity_table,
    line_points,
    make_tasks,
    score_points,
    spread_rows,
)
from finetune_geometry.cores import map_modules
from finetune_geometry.deltas import BASE, load_adapter, load_run
from finetune_geometry.evaluation import evaluate_models
from finetune_geometry.geometry_plots import likeness
from finetune_geometry.mixture import Mixture
from finetune_geometry.models import load_model
from finetune_geometry.palette import label, set_style
from finetune_geometry.problems import load_problems
from finetune_geometry.profiles import METHODS
from finetune_geometry.records import Run, check_parameters
from finetune_geometry.rollouts import load_rollouts
from finetune_geometry.similarity import (
    bootstrap_averages,
    bootstrap_global_cosine,
    inner_products,
    tabulate_cosines,
    versus,
)
from finetune_geometry.statistics import accuracy_table, mcnemar_table
from finetune_geometry.subspaces import angle_rows, tabulate_angles
from finetune_geometry.tables import show_table
from finetune_geometry.training import trained

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
settings, evaluation = this_run.profile.geometry, this_run.profile.evaluation
controls = {
    "sft-order": {"methods.sft.seed": seed},
    "sft-seed": {"methods.sft.seed": seed, "lora.seed": seed},
}

# %% [markdown]
# ## Train
#
# Nothing but the seeds differs from [the chapter on SFT](../methods/sft): the same rows, learning rate and number of steps.

# %% tags=["hide-output"]
cards = {
    name: trained(Run.open(profile, run, changes), "sft", name)
    for name, changes in controls.items()
}

# %% [markdown]
# ## How alike are they?
#
# Three measures, each between 0 and 1 for deltas that do not oppose each other: the global cosine; and how well the first left singular vectors (output directions) and the first right ones (input directions) agree, $|u_1 \cdot u_1'|$ and $|v_1 \cdot v_1'|$, averaged over the modules.

# %%
adapters = [a for a in load_run(this_run, ",".join(controls)) if a.name != BASE]
parts = map_modules(lambda cores: (inner_products(cores), angle_rows(cores, [1])), adapters)
products = [inner for inner, _ in parts]
sampling = {"confidence": evaluation.confidence, "seed": settings.seed}
cosines = tabulate_cosines(products).query("quantity == 'cosine' and module == 'global'")
cosines = cosines.merge(bootstrap_global_cosine(products, **sampling), on=["a", "b"])
angles = tabulate_angles([rows for _, rows in parts])
angles = bootstrap_averages(angles.query("quantity == 'leading_vector_cosine'"), **sampling)
angles = angles.query("module == 'mean'")
for name, table in {"cosine": cosines, "angles": angles}.items():
    this_run.write_table(f"controls/second_seed_{name}.csv", table)

# %% mystnb={"figure": {"name": "fig-second-seed", "caption": "Do two losses differ more than two runs of one? Likeness with SFT, by three measures: two more runs of SFT in the upper rows, the other methods below. Dashed: SFT in another order; dotted: SFT from another seed. A dot to the left of the dashed line differs from SFT by more than another order makes it differ. The global cosine with SFT is {number}`second_seed.cosine.order:.3f` for another order, {number}`second_seed.cosine.seed:.3f` for another seed, {number}`second_seed.cosine.rft:.3f` for RFT and {number}`second_seed.cosine.dpo:.3f` for DPO. Bars are {number}`profile.evaluation.confidence:.0%` bootstrap intervals over modules; they are not intervals over seeds, for there is one run of each kind."}, "image": {"alt": "Three panels with one row for each of two more runs of SFT and five other methods: global cosine, agreement of first left and of first right singular vectors with those of SFT."}} tags=["hide-input"]
measures = {
    "global cosine": cosines,
    "first left vectors": angles.query("side == 'left'"),
    "first right vectors": angles.query("side == 'right'"),
}
names = [*controls, *(m for m in METHODS if m != "sft")]
alike = pd.concat(
    versus(table, "sft", among=[a.name for a in adapters]).assign(measure=measure)
    for measure, table in measures.items()
)
likeness(alike, names, levels=list(controls), reference="sft")
# %%
wide = alike.pivot_table(index="other", columns="measure", values="value", sort=False)
show_table(
    wide.loc[names, list(measures)].reset_index(names="SFT and"),
    {"SFT and": label, **dict.fromkeys(measures, "{:.3f}")},
)

# %% [markdown]
# **The order of the rows.** With the same initial $A$, SFT and SFT in another order have a cosine of {number}`second_seed.cosine.order:.3f`; SFT and RFT have {number}`second_seed.cosine.rft:.3f`, SFT and RIFT {number}`second_seed.cosine.rift:.3f`. RFT and RIFT see the rows in SFT's own order. Where their cosine is above that of the other order, the three losses are closer to each other than one loss is to itself: "nearly collinear" then says that these losses make less of a difference than the order of the data. Where a cosine is below it, as Offline GRPO's {number}`second_seed.cosine.offline_grpo:.3f` or DPO's {number}`second_seed.cosine.dpo:.3f` may be, the loss matters beyond the order.
#
# **The initialisation.** From another $A$ the same loss has {number}`second_seed.cosine.seed:.3f`. This is what the shared $A$ hides. A LoRA delta $B A$ can only read the inputs that its $A$ reads, and $A$ changes little from where it starts. So the first right vectors agree to {number}`second_seed.right.seed:.3f`, and a cosine between adapters with different $A$ is bounded by that. The left side is free: the first output directions agree to {number}`second_seed.left.seed:.3f`. The paper finds 0.07 on the right and 0.99 on the left.

# %% [markdown]
# ## Are the two seeds connected, and equally good?
#
# Two more questions of claim C14 and of the accuracy chapter: does a barrier stand between two seeds, on the tasks of [](../geometry/mode_connectivity), and how far apart are their accuracies?

# %% tags=["remove-stderr"]
torch.set_num_threads(this_run.profile.training.threads)
model, tokenizer = load_model(this_run.profile)
tasks = make_tasks(
    tokenizer,
    spread_rows(load_rollouts(this_run, "heldout"), settings.lmc_rows),
    load_problems(this_run.profile, "test")[: settings.lmc_problems],
    settings.lmc_answered,
    evaluation.max_new_tokens,
)
ends, alphas = ["sft", "sft-seed"], np.linspace(0, 1, settings.lmc_alphas)
with Mixture(model, {n: load_adapter(this_run.adapter_dir(n), n) for n in ends}) as mixture:
    scores = score_points(mixture, tokenizer, tasks, line_points(ends, alphas))
line = connectivity_table(scores, ends, alphas, **sampling)
this_run.write_table("controls/second_seed_connectivity.csv", line)
heights = line[line["quantity"].isin(["barrier", "midpoint"])]
show_table(
    heights[["metric", "quantity", "value", "low", "high"]],
    {"metric": METRICS.get, **dict.fromkeys(["value", "low", "high"], "{:.3f}")},
)

# %% tags=["hide-output"]
answers = evaluate_models(this_run, ["sft", *controls], beside=())

# %%
accuracy = accuracy_table(answers, evaluation.confidence)
pairs = mcnemar_table(answers, evaluation.equivalence_margin, evaluation.confidence)
show_table(accuracy, {"model": label, **dict.fromkeys(["accuracy", "low", "high"], "{:.1%}")})

# %% [markdown]
# The boxed answer has a barrier of {number}`second_seed.barrier.boxed_cross_entropy:.3f` nats between the two seeds, the held-out SFT loss {number}`second_seed.barrier.sft_cross_entropy:.3f`. Three runs of one loss lie {number}`second_seed.spread:.1%` apart in accuracy, from worst to best; the smallest McNemar p of their three pairs, corrected, is {number}`second_seed.least_p:.2g`. Two methods whose accuracies differ by no more than that differ by no more than luck of the draw.
#
# ## How to read the figure, and how not to
#
# - **One more run of each kind is not a distribution.** It shows the size of the effect of chance, not its spread. Give this notebook another `seed` to see another draw.
# - **A test over problems does not see seeds.** McNemar's test asks whether *these two models* differ on problems like these. It cannot say whether the *methods* differ, because a method is all the models that it might have made.
# - **A low cosine between two seeds is no sign of two solutions.** Most of it is bookkeeping of $A$. Compare left singular vectors, or what the models do.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-second-seed
#
# Two adapters have the same $B$, one and the same gradient made it, and independent random $A_1$, $A_2$ with $r$ rows in $d_{\mathrm{in}}$ dimensions. Roughly, what is their cosine? Is the measured one, {number}`second_seed.cosine.seed:.3f`, above or below, and why?
#
# *Hint.* Start with $r = 1$. What is the cosine of $b a_1^\top$ and $b a_2^\top$?
# ```
#
# ````{solution} ex-second-seed
# :label: sol-second-seed
# :class: dropdown
#
# For $r = 1$ it is the cosine of $a_1$ and $a_2$, about $\pm 1 / \sqrt{d_{\mathrm{in}}}$ with either sign. But $B$ follows $A$: its gradient is $g A^\top$, so the first step moves the weight along $g A^\top A$, and two such steps have a cosine of about $r / d_{\mathrm{in}}$, always positive ([](../ingredients/lora_delta); {number}`verdict.floor:.3f` here). A longer training also turns $A$ towards the inputs that matter, the same ones for both seeds, which adds to it.
# ````
#
# ## Take-away
#
# A likeness between two losses needs the likeness of one loss with itself beside it. Sharing $A$ makes cosines comparable and hides half of the chance; the order of the rows is the other half.

# %% tags=["remove-cell"]


def by_name(rows: pd.DataFrame) -> dict[str, float]:
    short = {name: name.partition("-")[2] for name in controls}
    return {
        short.get(other, other): float(value)
        for other, value in zip(rows["other"], rows["value"], strict=True)
    }


barriers = line[line["quantity"] == "barrier"].set_index("metric")["value"]
this_run.record(
    "second_seed",
    {
        "number": seed,
        "cosine": by_name(alike.query("measure == 'global cosine'")),
        "left": by_name(alike.query("measure == 'first left vectors'")),
        "right": by_name(alike.query("measure == 'first right vectors'")),
        "barrier": {metric: float(value) for metric, value in barriers.items()},
        "accuracy": dict(zip(["sft", "order", "seed"], accuracy["accuracy"], strict=True)),
        "spread": float(accuracy["accuracy"].max() - accuracy["accuracy"].min()),
        "least_p": float(pairs["p_holm"].min()),
        "seconds": sum(card["seconds"] for card in cards.values()),
    },
)
