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
# **The answer.** At its own rate SFT's delta is {number}`matched_rate.ratio.sft_dpo:.1f` times as long as DPO's, at DPO's rate {number}`matched_rate.ratio.control_dpo:.2f` times. The cosine of the two is {number}`matched_rate.cosine.sft_dpo:.2f` at unequal rates, {number}`matched_rate.cosine.dpo_control:.2f` at the low rate and {number}`matched_rate.cosine.sft_raised:.2f` at the high one.
#
# **What you will learn.** How much of what sets DPO apart comes from its learning rate, which is a tenth of the others', and whether a loss keeps its direction when its learning rate changes.
#
# ## The question
#
# In the paper, DPO's delta is the shortest of the six, and it points elsewhere (claims C7 and C12). But DPO was also trained at a tenth of the learning rate. Two possible causes, one effect: the comparison cannot tell them apart. The paper says so itself and leaves a run with matched learning rates for later.
#
# The control is cheap, and it has two sides. **SFT (lr)** is SFT at a tenth of its learning rate, **DPO (lr)** is DPO at SFT's, both with everything else as it was. So there is a pair at the low rate, a pair at the high one, and each loss at both. Where a pair at one rate is equally long, the learning rate explains DPO's length. Where it is no closer in direction than SFT and DPO are, the unequal rates do not explain the direction. SFT (lr) also answers claim C15: does ten times the learning rate turn the direction of one loss?

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
factor: float = 0.1  # learning rate of SFT (lr) as a multiple of SFT's; claim C15 is about 0.1

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
from finetune_geometry.report.expected import show_expected
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
controls = {"sft-lr": factor * rates["sft"], "dpo-lr": rates["sft"]}
compared = ["sft", "sft-lr", "dpo", "dpo-lr"]

# %% [markdown]
# ## Train
#
# SFT and DPO (lr) have a learning rate of {number}`matched_rate.rate.sft:.1e`, SFT (lr) of {number}`matched_rate.rate.control:.1e`, DPO of {number}`matched_rate.rate.dpo:.1e`. Rows, their order, the initial $A$ and the number of steps are those of [SFT](../methods/sft) and of [DPO](../methods/dpo).

# %% tags=["hide-output"]
cards = {}
for name, rate in controls.items():
    method = name.partition("-")[0]
    changes = {f"methods.{method}.learning_rate": rate}
    cards[name] = trained(Run.open(profile, run, changes), method, name)

# %% [markdown]
# ## Where does it end?

# %%
adapters = [a for a in load_run(this_run, ",".join(controls)) if a.name in ("base", *compared)]
parts = map_modules(inner_products, adapters)
table = tabulate_cosines(parts).query("level == 'global'")
intervals = bootstrap_global_cosine(parts, confidence=evaluation.confidence, seed=settings.seed)
cosines = table.query("quantity == 'cosine'").merge(intervals, on=["a", "b"])
lengths_table = table.query("quantity == 'norm'")
this_run.write_table("controls/matched_rate_cosine.csv", pd.concat([cosines, lengths_table]))
norms = lengths_table.set_index("a")["value"]

# %% mystnb={"figure": {"name": "fig-matched-rate-length", "caption": "How much of DPO's shortness is its learning rate? Frobenius norms of four deltas. At the high rate SFT moved {number}`matched_rate.norm.sft:.3g` and DPO (lr) {number}`matched_rate.norm.raised:.3g`; at the low one SFT (lr) {number}`matched_rate.norm.control:.3g` and DPO {number}`matched_rate.norm.dpo:.3g`. Compare bars of one rate with each other: what is left of a difference there is not the rate's."}, "image": {"alt": "Four bars: the norms of the deltas of SFT and DPO, each at both learning rates."}} tags=["hide-input"]
lengths(norms[compared])
# %% mystnb={"figure": {"name": "fig-matched-rate-cosine", "caption": "Does a loss keep its direction at another learning rate, and do the two come closer at an equal one? Global cosines. SFT has {number}`matched_rate.cosine.sft_control:.3f` with itself at the other rate, DPO {number}`matched_rate.cosine.dpo_raised:.3f`. Between the losses it is {number}`matched_rate.cosine.sft_dpo:.3f` at unequal rates, {number}`matched_rate.cosine.dpo_control:.3f` at the low rate for both, and {number}`matched_rate.cosine.sft_raised:.3f` at the high one. One run of each; how much a second seed changes is in the chapter before."}, "image": {"alt": "Lower-triangle matrix of global cosines between SFT and DPO, each at both learning rates."}} tags=["hide-input"]
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

# %% mystnb={"figure": {"name": "fig-matched-rate-accuracy", "caption": "Is a method that moved little as good as one that moved far? Test accuracy with {number}`profile.evaluation.confidence:.0%` Wilson intervals; the dashed line is the base. SFT has {number}`matched_rate.accuracy.sft:.1%`, SFT (lr) {number}`matched_rate.accuracy.control:.1%`, DPO {number}`matched_rate.accuracy.dpo:.1%`, DPO (lr) {number}`matched_rate.accuracy.raised:.1%`. The corrected McNemar p of SFT (lr) and DPO is {number}`matched_rate.p.control_dpo:.2g`, of SFT (lr) and base {number}`matched_rate.p.base_control:.2g`, of SFT (lr) and SFT {number}`matched_rate.p.sft_control:.2g`, of DPO and DPO (lr) {number}`matched_rate.p.dpo_raised:.2g`. SFT's learning rate was chosen for SFT's quality and DPO's is a tenth of it, so neither control has a claim to be the best that its loss can do."}, "image": {"alt": "Test accuracy with intervals of base, and of SFT and DPO at both learning rates."}} tags=["hide-input"]
accuracy = accuracy_table(answers, evaluation.confidence)
# Pairs with a control; the other pairs are tested in the accuracy chapter.
family = [
    *(("base", "sft-lr"), ("sft", "sft-lr"), ("sft-lr", "dpo")),
    *(("base", "dpo-lr"), ("sft", "dpo-lr"), ("dpo", "dpo-lr")),
]
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
# ## What was expected
#
# Ranges for DPO (lr), written down before it was trained (`book/predictions.yaml`), and what came. For another profile, of which nothing was expected, the numbers stand alone.

# %%
between = cosines.set_index(["a", "b"])["value"]
show_expected(
    this_run.profile.name,
    "dpo-lr",
    {
        "norm_of_sft": norms["dpo-lr"] / norms["sft"],
        "cosine_to_sft": between["sft", "dpo-lr"],
        "cosine_to_dpo": between["dpo", "dpo-lr"],
        "accuracy": accuracy.set_index("model")["accuracy"]["dpo-lr"],
    },
)

# %% [markdown]
# ## What it means for the claims
#
# - **Length (C12).** SFT is {number}`matched_rate.ratio.sft_dpo:.1f` times as long as DPO. With the low rate for both, SFT (lr) is {number}`matched_rate.ratio.control_dpo:.2f` times as long as DPO; with the high rate for both, SFT is {number}`matched_rate.ratio.sft_raised:.2f` times as long as DPO (lr). The first number is what the paper's comparison shows, the other two are what is left of it at equal rates.
# - **Direction (C7).** With SFT, DPO has a cosine of {number}`matched_rate.cosine.sft_dpo:.3f`. At the low rate it is {number}`matched_rate.cosine.dpo_control:.3f` ({number}`matched_rate.interval.low:.3f` to {number}`matched_rate.interval.high:.3f`), at the high one {number}`matched_rate.cosine.sft_raised:.3f` ({number}`matched_rate.raised.low:.3f` to {number}`matched_rate.raised.high:.3f`); chance is {number}`cosine.chance_low:.3f` to {number}`cosine.chance_high:.3f`. If those at equal rates are much larger than the first, part of the angle was the learning rate. If all three are small, the two losses are far apart at any rate of these. That need not be the loss, either: DPO reads other rows, and its pulls and pushes alone predict {number}`cosine.predicted.sft_dpo:.3f` ([](../geometry/cosine)).
# - **The learning rate itself (C15).** SFT at two learning rates has a cosine of {number}`matched_rate.cosine.sft_control:.3f` with itself, DPO of {number}`matched_rate.cosine.dpo_raised:.3f`. The paper reports about 0.55 for such a step of one loss. A method that was given another learning rate, as DPO was, may lose that much likeness before its loss says a word.
#
# ## How to read the figures, and how not to
#
# - **One factor is matched, others are not.** DPO still learns from pairs, passes over them {number}`dpo.epochs:.1f` times where SFT passes over its rows {number}`sft.epochs:.2f` times, and is tied to a reference model.
# - **A short delta need not be a harmless one.** Compare SFT (lr) with the base in the last figure: {number}`matched_rate.accuracy.control:.1%` and {number}`matched_rate.accuracy.base:.1%`. The length of a delta does not tell what it cost.
# - **Less learning rate is not less training.** SFT (lr) sees as many rows and takes as many steps, and Adam makes each shorter by about the factor. Its delta is {number}`matched_rate.ratio.control_sft:.2f` of SFT's, DPO's {number}`matched_rate.ratio.dpo_raised:.2f` of DPO (lr)'s. Where that is more than the factor, the path may have bent: one that bends ends nearer than it is long.
# - Another `factor` belongs into a `run` of its own: it replaces the adapter and the number of claim C15.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-matched-rate
#
# *Derivation · ★★ · 10 minutes*
#
# Suppose that a training walks along a curved path, first along a direction $u$ for a length of 1, then along a perpendicular $w$ for a length of $t$ ($u$ and $w$ have length 1). A run with a tenth of the learning rate covers a tenth of the path. What is the cosine of the two deltas for $t = 0$, $1$ and $9$? Which $t$ below 9 belongs to the paper's 0.55?
# ```
#
# ```{dropdown} Hint
# Draw the path. Where does the short run stop, before or behind the corner?
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
short = {"sft-lr": "control", "dpo-lr": "raised"}


def by_pair(rows, column: str) -> dict[str, float]:
    return {
        f"{short.get(a, a)}_{short.get(b, b)}": float(value)
        for a, b, value in zip(rows["a"], rows["b"], rows[column], strict=True)
    }


def ratio(a: str, b: str) -> float:
    return float(np.divide(norms[a], norms[b]))


def interval(pair: str) -> dict[str, float]:
    return {side: by_pair(cosines, side)[pair] for side in ("low", "high")}


this_run.record(
    "matched_rate",
    {
        "factor": factor,
        "rate": {**rates, "control": cards["sft-lr"]["learning_rate"]},
        "norm": {short.get(name, name): float(norms[name]) for name in compared},
        "ratio": {
            "sft_dpo": ratio("sft", "dpo"),
            "control_dpo": ratio("sft-lr", "dpo"),
            "control_sft": ratio("sft-lr", "sft"),
            "sft_raised": ratio("sft", "dpo-lr"),
            "dpo_raised": ratio("dpo", "dpo-lr"),
        },
        "interval": interval("dpo_control"),
        "raised": interval("sft_raised"),
        "cosine": by_pair(cosines, "value"),
        "accuracy": {
            short.get(row.model, row.model): float(row.accuracy) for row in accuracy.itertuples()
        },
        "p": by_pair(pairs, "p_holm"),
    },
)
