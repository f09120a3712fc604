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
# (exercises-subspaces)=
# # Code it: the subspaces
#
# **What you will learn.** To compute principal angles and orthogonal fractions, to tell left from right and length from energy, and to find out what chance gives.
#
# Write each function, run its cell, then run the check below it. A check says what is wrong; one that is not passed stops a *Run all*, one that is not begun does not. How to open this page as a notebook, and where the answers are: [](../../book/exercises.md).
#
# Read [](../../book/how_to_read.md) first. Angles are in degrees.

# %%
import numpy as np

from finetune_geometry.exercises.subspaces import (
    check_chance_angle,
    check_orthogonal_fraction,
    check_outside_subspace,
    check_principal_angles,
)

# %% [markdown]
# ## 1. Principal angles
#
# :::{exercise}
# :label: ex-code-angles
#
# *Code · ★★ · 15 minutes*
#
# The columns of `U` and of `V` span two subspaces of dimension $k$. They are linearly independent and otherwise arbitrary: neither of length 1 nor at right angles. Return the $k$ principal angles in degrees, the smallest first. The angles of a subspace with itself must be 0, not NaN.
# :::


# %%
def principal_angles(U, V):
    """Two bases, (d, k) each: (k,) angles in degrees, rising."""
    raise NotImplementedError


# %%
check_principal_angles(principal_angles)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# Make an orthonormal basis of each first (`np.linalg.qr`). The singular values of the product of two such bases are the cosines. Rounding can lift one above 1.
# :::
#
# ::::{solution} ex-code-angles
# :label: sol-code-angles
# :class: dropdown
#
# `principal_angles` in `tests/exercises/key_subspaces.py`:
#
# ```{literalinclude} ../../tests/exercises/key_subspaces.py
# :pyobject: principal_angles
# ```
# ::::

# %% [markdown]
# ## 2. What the reference does not explain
#
# :::{exercise}
# :label: ex-code-fraction
#
# *Code · ★ · 10 minutes*
#
# Split a delta into a part along the reference's direction and a rest at a right angle to it. Return the length of the rest as a share of the length of the delta.
# :::


# %%
def orthogonal_fraction(delta, reference):
    """Two arrays of one shape, not zero: a number from 0 to 1."""
    raise NotImplementedError


# %%
check_orthogonal_fraction(orthogonal_fraction)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# The part along the reference is the reference times one number. That number is a quotient of two inner products. The reference need not have length 1.
# :::
#
# ::::{solution} ex-code-fraction
# :label: sol-code-fraction
# :class: dropdown
#
# `orthogonal_fraction` in `tests/exercises/key_subspaces.py`:
#
# ```{literalinclude} ../../tests/exercises/key_subspaces.py
# :pyobject: orthogonal_fraction
# ```
# ::::

# %% [markdown]
# ## 3. Output directions that are new
#
# :::{exercise}
# :label: ex-code-outside
#
# *Code · ★★ · 10 minutes*
#
# `basis` holds orthonormal output directions, such as the leading left singular vectors of SFT's delta. Return the share of the *energy* of `delta` that is written outside their span. The delta is square here, so that a mistake of side does not give itself away by an error.
# :::


# %%
def outside_subspace(delta, basis):
    """(d, d) and orthonormal (d, k): a number from 0 to 1."""
    raise NotImplementedError


# %%
check_outside_subspace(outside_subspace)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# A delta acts on an input as $y = \Delta x$. Which index of the matrix is the output? Energies of the part inside and the part outside add up to that of the whole.
# :::
#
# ::::{solution} ex-code-outside
# :label: sol-code-outside
# :class: dropdown
#
# `outside_subspace` in `tests/exercises/key_subspaces.py`:
#
# ```{literalinclude} ../../tests/exercises/key_subspaces.py
# :pyobject: outside_subspace
# ```
# ::::

# %% [markdown]
# ## 4. What chance gives
#
# :::{exercise}
# :label: ex-code-chance
#
# *Code · ★★ · 15 minutes*
#
# Draw two random $k$-dimensional subspaces of $\R^d$, `draws` times, and return the median of their smallest principal angle, in degrees. Before you run it, guess the value for $d = 40$, $k = 10$.
# :::


# %%
def chance_angle(d, k, draws, seed):
    """Median smallest principal angle of random subspaces: a number, in degrees."""
    raise NotImplementedError


# %%
check_chance_angle(chance_angle)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# A random subspace is the span of $k$ random vectors whose directions are uniform. Gaussian entries have that property; uniform entries from 0 to 1 do not, since all are positive.
# :::
#
# ::::{solution} ex-code-chance
# :label: sol-code-chance
# :class: dropdown
#
# `chance_angle` in `tests/exercises/key_subspaces.py`:
#
# ```{literalinclude} ../../tests/exercises/key_subspaces.py
# :pyobject: chance_angle
# ```
# ::::

# %% [markdown]
# ## Take-away
#
# An angle needs a side, an index and a level of chance. The few lines of this page give all of them for any adapter. Use them before you call an angle small or large.
