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
# **The answer.** With SFT, SFT has a cosine of {number}`second_seed.cosine.seed:.2f` if $A$ and the order are drawn anew and of {number}`second_seed.cosine.order:.2f` if the order alone is. With both unchanged RIFT has {number}`second_seed.cosine.rift:.2f`, RFT {number}`second_seed.cosine.rft:.2f`, Offline GRPO {number}`second_seed.cosine.offline_grpo:.2f` and DFT {number}`second_seed.cosine.dft:.2f`.
#
# **What you will learn.** How much of a delta's direction is chance, which part of that chance the shared initialisation hides, and what is left of "nearly collinear" when the yardstick is a second run of the same loss.
#
# ## The question
#
# A training draws at random twice: the initial matrix $A$ of every module, and the order of the rows. All six methods share the first, and the five that learn from single rollouts share the second. This chapter compares SFT with itself when one or both are drawn anew:
#
# - **SFT (reshuffled)**: the same initial $A$, the rows in another order, from [its own chapter](reshuffled). It is the yardstick of the geometry chapters;
# - **SFT (seed)**: another initial $A$ and another order, trained here. This is the paper's second seed (claim C14).
#
# Three questions. How does each method compare with the yardstick, by more measures than the cosine? What does a new $A$ add? And do the three runs of one loss answer equally well?

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
seed: int = 123  # the second seed, of the initial A and of the order of the rows

# %% tags=["hide-input", "remove-stderr"]
import numpy as np
import pandas as pd
import torch

from finetune_geometry.deltas.adapters import BASE, load_adapter
from finetune_geometry.evaluation.answers import evaluate_models
from finetune_geometry.evaluation.paired_tests import accuracy_table, mcnemar_table
from finetune_geometry.figures.geometry_plots import likeness
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.geometry.connectivity import METRICS, connectivity_table, line_points
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.line_scores import make_tasks, score_points, spread_rows
from finetune_geometry.geometry.nulls import chance_table
from finetune_geometry.geometry.similarity import (
    bootstrap_global_cosine,
    inner_products,
    tabulate_cosines,
)
from finetune_geometry.geometry.subspaces import module_angles, tabulate_angles
from finetune_geometry.geometry.table_layout import bootstrap_averages, versus
from finetune_geometry.methods.training import trained
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.loading import load_model
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.keys import models_key
from finetune_geometry.runs.parts import Parts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run)
settings, evaluation = this_run.profile.geometry, this_run.profile.evaluation
controls = ["sft-order", "sft-seed"]

# %% [markdown]
# ## Train
#
# Nothing but the two seeds differs from [the chapter on SFT](../methods/sft): the same pool of rows, learning rate and number of steps. SFT (reshuffled) is there already.

# %% tags=["hide-output"]
changes = {"methods.sft.seed": seed, "lora.seed": seed}
card = trained(Run.open(profile, run, changes), "sft", "sft-seed")

# %%
cards = {name: this_run.read_json(f"adapters/{name}/card.json") for name in ("sft", *controls)}
drawn = [(name, card["seed"], card["lora_a_sha256"][:8]) for name, card in cards.items()]
columns = ["adapter", "seed of the order", "initial A, start of its hash"]
show_table(pd.DataFrame(drawn, columns=columns), {"adapter": label})

# %% [markdown]
# ## How alike are they?
#
# Three measures: the global cosine; and how well the first left singular vectors (output directions) and the first right ones (input directions) agree, $|u_1 \cdot u_1'|$ and $|v_1 \cdot v_1'|$, averaged over the modules. The last two lie between 0 and 1; the cosine can also be negative.

# %%
adapters = [a for a in load_run(this_run, ",".join(controls)) if a.name != BASE]
parts = map_modules(lambda cores: (inner_products(cores), module_angles(cores, [1])), adapters)
products = [inner for inner, _ in parts]
sampling = {"confidence": evaluation.confidence, "seed": settings.seed}
cosines = tabulate_cosines(products).query("quantity == 'cosine' and level == 'global'")
cosines = cosines.merge(bootstrap_global_cosine(products, **sampling), on=["a", "b"])
angles = tabulate_angles([found for _, found in parts])
angles = bootstrap_averages(angles.query("quantity == 'leading_vector_cosine'"), **sampling)
angles = angles.query("level == 'mean'")
for name, table in {"cosine": cosines, "angles": angles}.items():
    this_run.write_table(f"controls/second_seed_{name}.csv", table)

# %% mystnb={"figure": {"name": "fig-second-seed", "caption": "Do two losses differ more than two runs of one? Likeness with SFT, by three measures: two more runs of SFT in the upper rows, the other methods below. The dashed line is SFT (reshuffled): a dot to the left of it differs from SFT by more than other rows make SFT differ from itself. Grey is chance: random deltas, with SFT's initial A shared in every row but that of SFT (seed), which is why the right panel starts higher for the others. The global cosine with SFT is {number}`second_seed.cosine.order:.3f` for SFT (reshuffled), {number}`second_seed.cosine.seed:.3f` for SFT (seed), {number}`second_seed.cosine.rft:.3f` for RFT, {number}`second_seed.cosine.offline_grpo:.3f` for Offline GRPO and {number}`second_seed.cosine.dpo:.3f` for DPO. Bars are {number}`profile.evaluation.confidence:.0%` bootstrap intervals over modules; they are not intervals over seeds, for there is one run of each kind."}, "image": {"alt": "Three panels with one row for each of two more runs of SFT and five other methods: global cosine, agreement of first left and of first right singular vectors with those of SFT."}} tags=["hide-input"]
measures = {
    "global cosine": cosines,
    "first left vectors": angles.query("side == 'left'"),
    "first right vectors": angles.query("side == 'right'"),
}
shapes, rank = adapters[0].shapes, this_run.profile.lora.r


def chance_of(shared_a: bool) -> pd.DataFrame:
    table = chance_table(
        shapes, (), r=rank, draws=settings.null_draws, seed=settings.seed, shared_a=shared_a
    )
    return table.set_index(["quantity", "level", "side"])[["low", "high"]]


# SFT (seed) has an A of its own; all others share SFT's.
one_a, own_a = chance_of(shared_a=True), chance_of(shared_a=False)
rows = {
    "global cosine": ("cosine", "global", ""),
    "first left vectors": ("leading_vector_cosine", "mean", "left"),
    "first right vectors": ("leading_vector_cosine", "mean", "right"),
}
names = [*controls, *(m for m in METHODS if m != "sft")]
alike = pd.concat(
    versus(table, "sft", among=[a.name for a in adapters]).assign(measure=measure)
    for measure, table in measures.items()
)
chances = [
    (own_a if other == "sft-seed" else one_a).loc[rows[measure]]
    for other, measure in zip(alike["other"], alike["measure"], strict=True)
]
alike["chance_low"] = [float(chance["low"]) for chance in chances]
alike["chance_high"] = [float(chance["high"]) for chance in chances]
likeness(alike, names, controls=controls, level="sft-order", reference="sft")
# %%
wide = alike.pivot_table(index="other", columns="measure", values="value", sort=False)
show_table(
    wide.loc[names, list(measures)].reset_index(names="SFT and"),
    {"SFT and": label, **dict.fromkeys(measures, "{:.3f}")},
)

# %% [markdown]
# **The order of the rows.** With the same initial $A$, SFT and SFT (reshuffled) have a cosine of {number}`second_seed.cosine.order:.3f` ({number}`second_seed.low.order:.3f` to {number}`second_seed.high.order:.3f`). Three readings of a method's cosine with SFT follow from it:
#
# - *Clearly above.* SFT and RFT have {number}`second_seed.cosine.rft:.3f`, SFT and RIFT {number}`second_seed.cosine.rift:.3f`. Both see SFT's own rows in SFT's order. Where they are above the yardstick, "nearly collinear" may say less about the losses than about the shared rows; [the cosine chapter](../geometry/cosine) predicts such a number from the rows alone.
# - *About equal, where the intervals meet.* Such a method is as far from SFT as SFT is from itself with its rows drawn anew, and its "orthogonal part" need be no mark of its loss.
# - *Clearly below, where they lie apart.* The difference is more than this other order made. What made it, the loss, the rate or other rows (DPO has its own), is a further question; what the weights on the shared rows alone predict is in [](../geometry/cosine).
#
# Offline GRPO has {number}`second_seed.cosine.offline_grpo:.3f` ({number}`second_seed.low.offline_grpo:.3f` to {number}`second_seed.high.offline_grpo:.3f`), DFT {number}`second_seed.cosine.dft:.3f` ({number}`second_seed.low.dft:.3f` to {number}`second_seed.high.dft:.3f`), DPO {number}`second_seed.cosine.dpo:.3f`; the yardstick is {number}`second_seed.cosine.order:.3f` ({number}`second_seed.low.order:.3f` to {number}`second_seed.high.order:.3f`).
#
# **The initialisation.** With another $A$ *and* another order, SFT (seed), the cosine is {number}`second_seed.cosine.seed:.3f`. What does the new $A$ do alone? If both controls have one order seed, as by default, SFT (reshuffled) and SFT (seed) read the same rows in the same order and differ in $A$ only: their cosine is {number}`second_seed.a_alone.cosine:.3f`, and their first left vectors agree to {number}`second_seed.a_alone.left:.3f`, the right ones to {number}`second_seed.a_alone.right:.3f`. A LoRA delta $B A$ reads only the inputs that its $A$ reads. If $A$ stayed where it started, two independent $A$ would read almost unrelated inputs, and the cosine would stay near $r / d_{\mathrm{in}}$, {number}`verdict.floor:.3f` here. Training turns $A$, so it has to be measured: the first right vectors agree to {number}`second_seed.right.seed:.3f`, the first left ones, which $A$ does not confine, to {number}`second_seed.left.seed:.3f`. In the paper it is 0.07 and 0.99.

# %% [markdown]
# ## Are the two seeds connected, and equally good?
#
# Two more questions of claim C14 and of the accuracy chapter: does the loss rise between two seeds, on the tasks of [](../geometry/mode_connectivity), and how far apart are their accuracies? Both conventions of that chapter are in the table: the height above the straight line between the ends, and Frankle's barrier.

# %% tags=["remove-stderr"]
torch.set_num_threads(this_run.profile.training.threads)
model, tokenizer = load_model(this_run.profile)
tasks = make_tasks(
    tokenizer,
    spread_rows(load_rollouts(this_run, "heldout"), settings.lmc_rows),
    load_problems(this_run.profile, "test")[: settings.lmc_problems],
    settings.lmc_answered,
    evaluation.max_new_tokens,
    this_run.profile.prompt,
    evaluation.batch_size,
)
ends, alphas = ["sft", "sft-seed"], np.linspace(0, 1, settings.lmc_alphas)
decided_by = models_key(this_run.profile, [str(this_run.adapter_dir(n)) for n in ends])
parts = Parts(this_run, "second_seed", decided_by)  # a killed measurement goes on
with Mixture(model, {n: load_adapter(this_run.adapter_dir(n), n) for n in ends}) as mixture:
    scores = score_points(mixture, tokenizer, tasks, line_points(ends, alphas), parts=parts)
line = connectivity_table(scores, ends, alphas, **sampling)
this_run.write_table("controls/second_seed_connectivity.csv", line)
parts.clear()
heights = line[line["quantity"].isin(["height", "barrier", "midpoint"])]
show_table(
    heights[["metric", "quantity", "value", "low", "high"]],
    {
        "metric": {**METRICS, "accuracy": "error rate"}.get,
        **dict.fromkeys(["value", "low", "high"], "{:.3f}"),
    },
)

# %% tags=["hide-output"]
answers = evaluate_models(this_run, ["sft", *controls], beside=())
# A family of tests of its own: no pair of it is tested in another chapter.
family = [("sft", "sft-order"), ("sft", "sft-seed"), ("sft-order", "sft-seed")]

# %%
accuracy = accuracy_table(answers, evaluation.confidence)
pairs = mcnemar_table(answers, evaluation.equivalence_margin, evaluation.confidence, pairs=family)
show_table(accuracy, {"model": label, **dict.fromkeys(["accuracy", "low", "high"], "{:.1%}")})

# %% [markdown]
# The loss of the boxed answer rises {number}`second_seed.height.boxed_cross_entropy.value:.3f` nats per token ({number}`second_seed.height.boxed_cross_entropy.low:.3f` to {number}`second_seed.height.boxed_cross_entropy.high:.3f`) above the straight line between the two seeds, on a curve of {number}`second_seed.boxed.least:.1f` to {number}`second_seed.boxed.largest:.1f` nats. At the midpoint it stands {number}`second_seed.midpoint.boxed_cross_entropy.value:.3f` above that line; the paper has 0.004. A blind guess costs {number}`mode_connectivity.blind:.1f` nats; above that, neither number says anything about the two models. The height of the held-out SFT loss is {number}`second_seed.height.sft_cross_entropy.value:.3f`, Frankle's barrier {number}`second_seed.barrier.sft_cross_entropy.value:.3f`.
#
# Three runs of one loss lie {number}`second_seed.spread:.1%` of the problems apart, from worst to best; the smallest McNemar p of their three pairs, corrected, is {number}`second_seed.least_p:.2g`. A difference of this size between two methods, one run each, is no evidence that the methods differ. A larger one is not yet evidence that they do: three runs show a range, not its limit.
#
# ## How to read the figure, and how not to
#
# - **Compare the methods with the dashed line only.** Like them, SFT (reshuffled) shares SFT's $A$. SFT (seed) does not; its row belongs beside the paper's second seed.
# - **One more run of each kind is not a distribution.** It is one example of what chance does, not how often or how far. For another draw, give this notebook another `seed` and a `run` of its own, because it replaces the adapter and the numbers of claim C14.
# - **A cosine does not rank what models do.** It compares weights. Whether SFT (seed), with the lower cosine, also answers less like SFT than SFT (reshuffled) does is told by its answers only.
# - **A test over problems does not see seeds.** McNemar's test asks whether *these two models* differ on problems like these. It cannot say whether the *methods* differ, because a method is all the models that it might have made.
# - **A low cosine between two seeds is no sign of two solutions.** A new $A$ alone lowers it, even where one gradient makes both ([](../ingredients/lora_delta)). Compare left singular vectors, or what the models do.
#
# ## Exercise
#
# ```{exercise}
# :label: ex-second-seed
#
# *Derivation · ★★ · 15 minutes*
#
# (a) Two adapters have the same $B$ with one column, and independent random $A_1$, $A_2$ with one row in $d_{\mathrm{in}}$ dimensions. Roughly, what is their cosine? (b) Now one and the same gradient makes the first step of both, from $B = 0$, at rank $r$. What is it on average? (c) Is the measured one, {number}`second_seed.cosine.seed:.3f`, above or below that, and why?
# ```
#
# ```{dropdown} Hint
# The gradient of $B$ is $g A^\top$, where $g$ is the gradient of the weight.
# ```
#
# ````{solution} ex-second-seed
# :label: sol-second-seed
# :class: dropdown
#
# (a) The cosine of $b a_1^\top$ and $b a_2^\top$ is that of $a_1$ and $a_2$: about $\pm 1 / \sqrt{d_{\mathrm{in}}}$, with either sign. (b) $B$ follows $A$: the first step moves the weight along $g A^\top A$. Two of these have a cosine of about $r / d_{\mathrm{in}}$ on average ([](../ingredients/lora_delta)), though it can be negative in a single module. (c) Compare it with {number}`verdict.floor:.3f`. A cosine near that would mean that $A$ hardly turned. One far above it means that training turned both $A$ towards the same inputs.
# ````
#
# ## Take-away
#
# A likeness between two losses needs the likeness of one loss with itself beside it. Sharing $A$ makes cosines comparable and hides one of the two draws of a training; the order of the rows is the other, and SFT (reshuffled) shows it.

# %% tags=["remove-cell"]


def by_name(rows: pd.DataFrame, column: str = "value") -> dict[str, float]:
    short = {name: name.partition("-")[2] for name in controls}
    return {
        short.get(other, other): float(value)
        for other, value in zip(rows["other"], rows[column], strict=True)
    }


def apart(rows: pd.DataFrame) -> float:
    """The value of the two controls, which differ in the initial A alone."""
    return float(rows[rows["a"].isin(controls) & rows["b"].isin(controls)]["value"].iloc[0])


left, right = (angles[angles["side"] == side] for side in ("left", "right"))


def along(quantity: str) -> dict[str, dict[str, float]]:
    chosen = line[line["quantity"] == quantity].set_index("metric")[["value", "low", "high"]]
    return chosen.to_dict("index")


boxed = line.query("metric == 'boxed_cross_entropy' and quantity == 'curve'")["value"]
this_run.record(
    "second_seed",
    {
        "a_alone": {"cosine": apart(cosines), "left": apart(left), "right": apart(right)},
        "cosine": by_name(alike.query("measure == 'global cosine'")),
        "low": by_name(alike.query("measure == 'global cosine'"), "low"),
        "high": by_name(alike.query("measure == 'global cosine'"), "high"),
        "left": by_name(alike.query("measure == 'first left vectors'")),
        "right": by_name(alike.query("measure == 'first right vectors'")),
        "height": along("height"),
        "barrier": along("barrier"),
        "midpoint": along("midpoint"),
        "boxed": {"least": float(boxed.min()), "largest": float(boxed.max())},
        "spread": float(accuracy["accuracy"].max() - accuracy["accuracy"].min()),
        "least_p": float(pairs["p_holm"].min()),
    },
)
