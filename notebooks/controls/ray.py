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
# (control-ray)=
# # Along the ray: is it the loss, or the length?
#
# **The answer.** As trained, the five methods other than DPO lie {number}`ray.spread.trained.mean:.1%` of accuracy apart. Each at its best length they lie {number}`ray.spread.best.mean:.1%` apart, that is {number}`ray.share_left:.0%` of the gap as trained (means over {number}`ray.cells` repetitions of all trainings).
#
# **What you will learn.** How good a model is at every fraction of its own delta, whether the methods still differ in accuracy when each is taken at its best fraction, and why a checkpoint from the middle of a schedule need not be near that.
#
# ## The question
#
# In the paper five methods end within a point of each other and six points *below* the base (claim C3), and only DPO, whose delta is 13 times shorter, stays at the base's level (C10). The checkpoints come from two thirds of a cosine schedule, before the learning rate has come all the way down. So two explanations compete: the losses teach different things, or they all point the right way and some run too far along it. In the run of this book the base has {number}`ray.base:.1%`, SFT {number}`ray.mean.trained.sft:.1%`, Offline GRPO {number}`ray.mean.trained.offline_grpo:.1%` and DPO {number}`ray.mean.trained.dpo:.1%` (means over the repetitions): other distances than the paper's, and the same two explanations.
#
# The **ray** of an adapter helps to tell them apart, without any training. It is the straight line from the base through the model and beyond,
#
# $$
# W(\lambda) = W_{\text{base}} + \lambda\,\Delta W ,
# $$ (eq-ray)
#
# with the base at $\lambda = 0$ and the trained model at $\lambda = 1$. The direction of the delta, and every cosine and every angle of this book, is the same all along a ray. What changes along it cannot be a matter of direction.
#
# **The rule.** $\lambda$ is chosen for each method by its validation accuracy, of equal ones the nearest to 1; if the base has less than {number}`ray.floor:.0%` of the validation problems right, by its held-out loss. Then the test problems are answered there, once. At $\lambda = 0$ a model is the base. So, apart from the luck of the choice, none can be worse than the base at its best, and a gap to a model that stood below the base shrinks whatever its direction is worth: read the gain over the base as well. All of it is done for {number}`ray.cells` repetitions from one base: the run, and further ones whose rows come in another order (the table below lists them).

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.evaluation.choice import FLOOR, best_factors
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.ray_plots import before_and_after, rays
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
chosen = MEASUREMENTS["ray"].cells(this_run.profile)
five = [method for method in METHODS if method != "dpo"]

# %% [markdown]
# ## The rays
#
# At each $\lambda$ two measurements in each repetition: the loss on {number}`ray.rows` of the teacher's rollouts to held-out prompts, right and wrong ones, and greedy answers to {number}`ray.validation` validation problems. Nothing is merged: each module adds $\lambda$ times its low-rank product to its output. Each repetition is measured by a job of its own ([`measure_ray`](../../book/api/repetitions.md)), and this page lays their tables side by side.

# %%
table = read_cells(this_run, chosen, "ray")
this_run.write_table("controls/ray.csv", table)
best = pd.DataFrame({name: best_factors(part) for name, part in table.groupby("cell", sort=False)})
show_table(made_where(this_run, chosen, "ray"), {"minutes": "{:.0f}"})

# %% mystnb={"figure": {"name": "fig-ray", "caption": "How good is a model at a fraction of its delta? Every line starts at the base ($\\lambda = 0$) and passes the trained model (upright line, $\\lambda = 1$); faint: the repetitions, with marks: their mean. By {number}`ray.by` SFT is best at {number}`ray.best.sft:.2f`, RFT at {number}`ray.best.rft:.2f`, DFT at {number}`ray.best.dft:.2f`, RIFT at {number}`ray.best.rift:.2f`, Offline GRPO at {number}`ray.best.offline_grpo:.2f`, DPO at {number}`ray.best.dpo:.2f` (means). The held-out loss is that of imitating all rollouts of the teacher, right and wrong: SFT's aim, not that of RFT, Offline GRPO or DPO. It is least at {number}`ray.least_loss.sft:.2f` for SFT and at {number}`ray.least_loss.offline_grpo:.2f` for Offline GRPO. A ray holds what this direction can do, not what the loss could with another schedule."}, "image": {"alt": "Lines over the factor of the delta, for each method one for every repetition and one for their mean: held-out loss and, where problems were answered, validation accuracy."}} tags=["hide-input"]
rays(table)
# %% [markdown]
# ```{explorable} ray
# ```
#
# ## The methods, each where it is best

# %% tags=["hide-input"]
accuracy = read_cells(this_run, chosen, "ray_accuracy")
tests = read_cells(this_run, chosen, "ray_mcnemar")
this_run.write_table("controls/ray_accuracy.csv", accuracy)
this_run.write_table("controls/ray_mcnemar.csv", tests)
right = accuracy.pivot_table(
    index=["cell", "which"], columns="model", values="accuracy", sort=False
)
both = {which: right.xs(which, level="which") for which in ("trained", "best")}
spread = pd.DataFrame(
    {which: rows[five].max(axis=1) - rows[five].min(axis=1) for which, rows in both.items()}
)
apart = spread["trained"].mean()
share_left = float(spread["best"].mean() / apart) if apart else float("nan")
from_base = pd.DataFrame({which: rows["dpo"] - rows[BASE] for which, rows in both.items()})
among_five = tests[tests["family"].isin(["trained", "best"])]
unlike = among_five.assign(different=among_five["p_holm"] < 0.05).pivot_table(
    index="cell", columns="family", values="different", aggfunc="sum"
)

# %% mystnb={"figure": {"name": "fig-ray-best", "caption": "Do the methods differ when each has its best length? Test accuracy of the trained models (hollow) and of the models at their best factor (filled); a mark a repetition, a stroke at their mean; the dashed line is the base, {number}`ray.base:.1%`. From worst to best the five methods other than DPO lie {number}`ray.spread.trained.low:.1%` to {number}`ray.spread.trained.high:.1%` apart as trained, and {number}`ray.spread.best.low:.1%` to {number}`ray.spread.best.high:.1%` at their best; of their ten pairs {number}`ray.different.trained` and {number}`ray.different.best` differ after correction (McNemar, fewest to most over the repetitions). DPO at its best is {number}`ray.dpo.best.mean:+.1%` from the base. The factor was chosen on validation problems, so the filled marks carry no advantage on these."}, "image": {"alt": "For each method hollow and filled marks on an axis of test accuracy, one for every repetition, with a stroke at their mean, and the base as a dashed line."}} tags=["hide-input"]
before_and_after(
    accuracy[accuracy["model"] != BASE],
    float(right[BASE].mean()),
    {"trained": r"as trained, $\lambda = 1$", "best": r"at the best $\lambda$"},
)
# %%
means = right.groupby("which").mean()
own = tests[tests["family"] == "own"].groupby("a", sort=False)
wide = pd.DataFrame(
    {
        "model": list(METHODS),
        "best factors": [
            ", ".join(f"{value:g}" for value in best.loc[method]) for method in METHODS
        ],
        "as trained": means.loc["trained", list(METHODS)].to_numpy(),
        "at the best": means.loc["best", list(METHODS)].to_numpy(),
        "difference": own["difference"].mean()[list(METHODS)].to_numpy(),
        "best minus base": (means.loc["best", list(METHODS)] - means.loc["best", BASE]).to_numpy(),
        "largest corrected p": own["p_holm"].max()[list(METHODS)].to_numpy(),
    }
)
show_table(
    wide,
    {
        "model": label,
        **dict.fromkeys(["as trained", "at the best"], "{:.1%}"),
        **dict.fromkeys(["difference", "best minus base"], "{:+.1%}"),
        "largest corrected p": "{:.2g}",
    },
)

# %% [markdown]
# Accuracies and differences are means over the repetitions. The p-value is the largest of the repetitions': where it is small, each of them shows a difference, though not necessarily of one sign. Where a best factor is 1 nothing is compared, and p is 1.
#
# ## What was expected
#
# Written down before any point between the ends was measured (`book/predictions.yaml`), but after a pilot on an earlier student, which the file describes; means over the repetitions. For another profile, of which nothing was expected, the numbers stand alone.

# %%
show_expected(
    this_run.profile.name,
    "ray",
    {
        "largest_best_factor_of_five": best.loc[five].max().mean(),
        "best_factor_of_dpo": best.loc["dpo"].mean(),
        "spread_of_five_against_that_at_1": share_left,
        "dpo_minus_base_at_best": from_base["best"].mean(),
    },
)

# %% [markdown]
# ## What it means for the claims
#
# - **Five methods alike (C3).** The largest of the ten differences is {number}`ray.spread.trained.mean:.1%` as trained and {number}`ray.spread.best.mean:.1%` at the best factors. The largest of ten is above 0 by chance alone: five equally good methods that scatter as one does over its repetitions, with a standard deviation of {number}`ray.order.trained:.1%` as trained and of {number}`ray.order.best:.1%` at its best (pooled over the six), would lie {number}`ray.by_chance.trained:.1%` and {number}`ray.by_chance.best:.1%` apart on average (2.33 standard deviations, if they scatter like a bell curve). Only what is clearly above it is left to the losses; with {number}`ray.cells` repetitions the scatter itself is known roughly. The *means* of the five over the repetitions have a range of {number}`ray.of_means.trained:.1%` and of {number}`ray.of_means.best:.1%`.
# - **What the directions are worth.** At its best SFT is {number}`ray.gain.sft:+.1%` from the base, RFT {number}`ray.gain.rft:+.1%`, DFT {number}`ray.gain.dft:+.1%`, RIFT {number}`ray.gain.rift:+.1%`, Offline GRPO {number}`ray.gain.offline_grpo:+.1%`.
# - **DPO and the base (C10).** At its own end DPO is {number}`ray.dpo.trained.mean:+.1%` from the base ({number}`ray.dpo.trained.low:+.1%` to {number}`ray.dpo.trained.high:+.1%`), at its best factor, {number}`ray.best.dpo:.2f` on average, {number}`ray.dpo.best.mean:+.1%` ({number}`ray.dpo.best.low:+.1%` to {number}`ray.dpo.best.high:+.1%`). In {number}`ray.at_base.dpo` of the {number}`ray.cells` repetitions its best factor is 0: there it *is* the base, and the difference is 0 by definition.
# - **A model in the middle of a schedule.** Where the best factor is below 1, the training may have gone too far along its own direction, or it swings around it: a high learning rate leaves noise in the weights that a smaller step would average out, and scaling a delta down shrinks both. [An annealed schedule](annealed) helps to tell; it shortens the path as well. A third reading is chance: factors drawn blindly from this grid, the base's 0 included, would average {number}`ray.grid:.2f`.
#
# ## How to read the figures, and how not to
#
# - **A ray is no training path.** A model at half its delta is not the checkpoint at half the steps; the path bends ([](../controls/matched_rate) has a cosine of {number}`matched_rate.cosine.sft_control:.2f` of SFT with itself at two rates). A ray tests length, not the stop point.
# - **The grid is coarse.** Between the factors that were tried nothing was measured, and neighbours often differ by less than the validation problems can tell. The highest of several points is too high by luck; the test accuracies are not.
# - **The learning rate was chosen on the same validation problems**, for SFT alone and at $\lambda = 1$ ([](../ingredients/learning_rate)). Part of what the others gain at their best is the tuning that SFT has had.
# - **{number}`ray.cells` repetitions give a range, no interval.** They differ in the order of the rows; another $A$ or another base may scatter more. A gap smaller than the scatter of the marks cannot be told from none here. All share the pool and the problems: other problems could move all marks together, and the interval of one accuracy is {number}`accuracy.half_width:.1%` either way.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-ray
#
# *Concept · ★★ · 10 minutes*
#
# A loss is quadratic along a ray with its minimum at $\lambda^\ast$. (a) Which two points of the ray are as good as the base? (b) A method's delta is made longer by a factor $c$ without turning. Where is the minimum now? (c) Two methods with the same minimum value differ in loss at $\lambda = 1$. What do you know about their directions?
# ```
#
# ```{dropdown} Hint
# Draw a parabola. It is symmetric about its lowest point.
# ```
#
# ````{solution} ex-ray
# :label: sol-ray
# :class: dropdown
#
# (a) $\lambda = 0$ and $\lambda = 2\lambda^\ast$, by symmetry: whoever runs twice as far as the best point is back at the level of the base. (b) At $\lambda^\ast / c$. (c) Nothing. From one base to one minimum value the loss at 1 depends on $\lambda^\ast$ alone; the value at the minimum is what a direction offers, and it is the same.
# ````
#
# ## Take-away
#
# Before two losses are called better and worse, each should be asked at its own best length. What goes away was a matter of length, not of direction.

# %% tags=["remove-cell"]


def over_cells(values: pd.Series) -> dict[str, float]:
    return {"mean": float(values.mean()), "low": float(values.min()), "high": float(values.max())}


mean_loss = table.groupby(["model", "factor"])["loss"].mean()
least = {
    method: float(pd.concat([mean_loss[[BASE]], mean_loss[[method]]]).idxmin()[1])
    for method in METHODS
}
# Pooled over the methods, and the mean range of five draws from a normal distribution with it.
scatter = right.groupby("which").var()[list(METHODS)].mean(axis=1) ** 0.5
RANGE_OF_FIVE = 2.326
asked_validation = int(table.loc[table["model"] != BASE, "problems"].max())
this_run.record(
    "ray",
    {
        "floor": FLOOR,
        "cells": len(chosen),
        "rows": this_run.profile.geometry.lmc_rows,
        "validation": this_run.profile.problems.validation,
        "by": "validation accuracy" if asked_validation else "held-out loss",
        "best": best.mean(axis=1).astype(float).to_dict(),
        "least_loss": least,
        "base": float(right[BASE].mean()),
        "spread": {which: over_cells(spread[which]) for which in ("trained", "best")},
        "share_left": share_left,
        "different": {
            which: f"{unlike[which].min()} to {unlike[which].max()}"
            for which in ("trained", "best")
        },
        "dpo": {which: over_cells(from_base[which]) for which in ("trained", "best")},
        "order": {which: float(scatter[which]) for which in ("trained", "best")},
        "by_chance": {
            which: float(RANGE_OF_FIVE * scatter[which]) for which in ("trained", "best")
        },
        "of_means": {
            which: float(means.loc[which, five].max() - means.loc[which, five].min())
            for which in ("trained", "best")
        },
        "mean": {
            which: means.loc[which, list(METHODS)].astype(float).to_dict()
            for which in ("trained", "best")
        },
        "gain": (means.loc["best", list(METHODS)] - means.loc["best", BASE])
        .astype(float)
        .to_dict(),
        "change": (means.loc["best"] - means.loc["trained"])[list(METHODS)].astype(float).to_dict(),
        "at_base": {"dpo": int((best.loc["dpo"] == 0).sum())},
        "grid": float(pd.Series([0.0, *this_run.profile.geometry.ray_factors]).mean()),
    },
)
