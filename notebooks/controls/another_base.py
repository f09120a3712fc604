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
# (control-another-base)=
# # Another base: does the model decide what the losses do?
#
# **The answer.** Of the {number}`another_base.both` claims that can be tested on both bases, {number}`another_base.agree.count` have the same verdict, {number}`another_base.agree.claims`, and {number}`another_base.apart.claims` have two, where undecided counts as one; the cosines of all pairs of adapters correlate at {number}`another_base.cosine.correlation:.2f`, but verdicts ask for sizes, which a correlation ignores. Of the seventeen verdicts on the second base {number}`another_base.foreseen.count` were predicted before its adapters were trained, untestable ones included.
#
# **What you will learn.** Which findings of this book were made again on another base, trained for another length at another rate, and which were made only on the one small model that we raised ourselves.
#
# ## The question
#
# The trainings of the chapters so far rest on one base. In the default run it is a student of three million parameters with an alphabet of its own, made for this book. A sceptical reader says: whatever you found may be a property of that toy. So the six losses were also given to a pretrained model of another family, **SmolLM2-135M-Instruct** {cite}`allal2025smollm2`, forty times as large as that student. It has another tokenizer, another chat template, and it has read a great deal else. It was taught with **the rollouts of the default run**, as text, by the same losses, with LoRA of the same rank and scale. Its number of steps, its batch and its rate are its own, so the base is not the only thing that differs.
#
# This page is computed from what ships with the book: the adapters under `models/`, in half precision, and the tables of their run. Nothing here needs the model.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
base: str = "smollm2-135m"  # the other base, a folder of models/
k: int = 4  # dimension of the output subspaces, on both bases

# %% tags=["hide-input"]
import json

import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.evaluation.judging import UNTESTABLE
from finetune_geometry.figures.bases_plots import pairs_beside, verdict_tiles
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.figures.ray_plots import rays
from finetune_geometry.figures.result_plots import accuracies
from finetune_geometry.report.bases import (
    conditions_apart,
    likeness_of,
    listed,
    norms_of,
    predictions_of,
    shipped_adapters,
    shipped_folder,
    verdicts_beside,
    with_expected,
)
from finetune_geometry.report.expected import show_expected
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.files import read_csv
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.profiles import load_profile

check_parameters(globals())
set_style()
pd.set_option("display.max_colwidth", None)
this_run, folder, other = Run.open(profile, run), shipped_folder(base), load_profile(base)
made = predictions_of(base)
words = {"here": this_run.name, "there": base}

# %% [markdown]
# ## What differs and what does not
#
# | | this run | the other base |
# |---|---|---|
# | base | {number}`profile.model.base` | SmolLM2-135M-Instruct |
# | width of the model, blocks | {number}`another_base.width.here`, {number}`another_base.blocks.here` | {number}`another_base.width.there`, {number}`another_base.blocks.there` |
# | rollouts | {number}`rollouts.rows:,` | the texts of the default run |
# | LoRA | attention, rank {number}`profile.lora.r` | attention, rank {number}`another_base.rank` |
# | steps, rows a step | {number}`profile.training.steps`, {number}`profile.training.batch_size` | {number}`another_base.steps`, {number}`another_base.batch` |
# | peak learning rate | {number}`profile.training.learning_rate:.1e` | {number}`another_base.rate:.1e` |
# | test problems | {number}`profile.problems.test:,` | {number}`another_base.problems`, of one to three steps, small numbers |
#
# **The weights** are those of a 4-bit file, dequantised, because a machine without a hub account can have them from the package registry. They are not the original's; what the four bits cost was not measured.
#
# **The rate** was chosen by the held-out loss of SFT after 30 steps, of three rates. It is the highest of the three, so a still higher one might do better. The default run's was chosen by SFT's validation accuracy. DPO has a tenth of SFT's rate, the others have SFT's.
#
# **The length** follows a rule: the mean loss of SFT's last five steps less than 10 % below the five before. 30 steps were too few, 40 were enough; the other losses were not asked. Both rules were committed with the predictions, which were made for 30 steps. Like the paper's checkpoints the adapters come from two thirds of a schedule.
#
# **What is read.** In {number}`another_base.steps` steps of {number}`another_base.batch` rows SFT meets a small part of the pool, no row twice. DPO draws as often from the few pairs that mixed groups give, and meets each several times. Each base has its own tokens, so no loss a token is compared between the two.
#
# **The test problems** are easier than the student's own. Of 64 problems of two to eight steps a first try of SFT had none right (`book/predictions.yaml`). So a split of one to three steps with numbers up to 50 was fixed before the trainings that are shown here. Looked at were that try and the base's answers to 24 problems of one step. An answer counts as right only if its number stands in a box.
#
# ## Predictions, and what came of them
#
# For each claim a verdict was predicted and committed before the trainings that are shown here, from three sources: the ledger of the default run, the weights-only prediction ([](../geometry/cosine)), and the paper. The first try of SFT was known. That a claim cannot be tested is easy to predict where its table is missing (C11, C16).

# %%
here_claims, there_claims = this_run.read_table("claims.csv"), read_csv(folder / "claims.csv")
table = verdicts_beside(here_claims, there_claims, made["claims"])

# %% mystnb={"figure": {"name": "fig-bases-verdicts", "caption": "Do two bases give one verdict? A row a claim; the run of this book, the other base, and what had been predicted of the latter. Both can be judged on {number}`another_base.both` claims and agree on {number}`another_base.agree.count` of them; undecided on one side alone counts as a disagreement. The prediction came true for {number}`another_base.foreseen.count` of 17, those that cannot be tested included, and it was wrong for {number}`another_base.surprised.claims`. One run on each base: where two verdicts differ, a second run on the same base might differ, too."}, "image": {"alt": "Seventeen rows of three coloured tiles with the verdicts of the default run, of the other base, and the prediction."}} tags=["hide-input"]
verdict_tiles(table, {**words, "predicted": f"{base}, predicted"})
# %% [markdown]
# A verdict is a line drawn through a number. Of the claims on which the two differ, these are the conditions that one run meets and the other does not, with the value that the line has in that run:

# %%
testable = ~table[["here", "there"]].isin([UNTESTABLE]).any(axis=1)
apart = conditions_apart(
    this_run.read_table("evaluation/claims_conditions.csv"),
    read_csv(folder / "evaluation/claims_conditions.csv"),
    table.loc[testable & ~table["agree"], "claim"],
)
measured = {
    words[side]: [
        f"{value:.3g} (line {line:.3g}): {holds}"
        for value, line, holds in zip(
            apart[side], apart[f"{side}_line"], apart[f"{side}_holds"], strict=True
        )
    ]
    for side in ("here", "there")
}
show_table(apart[["claim", "condition"]].assign(**measured), {})

# %% [markdown]
# Where the prediction was wrong, with the reason that had been given for it:

# %%
wrong = table[~table["foreseen"]]
columns = {"claim": "claim", "predicted": "predicted", "there": "found", "reason": "the reason"}
show_table(wrong[list(columns)].rename(columns=columns), {})

# %% [markdown]
# ### What a verdict does not say
#
# - **Undecided contradicts nothing.** It says that an interval crosses a line. Where it meets another verdict, the two bases need not differ.
# - **One verdict spans many numbers.** C1 asks for the least cosine among SFT, RFT and RIFT. RFT and RIFT have {number}`another_base.cosine.here.rft_rift:.2f` here and {number}`another_base.cosine.there.rft_rift:.2f` on the other base.
# - **C3 and C10 count boxes first.** On the other base {number}`another_base.boxed.base:.0%` of the base's answers have one, {number}`another_base.boxed.dft:.0%` of DFT's, {number}`another_base.boxed.dpo:.0%` of DPO's and {number}`another_base.boxed.sft:.0%` of SFT's. A model without boxes has no right answer, whatever it computes, so two bases can agree on these claims for unlike reasons.
# - **C6 and C8 have a low bar.** They can be tested where a boxed answer costs less than a blind guess among all tokens. That guess is the dearer, the larger the vocabulary. The second base would pass untrained, without writing a box.
# - **C8 calls a climb a barrier.** A barrier is the largest loss on the line minus the mean of its ends ([](../geometry/mode_connectivity)). So a line that only leads to a worse end has one, of half the difference. In the tables that ship no measured point from RIFT to DPO costs more than DPO itself. There C8 says that DPO's boxed answer is dearer than RIFT's; no hump was found.
# - **C9 sets DPO beside SFT, not beside the base.** Where late layers differ, it may be SFT that left.
# - **C12 compares lengths after one number of steps at one rate.** On the other base both are far from the paper's, so a ratio near the paper's may be chance.
#
# ## Directions

# %% tags=["hide-input"]
control = "sft-order"
names = [*METHODS, control]
sides = {
    this_run.name: [a for a in load_run(this_run, control) if a.name != BASE],
    base: [a for a in shipped_adapters(base) if a.name in names],
}
sampling = {
    "confidence": this_run.profile.evaluation.confidence,
    "seed": this_run.profile.geometry.seed,
}
alike = {name: likeness_of(adapters, k, **sampling) for name, adapters in sides.items()}
foreseen = {
    this_run.name: this_run.read_table("geometry/predicted_cosine.csv"),
    base: read_csv(folder / "geometry/predicted_cosine.csv"),
}
cosines = pd.concat(
    with_expected(found.query("quantity == 'cosine'"), foreseen[name]).assign(base=name)
    for name, found in alike.items()
)
angles = pd.concat(
    found.query("quantity == 'angle' and (a == 'sft' or b == 'sft')").assign(
        base=name, expected=np.nan
    )
    for name, found in alike.items()
)
first = cosines[cosines["base"] == this_run.name]
pairs = [f"{label(a)}, {label(b)}" for a, b in zip(first["a"], first["b"], strict=True)]

# %% mystnb={"figure": {"name": "fig-bases-cosines", "caption": "Do the deltas of two losses form the same angle on another base? Global cosines of every pair, the run of this book (circles) and the other base (squares), with {number}`profile.evaluation.confidence:.0%` intervals over modules; hollow: what the weights on the rollouts alone predict for that run, without a model. Over all pairs the two columns correlate at {number}`another_base.cosine.correlation:.2f`. By rank it is {number}`another_base.cosine.rank:.3f`. Order is one thing and size another: without DPO's pairs the mean is {number}`another_base.cosine.mean.here:.2f` in this run and {number}`another_base.cosine.mean.there:.2f` on the other base. SFT and RFT have {number}`another_base.cosine.here.sft_rft:.2f` and {number}`another_base.cosine.there.sft_rft:.2f`, SFT and DFT {number}`another_base.cosine.here.sft_dft:.2f` and {number}`another_base.cosine.there.sft_dft:.2f`, SFT and Offline GRPO {number}`another_base.cosine.here.sft_offline_grpo:.2f` and {number}`another_base.cosine.there.sft_offline_grpo:.2f`, SFT and DPO {number}`another_base.cosine.here.sft_dpo:.2f` and {number}`another_base.cosine.there.sft_dpo:.2f`; SFT and SFT (reshuffled) {number}`another_base.cosine.here.sft_order:.2f` and {number}`another_base.cosine.there.sft_order:.2f`. The two runs differ in steps, batch and rate, too, so a gap between the marks is not the base's alone."}, "image": {"alt": "One row a pair of adapters, with a circle and a square for its cosine on the two bases, intervals, and hollow diamonds for the predictions."}} tags=["hide-input"]
pairs_beside(cosines, {name: name for name in sides}, xlabel="global cosine", names=pairs)
# %% mystnb={"figure": {"name": "fig-bases-angles", "caption": "Are the outputs shared? Smallest principal angle to SFT's leading {number}`another_base.k` output directions, median over modules, with intervals over modules. On the other base RFT is {number}`another_base.angle.rft:.1f` degrees from SFT, Offline GRPO {number}`another_base.angle.offline_grpo:.1f`, DFT {number}`another_base.angle.dft:.1f`, DPO {number}`another_base.angle.dpo:.1f`, and SFT (reshuffled) {number}`another_base.angle.order:.1f`. Chance is larger in a wider model, so compare the order of the rows, not the two marks of one."}, "image": {"alt": "One row for each adapter compared with SFT, with a circle and a square for the smallest principal angle on the two bases."}} tags=["hide-input"]
with_sft = angles[angles["base"] == this_run.name]
partners = with_sft["b"].where(with_sft["a"] == "sft", with_sft["a"])
pairs_beside(
    angles,
    {name: name for name in sides},
    xlabel="smallest principal angle to SFT (degrees)",
    names=[label(name) for name in partners],
    expected=False,
)
# %% [markdown]
# Three questions to put to them:
#
# - **How far do the rows alone go?** The weights-only prediction knows nothing of either model. On the pairs that it covers it is off by {number}`another_base.miss.here:.3f` on average here and by {number}`another_base.miss.there:.3f` on the other base; on pairs with SFT (reshuffled) by {number}`another_base.miss.order_here:.2f` and by {number}`another_base.miss.order_there:.2f`. Look at the side of the miss. A trained cosine above its prediction is a sign of something that all rollouts teach alike, such as a format that a pretrained model has yet to learn. One below it is a sign that the same rows pushed two trainings apart, as they may in many steps at a high rate.
# - **Is a loss further from SFT than SFT reshuffled is?** Another order costs SFT an orthogonal fraction of {number}`another_base.fraction.here.order:.2f` here and {number}`another_base.fraction.there.order:.2f` on the other base. Offline GRPO has {number}`another_base.fraction.here.offline_grpo:.2f` and {number}`another_base.fraction.there.offline_grpo:.2f`, DFT {number}`another_base.fraction.here.dft:.2f` and {number}`another_base.fraction.there.dft:.2f`. The yardsticks differ: SFT's two orders share {number}`reshuffled.shared:.0%` of their rows here and 8 % on the other base.
# - **How near to a right angle is DPO?** Its cosine with SFT is {number}`another_base.cosine.here.sft_dpo:.3f` here and {number}`another_base.cosine.there.sft_dpo:.3f` on the other base, orthogonal fractions of {number}`another_base.fraction.here.dpo:.4f` and {number}`another_base.fraction.there.dpo:.4f`. The fraction forgets the sign.
#
# ### Lengths and rates

# %%
rates = {
    this_run.name: this_run.read_table("controls/matched_rate_cosine.csv"),
    base: read_csv(folder / "controls/matched_rate_cosine.csv"),
}
at_rates = {
    name: table.query("quantity == 'norm'").set_index("a")["value"] for name, table in rates.items()
}
rate_cosines = {
    name: {
        pair: value
        for row in table.query("quantity == 'cosine'").itertuples()
        for pair, value in (((row.a, row.b), row.value), ((row.b, row.a), row.value))
    }
    for name, table in rates.items()
}
lengths = pd.DataFrame({name: norms_of(adapters) for name, adapters in sides.items()})
controls = pd.DataFrame(at_rates).loc[["sft-lr", "dpo-lr"]]
lengths = pd.concat([lengths, controls])
show_table(
    lengths.rename_axis("adapter").reset_index(),
    {"adapter": label, **dict.fromkeys(sides, "{:.3g}")},
)

# %% [markdown]
# SFT's delta is {number}`another_base.ratio.here.sft_dpo:.1f` times as long as DPO's here and {number}`another_base.ratio.there.sft_dpo:.1f` times on the other base; the paper has 13, after 1,000 steps. At a tenth of its rate, which is DPO's, SFT is {number}`another_base.ratio.here.control_dpo:.2f` and {number}`another_base.ratio.there.control_dpo:.2f` times as long as DPO; with SFT's rate for both, {number}`another_base.ratio.here.sft_raised:.2f` and {number}`another_base.ratio.there.sft_raised:.2f` times. What is left at equal rates is due to the loss, its rows, and how often they are read. The two equal rates need not leave the same.
#
# What had been written down of DPO at SFT's rate on the other base, before it was trained:

# %%
show_expected(
    base,
    "dpo-lr",
    {
        "norm_of_sft": lengths.loc["dpo-lr", base] / lengths.loc["sft", base],
        "cosine_to_sft": rate_cosines[base]["sft", "dpo-lr"],
        "cosine_to_dpo": rate_cosines[base]["dpo", "dpo-lr"],
    },
)

# %% [markdown]
# ## What the models can do

# %%
accuracy = read_csv(folder / "evaluation/accuracy.csv")
accuracy = accuracy[accuracy["model"].isin([BASE, *names])]

# %% mystnb={"figure": {"name": "fig-bases-accuracy", "caption": "Does a pretrained model learn to answer from these rollouts? Test accuracy on {number}`another_base.problems` problems of one to three steps with {number}`profile.evaluation.confidence:.0%` Wilson intervals; the dashed line is the base with {number}`another_base.accuracy.base:.1%`. SFT {number}`another_base.accuracy.sft:.1%`, RFT {number}`another_base.accuracy.rft:.1%`, DFT {number}`another_base.accuracy.dft:.1%`, RIFT {number}`another_base.accuracy.rift:.1%`, Offline GRPO {number}`another_base.accuracy.offline_grpo:.1%`, DPO {number}`another_base.accuracy.dpo:.1%`. Without a box an answer counts as wrong. Of the ten pairs among the five without DPO {number}`another_base.different` differ after correction (exact McNemar, Holm over all pairs). The rollouts solve problems of up to eight steps."}, "image": {"alt": "Accuracy of the base and of the six methods on the other base, as dots with intervals."}} tags=["hide-input"]
accuracies(accuracy)
# %% [markdown]
# By the number of steps that a problem takes, with the share of answers that have a box at all and the share of right sums among those that were written. A right sum need not be one that the problem asks for. A model can be wrong at the end and right in most of its lines. And it can go on and on: DFT writes {number}`another_base.sums.dft:.1f` sums a problem, SFT {number}`another_base.sums.sft:.1f`, the base {number}`another_base.sums.base:.1f`; {number}`another_base.boxed.dft:.0%`, {number}`another_base.boxed.sft:.0%` and {number}`another_base.boxed.base:.0%` of their answers have a box. A guess at a reason, which no control here tests: a likely token keeps its pull under DFT, an unlikely one loses it ([](../methods/dft)), and a box that the base never writes is unlikely at first.

# %%
by_steps = read_csv(folder / "evaluation/by_steps.csv")
by_steps = by_steps.assign(share=by_steps["right"] / by_steps["problems"])
shares = by_steps.pivot_table(index="model", columns="steps", values="share")
shares.columns = [f"{steps} step{'s' if steps > 1 else ''}" for steps in shares.columns]
sums = read_csv(folder / "evaluation/sums.csv").set_index("model")
shares["boxed"] = sums["boxed"] / sums["answers"]
shares["sums a problem"] = sums["sums"] / sums["answers"]
shares["right sums"] = sums["right"] / sums["sums"]
shares = shares.loc[[name for name in accuracy["model"] if name in shares.index]]
show_table(
    shares.reset_index(),
    {
        "model": label,
        **dict.fromkeys(shares.columns, "{:.0%}"),
        "sums a problem": "{:.2f}",
    },
)

# %% [markdown]
# ### Where did the trainings stop?
#
# The **ray** of a delta $\Delta$ is the line of models $W_0 + \lambda\,\Delta$: the base at $\lambda = 0$, the trained model at 1. If the loss is least well below 1, the training went too far along its own direction; if it still falls beyond 1, it stopped early. Nothing is trained for it: each module adds $\lambda$ times its low-rank product to its output.

# %% mystnb={"figure": {"name": "fig-bases-ray", "caption": "Did the trainings on the other base stop too early or too late? Held-out loss at fractions and multiples of each delta, the base at 0 and the trained model at 1. The base has {number}`another_base.ray.base:.2f` nats a token, SFT {number}`another_base.ray.sft:.2f`; SFT is best at a factor of {number}`another_base.ray.best.sft:.2f`, Offline GRPO at {number}`another_base.ray.best.offline_grpo:.2f`, DPO at {number}`another_base.ray.best.dpo:.2f` of the factors that were tried. The loss is that of imitating the teacher; DPO does not train it."}, "image": {"alt": "Held-out loss over the factor of the delta, one line for each method, on the other base."}} tags=["hide-input"]
along = read_csv(folder / "controls/ray.csv")
rays(along.assign(problems=0))
# %% [markdown]
# Written down before any point between the ends was measured (`book/predictions.yaml`); the two rows are about the factor at which the held-out loss is least, of those that were tried. The second range holds all of them, so that it could not fail.

# %%
start = along[along["model"] == BASE]
rays_of = {
    name: pd.concat([start, along[along["model"] == name]]).set_index("factor")["loss"]
    for name in METHODS
}
least = {name: float(losses.idxmin()) for name, losses in rays_of.items()}
show_expected(
    base,
    "ray",
    {
        "largest_best_factor_of_five": max(least[name] for name in METHODS if name != "dpo"),
        "best_factor_of_dpo": least["dpo"],
    },
)

# %% [markdown]
# (another-pool)=
# ## The same base, a pool with more wrong rollouts
#
# So far the base changed and the pool did not. Now it is the other way round. The authors of GSM8K published solutions of four language models to its test problems {cite}`cobbe2021gsm8k`: {number}`another_base.pool.rows:,` rollouts to {number}`another_base.pool.groups` prompts. {number}`another_base.pool.right:.0%` of them are right, and {number}`another_base.pool.mixed:.0%` of the groups are mixed; in the pool above it is {number}`rollouts.mean_reward:.0%` and {number}`rollouts.mixed:.0%`. Each solution was verified again: of {number}`another_base.pool.judged:,` verdicts {number}`another_base.pool.disagree` differ from the published ones. SmolLM2-135M was taught with them by the six losses, with the same settings and as many steps.
#
# Only the weights were compared, no accuracy was measured. What had been written down before any of the six was trained:

# %%
pool_profile = "smollm2-gsm8k"
pool_folder = shipped_folder(pool_profile)
pool = json.loads((pool_folder / "rollouts/card.json").read_text(encoding="utf-8"))
weights_only = {
    frozenset(pair.split()): value
    for pair, value in predictions_of(pool_profile)["weights_only"].items()
}
mixed = read_csv(pool_folder / "geometry/likeness.csv").query("quantity == 'cosine'")
mixed = mixed.assign(
    base=pool_profile,
    expected=[
        weights_only.get(frozenset(pair), np.nan)
        for pair in zip(mixed["a"], mixed["b"], strict=True)
    ],
)
pool_norms = read_csv(pool_folder / "geometry/norms.csv").set_index("adapter")["norm"]
at_pool = {
    f"{row.a}_{row.b}".replace(control, "order"): float(row.value) for row in mixed.itertuples()
}
show_expected(
    pool_profile,
    "mixed_pool",
    {
        **{f"cosine_of_{row.a}_and_{row.b}": row.value for row in mixed.itertuples()},
        "length_of_sft_over_dpo": pool_norms["sft"] / pool_norms["dpo"],
    },
)

# %% mystnb={"figure": {"name": "fig-bases-pool", "caption": "What does a pool with more wrong rollouts do to the angles? Global cosines of every pair on SmolLM2-135M, with the rollouts of the default run (circles) and with the solutions to GSM8K (squares), with intervals over modules; hollow: what the weights on the rollouts alone predict. RFT and Offline GRPO {number}`another_base.cosine.there.rft_offline_grpo:.2f` and {number}`another_base.pool.cosine.rft_offline_grpo:.2f`, Offline GRPO and DPO {number}`another_base.cosine.there.offline_grpo_dpo:.2f` and {number}`another_base.pool.cosine.offline_grpo_dpo:.2f`, SFT and DPO {number}`another_base.cosine.there.sft_dpo:.2f` and {number}`another_base.pool.cosine.sft_dpo:.2f`. The two pools differ in their problems and writers, too."}, "image": {"alt": "One row a pair of losses, with a circle and a square for its cosine on two pools of rollouts, intervals, and hollow diamonds for the predictions."}} tags=["hide-input"]
both_pools = pd.concat([cosines[cosines["base"] == base], mixed])
both_pools = both_pools[
    [
        control not in pair or "sft" in pair
        for pair in zip(both_pools["a"], both_pools["b"], strict=True)
    ]
]
first = both_pools[both_pools["base"] == base]
pairs_beside(
    both_pools,
    {base: "rollouts of the default run", pool_profile: "solutions to GSM8K"},
    xlabel="global cosine",
    names=[f"{label(a)}, {label(b)}" for a, b in zip(first["a"], first["b"], strict=True)],
)
# %% [markdown]
# With the default run's rollouts and with the solutions to GSM8K, both on SmolLM2-135M:
#
# - **RFT** has a cosine of {number}`another_base.cosine.there.sft_rft:.2f` and of {number}`another_base.pool.cosine.sft_rft:.2f` with SFT. It leaves out the wrong rollouts, {number}`another_base.wrong.there:.0%` of the first pool and {number}`another_base.wrong.pool:.0%` of the second.
# - **Offline GRPO** has {number}`another_base.cosine.there.sft_offline_grpo:.2f` and {number}`another_base.pool.cosine.sft_offline_grpo:.2f` with SFT, and SFT (reshuffled) has {number}`another_base.cosine.there.sft_order:.2f` and {number}`another_base.pool.cosine.sft_order:.2f`. Off SFT's direction lie {number}`another_base.fraction.there.offline_grpo:.2f` and {number}`another_base.pool.fraction.offline_grpo:.2f` of its length. Its weights are signed in mixed groups and all alike in the others.
# - **DPO** has {number}`another_base.cosine.there.offline_grpo_dpo:.2f` and {number}`another_base.pool.cosine.offline_grpo_dpo:.2f` with Offline GRPO, which contrasts the same groups, and {number}`another_base.cosine.there.sft_dpo:.2f` and {number}`another_base.pool.cosine.sft_dpo:.2f` with SFT. SFT's delta is {number}`another_base.ratio.there.sft_dpo:.1f` and {number}`another_base.pool.ratio:.1f` times as long as DPO's.
#
# The ranges above rest on a prediction that adds to the weights what all rollouts teach alike, fitted on the first pool. Over the pairs that it covers it is off by {number}`another_base.pool.miss.common:.2f` on average, the weights alone by {number}`another_base.pool.miss.alone:.2f`.
#
# Each pool has one run of each loss. They differ in problems, writers and lengths as well, so the shares of wrong rollouts and of mixed groups are the reason that one would look for first, and not one that is shown.
#
# ## How to read this, and how not to
#
# - **Two bases are two draws.** That a claim holds on both is no proof that it holds on all, and where they disagree it is not said what decides it: the base's size, family, tokenizer or what it had read before, or the settings of the run.
# - **One training of each kind.** The intervals are over modules or problems. SFT (reshuffled) shows what another order does on each base; more seeds would show how far.
# - **The base is not all that differs.** The second run has {number}`another_base.steps` steps of {number}`another_base.batch` rows instead of {number}`profile.training.steps` of {number}`profile.training.batch_size`, another rate, and its own test problems. Compare the order of the methods within a base first, then the numbers.
# - **The weights are not the published ones.** What training does to weights that four bits have rounded may differ from what it does to the original's.
# - **The paper's own setting is a third one**: 135 million parameters are forty times the default student and a thirtieth of the paper's model. The profiles `qwen3-0.6b` and `qwen3-4b` take the same path on a GPU.
#
# ## Exercise
#
# ````{exercise}
# :label: ex-another-base
#
# *Code · ★★ · 15 minutes*
#
# The adapters under `models/smollm2-135m/adapters` need no model to be compared. (a) Run `finetune-geometry compare sft=models/smollm2-135m/adapters/sft order=models/smollm2-135m/adapters/sft-order grpo=models/smollm2-135m/adapters/offline_grpo`. Is Offline GRPO further from SFT than SFT's second order is? (b) In which kind of module is the difference largest? (c) SFT's two orders share 8 % of their rows on this base. What would the weights-only prediction be if they shared none, and what does the trained cosine then say about $\kappa$ of [](../geometry/cosine)?
# ````
#
# ```{dropdown} Hint
# (c) Write each delta as one arrow for each of its $n$ rows, of length 1 and at right angles to each other, and an arrow along one common direction for each row, of length $\sqrt{\kappa}$. The common ones add up in a line.
# ```
#
# ````{solution} ex-another-base
# :label: sol-another-base
# :class: dropdown
#
# (a) The report gives {number}`another_base.cosine.there.sft_offline_grpo:.3f` and {number}`another_base.cosine.there.sft_order:.3f`; compare the two, with their intervals. (b) The report's table by kind of module answers it. (c) With no shared row the plain prediction is 0, and all of the cosine comes from the common part: with $n$ rows seen once each by either, $\cos = \kappa n^2 / (n + \kappa n^2) = \kappa n / (1 + \kappa n)$. The trained value then gives $\kappa = \cos / (n\,(1 - \cos))$.
# ````
#
# ## Take-away
#
# What two unlike bases agree on, {number}`another_base.agree.claims`, may be a matter of the losses and the rows: look for each whether the numbers agree, too, and for the same reason. The rest of the ledger has to name its base and its run.

# %% tags=["remove-cell"]


def by_pair(table: pd.DataFrame, name: str, column: str = "value") -> dict[str, float]:
    rows = table[table["base"] == name]
    return {
        f"{a}_{b}".replace("sft-order", "order"): float(value)
        for a, b, value in zip(rows["a"], rows["b"], rows[column], strict=True)
    }


def to_sft(values: dict[str, float]) -> dict[str, float]:
    return {key.removeprefix("sft_"): v for key, v in values.items() if key.startswith("sft_")}


both = cosines.pivot_table(index=["a", "b"], columns="base", values="value")
without_dpo = both[["dpo" not in pair for pair in both.index]]
miss = (cosines["value"] - cosines["expected"]).abs()
ordered = (cosines["a"] == control) | (cosines["b"] == control)


def missed(name: str, rows: pd.Series) -> float:
    return float(miss[(cosines["base"] == name) & rows].mean())


def pool_miss(source: str) -> float:
    """How far a prediction of the pool's cosines is off, on average over its pairs."""
    predicted = predictions_of(pool_profile)[source]
    trained = {frozenset((row.a, row.b)): row.value for row in mixed.itertuples()}
    return float(
        np.mean([abs(trained[frozenset(pair.split())] - v) for pair, v in predicted.items()])
    )


found = {where: by_pair(cosines, name) for where, name in words.items()}
norms = {where: lengths[name] for where, name in words.items()}
there_card = json.loads((folder / "rollouts/card.json").read_text(encoding="utf-8"))
mcnemar = read_csv(folder / "evaluation/mcnemar.csv")
five = [method for method in METHODS if method != "dpo"]
among_five = mcnemar[mcnemar["a"].isin(five) & mcnemar["b"].isin(five)]
shapes = {where: sides[name][0].shapes for where, name in words.items()}
this_run.record(
    "another_base",
    {
        "k": k,
        "rank": other.lora.r,
        "steps": other.training.steps,
        "batch": other.training.batch_size,
        "rate": other.training.learning_rate,
        "problems": other.problems.test,
        "width": {where: max(s[1] for s in found.values()) for where, found in shapes.items()},
        "blocks": {where: len(found) // 4 for where, found in shapes.items()},
        "both": int(testable.sum()),
        "agree": {
            "count": int(table["agree"].sum()),
            "claims": listed(table.loc[table["agree"], "claim"]),
        },
        "apart": {"claims": listed(table.loc[testable & ~table["agree"], "claim"])},
        "untestable": {"claims": listed(table.loc[~testable, "claim"])},
        "foreseen": {"count": int(table["foreseen"].sum())},
        "surprised": {"claims": listed(table.loc[~table["foreseen"], "claim"])},
        "cosine": {
            **found,
            "correlation": float(both.corr().iloc[0, 1]),
            "rank": float(both.corr("spearman").iloc[0, 1]),
            "mean": {where: float(without_dpo[name].mean()) for where, name in words.items()},
        },
        "pool": {
            "rows": pool["rows"],
            "groups": pool["groups"],
            "right": pool["mean_reward"],
            "mixed": pool["mixed"],
            "pairs": pool["pairs"],
            "judged": pool["disagreement"]["judged"],
            "disagree": sum(
                pool["disagreement"][key]
                for key in ("right_there_only", "right_here_only", "undecided_here")
            ),
            "cosine": at_pool,
            "fraction": {
                name: float(np.sqrt(1 - value**2)) for name, value in to_sft(at_pool).items()
            },
            "ratio": float(pool_norms["sft"] / pool_norms["dpo"]),
            "miss": {
                "alone": pool_miss("weights_only"),
                "common": pool_miss("with_a_common_part"),
            },
        },
        "wrong": {
            "there": 1 - there_card["mean_reward"],
            "pool": 1 - pool["mean_reward"],
        },
        "fraction": {
            where: {name: float(np.sqrt(1 - v**2)) for name, v in to_sft(values).items()}
            for where, values in found.items()
        },
        "angle": to_sft(by_pair(angles, base)),
        "miss": {
            **{where: missed(name, ~ordered) for where, name in words.items()},
            **{f"order_{where}": missed(name, ordered) for where, name in words.items()},
        },
        "ratio": {
            where: {
                "sft_dpo": float(norm["sft"] / norm["dpo"]),
                "control_dpo": float(norm["sft-lr"] / norm["dpo"]),
                "sft_raised": float(norm["sft"] / norm["dpo-lr"]),
            }
            for where, norm in norms.items()
        },
        "accuracy": accuracy.set_index("model")["accuracy"].astype(float).to_dict(),
        "boxed": shares["boxed"].to_dict(),
        "sums": shares["sums a problem"].to_dict(),
        "different": int((among_five["p_holm"] < 0.05).sum()),
        "ray": {
            "base": float(start["loss"].iloc[0]),
            "sft": float(rays_of["sft"][1.0]),
            "best": least,
        },
    },
)
