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
# (geometry-cosine)=
# # Cosine: do two losses move the weights the same way?
#
# **The answer.** With SFT, RIFT has a cosine of {number}`cosine.sft_rift:.2f`, RFT {number}`cosine.sft_rft:.2f`, Offline GRPO {number}`cosine.sft_offline_grpo:.2f`, DFT {number}`cosine.sft_dft:.2f` and DPO {number}`cosine.sft_dpo:.2f`. SFT on reshuffled rows has {number}`cosine.sft_reshuffled:.2f`, chance {number}`cosine.chance_low:.2f` to {number}`cosine.chance_high:.2f`.
#
# **What you will learn.** How to give one number to the likeness of two weight changes, which levels it must be compared with, and how much of it was bought by the rows that two losses share.
#
# ## The question
#
# Each training has moved the weights of the student from one common point, the base, to some other point. Think of six arrows with one tail. Two arrows can differ in length and in direction. The cosine looks at direction alone. It is the paper's headline number: SFT, RFT and RIFT "nearly collinear", DPO "near-orthogonal" (claims C1, C4 and C7). Such words compare. So a seventh arrow is in every figure, one that no other loss made: [SFT (reshuffled)](../controls/reshuffled), the same loss with its rows drawn anew.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
others: str = ""  # further adapters of this run to compare, apart by commas: dpo-varied
reference: str = "sft"  # the adapter that the figures by depth and by module compare with
draws: int | None = None  # draws for chance levels and intervals; None: the profile's value

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE, adapter_from
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.figures import plots
from finetune_geometry.figures.geometry_plots import plane_map, predictions
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.nulls import chance_table
from finetune_geometry.geometry.prediction import fit_common, predicted_cosines, rollout_weights
from finetune_geometry.geometry.similarity import (
    bootstrap_global_cosine,
    cosine_table,
    inner_products,
    plane,
    tabulate_cosines,
)
from finetune_geometry.geometry.table_layout import versus
from finetune_geometry.methods.rows import preference_pairs, row_lengths, row_order, unpaired_rows
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.sections import METHOD_SECTIONS, Training

check_parameters(globals())
set_style()
this_run = Run.open(profile, run, {"geometry.null_draws": draws})
settings = this_run.profile.geometry
control = "sft-order"

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Cosine of two deltas
# :label: def-cosine
#
# For two weight changes $\Delta_1$, $\Delta_2$ of the same matrix, neither of them zero,
#
# $$
# \begin{gathered}
# \cos(\Delta_1, \Delta_2) = \frac{\inner{\Delta_1}{\Delta_2}}{\norm{\Delta_1}\,\norm{\Delta_2}}, \\
# \inner{\Delta_1}{\Delta_2} = \sum_{i,j} (\Delta_1)_{ij} (\Delta_2)_{ij} .
# \end{gathered}
# $$ (eq-cosine)
#
# The **global** cosine stacks all modules into one vector: numerator and squared norms are summed over modules first. The **mean** and **median** cosine are those of the modules' own values.
# ```
#
# The zero delta has no direction. So the base has a norm (zero) and a distance to everything, but no cosine; the figures below say so instead of inventing a number.
#
# No delta is ever written out as a full matrix here. With $\Delta_i = s_i B_i A_i$, the inner product is $s_1 s_2 \tr\big((B_1^\top B_2)(A_2 A_1^\top)\big)$: products of thin matrices only. The code uses just these where nothing cancels. Where something does, it brings the adapters of a module into one shared frame first (`cores.compress`), which is exact there, too.
#
# ## A toy with a known answer
#
# Is the global cosine the mean of the modules' cosines? Take two adapters with two modules. In the first module their deltas have cosine 0.9, in the second 0.1. Now let the second module's deltas grow, by the same factor $\rho$ in both adapters. By {eq}`eq-cosine` the global cosine is $(0.9 + 0.1\,\rho^2)/(1 + \rho^2)$: a mean weighted by squared norms.

# %% mystnb={"figure": {"name": "fig-cosine-toy", "caption": "Which modules decide the global cosine? Those with large deltas. Two modules have cosines 0.9 and 0.1 by construction; the horizontal axis is the size of the second module's deltas relative to the first's. The mean over modules does not see sizes and stays at 0.5. Lines are the formulas, dots what the book's code measures on factors. Toy deltas, no training."}, "image": {"alt": "The global cosine falls from 0.9 to 0.1 as the second module grows, through 0.5 where both are equally large; the mean over modules is a flat line at 0.5. Measured dots lie on both lines."}} tags=["hide-input"]
unit, other = LowRankDelta([[1.0], [0.0]], [[1.0, 0.0]]), LowRankDelta([[0.0], [1.0]], [[1.0, 0.0]])


def at_cosine(c: float) -> LowRankDelta:
    return c * unit + float(np.sqrt(1 - c**2)) * other


ratios = np.logspace(-1, 1, 9)
measured = {"global": [], "mean": []}
for ratio in map(float, ratios):
    pair = [
        adapter_from("one", {"layers.0": unit, "layers.1": ratio * unit}),
        adapter_from("two", {"layers.0": at_cosine(0.9), "layers.1": ratio * at_cosine(0.1)}),
    ]
    toy = cosine_table(pair).query("quantity == 'cosine'").set_index("level")["value"]
    for level, values in measured.items():
        values.append(toy[level])
fine = np.logspace(-1, 1, 100)
formulas = {
    "global": (fine, (0.9 + 0.1 * fine**2) / (1 + fine**2)),
    "mean": (fine, np.full_like(fine, 0.5)),
}
plots.toy(
    formulas,
    {level: (ratios, values) for level, values in measured.items()},
    xlabel="norm of module 2 / norm of module 1",
    ylabel="cosine",
    logx=True,
)
# %% [markdown]
# ## The six methods
#
# One pass over the modules gives the inner products of all pairs, of the base, the six methods and SFT (reshuffled). Everything in this section is a sum of them.

# %%
adapters = load_run(this_run, f"{control},{others}")
parts = map_modules(inner_products, adapters)
table = tabulate_cosines(parts)
this_run.write_table("geometry/cosine.csv", table)
cosines = table.query("quantity == 'cosine'")
everywhere = table.query("level == 'global'")
names = [a.name for a in adapters]

# %% mystnb={"figure": {"name": "fig-cosine-pairs", "caption": "How alike are the directions of two deltas? Global cosine of every pair, all modules stacked. SFT and SFT (reshuffled), one loss with its rows drawn anew, have {number}`cosine.sft_reshuffled:.3f`; compare the rest with that. SFT and RFT have {number}`cosine.sft_rft:.3f`, SFT and RIFT {number}`cosine.sft_rift:.3f`, RFT and RIFT {number}`cosine.rft_rift:.3f`, SFT and Offline GRPO {number}`cosine.sft_offline_grpo:.3f`, SFT and DFT {number}`cosine.sft_dft:.3f`, SFT and DPO {number}`cosine.sft_dpo:.3f`. For deltas that share nothing but $A$ chance is {number}`cosine.chance_low:.3f` to {number}`cosine.chance_high:.3f`. The base has no direction. A cosine says neither how far a method went nor why it went there."}, "image": {"alt": "Lower-triangle matrix of global cosines between the six methods and SFT reshuffled, with a hatched row for the base, whose delta is zero."}} tags=["hide-input"]
pairs = everywhere.query("quantity == 'cosine'")
plots.pair_heatmap(
    pairs,
    title="Global cosine",
    names=names,
    diagonal=1.0,
    vmin=min(0.0, float(pairs["value"].min())),
    vmax=1.0,
)
# %% [markdown]
# Direction is half of the story. How far did each method go, and how far apart did they end?

# %% mystnb={"figure": {"name": "fig-cosine-distance", "caption": "How far is each method from the base and from the others? Frobenius norm of the difference of two deltas; the base's column is the length of each delta. SFT moved {number}`cosine.norm.sft:.3g`, DPO {number}`cosine.norm.dpo:.3g`. SFT and SFT (reshuffled) end {number}`cosine.distance.sft_reshuffled:.3g` apart. If a method's distances to the others are all close to their own lengths, it is short: what sets it apart is mainly that it stayed at home. A distance does not say whether the answers changed."}, "image": {"alt": "Lower-triangle matrix of distances between base, the six methods and SFT reshuffled."}} tags=["hide-input"]
plots.pair_heatmap(
    everywhere.query("quantity == 'distance'"),
    title="Distance",
    names=names,
    fmt=".3g",
    cmap="cividis",
    colorbar_label="Frobenius norm",
)
# %% mystnb={"figure": {"name": "fig-cosine-plane", "caption": "Where do the trainings end, seen from the base? Each delta as an arrow in the plane that holds more of the squared length of all than any other plane, {number}`cosine.plane_share:.0%` of it in this run. The hollow dot is SFT (reshuffled), which has a cosine of {number}`cosine.sft_reshuffled:.3f` with SFT. Angles and lengths in the picture are those of the projections, so compare with the matrices above before you trust a small gap. An arrow too short to see is a method that hardly moved, or one that points out of this plane."}, "image": {"alt": "Arrows from the base at the origin to the six methods and SFT reshuffled in a plane; both axes in units of the Frobenius norm."}} tags=["hide-input"]
points, plane_share = plane(parts)
plane_map(points)
# %% [markdown]
# ```{explorable} arrows
# ```
#
# ### By depth and by module
#
# One number for the whole network can hide a layer where two methods part. Below, everything is compared with one reference, SFT unless you chose another.

# %% tags=["hide-input"]
modules = {m: adapters[0].shapes[m] for m in adapters[0]}
chance = chance_table(
    modules,
    (),
    r=this_run.profile.lora.r,
    draws=settings.null_draws,
    seed=settings.seed,
    confidence=this_run.profile.evaluation.confidence,
)
chance = chance.query("quantity == 'cosine'").set_index("level")
by_module = (chance.loc["module", "low"], chance.loc["module", "high"])
by_layer = (chance.loc["layer", "low"], chance.loc["layer", "high"])
compared = versus(cosines, reference, among=[name for name in names if name != BASE])

# %% mystnb={"figure": {"name": "fig-cosine-depth", "caption": "In which layers does a method part from SFT? Cosine with SFT, the modules of a layer stacked. The grey band is the chance level of one layer, where {number}`profile.evaluation.confidence:.0%` of random pairs of deltas with one shared A fall. The line with hollow marks is SFT (reshuffled), globally at {number}`cosine.sft_reshuffled:.3f`: a method on that line lies from SFT as far as other rows put SFT from itself. A dip in a layer with small deltas moves the global cosine little."}, "image": {"alt": "Cosine with SFT by layer, one line for each of the other methods and one with hollow marks for SFT reshuffled, with a grey chance band around zero."}} tags=["hide-input"]
plots.by_depth(
    compared.query("level == 'layer'"),
    name="other",
    ylabel=f"cosine with {label(reference)}",
    chance=by_layer,
    chance_label="chance, one layer",
)
# %% mystnb={"figure": {"name": "fig-cosine-modules", "caption": "How much do single modules differ? One dot a module, a bar at the median: the cosine with SFT. The grey band is chance for one module. Hollow dots are SFT (reshuffled), with a median of {number}`cosine.median.sft_reshuffled:.3f`; the median of Offline GRPO is {number}`cosine.median.sft_offline_grpo:.3f`, of DPO {number}`cosine.median.sft_dpo:.3f`. Dots on both sides of zero can cancel in the global number: DPO's run from {number}`cosine.single.low:.2f` to {number}`cosine.single.high:.2f`, chance from {number}`cosine.chance_module_low:.2f` to {number}`cosine.chance_module_high:.2f`."}, "image": {"alt": "Strips of dots, one dot a module and one strip a method, the last one hollow for SFT reshuffled, of the cosine with SFT; a grey band around zero shows chance."}} tags=["hide-input"]
plots.strips(
    compared.query("level == 'module'"),
    name="other",
    xlabel=f"cosine with {label(reference)}",
    chance=by_module,
    chance_label="chance, one module",
)

# %% [markdown]
# ## The chance level and controls
#
# A cosine needs a level beside it. There are three, and they answer different questions.
#
# **Random $B$: do two deltas share anything?** In thousands of dimensions two random arrows are nearly perpendicular. How nearly depends on the shapes. The null here: two adapters of the same shapes and rank as this run's, with random $B$ and one shared random $A$, as if training had written noise. Their global cosine lies between {number}`cosine.chance_low:.3f` and {number}`cosine.chance_high:.3f` in {number}`profile.evaluation.confidence:.0%` of {number}`profile.geometry.null_draws` draws. Small as they look, the paper's DPO cosines of about 0.06 can be far above this: *small* is not the same as *none*. SFT and DPO have {number}`cosine.sft_dpo:.3f` in this run. Only a value outside the range says anything, and its sign then says which way.
#
# **Shared rows: do they share more than the rows they saw?** Two losses that read the same rollouts cannot be expected to look like noise to each other. What to expect of them is worked out below.
#
# **SFT (reshuffled): are they further apart than one loss from itself?** Its cosine with SFT is {number}`cosine.sft_reshuffled:.3f` ({number}`cosine.low.sft_reshuffled:.3f` to {number}`cosine.high.sft_reshuffled:.3f`). A method with a cosine like that lies no further from SFT's direction than other rows would have put SFT.
#
# ### What the shared rows alone predict
#
# Forget the model. Suppose that every rollout of the pool had one gradient of its own, all of equal length and at right angles to each other, and that a training adds up the gradients of what it sees, each with the weight that its loss gives to the rollout ([](../../book/objectives)).
#
# ```{prf:definition} Weights-only prediction
# :label: def-prediction
#
# Let $w_i$ be the sum of the signed weights with which a method met rollout $i$ of the pool over all steps, and $w'_i$ that of another method. Their predicted cosine is
#
# $$
# \widehat{\cos} = \frac{\sum_i w_i\, w'_i}{\sqrt{\sum_i w_i^2}\,\sqrt{\sum_i w_i'^2}} .
# $$ (eq-prediction)
#
# If all gradients also share **one common part**, of squared length $\kappa \ge 0$ in units of their own, every inner product $\sum_i w_i w'_i$ in {eq}`eq-prediction` grows by $\kappa\,\big(\sum_i w_i\big)\big(\sum_i w'_i\big)$.
# ```
#
# A visit counts 1 for SFT, $r$ for RFT, $1 - \lambda r$ for RIFT and the advantage for Offline GRPO. For DPO it counts $+1$ on the chosen and $-1$ on the rejected rollout of the pair. DFT is left out, and so are published variants of RIFT and Offline GRPO: their weights hang on the student's probabilities, which are not known before the training.
#
# For SFT and the two that read its rows the sums are short. If a share $p$ of the rollouts seen is right, SFT and RFT should have a cosine of $\sqrt{p}$, SFT and RIFT one of $(1 - \lambda p) / \sqrt{1 - (2\lambda - \lambda^2)\,p}$. Nothing in it is about the model. The prediction has no free number but $\kappa$, and that one is fitted on the pair of SFT and SFT (reshuffled) alone, not on any pair of losses: $\kappa =$ {number}`cosine.common:.2g` in this run. It can only add likeness. Where the plain prediction for that pair is already at or above the trained cosine, $\kappa$ is 0 and the two predictions are one.

# %% tags=["hide-input"]
pool = load_rollouts(this_run)
weights = {}
for name in names:
    if name == BASE:
        continue
    card = this_run.read_json(f"adapters/{name}/card.json")
    method, made = card["objective"], card["settings"]
    loss, training = METHOD_SECTIONS[method](**made["method"]), Training(**made["training"])
    rows = preference_pairs(pool) if method == "dpo" else unpaired_rows(pool, method, loss)
    order = row_order(row_lengths(rows).max(1), training)
    seen = rollout_weights(method, loss, pool, rows, order)
    if seen is not None and card["lora_seed"] == this_run.profile.lora.seed:  # one initial A
        weights[name] = seen
interval = bootstrap_global_cosine(
    parts,
    draws=settings.null_draws * 5,
    confidence=this_run.profile.evaluation.confidence,
    seed=settings.seed,
)
trained = pairs[["a", "b", "value"]].merge(interval, on=["a", "b"])
yardstick = float(trained.query("a == 'sft' and b == @control")["value"].iloc[0])
common = fit_common(weights, ("sft", control), yardstick)
plain = predicted_cosines(weights)
foreseen = pd.concat(
    [
        plain.assign(quantity="predicted"),
        predicted_cosines(weights, common).assign(quantity="predicted_common"),
        trained.merge(plain[["a", "b"]]).assign(quantity="trained"),
    ]
)[["a", "b", "quantity", "value", "low", "high"]]
this_run.write_table("geometry/predicted_cosine.csv", foreseen)
both = foreseen.drop_duplicates(["a", "b"])

# %% mystnb={"figure": {"name": "fig-cosine-predicted", "caption": "How much of a cosine follows from the shared rows alone? Dots: the trained cosine of a pair, with its interval over modules. Diamonds: what the weights on the rollouts predict, without a model. Triangles: the same with one common part, fitted on SFT and SFT (reshuffled) alone, whose trained cosine is {number}`cosine.sft_reshuffled:.3f`. Grey: chance if nothing but $A$ were shared. SFT and RFT: {number}`cosine.predicted.sft_rft:.3f` predicted, {number}`cosine.sft_rft:.3f` trained; SFT and Offline GRPO: {number}`cosine.predicted.sft_offline_grpo:.3f` and {number}`cosine.sft_offline_grpo:.3f`; Offline GRPO and DPO: {number}`cosine.predicted.offline_grpo_dpo:.3f` and {number}`cosine.offline_grpo_dpo:.3f`. A prediction that fits does not prove that gradients are orthogonal; it shows that the pair gives no reason to look for another cause."}, "image": {"alt": "One row a pair of adapters: a dot for the trained cosine, a diamond and a triangle for the two predictions, and a narrow grey chance band around zero."}} tags=["hide-input"]
predictions(
    foreseen,
    (chance.loc["global", "low"], chance.loc["global", "high"]),
    xlabel="global cosine",
    names=[f"{label(a)}, {label(b)}" for a, b in zip(both["a"], both["b"], strict=True)],
)
# %%
wide = foreseen.pivot_table(index=["a", "b"], columns="quantity", values="value", sort=False)
words = {
    "a": "first", "b": "second", "trained": "trained", "predicted": "predicted",
    "predicted_common": "with a common part",
}  # fmt: skip
show_table(
    wide.reset_index()[list(words)].rename(columns=words),
    {
        **dict.fromkeys(["first", "second"], label),
        **dict.fromkeys(["trained", "predicted", "with a common part"], "{:.3f}"),
    },
)

# %% [markdown]
# Over the pairs among SFT, RFT, RIFT and Offline GRPO, which read the same rows in the same order, the plain prediction is off by {number}`cosine.miss.plain.mean:.3f` on average and {number}`cosine.miss.plain.most:.3f` at most; with the common part, by {number}`cosine.miss.common.mean:.3f` and {number}`cosine.miss.common.most:.3f`. Over the pairs with DPO it is {number}`cosine.miss.plain.dpo:.3f` and {number}`cosine.miss.common.dpo:.3f` on average. Read it like this:
#
# - **Where a miss is small, the cosine tells which rollouts two losses weigh alike.** That could be read off their formulas and the pool before any training. "Nearly collinear" may then be no discovery about the geometry of fine-tuning, and a random null was the wrong chance level: everything that shares rows beats it.
# - **Where a miss is large, something else is at work**: gradients of different length, rollouts that resemble each other in more than one common way, a push that changes as the training goes on, because the weights have moved so far that the first gradients no longer hold. The picture is one of short ways: a larger learning rate can lead away from it. For DPO the last is built in: its push on a pair fades as the pair is learnt, and here each visit counts the same. SFT and DPO are predicted at {number}`cosine.predicted.sft_dpo:.3f` and have {number}`cosine.sft_dpo:.3f`, Offline GRPO and DPO at {number}`cosine.predicted.offline_grpo_dpo:.3f` and have {number}`cosine.offline_grpo_dpo:.3f`. A picture that misses the second pair explains little by fitting the first.
# - **Pairs with SFT (reshuffled) are another test**: they share {number}`reshuffled.shared:.0%` of the rows. The four of them are off by {number}`cosine.miss.plain.reshuffled:.3f` on average without the common part and {number}`cosine.miss.common.reshuffled:.3f` with it. Believe a version only where it fits both kinds of pairs.
#
# ### How much hangs on a few modules?
#
# Draw the modules anew with replacement, many times. The global cosine of SFT and RFT then varies from {number}`cosine.low.sft_rft:.3f` to {number}`cosine.high.sft_rft:.3f`, that of SFT and DPO from {number}`cosine.low.sft_dpo:.3f` to {number}`cosine.high.sft_dpo:.3f`. This is not an interval for another training: for that one needs another training, and SFT (reshuffled) is one. For adapters that do not share their $A$ there is [](../controls/second_seed). Adapters of your own enter the figures if you name them in `others`.
#
# ## How to read the figures, and how not to
#
# - **A high cosine between two methods may be bought by what they share**: the initial $A$, the rows and their order. How much, two levels tell: the prediction from the rows, and SFT (reshuffled), which shares the $A$ and has drawn its rows anew ({number}`reshuffled.shared:.0%` of them are SFT's, too). Two runs of *one* loss from different $A$ have 0.07 to 0.36 in the paper.
# - **The cosine saturates.** 0.97 and 0.99 look alike and are not: the parts that are not shared are 24 % and 14 % of the length. [The orthogonal fraction](orthogonal_fraction) is the better scale near 1.
# - **A low cosine has more than one cause.** DPO reads other rows, with weights of both signs, at a tenth of the others' learning rate. [](../controls/matched_rate) shows how much the rate alone can do to SFT. Whether two losses pull apart from the first step on, or only later, no figure here can say.
# - **Do not average cosines over pairs**, and do not compare the cosine of one model with that of another whose matrices have other shapes: their chance levels differ.
#
# ## Exercise
#
# ```{exercise} The chance level by hand
# :label: ex-cosine-chance
#
# *Derivation · ★★ · 15 minutes*
#
# Two random vectors with $n$ independent entries have a cosine of about $\pm 1/\sqrt{n}$. A module of this run has $d_{\mathrm{out}} \times d_{\mathrm{in}}$ entries, yet the grey band of one module is much wider than $2/\sqrt{d_{\mathrm{out}} d_{\mathrm{in}}}$. Why? Find the number that belongs in the place of $n$, then check it with `chance_table` for several $r$.
# ```
#
# ```{dropdown} Hint
# Both deltas are a $B$ times the same $A$. How many numbers are free once $A$ is given?
# ```
#
# ````{solution} ex-cosine-chance
# :class: dropdown
#
# With one shared $A$ the deltas $B_1 A$ and $B_2 A$ lie in the space of all matrices $B A$ with that $A$, which has $d_{\mathrm{out}} \cdot r$ dimensions, not $d_{\mathrm{out}} \cdot d_{\mathrm{in}}$. So the cosine is about $\pm 1/\sqrt{d_{\mathrm{out}}\, r}$ (a little more, as the rows of $A$ are not exactly orthonormal). For $d_{\mathrm{out}} = 192$ and $r = 8$ that is 0.026, and the band of 95 % reaches to about 0.05.
#
# ```python
# for r in (2, 8, 32):
#     null = chance_table({"m": (192, 192)}, (), r=r, draws=500, seed=0).query("quantity == 'cosine'")
#     print(r, null["high"].iloc[0], 2 / (192 * r) ** 0.5)
# ```
# ````
#
# ## Take-away
#
# The cosine compares directions, weighted by where deltas are large. Read it with the norms (who moved at all) and with three levels: random $B$, the shared rows, and the same loss with its rows drawn anew.


# %% tags=["remove-cell"]
def key(a: str, b: str) -> str:
    return f"{a}_{b}".replace(control, "reshuffled")


def by_pair(rows: pd.DataFrame, column: str = "value") -> dict[str, float]:
    return {key(a, b): v for a, b, v in zip(rows["a"], rows["b"], rows[column], strict=True)}


def pair_values(quantity: str, level: str) -> dict[str, float]:
    return by_pair(table[(table["quantity"] == quantity) & (table["level"] == level)])


def miss(quantity: str) -> dict[str, float]:
    """How far a prediction is from the trained cosine, without sign; NaN where there is none."""
    off = (wide[quantity] - wide["trained"]).abs().reset_index(name="off")
    first, second = off["a"], off["b"]
    same = off[first.isin(METHODS) & second.isin(METHODS) & (first != "dpo") & (second != "dpo")]
    dpo = off[((first == "dpo") & second.isin(METHODS)) | (first.isin(METHODS) & (second == "dpo"))]
    other = (first == control) | (second == control)
    drawn = off[other & first.isin([*METHODS, control]) & (first != "dpo") & (second != "dpo")]
    return {
        "reshuffled": float(drawn["off"].mean()),
        "mean": float(same["off"].mean()),
        "most": float(same["off"].max()),
        "dpo": float(dpo["off"].mean()),
    }


norms = everywhere.query("quantity == 'norm'")
dpo_modules = cosines.query("level == 'module' and a == 'sft' and b == 'dpo'")["value"]
all_pairs = {key(a, b): float("nan") for i, a in enumerate(METHODS) for b in list(METHODS)[i + 1 :]}
this_run.record(
    "cosine",
    {
        **pair_values("cosine", "global"),
        "mean": pair_values("cosine", "mean"),
        "median": pair_values("cosine", "median"),
        "distance": pair_values("distance", "global"),
        "norm": dict(zip(norms["a"], norms["value"], strict=True)),
        "low": by_pair(interval, "low"),
        "high": by_pair(interval, "high"),
        "chance_low": chance.loc["global", "low"],
        "chance_high": chance.loc["global", "high"],
        "chance_module_low": by_module[0],
        "chance_module_high": by_module[1],
        "plane_share": plane_share,
        "single": {"low": float(dpo_modules.min()), "high": float(dpo_modules.max())},
        "modules": len(modules),
        # What cannot be predicted (variants that hang on probabilities) is "not defined".
        "predicted": all_pairs | by_pair(foreseen.query("quantity == 'predicted'")),
        "predicted_common": all_pairs | by_pair(foreseen.query("quantity == 'predicted_common'")),
        "common": common,
        "miss": {"plain": miss("predicted"), "common": miss("predicted_common")},
    },
)
