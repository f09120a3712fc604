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
# (method-dft)=
# # DFT: trust what you already believe
#
# **The answer.** DFT is SFT with each token weighed by the probability that the student gives it. In {number}`dft.steps` steps its delta has grown to a norm of {number}`dft.norm:.3g`, with a cosine of {number}`cosine.sft_dft:.2f` with SFT's; SFT on reshuffled rows has {number}`cosine.sft_reshuffled:.2f`.
#
# **What you will learn.** How a weight that looks harmless, the token's own probability, changes which tokens are learnt at all.
#
# ## The idea
#
# Dynamic fine-tuning multiplies each token's loss by the probability that the model gives to the token {cite}`wu2025dft`. The factor is held constant in the gradient. Improbable tokens, on whose logits SFT pulls hardest, are damped; tokens that the model half believes count for relatively more. The paper's prose describes the opposite direction; its formula, the primary source and this book agree on the one given here. [Popular articles](../../book/articles) have expanded the D in other ways: it stands for *dynamic*.

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
method = "dft"
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
# \mathcal{L}_{\text{DFT}} = -\frac{1}{N} \sum_{y} \sum_{t} \operatorname{sg}\!\big(\pi_\theta(y_t \mid x, y_{<t})\big) \log \pi_\theta(y_t \mid x, y_{<t})
# $$ (eq-dft)
#
# sg is the stop-gradient. The gradient weight of a token is $\pi_\theta(y_t \mid x, y_{<t})$, its present probability. Like SFT, it runs over all rollouts, right and wrong. {numref}`tab-weights` puts it beside the other five.
#
# In code it is one pure function of per-token log-probabilities:

# %% tags=["remove-stderr"]
import inspect

print(inspect.getsource(losses.dft))

# %% mystnb={"figure": {"name": "fig-dft-weight", "caption": "How hard does DFT pull at a token? In proportion to the probability that the model gives it: surprising tokens get little weight. The figure shows the loss function, not the training."}, "image": {"alt": "A straight line from zero to one: the gradient weight of DFT equals the token's probability."}} tags=["hide-input"]
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

# %% mystnb={"figure": {"name": "fig-dft-curves", "caption": "Does DFT train? A logged loss is the mean over {number}`profile.training.logging_steps` steps, each with a batch of its own: {number}`dft.first_loss:.3g` the first, {number}`dft.final_loss:.3g` the last, after {number}`dft.steps` steps. A fall shows that the training runs, not how much is gained, and here even less: $-p \\log p$ is small where $p$ is near 1 and where it is near 0. {number}`dft.clipped:.0%` of the logged gradient norms lie above the clipping threshold. Every token's gradient is multiplied by a probability, which can only shorten it. Losses of different objectives are in different units: do not compare them across chapters."}, "image": {"alt": "Two curves over training steps: the loss of DFT and its gradient norm with the clipping threshold."}} tags=["hide-input"]
training_curves(method, card, training.max_grad_norm)
# %% [markdown]
# ## What the adapter looks like
#
# The delta of one module is $\Delta W = \frac{\alpha}{r} B A$. Its Frobenius norm says how far the weights moved; its effective rank says in how many directions.

# %% mystnb={"figure": {"name": "fig-dft-norms", "caption": "Where does DFT change the model? The whole delta has norm {number}`dft.norm:.3g`, and the layer with the largest, its four matrices together, is layer {number}`dft.largest_layer`. The mean effective (entropy) rank of a module is {number}`dft.effective_rank:.2f`, of {number}`profile.lora.r` possible. A large norm says that weights moved, not that the movement matters for the answers."}, "image": {"alt": "Frobenius norm of the DFT delta by layer, one line for each of the four attention projections."}} tags=["hide-input"]
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
# `learning_rate`. DFT multiplies every token's gradient by a probability, and Adam divides gradients by their size: the step need not shrink with them. Which of the two effects wins in the norm of the delta? A varied run keeps its own adapter and leaves this one alone:
#
# ```
# papermill notebooks/methods/dft.ipynb out.ipynb -p learning_rate 9e-4
# ```
#
# ## Exercise
#
# ```{exercise}
# :label: ex-dft
#
# *Derivation · ★ · 5 minutes*
#
# A token has probability 0.01 and another 0.5. How much more does the second pull than the first, in the direction of its own logit, under SFT and under DFT? The gradient of $\log \pi$ with respect to the token's own logit is $1 - \pi$.
# ```
#
# ```{dropdown} Hint
# Multiply the weight by $1 - \pi$.
# ```
#
# ````{solution} ex-dft
# :label: sol-dft
# :class: dropdown
#
# SFT: 0.99 against 0.5, so the surprising token pulls twice as hard. DFT: 0.0099 against 0.25: now the half-believed token pulls 25 times as hard.
# ````
#
# ## Take-away
#
# DFT pulls little where the model is very surprised, and as little where it is already sure. It sees the same rows as SFT, in the same order; what differs is how much each token counts.
