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
# (method-sft)=
# # SFT: imitate everything
#
# **The answer.** SFT makes every token of the pool more likely, right or wrong. In {number}`sft.steps` steps its delta has grown to a norm of {number}`sft.norm:.3g`; trained again on reshuffled rows, SFT has a cosine of {number}`cosine.sft_reshuffled:.2f` with itself.
#
# **What you will learn.** What the plainest of the six objectives does, why wrong rollouts are in its data, and how to read the three figures that every chapter of this part shows.
#
# ## The idea
#
# Supervised fine-tuning makes every token of every rollout more likely. It does not look at the reward at all: right and wrong rollouts of the pool count the same. That is what the paper's SFT does, and it is easy to overlook: an article about the paper says that SFT saw right solutions only {cite}`type02026six`. Here SFT is the reference that the other five are measured against.

# %% tags=["parameters"]
profile: str = "tiny"  # which profile: smoke, tiny, qwen3-0.6b, qwen3-4b, llama-3.2-3b
run: str = ""  # folder under results/; empty: the profile's name
name: str = ""  # adapter folder; empty: the method's name, with "-varied" if a value below is set
variant: str | None = None  # definition of the objective: paper; None: the profile's
learning_rate: float | None = None  # peak learning rate; None: the profile's value
steps: int | None = None  # optimiser steps; None: the profile's value
seed: int | None = None  # of the order of the rows; None: the profile's value

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
method = "sft"
chosen = {
    "variant": variant,
    "learning_rate": learning_rate,
    "steps": steps,
    "seed": seed,
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
# \mathcal{L}_{\text{SFT}} = -\frac{1}{N} \sum_{y} \sum_{t} \log \pi_\theta(y_t \mid x, y_{<t})
# $$ (eq-sft)
#
# The sum runs over all rollouts $y$ of the batch, right and wrong, and $N$ is their number of completion tokens. The gradient weight of every token is 1. {numref}`tab-weights` puts it beside the other five.
#
# In code it is one pure function of per-token log-probabilities:

# %% tags=["remove-stderr"]
import inspect

print(inspect.getsource(losses.sft))

# %% mystnb={"figure": {"name": "fig-sft-weight", "caption": "How hard does SFT pull at a token, and does it depend on what the model thinks of it? The weight on the token's negative log-likelihood is 1 whatever the token's probability is, in right and in wrong rollouts. The figure shows the loss function, not the training."}, "image": {"alt": "A flat line at one: the gradient weight of SFT against the token's probability."}} tags=["hide-input"]
probability = torch.linspace(0.01, 0.99, 99)
kinds = {"every token": 0.0}
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

# %% mystnb={"figure": {"name": "fig-sft-curves", "caption": "Does SFT train? A logged loss is the mean over {number}`profile.training.logging_steps` steps, each with a batch of its own: {number}`sft.first_loss:.3g` the first, {number}`sft.final_loss:.3g` the last, after {number}`sft.steps` steps. A fall shows that the training runs, not how much is gained. {number}`sft.clipped:.0%` of the logged gradient norms lie above the clipping threshold. Losses of different objectives are in different units: do not compare them across chapters."}, "image": {"alt": "Two curves over training steps: the loss of SFT and its gradient norm with the clipping threshold."}} tags=["hide-input"]
training_curves(method, card, training.max_grad_norm)
# %% [markdown]
# ## What the adapter looks like
#
# The delta of one module is $\Delta W = \frac{\alpha}{r} B A$. Its Frobenius norm says how far the weights moved; its effective rank says in how many directions.

# %% mystnb={"figure": {"name": "fig-sft-norms", "caption": "Where does SFT change the model? The whole delta has norm {number}`sft.norm:.3g`, and the layer with the largest, its four matrices together, is layer {number}`sft.largest_layer`. The mean effective (entropy) rank of a module is {number}`sft.effective_rank:.2f`, of {number}`profile.lora.r` possible. A large norm says that weights moved, not that the movement matters for the answers."}, "image": {"alt": "Frobenius norm of the SFT delta by layer, one line for each of the four attention projections."}} tags=["hide-input"]
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
# `learning_rate`: ten times less, ten times more. Does the direction of the delta survive such a step? The paper says it turns by more than fifty degrees (claim C15); name the varied adapter in the parameter `others` of the cosine chapter to see. A varied run keeps its own adapter and leaves this one alone:
#
# ```
# papermill notebooks/methods/sft.ipynb out.ipynb -p learning_rate 9e-4
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-sft
#
# *Derivation · ★ · 10 minutes*
#
# The loss of a batch is divided by the number of its completion tokens. Suppose it were averaged over rollouts instead, so that each rollout counts the same. Which tokens would gain weight, those of long or of short rollouts? Check with a batch of two rollouts, of 2 and of 8 tokens.
# ```
#
# ```{dropdown} Hint
# Write down the weight of one token in either case.
# ```
#
# ````{solution} ex-sft
# :label: sol-sft
# :class: dropdown
#
# Per token, every token weighs $1/10$. Per rollout, a token of the short rollout weighs $1/2 \cdot 1/2 = 1/4$ and one of the long rollout $1/2 \cdot 1/8 = 1/16$. Short rollouts gain.
#
# ```python
# import torch
# log_probs = torch.zeros(2, 8, requires_grad=True)
# mask = torch.tensor([[1.0] * 2 + [0.0] * 6, [1.0] * 8])
# (-(log_probs * mask).sum() / mask.sum()).backward()
# print(log_probs.grad[:, 0])  # -0.1 for both
# ```
# ````
#
# ## Take-away
#
# SFT imitates the pool as it is, mistakes included. Its delta is the direction that the next chapters compare with.
