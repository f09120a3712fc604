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
# (ingredients-lora-delta)=
# # The delta as an object
#
# **The answer.** Only the product $BA$ may be compared: one and the same delta can be written with two matrices $A$ that have a cosine of {number}`lora_delta.gauge.raw_a:.2f` with each other.
#
# **What you will learn.** What exactly is compared in the geometry chapters, and four ways to get it wrong: comparing raw factors, mixing factors, forgetting what a shared initialisation buys, and trusting a cosine near 1.
#
# ## The question
#
# LoRA {cite}`hu2022lora` does not store the change of a weight matrix. It stores two thin factors whose product is the change:
#
# $$
# \Delta W = \frac{\alpha}{r}\, B A, \qquad B \in \R^{d_{\mathrm{out}} \times r},\quad A \in \R^{r \times d_{\mathrm{in}}} .
# $$ (eq-lora-delta)
#
# Two adapters, two pairs of factors. What may be compared: the factors, or only their product?
#
# This chapter needs no trained model. Everything that it computes is a toy with a known answer; two numbers of trained adapters are quoted from later chapters.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
d: int = 192  # width of the toy matrices
r: int | None = None  # rank; None: the profile's value
draws: int = 50  # random draws behind each dot
seed: int = 0  # of the random toys

# %% tags=["hide-input"]
import numpy as np

from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.figures import plots
from finetune_geometry.figures.palette import set_style
from finetune_geometry.geometry.cores import compress
from finetune_geometry.geometry.nulls import random_lora_pair, same_gradient_cosine
from finetune_geometry.geometry.subspaces import principal_angles
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
this_run = Run.open(profile, run, {"lora.r": r})
r = this_run.profile.lora.r
rng = np.random.default_rng(seed)


def cosine(one: LowRankDelta, two: LowRankDelta) -> float:
    return one.inner(two) / (one.norm() * two.norm())


def flat_cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y))


# %% [markdown]
# ## Definition
#
# ```{prf:definition} Delta
# :label: def-delta
#
# The **delta** of a module is its weight after training minus before. The **base** is the delta 0. A **module** is one weight matrix; an **adapter** is the list of deltas of all modules that were trained. With LoRA the delta is {eq}`eq-lora-delta`, of rank at most $r$; with full fine-tuning it is a full matrix.
# ```
#
# The book's code keeps a delta as its factors and offers the arithmetic of matrices on them:

# %%
one = LowRankDelta(rng.standard_normal((d, r)), rng.standard_normal((r, d)), scale=2.0)
two = LowRankDelta(rng.standard_normal((d, r)), rng.standard_normal((r, d)), scale=2.0)
middle = 0.5 * one + 0.5 * two
print(f"shape {middle.shape}, at most rank {middle.r}")
print(f"norms {one.norm():.1f}, {two.norm():.1f}, their midpoint {middle.norm():.1f}")
print(f"cosine {cosine(one, two):+.4f}, leading singular value {one.svd()[1][0]:.1f}")

# %% [markdown]
# ## Trap 1: raw factors
#
# ```{prf:proposition} Gauge freedom
# :label: prop-gauge
#
# For every invertible $r \times r$ matrix $G$ the factors $BG$ and $G^{-1}A$ have the same product as $B$ and $A$. If $\Delta W$ has rank $r$, these are all pairs of factors with that product.
# ```
#
# ````{prf:proof}
# $BG\,G^{-1}A = BA$. For the second part let $B'A' = BA$ have rank $r$. Then $B$ and $B'$ have the same column space and full column rank, so $B' = BG$ for an invertible $G$, and $BGA' = BA$ gives $GA' = A$, as $B$ has full column rank.
# ````
#
# So a model cannot know which factors it was given, and a measure that changes with $G$ measures nothing about the model. Take one adapter, and rewrite it with $G$ a rotation by a growing angle.

# %% mystnb={"figure": {"name": "fig-delta-gauge", "caption": "Does a measure notice when nothing has changed? One delta, its factors rewritten by a rotation G that turns pairs of rank directions by the angle on the axis. The cosine of the raw A with the rewritten A, and of the raw B with the rewritten B, fall to {number}`lora_delta.gauge.raw_a:.2f` at 180 degrees; the cosine of the deltas stays at 1. At {number}`lora_delta.gauge.zero_at:.0f` degrees identical adapters look orthogonal to whoever compares raw factors. Toy with known answer: 1."}, "image": {"alt": "Against the angle of the rotation, the cosine of raw A and of raw B falls along a cosine curve from 1 to its minimum, while the cosine of the deltas is a flat line at 1."}} tags=["hide-input"]
turns = np.linspace(0, 180, 13)
found = {"delta": [], "raw A": [], "raw B": []}
for turn in np.radians(turns):
    g = np.eye(r)
    for i in range(0, r - 1, 2):
        g[i : i + 2, i : i + 2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    rewritten = LowRankDelta(one.B @ g, g.T @ one.A, one.scale)
    found["delta"].append(cosine(one, rewritten))
    found["raw A"].append(flat_cosine(one.A, rewritten.A))
    found["raw B"].append(flat_cosine(one.B, rewritten.B))
plots.toy(
    {"delta": (turns, np.ones_like(turns))},
    {name: (turns, values) for name, values in found.items()},
    xlabel="angle of the rotation G (degrees)",
    ylabel="cosine of before and after",
)
# %% [markdown]
# ## Trap 2: mixing factors
#
# To walk from one model to another, mix the deltas: $(1 - t)\,\Delta_1 + t\,\Delta_2$. Mixing $B$ with $B$ and $A$ with $A$ gives something else, because the product of two sums has cross terms:
#
# $$
# (1-t)^2 B_1A_1 + t^2 B_2A_2 + t(1-t)(B_1A_2 + B_2A_1) .
# $$
#
# PEFT does just that when it combines adapters with the type `linear` {cite}`peft`.

# %% mystnb={"figure": {"name": "fig-delta-mixing", "caption": "What goes wrong when factors are mixed instead of deltas? Distance of the mixed factors' product from the true mix, relative to its norm, for two unrelated adapters and for two that share A. With one shared A mixing factors is exact; without, the error at the midpoint is {number}`lora_delta.mixing.midpoint:.0%` of the result. Mixing deltas, as this book does, has no error. Toys, no training."}, "image": {"alt": "Relative error of mixing factors against the mixing weight: zero at both ends, largest in the middle for unrelated adapters, and zero throughout for adapters that share A."}} tags=["hide-input"]
shared = LowRankDelta(two.B, one.A, two.scale)
weights = np.linspace(0, 1, 13)
errors = {"unrelated": [], "shared A": []}
for name, other in (("unrelated", two), ("shared A", shared)):
    for t in map(float, weights):
        exact = (1 - t) * one + t * other
        wrong = LowRankDelta(
            (1 - t) * one.B + t * other.B, (1 - t) * one.A + t * other.A, one.scale
        )
        errors[name].append((wrong - exact).norm() / exact.norm())
plots.toy(
    {"shared A": (weights, np.zeros_like(weights))},
    {name: (weights, values) for name, values in errors.items()},
    xlabel="weight t of the second adapter",
    ylabel="relative error",
)
# %% [markdown]
# ## Trap 3: what the shared initialisation buys
#
# LoRA starts with $B = 0$ and a random $A$. All six adapters of this book start from the *same* $A$. Training turns it: in this run the $A$ of SFT and that of DPO end {number}`principal_angles.a_apart.sft_dpo:.2f` of its length apart. The shared start is a necessity and a confound.
#
# **A necessity.** At $B = 0$ the gradient with respect to $B$ is $g A^\top$, where $g$ is the gradient of the full weight. One plain gradient step thus moves the weight along $g A^\top A$: the part of $g$ that $A$ lets through. With two independent $A$ the *same* $g$ comes out as two nearly orthogonal deltas. Their cosine is about $r/(d_{\mathrm{in}} + r)$, which is $r/d_{\mathrm{in}}$ where the rank is small.

# %% mystnb={"figure": {"name": "fig-delta-floor", "caption": "How alike are two LoRA updates by the same gradient, if their A were drawn independently? About as alike as r over d: the line is r/(d + r), dots are means of {number}`lora_delta.floor.draws` simulated first steps. At the book's size (d = {number}`lora_delta.floor.d`, r = {number}`lora_delta.floor.r`) the simulation gives {number}`lora_delta.floor.here:.3f`, at the paper's (d = 2560, r = 32) {number}`lora_delta.floor.paper:.4f`. With one shared A the cosine is 1 by construction. A first gradient step only: later steps and Adam change the numbers, not the reason."}, "image": {"alt": "Log-log plot of the cosine against r/d: simulated dots lie along the line r/(d + r), from about 0.01 up to 0.25."}} tags=["hide-input"]
cases = [(2560, 32), (2560, 64), (1024, 32), (512, 32), (192, 8), (192, 16), (192, 32), (96, 32)]
share = np.array([rank / width for width, rank in cases])
means = [same_gradient_cosine(w, rank, draws=draws, seed=seed).mean() for w, rank in cases]
line = np.linspace(share.min(), share.max(), 50)
plots.toy(
    {"r / (d + r)": (line, line / (1 + line))},
    {"independent A": (share, means)},
    xlabel="r / d",
    ylabel="cosine of the two updates",
    logx=True,
    logy=True,
)
# %% [markdown]
# So without a shared start, cosines between losses are hard to read: after one step this floor is what the *same* loss would score, and longer training, which turns $A$, can move it by an amount that has to be measured: in this run two trainings of SFT with an $A$ and an order of rows each have {number}`second_seed.cosine.seed:.2f` ([](../controls/second_seed)). (The left singular vectors survive: $g A_1^\top A_1$ and $g A_2^\top A_2$ write into the same outputs. Compare left subspaces across seeds.)
#
# **A confound.** With a shared $A$ two *unrelated* updates agree on the right-hand side as long as $A$ has hardly turned, because both can only read the $r$ input directions that $A$ offers. How little of a LoRA's learning needs to be in $A$ is known: a random $A$ that is never trained does nearly as well as a trained one, and training $B$ alone beats training $A$ alone {cite}`zhu2024asymmetry`. What $B$ does, on the output side, is what a loss can put its mark on.

# %% mystnb={"figure": {"name": "fig-delta-sides", "caption": "How alike do two unrelated adapters look on either side? Smallest principal angle of random deltas with one shared A, against k, the number of leading singular vectors; means over {number}`lora_delta.floor.draws` draws at d = {number}`lora_delta.floor.d`. Nothing is shared on the left, so what is seen there is chance: {number}`lora_delta.sides.left_half:.0f` degrees at k = r/2. On the right the angle is there already {number}`lora_delta.sides.right_half:.0f` degrees at k = r/2, and zero for every larger k. Nothing was learned here by anyone."}, "image": {"alt": "Smallest angle against k: the left side stays high, the right side falls to zero at half the rank."}} tags=["hide-input"]
ks = np.arange(1, r + 1)
sums = {"left": np.zeros(r), "right": np.zeros(r)}
for _ in range(draws):
    first, second = random_lora_pair((d, d), r, rng, shared_a=True)
    frame = compress("toy", ("first", "second"), (first, second))
    for side, total in sums.items():
        for i, k in enumerate(ks):
            bases = (frame.basis(which, side, int(k)) for which in (0, 1))
            total[i] += np.degrees(principal_angles(*bases)[0]) / draws
plots.toy(
    {},
    {side: (ks, total) for side, total in sums.items()},
    xlabel="k",
    ylabel="smallest angle (degrees)",
)
# %% [markdown]
# ## Trap 4: small angles
#
# Two methods may be very close. How small an angle can be measured? The obvious way, $\theta = \arccos(\text{cosine})$, loses it: near zero the cosine is $1 - \theta^2/2$, and the computer rounds. The sine of the angle, taken from the residual, keeps all digits {cite}`knyazev2002angles`.

# %% mystnb={"figure": {"name": "fig-delta-small", "caption": "Which formula still sees a small angle? Relative error (median of nine tries) of the angle between two vectors of {number}`lora_delta.floor.d` entries, built at the angle on the axis. In single precision the arccos is useless below some ten-thousandths of a radian, in double precision below a hundred-millionth. The error of the sine form used in this book stays below a hundred-millionth throughout. An error of 1 means that the angle came back as zero."}, "image": {"alt": "Log-log plot of relative error against the true angle: the arccos in single precision is worst, the arccos in double precision next, the sine form in double precision lowest throughout."}} tags=["hide-input"]
true = np.logspace(-9, 0, 28)
frames = [np.linalg.qr(rng.standard_normal((d, 2)))[0] for _ in range(9)]
methods = {"arccos, single precision": [], "arccos, double precision": [], "sine form": []}
for angle in true:
    errors_of = {name: [] for name in methods}
    for frame in frames:
        u, v = frame[:, :1], np.cos(angle) * frame[:, :1] + np.sin(angle) * frame[:, 1:]
        single = float(np.sum(u.astype(np.float32) * v.astype(np.float32), dtype=np.float32))
        for name, value in (
            ("arccos, single precision", np.arccos(min(single, 1.0))),
            ("arccos, double precision", np.arccos(min(float(np.sum(u * v)), 1.0))),
            ("sine form", principal_angles(u, v)[0]),
        ):
            errors_of[name].append(abs(value - angle) / angle)
    for name, values in methods.items():
        # What is exact to the last bit has no place on a logarithmic axis: shown at 1e-17.
        values.append(max(float(np.median(errors_of[name])), 1e-17))
plots.toy(
    {},
    {name: (true, values) for name, values in methods.items()},
    xlabel="true angle (radians)",
    ylabel="relative error",
    logx=True,
    logy=True,
)
# %% [markdown]
# ## How the code does it
#
# Comparing $M$ adapters in one module does not need the $d_{\mathrm{out}} \times d_{\mathrm{in}}$ matrices. Stack the factors of all adapters side by side, $[B_1 \dots B_M] = Q R$ with orthonormal $Q$. All deltas then live in the span of the same $Q$ on the left, and of another on the right, and in these coordinates each is a small matrix. Inner products, norms, singular values and angles do not change under a rotation of the coordinates, so they can be read off the small matrices: exactly, and in double precision (`cores.compress`). How much time it saves is measured by `tests/benchmarks/test_geometry_speed.py`.
#
# ## Exercise
#
# ```{exercise} A gauge of your own
# :label: ex-gauge
#
# *Concept · ★★ · 15 minutes*
#
# Which of these change when one adapter's factors are rewritten by $G$: (a) $\norm{A}$, (b) $\norm{BA}$, (c) the singular values of $B$, (d) the column space of $B$, (e) the leading left singular vector of $BA$, (f) the cosine of $B_1$ and $B_2$ for two adapters with *identical* $A$? Try $G$ = `np.diag(np.logspace(-2, 2, r))` in this notebook.
# ```
#
# ```{dropdown} Hint
# What depends on the product alone cannot change.
# ```
#
# ````{solution} ex-gauge
# :class: dropdown
#
# (a) and (c) change. (b) and (e) depend on the product alone and do not. (d) does not change either: $BG$ has the same columns' span, if the delta has full rank $r$. It is the span of the left singular vectors, all $r$ of them; the leading $k < r$ cannot be read off $B$. (f) changes if only one of the two is rewritten; but then their $A$ are not identical any more. With $A$ fixed and shared by both there is no freedom left, and comparing the $B$ is comparing the deltas, seen through $A$.
#
# ```python
# g = np.diag(np.logspace(-2, 2, r))
# moved = LowRankDelta(one.B @ g, np.linalg.inv(g) @ one.A, one.scale)
# print(np.linalg.norm(one.A), np.linalg.norm(moved.A))
# print(one.norm(), moved.norm())
# print(abs(one.svd()[0][:, 0] @ moved.svd()[0][:, 0]))
# ```
# ````
#
# ## Take-away
#
# The delta is the product, not the factors. Compare and mix products. A shared initial $A$ makes cosines comparable and right-side angles small at first; how much of that is left depends on how far $A$ has moved. Small angles need the sine.

# %% tags=["remove-cell"]
raw = np.array(found["raw A"])
crossing = np.interp(0.0, -raw, turns) if raw.min() < 0 else float("nan")
this_run.record(
    "lora_delta",
    {
        "gauge": {"raw_a": raw[-1], "raw_b": found["raw B"][-1], "zero_at": crossing},
        "mixing": {"midpoint": errors["unrelated"][len(weights) // 2]},
        "floor": {
            "d": d,
            "r": r,
            "draws": draws,
            "here": same_gradient_cosine(d, r, draws=draws, seed=seed).mean(),
            "paper": means[0],
        },
        "sides": {"right_half": sums["right"][r // 2 - 1], "left_half": sums["left"][r // 2 - 1]},
    },
)
