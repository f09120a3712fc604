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
# (control-matched-rate)=
# # An equal learning rate: is DPO short because of its loss?
#
# **What you will learn.** How much of what sets DPO apart comes from its learning rate, which is a tenth of the others', and whether one loss keeps its direction when its learning rate changes.
#
# ## The question
#
# In the paper, DPO's delta is the shortest of the six, and it points elsewhere (claims C7 and C12). But DPO was also trained at a tenth of the learning rate. Two possible causes, one effect: the comparison cannot tell them apart. The paper says so itself and leaves a run with matched learning rates for later.
#
# The control is cheap: train SFT at a tenth of its learning rate, with everything else as it was. Where this **SFT (lr)** is as short as DPO, the learning rate explains DPO's length. Where it comes no closer to DPO's direction than SFT does, the unequal rates alone do not explain that direction. The same run answers claim C15: does ten times the learning rate turn the direction of one loss?

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
factor: float = 0.1  # the control's learning rate as a multiple of SFT's; claim C15 is about 0.1

# %% tags=["hide-input", "remove-stderr"]
import numpy as np
import pandas as pd
import torch

from finetune_geometry.evaluation.answers import evaluate_models
from finetune_geometry.evaluation.paired_tests import accuracy_table, mcnemar_table
from finetune_geometry.figures.geometry_plots import lengths
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.plots import pair_heatmap
from finetune_geometry.figures.result_plots import accuracies
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.similarity import (
    bootstrap_global_cosine,
    inner_products,
    tabulate_cosines,
)
from finetune_geometry.methods.training import trained
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
settings, evaluation = this_run.profile.geometry, this_run.profile.evaluation
torch.set_num_threads(this_run.profile.training.threads)
rates = {method: this_run.profile.training_of(method).learning_rate for method in ("sft", "dpo")}
control, rate = "sft-lr", factor * rates["sft"]
compared = ["sft", control, "dpo"]

# %% [markdown]
# ## Train
#
# SFT's learning rate is {number}`matched_rate.rate.sft:.1e`, that of SFT (lr) {number}`matched_rate.rate.control:.1e`, DPO's {number}`matched_rate.rate.dpo:.1e`. Rows, their order, the initial $A$ and the number of steps are those of [SFT](../methods/sft).

# %% tags=["hide-output"]
card = trained(Run.open(profile, run, {"methods.sft.learning_rate": rate}), "sft", control)

# %% [markdown]
# ## Where does it end?

# %%
adapters = [a for a in load_run(this_run, control) if a.name in ("base", *compared)]
parts = map_modules(inner_products, adapters)
table = tabulate_cosines(parts).query("level == 'global'")
intervals = bootstrap_global_cosine(parts, confidence=evaluation.confidence, seed=settings.seed)
cosines = table.query("quantity == 'cosine'").merge(intervals, on=["a", "b"])
lengths_table = table.query("quantity == 'norm'")
this_run.write_table("controls/matched_rate_cosine.csv", pd.concat([cosines, lengths_table]))
norms = lengths_table.set_index("a")["value"]

# %% mystnb={"figure": {"name": "fig-matched-rate-length", "caption": "How much of DPO's shortness is its learning rate? Frobenius norms of three deltas. SFT moved {number}`matched_rate.norm.sft:.3g`, SFT (lr), at {number}`matched_rate.factor:.2g` times SFT's learning rate, {number}`matched_rate.norm.control:.3g`, DPO {number}`matched_rate.norm.dpo:.3g`. The bar of SFT (lr) is what is left of SFT's length when only the learning rate changes."}, "image": {"alt": "Three bars: the norms of the deltas of SFT, of SFT at the lower learning rate and of DPO."}} tags=["hide-input"]
lengths(norms[compared])
# %% mystnb={"figure": {"name": "fig-matched-rate-cosine", "caption": "Does SFT keep its direction at a lower learning rate, and does it come closer to DPO's? Global cosines. SFT and SFT (lr) have {number}`matched_rate.cosine.sft_control:.3f`, SFT (lr) and DPO {number}`matched_rate.cosine.dpo_control:.3f`, SFT and DPO {number}`matched_rate.cosine.sft_dpo:.3f`. One run of each; how much a second seed changes is in the chapter before."}, "image": {"alt": "Lower-triangle matrix of global cosines between SFT, SFT at the lower learning rate and DPO."}} tags=["hide-input"]
pair_heatmap(
    cosines,
    title="Global cosine",
    names=compared,
    diagonal=1.0,
    vmin=min(0.0, float(cosines["value"].min())),
    vmax=1.0,
)
# %% [markdown]
# ## What did it learn?

# %% tags=["hide-output"]
answers = evaluate_models(this_run, compared, beside=["base"])

# %% mystnb={"figure": {"name": "fig-matched-rate-accuracy", "caption": "Is a method that moved little as good as one that moved far? Test accuracy with {number}`profile.evaluation.confidence:.0%` Wilson intervals; the dashed line is the base. SFT (lr) has {number}`matched_rate.accuracy.control:.1%`, SFT {number}`matched_rate.accuracy.sft:.1%`, DPO {number}`matched_rate.accuracy.dpo:.1%`. The corrected McNemar p of SFT (lr) and DPO is {number}`matched_rate.p.control_dpo:.2g`, of SFT (lr) and base {number}`matched_rate.p.base_control:.2g`, of SFT (lr) and SFT {number}`matched_rate.p.sft_control:.2g`. SFT's learning rate was chosen for SFT's accuracy, so SFT (lr) has no claim to be the best that SFT can do."}, "image": {"alt": "Test accuracy with intervals of base, SFT, SFT at the lower learning rate and DPO."}} tags=["hide-input"]
accuracy = accuracy_table(answers, evaluation.confidence)
# The three pairs with the control; the other pairs are tested in the accuracy chapter.
family = [("base", control), ("sft", control), (control, "dpo")]
pairs = mcnemar_table(answers, evaluation.equivalence_margin, evaluation.confidence, pairs=family)
accuracies(accuracy)
# %%
names = {"a": "first", "b": "second", "p_holm": "corrected p"}
show_table(
    pairs[["a", "b", "difference", "low", "high", "p_holm"]].rename(columns=names),
    {
        **dict.fromkeys(["first", "second"], label),
        **dict.fromkeys(["difference", "low", "high"], "{:+.1%}"),
        "corrected p": "{:.2g}",
    },
)

# %% [markdown]
# ## What it means for the claims
#
# - **Length (C12).** SFT is {number}`matched_rate.ratio.sft_dpo:.1f` times as long as DPO. At {number}`matched_rate.factor:.2g` times its learning rate, {number}`matched_rate.rate.control:.1e` against DPO's {number}`matched_rate.rate.dpo:.1e`, it is {number}`matched_rate.ratio.control_dpo:.1f` times as long. The first number is what the paper's comparison shows. Where the two rates are equal, the second is what is left of it.
# - **Direction (C7).** With SFT, DPO has a cosine of {number}`matched_rate.cosine.sft_dpo:.3f`; with SFT (lr), {number}`matched_rate.cosine.dpo_control:.3f` ({number}`matched_rate.interval.low:.3f` to {number}`matched_rate.interval.high:.3f`); chance is {number}`cosine.chance_low:.3f` to {number}`cosine.chance_high:.3f`. If the second is much larger than the first, part of the angle was the learning rate. If both are small, the two are far apart at equal rates, too, at least at DPO's. That need not be its loss, either: DPO reads other rows, and its pulls and pushes alone predict {number}`cosine.predicted.sft_dpo:.3f` ([](../geometry/cosine)). Neither says anything about DPO at the higher rate.
# - **The learning rate itself (C15).** One loss at two learning rates has a cosine of {number}`matched_rate.cosine.sft_control:.3f` with itself. The paper reports about 0.55. A method that was given another learning rate, as DPO was, may lose that much likeness before its loss says a word.
#
# ## How to read the figures, and how not to
#
# - **One factor is matched, others are not.** DPO still learns from pairs, passes over them {number}`dpo.epochs:.1f` times where SFT passes over its rows {number}`sft.epochs:.2f` times, and is tied to a reference model.
# - **A short delta need not be a harmless one.** Compare SFT (lr) with the base in the last figure: {number}`matched_rate.accuracy.control:.1%` and {number}`matched_rate.accuracy.base:.1%`. The length of a delta does not tell what it cost.
# - **Less learning rate is not less training.** SFT (lr) sees as many rows and takes as many steps, and Adam makes each shorter by about the factor. Its delta is {number}`matched_rate.ratio.control_sft:.2f` of SFT's: a path that bends ends nearer than it is long.
# - **The other direction is missing**: DPO at SFT's learning rate, {number}`matched_rate.rate.sft:.1e`. Train it with the parameter `learning_rate` of [DPO's notebook](../methods/dpo), and name `dpo-varied` in the parameter `others` of the cosine chapter.
# - Another `factor` belongs into a `run` of its own: it replaces the adapter and the number of claim C15.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-matched-rate
#
# Suppose that a training walks along a curved path, first along a direction $u$ for a length of 1, then along a perpendicular $w$ for a length of $t$ ($u$ and $w$ have length 1). A run with a tenth of the learning rate covers a tenth of the path. What is the cosine of the two deltas for $t = 0$, $1$ and $9$? Which $t$ below 9 belongs to the paper's 0.55?
# ```
#
# ````{solution} ex-matched-rate
# :label: sol-matched-rate
# :class: dropdown
#
# The long run ends at $u + t\,w$. The short one has walked $(1 + t)/10$, which for $t \le 9$ is all along $u$. So the cosine is $1/\sqrt{1 + t^2}$: 1, 0.71 and 0.11. It is 0.55 for $t \approx 1.5$: a path that spends more of its length on a new direction than on its first. (Beyond 9 the short run turns as well, and the cosine rises again.)
# ````
#
# ## Take-away
#
# Before a difference is put down to a loss, give both losses the same learning rate. What goes away was the learning rate's. What stays is the loss's, or that of anything else that still differs.

# %% tags=["remove-cell"]
short = {control: "control"}


def by_pair(rows, column: str) -> dict[str, float]:
    return {
        f"{short.get(a, a)}_{short.get(b, b)}": float(value)
        for a, b, value in zip(rows["a"], rows["b"], rows[column], strict=True)
    }


apart = {side: by_pair(cosines, side)["dpo_control"] for side in ("low", "high")}
this_run.record(
    "matched_rate",
    {
        "factor": factor,
        "rate": {"sft": rates["sft"], "control": card["learning_rate"], "dpo": rates["dpo"]},
        "norm": {short.get(name, name): float(norms[name]) for name in compared},
        "ratio": {
            "sft_dpo": float(np.divide(norms["sft"], norms["dpo"])),
            "control_dpo": float(np.divide(norms[control], norms["dpo"])),
            "control_sft": float(np.divide(norms[control], norms["sft"])),
        },
        "interval": apart,
        "cosine": by_pair(cosines, "value"),
        "accuracy": {
            short.get(row.model, row.model): float(row.accuracy) for row in accuracy.itertuples()
        },
        "p": by_pair(pairs, "p_holm"),
    },
)
