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
# **What you will learn.** What the last third of a learning-rate schedule changes: where the models stand on their rays, how far the methods lie apart in accuracy, and whether the directions turn.
#
# ## The question
#
# The paper compares checkpoints from step 500 of a schedule of 750, and so does this book with 100 of 150: the learning rate still has a quarter of its peak. [The ray](ray) showed what can be had by shortening the deltas. A practitioner would not shorten a delta; he would let the schedule end. So all six are trained once more with as many steps, in the same order, from the same $A$, and with a cosine that reaches zero at the last of them. What was expected is in `book/predictions.yaml`.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
factors: list = [0.5, 0.75, 1.0, 1.25]  # of each annealed delta

# %% tags=["hide-input", "remove-stderr"]
import pandas as pd
import torch

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.evaluation.answers import evaluate_models
from finetune_geometry.evaluation.paired_tests import accuracy_table, mcnemar_table
from finetune_geometry.figures.geometry_plots import lengths
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.ray_plots import before_and_after
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.line_scores import spread_rows
from finetune_geometry.geometry.rays import along_rays, best_factors
from finetune_geometry.geometry.similarity import cosine, inner_products
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
settings, evaluation = this_run.profile.geometry, this_run.profile.evaluation
torch.set_num_threads(this_run.profile.training.threads)
annealed = {method: f"{method}-annealed" for method in METHODS}
five = [method for method in METHODS if method != "dpo"]

# %% [markdown]
# ## How good are they?

# %% tags=["hide-output"]
answers = evaluate_models(this_run, [*METHODS, *annealed.values()], beside=[BASE])

# %%
accuracy = accuracy_table(answers, evaluation.confidence)
parts = accuracy["model"].str.partition("-")
accuracy = accuracy.assign(which=parts[2].replace("", "trained"), method=parts[0])
family = [(annealed[method], method) for method in METHODS]
pairs = mcnemar_table(answers, evaluation.equivalence_margin, evaluation.confidence, pairs=family)
right = accuracy.set_index("model")["accuracy"]

# %% mystnb={"figure": {"name": "fig-annealed", "caption": "Does the end of the schedule make the models better? Test accuracy of the six as in all chapters, two thirds through a schedule (hollow), and annealed (filled), with {number}`profile.evaluation.confidence:.0%` Wilson intervals; the dashed line is the base. The five methods other than DPO lie {number}`annealed.spread.trained:.1%` apart in the first and {number}`annealed.spread.annealed:.1%` in the second; the largest change of one method is that of {number}`annealed.most.method`, {number}`annealed.most.change:+.1%`. One training of each."}, "image": {"alt": "For each method a hollow and a filled dot with intervals on an axis of test accuracy, and the base as a dashed line."}} tags=["hide-input"]
before_and_after(
    accuracy[accuracy["model"] != BASE].assign(model=lambda table: table["method"]),
    float(right[BASE]),
    {"trained": "two thirds through the schedule", "annealed": "annealed"},
)
# %%
show_table(
    pd.DataFrame(
        {
            "method": list(METHODS),
            "trained": right[list(METHODS)].to_numpy(),
            "annealed": right[list(annealed.values())].to_numpy(),
            "difference": pairs["difference"].to_numpy(),
            "corrected p": pairs["p_holm"].to_numpy(),
        }
    ),
    {
        "method": label,
        **dict.fromkeys(["trained", "annealed"], "{:.1%}"),
        "difference": "{:+.1%}",
        "corrected p": "{:.2g}",
    },
)

# %% [markdown]
# ## Where do they stand on their rays?

# %% tags=["hide-output"]
heldout = spread_rows(load_rollouts(this_run, "heldout"), settings.lmc_rows)
validation = load_problems(this_run.profile, "validation")
table = along_rays(
    this_run, list(annealed.values()), sorted(factors), heldout, validation, "annealed"
)
this_run.write_table("controls/annealed_ray.csv", table)
best = best_factors(table)

# %%
show_table(
    pd.DataFrame(
        {"method": list(METHODS), "best factor": best[list(annealed.values())].to_numpy()}
    ),
    {"method": label, "best factor": "{:.2f}"},
)

# %% [markdown]
# ## Do the directions turn?

# %%
adapters = [a for a in load_run(this_run, ",".join(annealed.values())) if a.name != BASE]
gram = sum(part.inner for part in map_modules(inner_products, adapters))
names = [adapter.name for adapter in adapters]
between = pd.DataFrame(cosine(gram), names, names)
norms = pd.Series(gram.diagonal() ** 0.5, names)
same = {method: float(between.loc[method, annealed[method]]) for method in METHODS}
changed = pd.DataFrame(
    [
        (a, b, float(between.loc[a, b]), float(between.loc[annealed[a], annealed[b]]))
        for place, a in enumerate(METHODS)
        for b in list(METHODS)[place + 1 :]
    ],
    columns=["first", "second", "trained", "annealed"],
)
this_run.write_table("controls/annealed_cosine.csv", changed)
show_table(
    changed,
    {
        **dict.fromkeys(["first", "second"], label),
        **dict.fromkeys(["trained", "annealed"], "{:.3f}"),
    },
)

# %% mystnb={"figure": {"name": "fig-annealed-length", "caption": "How much shorter are annealed deltas? Frobenius norms of all twelve; hollow: annealed. SFT goes from {number}`annealed.norm.sft:.3g` to {number}`annealed.norm.sft_annealed:.3g`, DPO from {number}`annealed.norm.dpo:.3g` to {number}`annealed.norm.dpo_annealed:.3g`. A method has a cosine of at least {number}`annealed.same.least:.3f` with itself annealed."}, "image": {"alt": "Twelve bars: the norms of six methods and of the same six annealed."}} tags=["hide-input"]
lengths(norms)
# %% [markdown]
# ## What it means
#
# - **Accuracy (C3, C10).** The five lie {number}`annealed.spread.trained:.1%` apart as trained and {number}`annealed.spread.annealed:.1%` annealed; DPO is {number}`annealed.dpo.trained:+.1%` and {number}`annealed.dpo.annealed:+.1%` from the base. What changes between the two columns is the schedule's, not the loss's.
# - **Directions (C1, C4, C7).** The cosine of two methods moves by {number}`annealed.moved.mean:.3f` on average and by {number}`annealed.moved.most:.3f` at most when both are annealed.
# - **The ray.** Annealed, the largest best factor of the five is {number}`annealed.best.largest:.2f`; as trained it is {number}`annealed.best.before:.2f`. A best factor of 1 says that nothing is to be had from a shorter delta any more.
#
# ## How to read this, and how not to
#
# - **Fewer large steps, too.** An annealed schedule of as many steps has less learning rate in sum: part of what it changes is a shorter path, not a calmer end.
# - **One training of each.** Compare with SFT (reshuffled), which lies {number}`ray.order.trained:.1%` from SFT in accuracy.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-annealed
#
# A cosine from 1 to 0 over $T$ steps has a mean of one half. What is the mean over the first two thirds of it? By which factor is the path of an annealed run shorter than that of a run which stops at two thirds of a schedule one and a half times as long, if every step is as long as its rate says?
# ```
#
# ````{solution} ex-annealed
# :label: sol-annealed
# :class: dropdown
#
# $\tfrac12(1 + \cos \pi x)$ has the mean $\tfrac12\big(1 + \tfrac{\sin \pi X}{\pi X}\big)$ over $0 \le x \le X$; for $X = \tfrac23$ it is $\tfrac12 (1 + 0.413) = 0.71$. The annealed run's path is $0.5 / 0.71 = 0.71$ times as long.
# ````
#
# ## Take-away
#
# A checkpoint from the middle of a schedule is a noisy measurement of its loss. Anneal before you rank.

# %% tags=["remove-cell"]
spread = {
    "trained": float(right[five].max() - right[five].min()),
    "annealed": float(
        right[[annealed[m] for m in five]].max() - right[[annealed[m] for m in five]].min()
    ),
}
moved = (changed["annealed"] - changed["trained"]).abs()
most = pairs.loc[pairs["difference"].abs().idxmax()]
before = best_factors(this_run.read_table("controls/ray.csv"))
this_run.record(
    "annealed",
    {
        "spread": spread,
        "most": {"method": label(most["b"]), "change": float(most["difference"])},
        "norm": {name.replace("-", "_"): float(norm) for name, norm in norms.items()},
        "same": {**same, "least": min(same.values())},
        "moved": {"mean": float(moved.mean()), "most": float(moved.max())},
        "dpo": {
            "trained": float(right["dpo"] - right[BASE]),
            "annealed": float(right["dpo-annealed"] - right[BASE]),
        },
        "best": {
            **{method: float(best[name]) for method, name in annealed.items()},
            "largest": float(best[[annealed[method] for method in five]].max()),
            "before": float(before[five].max()),
        },
    },
)
