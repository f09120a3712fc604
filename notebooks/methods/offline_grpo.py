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
# (method-offline-grpo)=
# # Offline GRPO: compare within the group
#
# **The answer.** Offline GRPO is SFT at {number}`profile.methods.offline_grpo.bias` of its weight, plus a contrast inside mixed groups. In {number}`offline_grpo.steps` steps its delta has grown to a norm of {number}`offline_grpo.norm:.3g`, with a cosine of {number}`cosine.sft_offline_grpo:.2f` with SFT's; SFT on reshuffled rows has {number}`cosine.sft_reshuffled:.2f`.
#
# **What you will learn.** What an advantage is, why groups without a contrast still train here, and why a part of the delta that is orthogonal to SFT need not come from the contrast.
#
# ## The idea
#
# GRPO compares the rollouts of one prompt with each other {cite}`shao2024deepseekmath`. Offline GRPO does so with a fixed pool {cite}`krafton2025offline`: a rollout is pulled at in proportion to its advantage, its reward minus the mean reward of its group, plus a small bias. There is no probability ratio, no clipping and no KL term in the paper's variant. A group that is all right has no contrast; only the bias is left, and it imitates as SFT does, ten times more weakly. An all-wrong group gets the same bias: wrong answers are imitated too.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
name: str = ""  # adapter folder; empty: the method's name, with "-varied" if a value below is set
variant: str | None = None  # definition of the objective: paper, krafton; None: the profile's
learning_rate: float | None = None  # peak learning rate; None: the profile's value
steps: int | None = None  # optimiser steps; None: the profile's value
seed: int | None = None  # of the order of the rows; None: the profile's value
bias: float | None = None  # added to every advantage; None: the profile's value
kl: float | None = None  # weight of the KL term of the variant krafton; None: the profile's value

# %% tags=["hide-input"]
import torch

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.deltas.depth import kind_of, layer_of
from finetune_geometry.figures.method_plots import adapter_norms, gradient_weights, training_curves
from finetune_geometry.figures.palette import set_style
from finetune_geometry.geometry.subspaces import entropy_rank
from finetune_geometry.methods import losses
from finetune_geometry.methods.trainers import token_loss
from finetune_geometry.methods.training import summarise, train
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.parameters import check_parameters

check_parameters(globals())
set_style()
method = "offline_grpo"
chosen = {
    "variant": variant,
    "learning_rate": learning_rate,
    "steps": steps,
    "seed": seed,
    "bias": bias,
    "kl": kl,
}
varied = any(value is not None for value in chosen.values())
name = name or (f"{method}-varied" if varied else method)
this_run = Run.open(
    profile, run, {f"methods.{method}.{key}": value for key, value in chosen.items()}
)
settings, training = this_run.profile.methods[method], this_run.profile.training_of(method)

# %% [markdown]
# ## The objective
#
# $$
# \begin{gathered}
# \mathcal{L}_{\text{GRPO}} = -\frac{1}{N} \sum_{y} A(y) \sum_{t} \log \pi_\theta(y_t \mid x, y_{<t}), \\
# A(y) = r(y) - \bar r_{\text{group}} + 0.1
# \end{gathered}
# $$ (eq-offline-grpo)
#
# The gradient weight is the advantage $A$. In this run {number}`rollouts.mixed:.1%` of the groups are mixed: only there can $A$ be negative. The variant `krafton` follows the primary source's code: weight $A\,\pi_\theta$, a KL term, and the bias in all-right groups only. That code also adds a small reward for entropy, which is left out here. {numref}`tab-weights` puts it beside the other five.
#
# In code it is one pure function of per-token log-probabilities:

# %% tags=["remove-stderr"]
import inspect

print(inspect.getsource(losses.offline_grpo))

# %% mystnb={"figure": {"name": "fig-offline-grpo-weight", "caption": "How hard does Offline GRPO pull at a token? Six times as hard in a mixed group (2 of 4 right) as in one without a contrast, and away from the wrong rollouts of a mixed group. The four advantages follow from the formula with K = 4 and bias 0.1. The figure shows the loss function, not the training."}, "image": {"alt": "Four flat lines: gradient weights of Offline GRPO at 0.6, 0.1, minus 0.4 and minus 0.65."}} tags=["hide-input"]
probability = torch.linspace(0.01, 0.99, 99)
kinds = {
    "right, 2 of 4 right": 0.6,
    "no contrast: all right or all wrong": 0.1,
    "wrong, 2 of 4 right": -0.4,
    "wrong, 3 of 4 right": -0.65,
}
curves = {}
for text, weight in kinds.items():
    log_probs = probability.log()[None].requires_grad_()
    mask = torch.ones_like(log_probs)
    loss = token_loss(method, settings)(log_probs, mask, torch.tensor([weight]), log_probs.detach)
    loss.sum().backward()
    curves[text] = -log_probs.grad[0]
gradient_weights(method, curves, probability, "probability of the token", "gradient weight")
# %% [markdown]
# ## Train
#
# The adapter starts from the initialisation that all six share (`lora_A` is compared by its hash, `lora_B` is zero), on the pool of rollouts that all six share. What this run uses:

# %% tags=["hide-output"]
card = train(this_run, method, name)

# %%
summarise(card)

# %% [markdown]
# ## Curves

# %% mystnb={"figure": {"name": "fig-offline-grpo-curves", "caption": "Does Offline GRPO train? A logged loss is the mean over {number}`profile.training.logging_steps` steps, each with a batch of its own: {number}`offline_grpo.first_loss:.3g` the first, {number}`offline_grpo.final_loss:.3g` the last, after {number}`offline_grpo.steps` steps. A fall shows that the training runs, not how much is gained. {number}`offline_grpo.clipped:.0%` of the logged gradient norms lie above the clipping threshold. A group without a contrast has weights of {number}`profile.methods.offline_grpo.bias`, which makes the loss small; {number}`rollouts.mixed:.0%` of the groups have a contrast. Losses of different objectives are in different units: do not compare them across chapters."}, "image": {"alt": "Two curves over training steps: the loss of Offline GRPO and its gradient norm with the clipping threshold."}} tags=["hide-input"]
training_curves(method, card, training.max_grad_norm)
# %% [markdown]
# ## What the adapter looks like
#
# The delta of one module is $\Delta W = \frac{\alpha}{r} B A$. Its Frobenius norm says how far the weights moved; its effective rank says in how many directions.

# %% mystnb={"figure": {"name": "fig-offline-grpo-norms", "caption": "Where does Offline GRPO change the model? The whole delta has norm {number}`offline_grpo.norm:.3g`, and the layer with the largest, its four matrices together, is layer {number}`offline_grpo.largest_layer`. The mean effective (entropy) rank of a module is {number}`offline_grpo.effective_rank:.2f`, of {number}`profile.lora.r` possible. A large norm says that weights moved, not that the movement matters for the answers."}, "image": {"alt": "Frobenius norm of the Offline GRPO delta by layer, one line for each of the four attention projections."}} tags=["hide-input"]
import pandas as pd

adapter = load_adapter(this_run.adapter_dir(name))
norms = pd.DataFrame(
    [
        {
            "layer": layer_of(module),
            "kind": kind_of(module),
            "norm": adapter[module].norm(),
            "rank": entropy_rank(adapter[module].svd()[1]),
        }
        for module in adapter
    ]
)
adapter_norms(method, norms)
# %% tags=["remove-cell"]
norm = float((norms["norm"] ** 2).sum() ** 0.5)
by_layer = (norms["norm"] ** 2).groupby(norms["layer"]).sum()
clipped = [value > training.max_grad_norm for _, value in card["gradient_norms"]]
this_run.record(
    name,
    {
        "rows": card["rows"],
        "epochs": card["epochs"],
        "steps": card["steps"],
        "learning_rate": card["learning_rate"],
        "first_loss": card["losses"][0][1],
        "final_loss": card["final_loss"],
        "distinct": card["distinct_rows_per_batch"],
        "padding": card["padding"],
        "clipped": sum(clipped) / len(clipped),
        "seconds": card["seconds"],
        "norm": norm,
        "largest_layer": int(by_layer.idxmax()),
        "effective_rank": float(norms["rank"].mean()),
    },
)

# %% [markdown]
# ## One thing to vary
#
# `bias`: at 0 only mixed groups train. Does the delta still point along SFT's? A varied run keeps its own adapter and leaves this one alone:
#
# ```
# papermill notebooks/methods/offline_grpo.ipynb out.ipynb -p bias 0.0
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-offline-grpo
#
# *Derivation · ★ · 5 minutes*
#
# With $K = 4$ and bias 0.1, list the advantages of right and wrong rollouts for 0, 1, 2, 3 and 4 right ones. What is the sum of a group's advantages?
# ```
#
# ```{dropdown} Hint
# Rewards minus their mean sum to zero.
# ```
#
# ````{solution} ex-offline-grpo
# :label: sol-offline-grpo
# :class: dropdown
#
# The sum is always $4 \cdot 0.1 = 0.4$. Advantages, right / wrong: 0 right: – / 0.1; 1 right: 0.85 / −0.15; 2 right: 0.6 / −0.4; 3 right: 0.35 / −0.65; 4 right: 0.1 / –.
# ````
#
# ## Take-away
#
# The share of mixed groups decides how much of this loss is a contrast. Report it with every number about the method, and before you ascribe the part orthogonal to SFT's direction to the contrast, look how far [another order of the rows](../controls/reshuffled) takes SFT from itself.
