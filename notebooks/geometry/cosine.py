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
# **What you will learn.** How to give one number to the likeness of two weight changes, why that number needs a chance level and a norm beside it, and which of the six losses point where SFT points.
#
# ## The question
#
# Each training has moved the weights of the student from one common point, the base, to some other point. Think of six arrows with one tail. Two arrows can differ in length and in direction. The cosine looks at direction alone. It is the paper's headline number: SFT, RFT and RIFT "nearly collinear", DPO "near-orthogonal" (claims C1, C4 and C7).

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
others: str = ""  # further adapters of this run to compare, apart by commas: dpo-varied
reference: str = "sft"  # the adapter that the figures by depth and by module compare with
draws: int | None = None  # draws for chance levels and intervals; None: the profile's value

# %% tags=["hide-input"]
import numpy as np

from finetune_geometry import plots
from finetune_geometry.cores import map_modules
from finetune_geometry.deltas import LowRankDelta, adapter_from, load_run
from finetune_geometry.geometry_plots import plane_map
from finetune_geometry.nulls import chance_table
from finetune_geometry.profiles import METHODS
from finetune_geometry.records import Run, check_parameters
from finetune_geometry.similarity import (
    bootstrap_global_cosine,
    cosine_table,
    inner_products,
    plane,
    tabulate_cosines,
    versus,
)

check_parameters(globals())
plots.set_style()
this_run = Run.open(profile, run, {"geometry.null_draws": draws})
settings = this_run.profile.geometry

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Cosine of two deltas
# :label: def-cosine
#
# For two weight changes $\Delta_1$, $\Delta_2$ of the same matrix, neither of them zero,
#
# $$
# \cos(\Delta_1, \Delta_2) = \frac{\inner{\Delta_1}{\Delta_2}}{\norm{\Delta_1}\,\norm{\Delta_2}},
# \qquad \inner{\Delta_1}{\Delta_2} = \sum_{i,j} (\Delta_1)_{ij} (\Delta_2)_{ij} .
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
    toy = cosine_table(pair).query("quantity == 'cosine'").set_index("module")["value"]
    for pooled, values in measured.items():
        values.append(toy[pooled])
fine = np.logspace(-1, 1, 100)
formulas = {
    "global": (fine, (0.9 + 0.1 * fine**2) / (1 + fine**2)),
    "mean": (fine, np.full_like(fine, 0.5)),
}
plots.toy(
    formulas,
    {pooled: (ratios, values) for pooled, values in measured.items()},
    xlabel="norm of module 2 / norm of module 1",
    ylabel="cosine",
    logx=True,
)
# %% [markdown]
# ## The six methods
#
# One pass over the modules gives the inner products of all pairs, with the base as the seventh point. Everything in this chapter is a sum of them.

# %%
adapters = load_run(this_run, others)
parts = map_modules(inner_products, adapters)
table = tabulate_cosines(parts)
this_run.write_table("geometry/cosine.csv", table)
cosines = table.query("quantity == 'cosine'")
everywhere = table.query("module == 'global'")
names = [a.name for a in adapters]
shown = [n for n in names if n in METHODS or n == "base"] if "sft" in names else names

# %% mystnb={"figure": {"name": "fig-cosine-pairs", "caption": "Which losses move the weights in the same direction? Global cosine of every pair of deltas, all modules stacked. SFT and RFT have {number}`cosine.sft_rft:.3f`, SFT and RIFT {number}`cosine.sft_rift:.3f`, RFT and RIFT {number}`cosine.rft_rift:.3f`, SFT and Offline GRPO {number}`cosine.sft_offline_grpo:.3f`, SFT and DFT {number}`cosine.sft_dft:.3f`, SFT and DPO {number}`cosine.sft_dpo:.3f`. Chance is {number}`cosine.chance_low:.3f` to {number}`cosine.chance_high:.3f`. The base has no direction. A cosine says nothing about how far a method went."}, "image": {"alt": "Lower-triangle matrix of global cosines between the six methods, with a hatched row for the base, whose delta is zero."}} tags=["hide-input"]
pairs = everywhere.query("quantity == 'cosine'")
plots.pair_heatmap(
    pairs,
    title="Global cosine",
    names=shown,
    diagonal=1.0,
    vmin=min(0.0, float(pairs["value"].min())),
    vmax=1.0,
)
# %% [markdown]
# Direction is half of the story. How far did each method go, and how far apart did they end?

# %% mystnb={"figure": {"name": "fig-cosine-distance", "caption": "How far is each method from the base and from the others? Frobenius norm of the difference of two deltas; the base's column is the length of each delta. SFT moved {number}`cosine.norm.sft:.3g`, DPO {number}`cosine.norm.dpo:.3g`. If a method's distances to the others are all close to their own lengths, it is short: what sets it apart is mainly that it stayed at home. A distance does not say whether the answers changed."}, "image": {"alt": "Lower-triangle matrix of distances between base and the six methods."}} tags=["hide-input"]
plots.pair_heatmap(
    everywhere.query("quantity == 'distance'"),
    title="Distance",
    names=shown,
    fmt=".3g",
    cmap="cividis",
    colorbar_label="Frobenius norm",
)
# %% mystnb={"figure": {"name": "fig-cosine-plane", "caption": "Where do the six end, seen from the base? Each delta as an arrow in the plane that holds most of the squared length of all, {number}`cosine.plane_share:.0%` of it in this run. Angles and lengths in the picture are those of the projections, so compare with the matrices above before you trust a small gap. An arrow too short to see is a method that hardly moved, or one that points out of this plane."}, "image": {"alt": "Arrows from the base at the origin to the six methods in a plane; both axes in units of the Frobenius norm."}} tags=["hide-input"]
points, plane_share = plane(parts)
plane_map(points[points["name"].isin(shown)])
# %% [markdown]
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
chance = chance.query("quantity == 'cosine'").set_index("pooled")
by_module = (chance.loc["module", "low"], chance.loc["module", "high"])
by_layer = (chance.loc["layer", "low"], chance.loc["layer", "high"])
compared = versus(cosines, reference, among=shown)

# %% mystnb={"figure": {"name": "fig-cosine-depth", "caption": "In which layers does a method part from SFT? Cosine with SFT, the modules of a layer stacked. The grey band is the chance level of one layer, where {number}`profile.evaluation.confidence:.0%` of random pairs of deltas with one shared A fall. A dip in a layer with small deltas moves the global cosine little."}, "image": {"alt": "Cosine with SFT by layer, one line for each of the other methods, with a grey chance band around zero."}} tags=["hide-input"]
plots.by_depth(
    compared.query("module == 'layer'"),
    name="other",
    ylabel=f"cosine with {plots.label(reference)}",
    chance=by_layer,
    chance_label="chance, one layer",
)
# %% mystnb={"figure": {"name": "fig-cosine-modules", "caption": "How much do single modules differ? One dot a module, a bar at the median: the cosine with SFT. The grey band is chance for one module. The median of Offline GRPO is {number}`cosine.median.sft_offline_grpo:.3f`, of DPO {number}`cosine.median.sft_dpo:.3f`. Dots on both sides of the band can cancel in the global number: DPO's run from {number}`cosine.single.low:.2f` to {number}`cosine.single.high:.2f`."}, "image": {"alt": "Strips of dots, one dot a module and one strip a method, of the cosine with SFT; a grey band around zero shows chance."}} tags=["hide-input"]
plots.strips(
    compared[compared["module"].isin(list(modules))],
    name="other",
    xlabel=f"cosine with {plots.label(reference)}",
    chance=by_module,
    chance_label="chance, one module",
)

# %% [markdown]
# ## The chance level and controls
#
# In thousands of dimensions two random arrows are nearly perpendicular. How nearly depends on the shapes. The null here: two adapters of the same shapes and rank as this run's, with random $B$ and one shared random $A$, as if training had written noise. Their global cosine lies between {number}`cosine.chance_low:.3f` and {number}`cosine.chance_high:.3f` in {number}`profile.evaluation.confidence:.0%` of {number}`profile.geometry.null_draws` draws. Small as they look, the paper's DPO cosines of about 0.06 can be far above chance: *small* is not the same as *none*. SFT and DPO have {number}`cosine.sft_dpo:.3f` in this run. Only a value outside the chance range says anything, and its sign then says which way.
#
# How much hangs on a few modules? Draw the modules anew with replacement, many times. The global cosine of SFT and RFT then varies from {number}`cosine.low.sft_rft:.3f` to {number}`cosine.high.sft_rft:.3f`, that of SFT and DPO from {number}`cosine.low.sft_dpo:.3f` to {number}`cosine.high.sft_dpo:.3f`. This is not an interval for another training: for that one needs another training. SFT trained once more, with the rows in another order, has a cosine of {number}`second_seed.cosine.order:.3f` with SFT, and with another initial $A$ as well, {number}`second_seed.cosine.seed:.3f`. Every statement that two of these losses differ, or do not, needs the first number beside it; the second is for adapters that do not share their $A$: [](../controls/second_seed). Adapters of your own enter the figures if you name them in `others`.
#
# ## How to read the figures, and how not to
#
# - **A high cosine between two methods is partly bought by what they share**: the initial $A$, the pool of rollouts, the first steps. Between two runs of *one* loss that share nothing but the data the paper finds 0.07 to 0.36.
# - **The cosine saturates.** 0.97 and 0.99 look alike and are not: the parts that are not shared are 24 % and 14 % of the length. [The orthogonal fraction](orthogonal_fraction) is the better scale near 1.
# - **A short delta has a direction, too.** DPO's learning rate is a tenth of the others'. Its direction after few small steps is that of its early gradients, and a low cosine may say "stopped early" as well as "went elsewhere". [](../controls/matched_rate) shows how much of this a lower learning rate can do to SFT.
# - **Do not average cosines over pairs**, and do not compare the cosine of one model with that of another whose matrices have other shapes: their chance levels differ.
#
# ## Exercise
#
# ```{exercise} The chance level by hand
# :label: ex-cosine-chance
#
# Two random vectors with $n$ independent entries have a cosine of about $\pm 1/\sqrt{n}$. A module of this run has $d_{\mathrm{out}} \times d_{\mathrm{in}}$ entries, yet the grey band of one module is much wider than $2/\sqrt{d_{\mathrm{out}} d_{\mathrm{in}}}$. Why? Find the number that belongs in the place of $n$, then check it with `chance_table` for several $r$.
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
# The cosine compares directions, weighted by where deltas are large. Read it with the norms (who moved at all), with the chance level of these shapes, and with the base in the picture.


# %% tags=["remove-cell"]
def pair_values(quantity: str, module: str) -> dict[str, float]:
    rows = table[(table["quantity"] == quantity) & (table["module"] == module)]
    return {f"{a}_{b}": v for a, b, v in zip(rows["a"], rows["b"], rows["value"], strict=True)}


interval = bootstrap_global_cosine(
    parts,
    draws=settings.null_draws * 5,
    confidence=this_run.profile.evaluation.confidence,
    seed=settings.seed,
)
pair_names = [f"{a}_{b}" for a, b in zip(interval["a"], interval["b"], strict=True)]
norms = everywhere.query("quantity == 'norm'")
dpo_modules = cosines[cosines["module"].isin(list(modules))]
dpo_modules = dpo_modules.query("a == 'sft' and b == 'dpo'")["value"]
this_run.record(
    "cosine",
    {
        **pair_values("cosine", "global"),
        "mean": pair_values("cosine", "mean"),
        "median": pair_values("cosine", "median"),
        "distance": pair_values("distance", "global"),
        "norm": dict(zip(norms["a"], norms["value"], strict=True)),
        "low": dict(zip(pair_names, interval["low"], strict=True)),
        "high": dict(zip(pair_names, interval["high"], strict=True)),
        "chance_low": chance.loc["global", "low"],
        "chance_high": chance.loc["global", "high"],
        "chance_module_low": by_module[0],
        "chance_module_high": by_module[1],
        "plane_share": plane_share,
        "single": {"low": float(dpo_modules.min()), "high": float(dpo_modules.max())},
        "modules": len(modules),
    },
)
