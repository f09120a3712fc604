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
# (exercises-deltas)=
# # Code it: the deltas
#
# **What you will learn.** To compute inner products, norms, cosines and singular values of low-rank deltas from their factors, at a cost that does not grow with the square of the width.
#
# Write each function, run its cell, then run the check below it. A check says what is wrong; one that is not passed stops a *Run all*, one that is not begun does not. How to open this page as a notebook, and where the answers are: [](../../book/exercises.md).
#
# Read [The delta as an object](../ingredients/lora_delta) first. A delta is $s\,B A$ with $B$ of shape (d_out, r) and $A$ of shape (r, d_in). Three of the checks measure memory: whoever multiplies $B A$ out is told.

# %%
import numpy as np

from finetune_geometry.exercises.deltas import (
    check_global_cosine,
    check_inner_product,
    check_norm,
    check_singular_values,
)

# %% [markdown]
# ## 1. An inner product through the waist
#
# :::{exercise}
# :label: ex-code-inner
#
# *Code · ★★ · 10 minutes*
#
# Return $\inner{B_1 A_1}{B_2 A_2}$, the sum of the products of all entries, without a matrix of shape (d_out, d_in).
# :::


# %%
def inner_product(B1, A1, B2, A2):
    """(d_out, r), (r, d_in), twice: a number."""
    raise NotImplementedError


# %%
check_inner_product(inner_product)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# $\inner{X}{Y} = \tr(X^\top Y)$, and a trace does not change when its factors are moved round in a circle. Move them until two $r \times r$ matrices meet.
# :::
#
# ::::{solution} ex-code-inner
# :label: sol-code-inner
# :class: dropdown
#
# `inner_product` in `tests/exercises/key_deltas.py`:
#
# ```{literalinclude} ../../tests/exercises/key_deltas.py
# :pyobject: inner_product
# ```
# ::::

# %% [markdown]
# ## 2. A norm that knows its scale
#
# :::{exercise}
# :label: ex-code-norm
#
# *Code · ★ · 5 minutes*
#
# Return the Frobenius norm of $s\,B A$, again without the full matrix.
# :::


# %%
def norm(B, A, scale):
    """(d_out, r), (r, d_in) and a positive number: a number."""
    raise NotImplementedError


# %%
check_norm(norm)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# The squared norm is the inner product of a delta with itself. The scale enters it squared.
# :::
#
# ::::{solution} ex-code-norm
# :label: sol-code-norm
# :class: dropdown
#
# `norm` in `tests/exercises/key_deltas.py`:
#
# ```{literalinclude} ../../tests/exercises/key_deltas.py
# :pyobject: norm
# ```
# ::::

# %% [markdown]
# ## 3. The global cosine
#
# :::{exercise}
# :label: ex-code-cosine
#
# *Code · ★★ · 15 minutes*
#
# Two adapters are given as lists of `(B, A)`, one entry for each module, all with one scale. Return their global cosine of {prf:ref}`def-cosine`. If one of the two is the zero delta, return `np.nan`: the base has no direction.
# :::


# %%
def global_cosine(first, second):
    """Two lists of (B, A) in the same order of modules: a number, or NaN."""
    raise NotImplementedError


# %%
check_global_cosine(global_cosine)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# Stack all modules into one long vector and ask what its inner product and its length are made of. What is summed before anything is divided?
# :::
#
# ::::{solution} ex-code-cosine
# :label: sol-code-cosine
# :class: dropdown
#
# `global_cosine` in `tests/exercises/key_deltas.py`:
#
# ```{literalinclude} ../../tests/exercises/key_deltas.py
# :pyobject: global_cosine
# ```
# ::::

# %% [markdown]
# ## 4. Singular values without the matrix
#
# :::{exercise}
# :label: ex-code-svd
#
# *Code · ★★★ · 15 minutes*
#
# Return the $r$ singular values of $B A$, largest first. They are what the ranks and the subspaces of this book are made of.
# :::


# %%
def singular_values(B, A):
    """(d_out, r), (r, d_in) with r below both widths: (r,), falling."""
    raise NotImplementedError


# %%
check_singular_values(singular_values)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# Multiplying by a matrix with orthonormal columns leaves singular values alone. Which decomposition of $B$, and of $A^\top$, takes such a matrix out?
# :::
#
# ::::{solution} ex-code-svd
# :label: sol-code-svd
# :class: dropdown
#
# `singular_values` in `tests/exercises/key_deltas.py`:
#
# ```{literalinclude} ../../tests/exercises/key_deltas.py
# :pyobject: singular_values
# ```
# ::::

# %% [markdown]
# ## Take-away
#
# All that this book says about weights follows from matrices of size $r \times r$. That is why it can compare adapters of any model on a laptop. The factors themselves say little: what counts must not change when $(B, A)$ is rewritten as $(BG, G^{-1}A)$.
