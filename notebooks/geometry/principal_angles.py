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
# (geometry-principal-angles)=
# # Principal angles: do two losses use the same directions?
#
# **The answer.** On the output side the smallest of {number}`principal_angles.k` angles to SFT, in the median over modules, is {number}`principal_angles.left.smallest.sft_rift:.0f`° for RIFT, {number}`principal_angles.left.smallest.sft_rft:.0f`° for RFT, {number}`principal_angles.left.smallest.sft_offline_grpo:.0f`° for Offline GRPO, {number}`principal_angles.left.smallest.sft_dft:.0f`° for DFT and {number}`principal_angles.left.smallest.sft_dpo:.0f`° for DPO. SFT on reshuffled rows is at {number}`principal_angles.left.smallest.sft_reshuffled:.0f`°, chance at {number}`principal_angles.chance.left.smallest:.0f`°.
#
# **What you will learn.** How to compare *subspaces* instead of arrows, why a statement about "the angle" needs the side, the place in the list and $k$, and why 85 degrees can be plain chance.
#
# ## The question
#
# A delta can be strong in a few directions and weak in the rest. Two methods may use the same few directions with different strengths. Their cosine is then low and yet they act through the same channels. Principal angles ask about the channels and ignore the strengths. In the paper they separate the methods in the same order as the cosine (claim C2), and DPO is said to be "orthogonal" to the rest (claim C7). [SFT (reshuffled)](../controls/reshuffled), one loss with its rows drawn anew, is in every figure with hollow marks: it shows how far apart the channels of SFT and of SFT are.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
others: str = ""  # further adapters of this run to compare, apart by commas: dpo-varied
reference: str = "sft"  # the adapter that the figures compare with
k: int | None = None  # dimension of the subspaces; None: the profile's value
draws: int | None = None  # draws for the chance level; None: the profile's value

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.figures import plots
from finetune_geometry.figures.geometry_plots import angle_panels, by_k
from finetune_geometry.figures.palette import label, set_style
from finetune_geometry.geometry.nulls import chance_angles, chance_table, smallest_angle_limit
from finetune_geometry.geometry.subspaces import (
    principal_angle_table,
    principal_angles,
    spectrum_table,
)
from finetune_geometry.geometry.table_layout import versus
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run, {"geometry.k": k, "geometry.null_draws": draws})
settings = this_run.profile.geometry
k = settings.k
ks = sorted({*settings.ks, k})
control = "sft-order"

# %% [markdown]
# ## Definition
#
# ```{prf:definition} Principal angles
# :label: def-principal-angles
#
# Let $U_1$, $U_2$ be $d \times k$ matrices with orthonormal columns. The principal angles $0 \le \theta_1 \le \dots \le \theta_k \le 90°$ between their spans are given by the singular values of $U_1^\top U_2$, which are $\cos\theta_1 \ge \dots \ge \cos\theta_k$.
#
# Here the columns are the leading $k$ singular vectors of a delta $\Delta = \sum_i \sigma_i u_i v_i^\top$: the $u_i$ on the **left** side (which outputs change), the $v_i$ on the **right** side (which inputs cause the change).
# ```
#
# Three numbers of the list are reported: the smallest, the median and the largest angle. Per pair, side and $k$ there is one list for each module; averages are medians over modules. The angle between the two *leading* vectors $u_1$ is yet another number, and neither the smallest nor the largest of the $k$: its cosine is a quantity of its own in the table.
#
# ```{prf:remark} Small angles
# :label: rem-small-angles
#
# Near zero the cosine is flat, and a computer cannot tell $\cos 10^{-8}$ from 1. Below 45 degrees the code therefore takes the sine, from the singular values of the residual $U_2 - U_1 U_1^\top U_2$ {cite}`knyazev2002angles`. [The chapter on deltas](../ingredients/lora_delta) shows the difference.
# ```
#
# ## A toy with a known answer
#
# Two planes in space that share one line. One angle must be zero, the other is the angle at which the planes open.

# %% mystnb={"figure": {"name": "fig-angles-toy", "caption": "What are the two principal angles of two planes that share a line? One is zero however far the planes open, the other is the opening. Whoever reports the smallest angle alone calls these planes identical. Lines are the known answer, dots what the book's code measures. Toy subspaces, no training."}, "image": {"alt": "Measured dots on two lines: one at zero, one rising from 0 to 90 degrees with the opening of the planes."}} tags=["hide-input"]
openings = np.linspace(0, 90, 10)
found = []
for opening in np.radians(openings):
    first = np.eye(3)[:, :2]
    second = np.array([[1, 0], [0, np.cos(opening)], [0, np.sin(opening)]])
    found.append(np.degrees(principal_angles(first, second)))
smallest, largest = np.array(found).T
plots.toy(
    {"smallest": (openings, 0 * openings), "largest": (openings, openings)},
    {"smallest": (openings, smallest), "largest": (openings, largest)},
    xlabel="opening of the planes (degrees)",
    ylabel="principal angle (degrees)",
)
# %% [markdown]
# ## The six methods
#
# For every module and both sides, all pairs. The base's delta is zero and spans nothing, so the base has no angle with anyone: the table marks these rows as undefined, and the matrix hatches them. The same table holds the effective ranks, which are properties of one delta.

# %%
adapters = load_run(this_run, f"{control},{others}")
angles = principal_angle_table(adapters, ks=ks)
spectra = spectrum_table(adapters)
ranks = spectra.query("quantity != 'singular_value'").assign(side="both")
this_run.write_table("geometry/principal_angles.csv", pd.concat([angles, ranks]))
this_run.write_table("geometry/spectra.csv", spectra)
names = [a.name for a in adapters]
trained = [name for name in names if name != BASE]
modules = {m: adapters[0].shapes[m] for m in adapters[0]}
confidence = this_run.profile.evaluation.confidence
chance = chance_table(
    modules,
    ks,
    r=this_run.profile.lora.r,
    draws=settings.null_draws,
    seed=settings.seed,
    confidence=confidence,
)
this_run.write_table("geometry/chance_angles.csv", chance)
at_k = angles[angles["k"] == k]

# %% mystnb={"figure": {"name": "fig-angles-pairs", "caption": "How close do two methods' output directions come? Smallest left principal angle at k = {number}`principal_angles.k`, median over the {number}`principal_angles.modules` modules, in degrees. SFT and SFT (reshuffled), one loss with its rows drawn anew, have {number}`principal_angles.left.smallest.sft_reshuffled:.1f`, SFT and RFT {number}`principal_angles.left.smallest.sft_rft:.1f`, SFT and Offline GRPO {number}`principal_angles.left.smallest.sft_offline_grpo:.1f`, SFT and DPO {number}`principal_angles.left.smallest.sft_dpo:.1f`. Chance for this median, if no output direction were shared, is {number}`principal_angles.chance.left.smallest_low:.1f` to {number}`principal_angles.chance.left.smallest_high:.1f` degrees. Small means that the two share at least one output direction, not that they share all."}, "image": {"alt": "Lower-triangle matrix of smallest left principal angles between the six methods and SFT reshuffled, with a hatched row for the base."}} tags=["hide-input"]
plots.pair_heatmap(
    at_k.query("quantity == 'angle_smallest' and side == 'left' and level == 'median'"),
    title=f"Smallest left principal angle, k = {k}",
    names=names,
    fmt=".1f",
    cmap="viridis_r",
    vmin=0,
    vmax=90,
    colorbar_label="degrees",
)
# %% mystnb={"figure": {"name": "fig-angles-sides", "caption": "Are outputs and inputs shared alike? Smallest, median and largest of the k = {number}`principal_angles.k` angles with SFT (median over modules), on the left and on the right; hollow: SFT (reshuffled), whose smallest left angle is {number}`principal_angles.left.smallest.sft_reshuffled:.1f` degrees and whose largest is {number}`principal_angles.left.largest.sft_reshuffled:.1f`. Grey, from left to right: chance for smallest, median and largest with one shared A. Grey on the right is chance if A had not moved at all. A right-side angle above it shows that A did move (smallest, SFT and DPO: {number}`principal_angles.right.smallest.sft_dpo:.1f` against {number}`principal_angles.chance.right.smallest:.1f` degrees); one inside or below it may be bought by the initialisation. On the left the largest angle is {number}`principal_angles.chance.left.largest:.1f` degrees by chance, and can show likeness, not unlikeness."}, "image": {"alt": "Two panels, left and right singular vectors: for each method, and hollow for SFT reshuffled, three marks for smallest, median and largest angle with SFT, with grey chance intervals."}} tags=["hide-input"]
compared = versus(at_k[at_k["quantity"].str.startswith("angle_")], reference, among=trained)
angle_panels(
    compared.query("level == 'median'"),
    chance[(chance["level"] == "median") & (chance["k"] == k)],
    title=f"Angles with {label(reference)}, k = {k}",
)
# %% mystnb={"figure": {"name": "fig-angles-depth", "caption": "Do methods part in particular layers? Smallest left angle with SFT at k = {number}`principal_angles.k`: the median of the modules of a layer. The grey band is chance for a single module. The line with hollow marks is SFT (reshuffled), {number}`principal_angles.left.smallest.sft_reshuffled:.1f` degrees over all modules: a method below it is closer to SFT than SFT with its rows drawn anew. A median of several modules scatters less than one module, so the band is a little wide for it. Inside it a method cannot be told from one that shares no output direction with SFT."}, "image": {"alt": "Smallest left angle with SFT by layer, one line a method and one with hollow marks for SFT reshuffled, and a grey chance band."}} tags=["hide-input"]
single = chance.query(
    "level == 'module' and side == 'left' and k == @k and quantity == 'angle_smallest'"
)
left = compared.query("side == 'left' and quantity == 'angle_smallest'")
plots.by_depth(
    left.query("level == 'module'"),
    name="other",
    ylabel="smallest left angle (degrees)",
    ylim=(0, 92),
    chance=(float(single["low"].iloc[0]), float(single["high"].iloc[0])),
    chance_label="chance, one module",
)
# %% [markdown]
# ```{explorable} depth
# ```
#
# ### Does $k$ matter?
#
# The larger the subspaces, the likelier they meet somewhere: the smallest angle falls with $k$ by itself. So does its chance level.

# %% mystnb={"figure": {"name": "fig-angles-k", "caption": "Does the order of the methods depend on k? Smallest left angle with SFT (median over modules) against the dimension k of the subspaces; grey crosses: chance for the same k; hollow: SFT (reshuffled), at {number}`principal_angles.left.smallest.sft_reshuffled:.1f` degrees for k = {number}`principal_angles.k`. Angles at different k cannot be compared with each other, only each with its own chance level."}, "image": {"alt": "Smallest left angle with SFT against k, one line a method, one with hollow marks for SFT reshuffled, and the chance level."}} tags=["hide-input"]
every_k = versus(
    angles.query("quantity == 'angle_smallest' and side == 'left' and level == 'median'"),
    reference,
    among=trained,
)
by_k(
    every_k,
    chance.query("level == 'median' and side == 'left' and quantity == 'angle_smallest'"),
    ylabel="smallest left angle (degrees)",
)
# %% [markdown]
# ### How many directions does a delta use?
#
# Two definitions of effective rank are in use. The **entropy rank** is $\exp\big(-\sum_i p_i \log p_i\big)$ with $p_i = \sigma_i / \sum_j \sigma_j$ {cite}`roy2007effective`; the **stable rank** is $\sum_i \sigma_i^2 / \sigma_1^2$. Both are $r$ for a flat spectrum and 1 for a single direction; the stable rank is the stricter one. The paper does not say which it uses (claim C13); the book judges by the entropy rank.

# %% mystnb={"figure": {"name": "fig-angles-rank", "caption": "How many directions does each delta use? Entropy rank of every module, of {number}`profile.lora.r` possible; bars are medians. Means: SFT {number}`principal_angles.entropy_rank.sft:.2f`, Offline GRPO {number}`principal_angles.entropy_rank.offline_grpo:.2f`, DPO {number}`principal_angles.entropy_rank.dpo:.2f`, SFT (reshuffled) {number}`principal_angles.entropy_rank.reshuffled:.2f`. By stable rank: {number}`principal_angles.stable_rank.sft:.2f`, {number}`principal_angles.stable_rank.offline_grpo:.2f`, {number}`principal_angles.stable_rank.dpo:.2f`. A high rank can mean rich learning or mere noise, which spreads over many directions, too."}, "image": {"alt": "Strips of dots, one dot a module and one strip a method: the entropy rank of the delta."}} tags=["hide-input"]
own = spectra.query("level == 'module' and quantity == 'entropy_rank'")
plots.strips(own, name="a", xlabel="entropy rank")

# %% [markdown]
# ## The chance level and controls
#
# **Random $B$.** The null: two adapters with the shapes and rank of this run's, independent random $B$, one shared random $A$. For each module shape {number}`profile.geometry.null_draws` pairs are drawn, exactly and in the compressed frame. On the left, where nothing is shared, the smallest of the $k$ angles is {number}`principal_angles.chance.left.smallest:.1f` degrees (median over modules), the largest {number}`principal_angles.chance.left.largest:.1f`. On the right, with one $A$ that does not move, they are {number}`principal_angles.chance.right.smallest:.1f` and {number}`principal_angles.chance.right.largest:.1f`: by their smallest angle two unrelated trainings can look alike there. At $k = r$ every right-side angle would be zero if $A$ did not move at all.
#
# A check in closed form: for large $d$ at fixed $k/d$ the smallest angle of random subspaces tends to $\arccos 2\sqrt{q(1-q)}$ with $q = k/d$. For the widest output of this run that gives {number}`principal_angles.limit:.1f` degrees; finite $d$ comes out a little larger.
#
# **The same loss.** Losses that read the same rows can be expected to share more than random $B$ does. SFT (reshuffled) has drawn its rows anew and shows what one loss shares with itself: {number}`principal_angles.left.smallest.sft_reshuffled:.1f` degrees from SFT for the smallest left angle, {number}`principal_angles.left.median.sft_reshuffled:.1f` for the median one and {number}`principal_angles.left.largest.sft_reshuffled:.1f` for the largest, against {number}`principal_angles.left.smallest.sft_offline_grpo:.1f`, {number}`principal_angles.left.median.sft_offline_grpo:.1f` and {number}`principal_angles.left.largest.sft_offline_grpo:.1f` for Offline GRPO. A method at these angles uses channels that are no more its own than those of SFT with its rows drawn anew.
#
# For the paper's shapes and $k = 10$ chance is 80 to 85 degrees for the smallest angle and above 89 for the largest. So of its SFT–DPO pair the smallest angle, 54.6, is far *below* chance, and the largest is chance: the two subspaces are mostly unrelated and share something. "Orthogonal" overstates it.
#
# ## How to read the figures, and how not to
#
# - **Name the angle.** Smallest, median, largest and the angle of the leading vectors answer different questions. The smallest of ten is small as soon as *one* direction is shared.
# - **Name the side.** Right-side angles of adapters with one initial $A$ can be small at cosine zero. How small depends on how far $A$ moved: in this run the $A$ of SFT and of DPO end {number}`principal_angles.a_apart.sft_dpo:.2f` of its length apart.
# - **Angles ignore strength.** A direction that holds a thousandth of the energy counts as much as the leading one, once it is among the $k$. If two singular values are nearly equal at the cut, the top-$k$ subspace itself is uncertain.
# - **Never print an angle without its chance level.** It depends on $d$ and $k$, so it differs between models and between modules of one model.
#
# ## Exercise
#
# ```{exercise} How small is small?
# :label: ex-angles
#
# *Code · ★★ · 10 minutes*
#
# Someone compares two adapters of a model with $d = 1{,}024$ and reports: "smallest of ten principal angles: 80°. The methods are almost orthogonal." Someone else, with $d = 64$ and $k = 10$, reports 45° and concludes that the methods are alike. Use `chance_angles(d, k, draws=200, seed=0)` from `finetune_geometry.geometry.nulls` on both.
# ```
#
# ```{dropdown} Hint
# The function returns radians: one row for each draw, the smallest angle first.
# ```
#
# ````{solution} ex-angles
# :class: dropdown
#
# Both have measured chance.
#
# ```python
# from finetune_geometry.geometry.nulls import chance_angles
# for d in (1024, 64):
#     smallest = np.degrees(chance_angles(d, 10, draws=200, seed=0)[:, 0])
#     print(d, np.quantile(smallest, [0.025, 0.5, 0.975]))
# ```
#
# By chance the smallest of the ten is {number}`principal_angles.exercise.wide.value:.0f` degrees in the first case ({number}`principal_angles.exercise.wide.low:.0f` to {number}`principal_angles.exercise.wide.high:.0f` in 95 % of draws) and {number}`principal_angles.exercise.narrow.value:.0f` in the second ({number}`principal_angles.exercise.narrow.low:.0f` to {number}`principal_angles.exercise.narrow.high:.0f`). The first conclusion happens to be right for a wrong reason (*nothing* is shared, "almost" has no basis); the second is wrong, for 45 degrees is what two unrelated subspaces of that size have.
# ````
#
# ## Take-away
#
# Principal angles ask whether two trainings use the same directions, whatever their strengths. Give the side, the place in the list, $k$, the chance level and the angle of one loss with itself, or give no angle at all.


# %% tags=["remove-cell"]
def chance_at(side: str, quantity: str, column: str = "value") -> float:
    rows = chance.query("level == 'median' and side == @side and k == @k and quantity == @quantity")
    return float(rows[column].iloc[0]) if len(rows) else float("nan")


def key(*names: str) -> str:
    return "_".join(names).replace(control, "reshuffled")


def pair_values(side: str, quantity: str, level: str = "median", k: int = k) -> dict[str, float]:
    rows = angles.query("side == @side and quantity == @quantity and level == @level and k == @k")
    return {key(a, b): v for a, b, v in zip(rows["a"], rows["b"], rows["value"], strict=True)}


def of_each(quantity: str) -> dict[str, float]:
    rows = ranks[(ranks["quantity"] == quantity) & (ranks["level"] == "mean")]
    return {key(name): v for name, v in zip(rows["a"], rows["value"], strict=True)}


def exercise(d: int) -> dict[str, float]:
    """Chance of the smallest of ten angles in d dimensions, as the exercise asks for it."""
    angles = np.degrees(chance_angles(d, 10, draws=200, seed=0)[:, 0])
    low, value, high = np.quantile(angles, [0.025, 0.5, 0.975])
    return {"low": low, "value": value, "high": high}


def factor_distance(name: str) -> float:
    """How far the A of SFT and of another adapter are apart, over the length of SFT's."""
    one, two = (next(a for a in adapters if a.name == n) for n in ("sft", name))
    apart = sum(np.sum((one[m].A - two[m].A) ** 2) for m in modules)
    return float(np.sqrt(apart / sum(np.sum(one[m].A ** 2) for m in modules)))


widest = max(d_out for d_out, _ in modules.values())
this_run.record(
    "principal_angles",
    {
        "k": k,
        "modules": len(modules),
        **{
            side: {
                **{q: pair_values(side, f"angle_{q}") for q in ("smallest", "median", "largest")},
                "leading": pair_values(side, "leading_vector_cosine", "mean", 1),
            }
            for side in ("left", "right")
        },
        "chance": {
            side: {
                "smallest": chance_at(side, "angle_smallest"),
                "smallest_low": chance_at(side, "angle_smallest", "low"),
                "smallest_high": chance_at(side, "angle_smallest", "high"),
                "median": chance_at(side, "angle_median"),
                "largest": chance_at(side, "angle_largest"),
            }
            for side in ("left", "right")
        },
        "a_apart": {f"sft_{name}": factor_distance(name) for name in METHODS if name != "sft"},
        "exercise": {"wide": exercise(1024), "narrow": exercise(64)},
        "limit": float(np.degrees(smallest_angle_limit(widest, k))),
        "entropy_rank": of_each("entropy_rank"),
        "stable_rank": of_each("stable_rank"),
    },
)
