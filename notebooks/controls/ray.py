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
# # Along the ray: is it the loss, or where the run stopped?
#
# **What you will learn.** How good a model is at every fraction of its own delta, whether the methods still differ in accuracy when each is taken at its best fraction, and why a checkpoint from the middle of a schedule need not be near that.
#
# ## The question
#
# In the paper five methods end within a point of each other and six points *below* the base (claim C3), and only DPO, whose delta is 13 times shorter, stays at the base's level (C10). The checkpoints come from two thirds of a cosine schedule, before the learning rate has come down. So two explanations compete: the losses teach different things, or they all point the right way and some run too far along it.
#
# The **ray** of an adapter tells them apart without any training. It is the straight line from the base through the model and beyond,
#
# $$
# W(\lambda) = W_{\text{base}} + \lambda\,\Delta W ,
# $$ (eq-ray)
#
# with the base at $\lambda = 0$ and the trained model at $\lambda = 1$. The direction of the delta, and every cosine and every angle of this book, is the same all along a ray. What changes along it cannot be a matter of direction.
#
# **The rule.** $\lambda$ is chosen for each method by its validation accuracy, of equal ones the nearest to 1; if the base has less than {number}`ray.floor:.0%` of the validation problems right, by its held-out loss. Then the test problems are answered there, once. What was expected is in `book/predictions.yaml`.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
factors: list = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]  # of each delta
answered: int = 100000  # test problems answered at most, at the factor that was chosen

# %% tags=["hide-input", "remove-stderr"]
from itertools import combinations

import pandas as pd
import torch

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.evaluation.answers import check_adapters, evaluate_models
from finetune_geometry.evaluation.paired_tests import accuracy_table, mcnemar_table
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.ray_plots import before_and_after, rays
from finetune_geometry.geometry.line_scores import spread_rows
from finetune_geometry.geometry.rays import FLOOR, along_rays, answers_at, best_factors
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
settings, evaluation = this_run.profile.geometry, this_run.profile.evaluation
torch.set_num_threads(this_run.profile.training.threads)
names = [*METHODS, "sft-order"]
check_adapters(this_run, names)
five = [method for method in METHODS if method != "dpo"]

# %% [markdown]
# ## The rays
#
# At each $\lambda$ two measurements: the loss on {number}`ray.rows` of the teacher's rollouts to held-out prompts, right and wrong ones, and greedy answers to {number}`ray.validation` validation problems. Nothing is merged: each module adds $\lambda$ times its low-rank product to its output.

# %% tags=["hide-output"]
heldout = spread_rows(load_rollouts(this_run, "heldout"), settings.lmc_rows)
validation = load_problems(this_run.profile, "validation")
table = along_rays(this_run, names, sorted(factors), heldout, validation)
this_run.write_table("controls/ray.csv", table)
best = best_factors(table)

# %% mystnb={"figure": {"name": "fig-ray", "caption": "How good is a model at a fraction of its delta? Every line starts at the base ($\\lambda = 0$) and passes the trained model (thin line, $\\lambda = 1$). By {number}`ray.by` SFT is best at {number}`ray.best.sft:.2f`, RFT at {number}`ray.best.rft:.2f`, DFT at {number}`ray.best.dft:.2f`, RIFT at {number}`ray.best.rift:.2f`, Offline GRPO at {number}`ray.best.offline_grpo:.2f`, DPO at {number}`ray.best.dpo:.2f`. The held-out loss is that of imitating the teacher, which DPO does not train; it is least at {number}`ray.least_loss.sft:.2f` for SFT and at {number}`ray.least_loss.offline_grpo:.2f` for Offline GRPO. A ray holds what this direction can do, not what the loss could with another schedule."}, "image": {"alt": "Lines over the factor of the delta, one for each method and one for SFT reshuffled: held-out loss and, where problems were answered, validation accuracy."}} tags=["hide-input"]
rays(table)
# %% [markdown]
# ## The methods, each where it is best

# %% tags=["hide-output"]
test = load_problems(this_run.profile, "test")
there = evaluate_models(this_run, names, beside=[BASE])
ids = [problem.id for problem in test[:answered]]
there = there[there["problem"].isin(ids)]
# Where the trained model is the best of its ray, its answers are there; at 0 they are the base's.
moved = {name: factor for name, factor in best.items() if factor not in (0.0, 1.0)}
parts = [answers_at(this_run, moved, test[:answered])] if moved else []
for name, factor in best.items():
    if name not in moved:
        source = name if factor else BASE
        parts.append(there[there["model"] == source].assign(model=name))
tuned = pd.concat([there[there["model"] == BASE], *parts], ignore_index=True)

# %%
accuracy = pd.concat(
    [
        accuracy_table(found, evaluation.confidence).assign(which=which)
        for which, found in {"trained": there, "best": tuned}.items()
    ]
)
accuracy["factor"] = [
    0.0 if row.model == BASE else best[row.model] if row.which == "best" else 1.0
    for row in accuracy.itertuples()
]
this_run.write_table("controls/ray_accuracy.csv", accuracy)
both = pd.concat([there, tuned.assign(model=tuned["model"] + "@")])
sampling = {"margin": evaluation.equivalence_margin, "confidence": evaluation.confidence}
own = mcnemar_table(both, pairs=[(f"{name}@", name) for name in names], **sampling)
between = [*combinations(five, 2), (BASE, "dpo"), ("sft", "sft-order")]
before = mcnemar_table(there, pairs=between, **sampling)
after = mcnemar_table(tuned, pairs=between, **sampling)
families = {"own": own.replace(r"@$", "", regex=True), "trained": before, "best": after}
tests = pd.concat([pairs.assign(family=name) for name, pairs in families.items()])
this_run.write_table("controls/ray_mcnemar.csv", tests)

# %% mystnb={"figure": {"name": "fig-ray-best", "caption": "Do the methods differ when each stops where it is best? Test accuracy of the trained models (hollow) and of the models at their best factor (filled), with {number}`profile.evaluation.confidence:.0%` Wilson intervals; the dashed line is the base, {number}`ray.base:.1%`. From worst to best the five methods other than DPO lie {number}`ray.spread.trained:.1%` apart as trained, and {number}`ray.spread.best:.1%` at their best; of their ten pairs {number}`ray.different.trained` and {number}`ray.different.best` differ after correction. DPO at its best is {number}`ray.dpo_against_base.value:+.1%` from the base ({number}`ray.dpo_against_base.low:+.1%` to {number}`ray.dpo_against_base.high:+.1%`). The factor was chosen on validation problems, so the filled dots carry no advantage on these."}, "image": {"alt": "For each method and SFT reshuffled a hollow and a filled dot with intervals on an axis of test accuracy, and the base as a dashed line."}} tags=["hide-input"]
before_and_after(
    accuracy[accuracy["model"] != BASE],
    float(accuracy.loc[accuracy["model"] == BASE, "accuracy"].iloc[0]),
    {"trained": r"as trained, $\lambda = 1$", "best": r"at the best $\lambda$"},
)
# %%
wide = accuracy.pivot_table(index="model", columns="which", values="accuracy", sort=False)
wide = wide.loc[names].assign(
    factor=best[names],
    difference=own["difference"].to_numpy(),
    corrected=own["p_holm"].to_numpy(),
)
show_table(
    wide[["factor", "trained", "best", "difference", "corrected"]]
    .rename(columns={"corrected": "corrected p"})
    .reset_index(),
    {
        "model": label,
        "factor": "{:.2f}",
        **dict.fromkeys(["trained", "best"], "{:.1%}"),
        "difference": "{:+.1%}",
        "corrected p": "{:.2g}",
    },
)

# %% [markdown]
# ## What it means for the claims
#
# - **Five methods alike (C3).** The largest of the ten differences is {number}`ray.spread.trained:.1%` as trained and {number}`ray.spread.best:.1%` at the best factors: {number}`ray.share_left:.0%` of it is left. That much does not go away with the length of the delta. For comparison, SFT and SFT (reshuffled), one loss, lie {number}`ray.order.trained:.1%` apart as trained, {number}`ray.order.best:.1%` at their best.
# - **DPO and the base (C10).** At its own end DPO is {number}`ray.dpo_trained:+.1%` from the base, at its best factor, {number}`ray.best.dpo:.2f`, {number}`ray.dpo_against_base.value:+.1%`.
# - **A model in the middle of a schedule.** Where the best factor is below 1 the training has gone too far along its own direction, or swings around it: a high learning rate leaves noise in the weights that a smaller step would average out. Scaling a delta down shrinks both. Which of the two it is, an annealed schedule would tell.
#
# ## How to read the figures, and how not to
#
# - **A ray is no training path.** A model at half its delta is not the checkpoint at half the steps; the path bends ([](../controls/matched_rate) has one loss with {number}`matched_rate.cosine.sft_control:.2f` to itself at two rates).
# - **The grid is coarse.** Factors are a quarter apart, and neighbours often differ by less than the validation problems can tell.
# - **One run of each.** The intervals are over problems. [SFT in another order](../controls/reshuffled) has a ray of its own in the figure: see how far it lies from SFT's.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-ray
#
# A loss is quadratic along a ray with its minimum at $\lambda^\ast$. (a) Which two points of the ray are as good as the base? (b) A method's delta is made longer by a factor $c$ without turning. Where is the minimum now? (c) Two methods with the same minimum value differ in accuracy at $\lambda = 1$. What do you know about their directions?
# ```
#
# ````{solution} ex-ray
# :label: sol-ray
# :class: dropdown
#
# (a) $\lambda = 0$ and $\lambda = 2\lambda^\ast$, by symmetry: whoever runs twice as far as the best point is back at the level of the base. (b) At $\lambda^\ast / c$. (c) Nothing. The difference may be one of length alone; the value at the minimum is what a direction offers, and it is the same.
# ````
#
# ## Take-away
#
# Before two losses are called better and worse, each should be asked at its own best length. What goes away was the stop point's.

# %% tags=["remove-cell"]
losses = pd.concat([table[table["model"] == BASE].assign(model=name) for name in names])
losses = pd.concat([losses, table[table["model"] != BASE]])
least = losses.loc[losses.groupby("model")["loss"].transform("min") == losses["loss"]]
right = accuracy.set_index(["which", "model"])["accuracy"]


def pair(table: pd.DataFrame, a: str, b: str) -> dict[str, float]:
    """b minus a, with its interval."""
    row = table[(table["a"] == a) & (table["b"] == b)].iloc[0]
    return {
        "value": -float(row["difference"]),
        "low": -float(row["high"]),
        "high": -float(row["low"]),
    }


def among_five(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["a"].isin(five) & table["b"].isin(five)]


spread = {
    which: float(right[which][five].max() - right[which][five].min())
    for which in ("trained", "best")
}
asked_validation = int(table.loc[table["model"] != BASE, "problems"].max())
this_run.record(
    "ray",
    {
        "floor": FLOOR,
        "rows": len(heldout),
        "validation": len(validation),
        "by": "validation accuracy" if asked_validation else "held-out loss",
        "best": {name: float(factor) for name, factor in best.items()},
        "least_loss": {row.model: float(row.factor) for row in least.itertuples()},
        "base": float(right["best"][BASE]),
        "spread": spread,
        "share_left": spread["best"] / spread["trained"] if spread["trained"] else 1.0,
        "different": {
            "trained": int((among_five(before)["p_holm"] < 0.05).sum()),
            "best": int((among_five(after)["p_holm"] < 0.05).sum()),
        },
        "dpo_trained": pair(before, BASE, "dpo")["value"],
        "dpo_against_base": pair(after, BASE, "dpo"),
        "order": {
            "trained": abs(pair(before, "sft", "sft-order")["value"]),
            "best": abs(pair(after, "sft", "sft-order")["value"]),
        },
    },
)
