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
# (control-annealed)=
# # Annealed: the same losses with the schedule run to its end
#
# **The answer.** With the schedule run to its end the five methods other than DPO lie {number}`annealed.spread.annealed.mean:.1%` of accuracy apart instead of {number}`annealed.spread.trained.mean:.1%`, and the cosine of a pair moves by {number}`annealed.moved.single:.3f`, where one repetition and another differ by {number}`annealed.moved.order:.3f` (medians; over {number}`annealed.cells` repetitions of all trainings).
#
# **What you will learn.** What a schedule that ends changes, in as many steps: where the models stand on their rays, how far the methods lie apart in accuracy, and whether the directions turn.
#
# ## The question
#
# The paper compares checkpoints from step 1,000 of a schedule of 1,500, and so does this book with {number}`profile.training.steps` of {number}`profile.training.schedule_steps`: there the learning rate is still above a quarter of its peak. [The ray](ray) showed what can be had by shortening the deltas. A simpler way than to shorten a delta is to let the schedule end. So all six are trained once more with as many steps, in the same order, from the same $A$, and with a cosine that comes down to zero over them; and all of that for {number}`annealed.cells` repetitions: the run and, as far as the profile has them, further ones whose rows come in another order (the table below lists them).

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name

# %% tags=["hide-input"]
import pandas as pd

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.evaluation.choice import best_factors
from finetune_geometry.figures.geometry_plots import lengths
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.ray_plots import before_and_after
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
chosen = MEASUREMENTS["annealed"].cells(this_run.profile)
five = [method for method in METHODS if method != "dpo"]

# %% [markdown]
# ## How good are they?
#
# Each repetition is measured by a job of its own ([`measure_annealed`](../../book/api/repetitions.md)), and this page lays their tables side by side.

# %%
accuracy = read_cells(this_run, chosen, "annealed_accuracy")
tests = read_cells(this_run, chosen, "annealed_mcnemar")
base = float(accuracy.loc[accuracy["model"] == BASE, "accuracy"].mean())
accuracy = accuracy[accuracy["model"] != BASE]
right = accuracy.pivot_table(index=["which", "cell"], columns="model", values="accuracy")
both = {which: right.loc[which] for which in ("trained", "annealed")}
spread = {which: rows[five].max(axis=1) - rows[five].min(axis=1) for which, rows in both.items()}
change = both["annealed"] - both["trained"]
apart = spread["trained"].mean()
share_left = float(spread["annealed"].mean() / apart) if apart else float("nan")
show_table(made_where(this_run, chosen, "annealed"), {"minutes": "{:.0f}"})

# %% [markdown]
# Which of the ten pairs among the five differ, by McNemar's test, corrected over these ten in each repetition?

# %%
among_five = tests[tests["family"].isin(list(both))]
unlike = (among_five["p_holm"] < 0.05).groupby([among_five["family"], among_five["cell"]]).sum()
different = {which: f"{unlike[which].min()} to {unlike[which].max()}" for which in both}
print(f"as trained: {different['trained']} of ten differ; annealed: {different['annealed']}")

# %% mystnb={"figure": {"name": "fig-annealed", "caption": "Does a schedule that ends make the models better? Of the six methods {number}`annealed.better` are better and {number}`annealed.worse` worse in every repetition; without any effect {number}`annealed.by_sign:.0f` of six would be expected to have one sign in all. Test accuracy two thirds through a schedule (hollow), and annealed (filled); a mark a repetition, a stroke at their mean; the dashed line is the base. The five methods other than DPO lie {number}`annealed.spread.trained.low:.1%` to {number}`annealed.spread.trained.high:.1%` apart in the first and {number}`annealed.spread.annealed.low:.1%` to {number}`annealed.spread.annealed.high:.1%` in the second; the largest mean change of one method (the largest of six, and large for that reason too) is that of {number}`annealed.most.method`, {number}`annealed.most.change:+.1%`."}, "image": {"alt": "For each method hollow and filled marks on an axis of test accuracy, one for every repetition, with a stroke at their mean, and the base as a dashed line."}} tags=["hide-input"]
before_and_after(
    accuracy, base, {"trained": "two thirds through the schedule", "annealed": "annealed"}
)
# %%
show_table(
    pd.DataFrame(
        {
            "method": list(METHODS),
            "as trained": both["trained"][list(METHODS)].mean().to_numpy(),
            "annealed": both["annealed"][list(METHODS)].mean().to_numpy(),
            "difference": change[list(METHODS)].mean().to_numpy(),
            "largest corrected p": tests[tests["family"] == "own"]
            .groupby("a")["p_holm"]
            .max()[list(METHODS)]
            .to_numpy(),
        }
    ),
    {
        "method": label,
        **dict.fromkeys(["as trained", "annealed"], "{:.1%}"),
        "difference": "{:+.1%}",
        "largest corrected p": "{:.2g}",
    },
)

# %% [markdown]
# Accuracies and differences are means over the repetitions; the p-value is the largest of the repetitions' (McNemar): where it is small, each repetition shows a difference, though not necessarily of one sign.
#
# ## Where do they stand on their rays?

# %%
table = read_cells(this_run, chosen, "annealed_ray")
this_run.write_table("controls/annealed_ray.csv", table)
before = this_run.read_table("controls/ray.csv")
before = before[before["cell"].isin([cell.name for cell in chosen])]


def factors_of(rays: pd.DataFrame) -> pd.DataFrame:
    """Best factor by method and repetition."""
    return pd.DataFrame(
        {name: best_factors(rows) for name, rows in rays.groupby("cell", sort=False)}
    )


best, best_before = factors_of(table), factors_of(before)

# %%
show_table(
    pd.DataFrame(
        {
            "method": list(METHODS),
            **{
                which: [", ".join(f"{v:g}" for v in rows.loc[method]) for method in METHODS]
                for which, rows in {"as trained": best_before, "annealed": best}.items()
            },
        }
    ),
    {"method": label},
)

# %% [markdown]
# ## Do the directions turn?

# %%
changed = read_cells(this_run, chosen, "annealed_cosine")
this_run.write_table("controls/annealed_cosine.csv", changed)
itself = changed[changed["first"] == changed["second"]]
pairwise = changed[changed["first"] != changed["second"]]
pairwise = pairwise.assign(difference=pairwise["annealed"] - pairwise["trained"])
of_pair = pairwise.groupby(["first", "second"], sort=False)
mean_of_pair = of_pair[["trained", "annealed"]].mean()
show_table(
    mean_of_pair.rename(columns={"trained": "as trained"})
    .assign(least=of_pair["difference"].min(), greatest=of_pair["difference"].max())
    .reset_index()
    .rename(columns={"least": "least difference", "greatest": "greatest difference"}),
    {
        **dict.fromkeys(["first", "second"], label),
        **dict.fromkeys(["as trained", "annealed"], "{:.3f}"),
        **dict.fromkeys(["least difference", "greatest difference"], "{:+.3f}"),
    },
)

# %% [markdown]
# Means over the repetitions, and the differences that they have. A method has a cosine of at least {number}`annealed.same.least:.3f` with itself annealed, in every repetition; SFT with itself in another order has {number}`path.end.with_sft.sft-order:.2f`.

# %% mystnb={"figure": {"name": "fig-annealed-length", "caption": "Does annealing shorten the deltas? {number}`annealed.shorter` of the six are shorter annealed, in the run (one repetition of {number}`annealed.cells`). Frobenius norms, trained and annealed. SFT goes from {number}`annealed.norm.sft:.3g` to {number}`annealed.norm.sft_annealed:.3g`, DPO from {number}`annealed.norm.dpo:.3g` to {number}`annealed.norm.dpo_annealed:.3g`."}, "image": {"alt": "Twelve bars: the norms of six methods and of the same six annealed."}} tags=["hide-input"]
own = itself[itself["cell"] == "run"].set_index("first")
norms = pd.concat([own["norm_trained"], own["norm_annealed"].add_suffix("-annealed")])
lengths(norms)
# %% [markdown]
# ## What was expected
#
# Written down before any annealed training (`book/predictions.yaml`); means over the repetitions, of the cosines the least of the six. For another profile, of which nothing was expected, the numbers stand alone.

# %%
show_expected(
    this_run.profile.name,
    "annealed",
    {
        "largest_best_factor_of_five": best.loc[five].max().mean(),
        "spread_of_five_against_that_of_the_run": share_left,
        "cosine_of_a_method_with_itself_annealed": itself.groupby("cell")["annealed"].min().mean(),
    },
)

# %% [markdown]
# ## What it means
#
# - **Accuracy (C3, C10).** The five lie {number}`annealed.spread.trained.mean:.1%` apart as trained and {number}`annealed.spread.annealed.mean:.1%` annealed; DPO is {number}`annealed.dpo.trained:+.1%` and {number}`annealed.dpo.annealed:+.1%` from the base. Of the ten pairs among the five {number}`annealed.different.trained` and {number}`annealed.different.annealed` differ (fewest to most over the repetitions). The range of five is above 0 by chance alone: for the trained ones, as they scatter over the repetitions, by about {number}`ray.by_chance.trained:.1%` ([](ray)). A smaller range may be less scatter, not more alike losses. Loss, rows, order and $A$ are the same in both. What differs is the schedule, with whatever a small change does to a training by chance. No claim is judged anew here.
# - **Directions (C1, C4, C7).** In one repetition a cosine moves by {number}`annealed.moved.single:.3f` (median over pairs and repetitions) when both are annealed. From one repetition to another, as trained, it has a range of {number}`annealed.moved.order:.3f` (median over the pairs). Only a move clearly above that would be the schedule's. The largest move of a pair, in the mean over the repetitions, is {number}`annealed.moved.most:.3f`.
# - **The ray.** The mean best factor of the five is {number}`annealed.best.five:.2f` annealed and {number}`annealed.best.five_before:.2f` as trained; the largest of the five {number}`annealed.best.largest:.2f` and {number}`annealed.best.before:.2f`, which is biased upwards, being the largest of noisy choices. The factor is chosen by {number}`ray.by`, as in [the ray](ray), and of equally good ones the nearest to 1 is taken. Where it is exactly 1, no other factor that was tried did better; a mean near 1 can hide some above and some below (the table).
#
# ## How to read this, and how not to
#
# - **Fewer large steps, too.** An annealed schedule of as many steps has less learning rate in sum: part of what it changes may be a shorter path, not a calmer end.
# - **The learning rate was chosen for SFT on the schedule that is not annealed.** An annealed run may want a higher one.
# - **{number}`annealed.cells` repetitions give a range, no interval.** Trained and annealed share order and $A$, so look at the changes: one that has not the same sign in every repetition cannot be told from none here. All share the pool and the problems: other problems could move all marks together.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-annealed
#
# *Derivation · ★★ · 10 minutes*
#
# A cosine from 1 to 0 over $T$ steps (without a warm-up) has a mean of one half. What is the mean over the first two thirds of it? By which factor is the path of an annealed run shorter than that of a run which stops at two thirds of a schedule one and a half times as long, if every step is as long as its rate says?
# ```
#
# ```{dropdown} Hint
# Integrate $\tfrac12(1 + \cos \pi x)$ from 0 to $X$ and divide by $X$. The two runs have the same number of steps, so their paths compare as the mean rates do.
# ```
#
# ````{solution} ex-annealed
# :label: sol-annealed
# :class: dropdown
#
# $\tfrac12(1 + \cos \pi x)$ has the mean $\tfrac12\big(1 + \tfrac{\sin \pi X}{\pi X}\big)$ over $0 \le x \le X$; for $X = \tfrac23$ it is $\tfrac12 (1 + 0.413) = 0.707$. The annealed run's path is $0.5 / 0.707 = 0.707$ times as long.
# ````
#
# ## Take-away
#
# A ranking that was made in the middle of a schedule has to be shown to hold at its end.

# %% tags=["remove-cell"]


def over_orders(values: pd.Series) -> dict[str, float]:
    return {"mean": float(values.mean()), "low": float(values.min()), "high": float(values.max())}


moved = of_pair["difference"].mean().abs()
mean_change = change[list(METHODS)].mean()
most = mean_change.abs().idxmax()
this_run.record(
    "annealed",
    {
        "cells": len(chosen),
        "spread": {which: over_orders(values) for which, values in spread.items()},
        "most": {"method": label(most), "change": float(mean_change[most])},
        "change": mean_change.astype(float).to_dict(),
        "norm": {name.replace("-", "_"): float(value) for name, value in norms.items()},
        "shorter": int((own["norm_annealed"] < own["norm_trained"]).sum()),
        "same": {
            **itself.groupby("first")["annealed"].mean().astype(float).to_dict(),
            "least": float(itself["annealed"].min()),
        },
        "moved": {
            "single": float(pairwise["difference"].abs().median()),
            "most": float(moved.max()),
            "order": float((of_pair["trained"].max() - of_pair["trained"].min()).median())
            if len(chosen) > 1
            else float("nan"),
        },
        "by_sign": len(METHODS) * 2 / 2 ** len(chosen),
        "better": int((change[list(METHODS)] > 0).all().sum()),
        "worse": int((change[list(METHODS)] < 0).all().sum()),
        "different": different,
        "dpo": {which: float(rows["dpo"].mean() - base) for which, rows in both.items()},
        "best": {
            **best.mean(axis=1).astype(float).to_dict(),
            "largest": float(best.loc[five].max().mean()),
            "before": float(best_before.loc[five].max().mean()),
            "five": float(best.loc[five].to_numpy().mean()),
            "five_before": float(best_before.loc[five].to_numpy().mean()),
        },
    },
)
