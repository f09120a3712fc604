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
# (geometry-orthogonal-fraction)=
# # Orthogonal fraction: how much of a delta is not SFT?
#
# **The answer.** Orthogonal to SFT's delta is a part that has {number}`orthogonal_fraction.direction.norm.rift:.0%` of the length of the whole for RIFT, {number}`orthogonal_fraction.direction.norm.rft:.0%` for RFT, {number}`orthogonal_fraction.direction.norm.offline_grpo:.0%` for Offline GRPO, {number}`orthogonal_fraction.direction.norm.dft:.0%` for DFT and {number}`orthogonal_fraction.direction.norm.dpo:.0%` for DPO, and {number}`orthogonal_fraction.direction.norm.reshuffled:.0%` for SFT on reshuffled rows.
#
# **What you will learn.** How to split a delta into a part that SFT explains and a part that it does not, why "67 % orthogonal" and "45 % orthogonal" can be one and the same delta, and how large that part is for SFT itself with its rows drawn anew.
#
# ## The question
#
# The paper says that two thirds of Offline GRPO's delta are orthogonal to SFT's, most of all in the last blocks (claim C5). Two thirds of *what*, and orthogonal to *what*: to the one direction in which SFT moved, or to all directions that SFT uses? And two thirds compared with what? [SFT (reshuffled)](../controls/reshuffled), the same loss with its rows drawn anew, has an orthogonal part, too. It is in every figure below, with hollow marks.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
others: str = ""  # further adapters of this run to compare, apart by commas: dpo-varied
reference: str = "sft"  # the adapter whose direction and subspace the others are split by
k: int | None = None  # dimension of the reference's subspace; None: the profile's value

# %% tags=["hide-input"]
import numpy as np

from finetune_geometry.deltas.adapters import BASE, adapter_from
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.figures import plots
from finetune_geometry.figures.geometry_plots import predictions, share_panels
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.geometry.prediction import orthogonal_fractions
from finetune_geometry.geometry.similarity import (
    chance_orthogonal_fraction,
    orthogonal_fraction_table,
)
from finetune_geometry.geometry.table_layout import versus
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run, {"geometry.k": k})
k = this_run.profile.geometry.k
ks = sorted({*this_run.profile.geometry.ks, k})
control = "sft-order"

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Orthogonal fraction
# :label: def-orthogonal-fraction
#
# Let $\Delta$ be a delta and $S \neq 0$ the reference's. Split $\Delta = c\,S + R$ with $c = \inner{\Delta}{S} / \norm{S}^2$, so that $R$ is orthogonal to $S$. The fractions of $\Delta$ orthogonal to the **direction** of $S$ are
#
# $$
# \begin{aligned}
# \frac{\norm{R}}{\norm{\Delta}} &= \sqrt{1 - \cos^2(\Delta, S)} \ \text{(norm)}, \\
# \frac{\norm{R}^2}{\norm{\Delta}^2} &= 1 - \cos^2(\Delta, S) \ \text{(energy)}.
# \end{aligned}
# $$ (eq-fraction)
#
# Orthogonal to the **subspace** of $S$ is what remains of $\Delta$ after projecting its outputs on the span of the $k$ leading left singular vectors of $S$: $\norm{\Delta - U_k U_k^\top \Delta} / \norm{\Delta}$, and its square.
# ```
#
# Globally all modules are stacked: $c$ is one number for the network, and energies are summed over modules. Per layer and per module, each has a $c$ of its own, so a layer's fraction can be smaller than the global one everywhere.
#
# Energies of orthogonal parts add up to one, norms do not. The code computes the residual $R$ itself: near cosine 1 the formula with the cosine has no digits left.
#
# ## A toy with a known answer
#
# Turn a delta away from the reference by a known angle $\varphi$. The orthogonal fraction of the norm is $\sin\varphi$, that of the energy $\sin^2\varphi$.

# %% mystnb={"figure": {"name": "fig-fraction-toy", "caption": "How do the orthogonal fractions grow with the angle? At 42 degrees (cosine 0.74) the same delta has 67 % of its norm and 45 % of its energy orthogonal to the reference. Lines are sine and squared sine, dots what the book's code measures on factors. Toy deltas, no training."}, "image": {"alt": "Two curves from 0 to 1 over the angle from 0 to 90 degrees: the sine rises early, the squared sine lies below it. Measured dots lie on the curves."}} tags=["hide-input"]
first = LowRankDelta([[1.0], [0.0], [0.0]], [[1.0, 0.0]])
second = LowRankDelta([[0.0], [1.0], [0.0]], [[0.0, 1.0]])
turns = np.append(np.linspace(5, 85, 9), 42.3)
fractions = {"norm": [], "energy": []}
for turn in np.radians(turns):
    turned = float(np.cos(turn)) * first + float(np.sin(turn)) * second
    pair = [adapter_from("sft", {"m": first}), adapter_from("other", {"m": turned})]
    measured = orthogonal_fraction_table(pair, ks=[1]).query("level == 'global'")
    measured = measured.set_index("quantity")["value"]
    for kind, values in fractions.items():
        values.append(measured[f"orthogonal_to_direction_{kind}"])
fine = np.linspace(0, 90, 91)
sine = np.sin(np.radians(fine))
plots.toy(
    {"norm": (fine, sine), "energy": (fine, sine**2)},
    {kind: (turns, values) for kind, values in fractions.items()},
    xlabel="angle to the reference (degrees)",
    ylabel="orthogonal fraction",
)
# %% [markdown]
# ## The six methods
#
# The base has nothing to split: its delta is zero, and a share of nothing is not defined. The table marks its row as undefined.

# %%
adapters = load_run(this_run, f"{control},{others}")
names = [a.name for a in adapters if a.name != BASE]
table = orthogonal_fraction_table(adapters, reference=reference, ks=ks)
this_run.write_table("geometry/orthogonal_fraction.csv", table)
split = versus(table, reference, among=names)
modules = {m: adapters[0].shapes[m] for m in adapters[0]}
chance = {side: chance_orthogonal_fraction(modules, k, side=side) for side in ("left", "right")}

# %% mystnb={"figure": {"name": "fig-fraction-global", "caption": "How much of each delta is not SFT? Shares orthogonal to SFT's direction (all modules stacked) and to the span of its {number}`orthogonal_fraction.k` leading output directions. SFT (reshuffled), one loss with its rows drawn anew: {number}`orthogonal_fraction.direction.norm.reshuffled:.0%` of the norm, {number}`orthogonal_fraction.direction.energy.reshuffled:.0%` of the energy orthogonal to the direction, {number}`orthogonal_fraction.subspace.norm.reshuffled:.0%` of the norm to the subspace. Offline GRPO: {number}`orthogonal_fraction.direction.norm.offline_grpo:.0%` of the norm, {number}`orthogonal_fraction.direction.energy.offline_grpo:.0%` of the energy orthogonal to the direction; to the subspace {number}`orthogonal_fraction.subspace.norm.offline_grpo:.0%` and {number}`orthogonal_fraction.subspace.energy.offline_grpo:.0%`. DFT: {number}`orthogonal_fraction.direction.norm.dft:.0%` of the norm orthogonal to the direction, DPO {number}`orthogonal_fraction.direction.norm.dpo:.0%`. Dashed: chance, if nothing but $A$ were shared. The base has no delta to split. An orthogonal part may be a method's own, or what other rows would have done as well; only a part clearly larger than that of SFT (reshuffled) speaks for the first."}, "image": {"alt": "Two panels, orthogonal to the direction and to the subspace of SFT: for each method and for SFT reshuffled the share of the norm as a dot and of the energy as a stroke, with a dashed chance line."}} tags=["hide-input"]
share_panels(
    split.query("level == 'global' and side in ['', 'left'] and k in [0, @k]"),
    {"orthogonal_to_direction": 1.0, "orthogonal_to_subspace": chance["left"]},
    titles={
        "orthogonal_to_direction": f"orthogonal to the direction of {label(reference)}",
        "orthogonal_to_subspace": f"orthogonal to its top-{k} output subspace",
    },
)
# %% [markdown]
# ### By depth
#
# The paper finds the rest of Offline GRPO concentrated in the last blocks: 0.55 of the norm in the middle, 0.79 to 0.86 in the last five.

# %% mystnb={"figure": {"name": "fig-fraction-depth", "caption": "In which layers does a method leave SFT's direction? Orthogonal fraction of the norm, the modules of a layer stacked and compared with SFT's delta in that layer. Offline GRPO has {number}`orthogonal_fraction.layers.first.offline_grpo:.2f` in the first layer, its highest, {number}`orthogonal_fraction.layers.highest:.2f`, in layer {number}`orthogonal_fraction.layers.highest_at`, and {number}`orthogonal_fraction.layers.last.offline_grpo:.2f` in the last; SFT (reshuffled), with hollow marks, has {number}`orthogonal_fraction.layers.first.reshuffled:.2f` and {number}`orthogonal_fraction.layers.last.reshuffled:.2f`. A rise that both have is no property of Offline GRPO. Dashed: chance. A large share in a layer with a small delta is a large share of little."}, "image": {"alt": "Fraction of the norm orthogonal to SFT's direction by layer, one line a method and one with hollow marks for SFT reshuffled, with a dashed line at one for chance."}} tags=["hide-input"]
plots.by_depth(
    split.query("level == 'layer' and quantity == 'orthogonal_to_direction_norm'"),
    name="other",
    ylabel="orthogonal fraction (norm), direction",
    ylim=(0, 1.04),
    chance=1.0,
    chance_label="chance",
)
# %% mystnb={"figure": {"name": "fig-fraction-subspace", "caption": "In which layers does a method write into outputs that SFT does not use? Fraction of the norm orthogonal to the span of SFT's {number}`orthogonal_fraction.k` leading left singular vectors. Dashed: chance for the shapes of this run, {number}`orthogonal_fraction.chance.left:.3f`. Hollow: SFT (reshuffled), {number}`orthogonal_fraction.subspace.norm.reshuffled:.2f` over all layers. A value near chance says that the method's outputs are unrelated to SFT's; the number of directions, k, decides how low a related method can go."}, "image": {"alt": "Fraction of the norm orthogonal to SFT's leading output subspace by layer, one line a method and one with hollow marks for SFT reshuffled, with a dashed chance line just below one."}} tags=["hide-input"]
plots.by_depth(
    split.query(
        "level == 'layer' and quantity == 'orthogonal_to_subspace_norm' and side == 'left' and k == @k"
    ),
    name="other",
    ylabel="orthogonal fraction (norm), subspace",
    ylim=(0, 1.04),
    chance=chance["left"],
    chance_label="chance",
)

# %% [markdown]
# ## The chance level and controls
#
# **Random $B$.** A random delta is orthogonal to SFT's *direction* with all but nothing of its norm: its cosine is within the chance band of [the cosine chapter](cosine), so the fraction is 1 to three digits. A random delta is orthogonal to a $k$-dimensional *subspace* of $\R^{d}$ with an energy of $1 - k/d$ on average, exactly. For this run's shapes and $k =$ {number}`orthogonal_fraction.k` the norm fraction by chance is {number}`orthogonal_fraction.chance.left:.3f` on the left. On the right, chance has no such meaning: all methods share the initial $A$, and the right-hand rows of the table can be low for that reason alone, as far as $A$ stayed where it started.
#
# **The same loss.** SFT (reshuffled) is orthogonal to SFT's direction with {number}`orthogonal_fraction.direction.norm.reshuffled:.0%` of its norm, Offline GRPO with {number}`orthogonal_fraction.direction.norm.offline_grpo:.0%`. Where these are about equal, "orthogonal to SFT" says of Offline GRPO what it says of SFT with its rows drawn anew, and nothing about its loss. Where Offline GRPO's part is clearly larger, it is more than other rows make; whether it is more than its weights on the shared rows ask for, the next figure tells. Neither number says whether such a part is noise or of use: an orthogonal part alone does not show that something new was learnt.
#
# **The shared rows.** [The cosine chapter](cosine) predicts cosines from the weights on the rollouts alone. Each predicted cosine $c$ is a predicted fraction $\sqrt{1 - c^2}$.

# %% mystnb={"figure": {"name": "fig-fraction-predicted", "caption": "How large an orthogonal part do the weights on the rollouts predict? Dots: fraction of the norm orthogonal to SFT's direction, with its interval over modules. Diamonds: predicted from how often, and with which weight, each rollout was seen. Triangles: the same with one common part, fitted on SFT (reshuffled). Dashed: chance, if nothing but $A$ were shared. Offline GRPO: {number}`orthogonal_fraction.predicted.offline_grpo:.2f` and {number}`orthogonal_fraction.predicted_common.offline_grpo:.2f` predicted, {number}`orthogonal_fraction.direction.norm.offline_grpo:.2f` trained; SFT (reshuffled): {number}`orthogonal_fraction.predicted.reshuffled:.2f` without the common part and {number}`orthogonal_fraction.direction.norm.reshuffled:.2f` trained. A part no larger than predicted needs no cause but the loss's weights; whether it changes answers is another question."}, "image": {"alt": "One row a method: a dot for the trained fraction of the norm orthogonal to SFT's direction, a diamond and a triangle for the two predictions, and a dashed chance line at one."}} tags=["hide-input"]
cosines = this_run.read_table("geometry/predicted_cosine.csv")
foreseen = orthogonal_fractions(versus(cosines, reference, among=names))
predictions(
    foreseen,
    1.0,
    xlabel=f"orthogonal fraction (norm), direction of {label(reference)}",
    names=[label(name) for name in foreseen["other"].unique()],
)
# %%
wide = foreseen.pivot_table(index="other", columns="quantity", values="value", sort=False)
words = {"trained": "trained", "predicted": "predicted", "predicted_common": "with a common part"}
show_table(
    wide[list(words)].rename(columns=words).reset_index(names="orthogonal fraction (norm)"),
    {"orthogonal fraction (norm)": label, **dict.fromkeys(words.values(), "{:.3f}")},
)

# %% [markdown]
# DFT has no row: its weights hang on the student's own probabilities, which are not known before the training. A trained fraction *below* its prediction means that the two deltas share more than the weights ask for, above it that they share less.
#
# **The floor of the subspace fraction.** It lies between 0 and 1, and is 0 only if a method uses none but SFT's $k$ directions. SFT itself is the natural floor: orthogonal to its own top-{number}`orthogonal_fraction.k` subspace it still has the energy of its remaining singular values.
#
# ## How to read the figures, and how not to
#
# - **Ask "norm or energy?"** The paper's 0.67 is a norm fraction. In energy it is 0.45. By the same formula its DFT is at 0.82 and its DPO at 0.998, although it singles out Offline GRPO.
# - **Orthogonal to SFT's direction is not orthogonal to what SFT does.** SFT with its rows drawn anew has a part orthogonal to SFT's direction, too. Put the fraction of SFT (reshuffled) beside every "orthogonal".
# - **The fraction is the cosine again.** Globally it carries no information beyond [the cosine](cosine); it only shows the range near 1 better. The subspace fraction and the profile over depth are new.
# - **Orthogonal is not different in effect.** A delta of ten times the length of SFT's with a tenth of its energy orthogonal moves further away than a short, fully orthogonal one. Multiply by the norm before you say "much".
# - **Orthogonal to SFT is not orthogonal to everything.** Two methods can each be 80 % orthogonal to SFT and be close to each other.
#
# ## Exercise
#
# ```{exercise} From one number to the other
# :label: ex-fraction
#
# *Code · ★ · 5 minutes*
#
# A paper reports cosines 0.977 (RFT), 0.74 (Offline GRPO), 0.572 (DFT) and 0.06 (DPO) with SFT. Compute the orthogonal fractions of norm and energy for each. For which method does the choice between the two change your impression most?
# ```
#
# ```{dropdown} Hint
# The share of the length is $\sqrt{1 - c^2}$, the share of the energy $1 - c^2$.
# ```
#
# ````{solution} ex-fraction
# :class: dropdown
#
# ```python
# for name, c in {"RFT": 0.977, "Offline GRPO": 0.74, "DFT": 0.572, "DPO": 0.06}.items():
#     print(name, (1 - c**2) ** 0.5, 1 - c**2)
# ```
#
# RFT 0.21 and 0.045; Offline GRPO 0.67 and 0.45; DFT 0.82 and 0.67; DPO 0.998 and 0.996. Most for RFT: "a fifth of the length is orthogonal to SFT" and "under five percent of the energy is orthogonal to SFT" are the same statement about two methods that the paper calls nearly collinear.
# ````
#
# ## Take-away
#
# Say norm or energy, direction or subspace, and say how large the part is for the same loss with its rows drawn anew. The orthogonal fraction shows what a cosine near 1 hides, and its profile over depth shows where two losses part.


# %% tags=["remove-cell"]
def of_each(quantity: str, level: str = "global", layer: int = -1, **more) -> dict[str, float]:
    rows = split[
        (split["quantity"] == quantity) & (split["level"] == level) & (split["layer"] == layer)
    ]
    for column, value in more.items():
        rows = rows[rows[column] == value]
    return by_name(rows)


def by_name(rows) -> dict[str, float]:
    return {
        "reshuffled" if name == control else name: float(value)
        for name, value in zip(rows["other"], rows["value"], strict=True)
    }


layers = sorted(set(split["layer"]) - {-1})
grpo = table.query(
    "a == 'offline_grpo' and level == 'layer' and quantity == 'orthogonal_to_direction_norm'"
)
grpo = grpo.set_index("layer")["value"]
this_run.record(
    "orthogonal_fraction",
    {
        "k": k,
        "direction": {
            kind: of_each(f"orthogonal_to_direction_{kind}") for kind in ("norm", "energy")
        },
        "subspace": {
            kind: of_each(f"orthogonal_to_subspace_{kind}", side="left", k=k)
            for kind in ("norm", "energy")
        },
        "layers": {
            "first": of_each("orthogonal_to_direction_norm", "layer", layers[0]),
            "last": of_each("orthogonal_to_direction_norm", "layer", layers[-1]),
            "highest": float(grpo.max()),
            "highest_at": int(grpo.idxmax()),
        },
        "chance": chance,
        **{
            name: dict.fromkeys(METHODS, float("nan")) | by_name(rows)
            for name, rows in foreseen.groupby("quantity")
            if name != "trained"
        },
    },
)
