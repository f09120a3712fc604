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
# (exercises-losses)=
# # Code it: the losses
#
# **What you will learn.** To write the weights of four losses in a few lines of numpy, and to recognise the mistakes that change a training without an error message.
#
# Write each function, run its cell, then run the check below it. A check says what is wrong; one that is not passed stops a *Run all*, one that is not begun does not. How to open this page as a notebook, and where the answers are: [](../../book/exercises.md).
#
# Read [](../../book/objectives.md) first. Log-probabilities are in nats.

# %%
import numpy as np

from finetune_geometry.exercises.losses import (
    check_batch_loss,
    check_dft_loss,
    check_dpo_weights,
    check_group_advantages,
)

# %% [markdown]
# ## 1. Advantages of a group
#
# :::{exercise}
# :label: ex-code-advantages
#
# *Code · ★ · 5 minutes*
#
# Offline GRPO weighs a rollout by $A = r - \bar r + b$, where $\bar r$ is the mean reward of its group. `rewards` has one row for each group, shape (groups, K). Return the advantages in the same shape. Do not change `rewards`.
# :::


# %%
def group_advantages(rewards, bias):
    """(groups, K) rewards of 0 or 1, and the bias b: (groups, K) advantages."""
    raise NotImplementedError


# %%
check_group_advantages(group_advantages)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# `rewards.mean(axis=-1)` has lost an axis. `keepdims=True` keeps it, so that it is subtracted row by row.
# :::
#
# ::::{solution} ex-code-advantages
# :label: sol-code-advantages
# :class: dropdown
#
# `group_advantages` in `tests/exercises/key_losses.py`:
#
# ```{literalinclude} ../../tests/exercises/key_losses.py
# :pyobject: group_advantages
# ```
# ::::

# %% [markdown]
# ## 2. The loss of a batch
#
# :::{exercise}
# :label: ex-code-batch
#
# *Code · ★★ · 10 minutes*
#
# A batch holds rollouts of different lengths, padded to one length. `nll` holds $-\log p_t$ of each token and any number at padded positions; `mask` is 1 at tokens and 0 at padding; `weights` has one weight for each rollout. Return the loss as the trainers of this book define it: the weighted sum over all tokens, divided by the number of completion tokens in the batch. With RFT some weights are 0. Which tokens do you divide by?
# :::


# %%
def batch_loss(weights, nll, mask):
    """(rows,), (rows, tokens), (rows, tokens): a number."""
    raise NotImplementedError


# %%
check_batch_loss(batch_loss)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# `weights[:, None]` puts a weight beside every token of its row. The divisor must be the same for all five unpaired losses, or their steps could not be compared.
# :::
#
# ::::{solution} ex-code-batch
# :label: sol-code-batch
# :class: dropdown
#
# `batch_loss` in `tests/exercises/key_losses.py`:
#
# ```{literalinclude} ../../tests/exercises/key_losses.py
# :pyobject: batch_loss
# ```
# ::::

# %% [markdown]
# ## 3. DFT without an autograd library
#
# :::{exercise}
# :label: ex-code-dft
#
# *Code · ★★ · 15 minutes*
#
# DFT multiplies the loss of each token by the token's own probability, and no gradient flows through that factor. numpy has no gradients, so the check takes them by moving `log_probs` a little. `frozen` has the same values and is *not* moved: use it for what a stop-gradient would hold. Return the loss of each token.
# :::


# %%
def dft_loss(log_probs, frozen):
    """(tokens,) log-probabilities, twice: (tokens,) losses. Only `log_probs` is moved."""
    raise NotImplementedError


# %%
check_dft_loss(dft_loss)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# Write the loss as factor times $-\log p_t$. Which of the two arguments belongs in the factor? A factor made of the wrong one gives the loss of {ref}`ex-objectives-dft`.
# :::
#
# ::::{solution} ex-code-dft
# :label: sol-code-dft
# :class: dropdown
#
# `dft_loss` in `tests/exercises/key_losses.py`:
#
# ```{literalinclude} ../../tests/exercises/key_losses.py
# :pyobject: dft_loss
# ```
# ::::

# %% [markdown]
# ## 4. How hard a pair pulls
#
# :::{exercise}
# :label: ex-code-dpo
#
# *Code · ★★ · 15 minutes*
#
# DPO's loss of a pair is $-\log \sigma(h)$ with
#
# $$
# \begin{aligned}
# h = \beta\,\big[ & (\log \pi(y^+) - \log \pi_{\mathrm{base}}(y^+)) \\
# & - (\log \pi(y^-) - \log \pi_{\mathrm{base}}(y^-)) \big] .
# \end{aligned}
# $$
#
# Return the weight $w$ with which it pulls at each token of the right rollout: the derivative of the loss by $\log \pi(y^+)$ is $-w$. The function must work for margins of many thousand nats, which an early bug can produce.
# :::


# %%
def dpo_weights(chosen, rejected, reference_chosen, reference_rejected, beta):
    """Log-probabilities of whole rollouts, (pairs,) each: (pairs,) weights of the right ones."""
    raise NotImplementedError


# %%
check_dpo_weights(dpo_weights)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# The derivative of $-\log \sigma(h)$ by $h$ is $-\sigma(-h)$; the chain rule does the rest. `scipy.special.expit` is $\sigma$, and it does not overflow.
# :::
#
# ::::{solution} ex-code-dpo
# :label: sol-code-dpo
# :class: dropdown
#
# `dpo_weights` in `tests/exercises/key_losses.py`:
#
# ```{literalinclude} ../../tests/exercises/key_losses.py
# :pyobject: dpo_weights
# ```
# ::::

# %% [markdown]
# ## Take-away
#
# Four losses, four short functions. What goes wrong in such code is an axis, a divisor, a missing stop-gradient or a sign. No such mistake raises an error, and each trains another method under the old name.
