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
# (exercises-statistics)=
# # Code it: tests and intervals
#
# **What you will learn.** To compare two models that answered the same problems: a paired test, a correction for many tests, a paired interval and a test of equivalence.
#
# Write each function, run its cell, then run the check below it. A check says what is wrong; one that is not passed stops a *Run all*, one that is not begun does not. How to open this page as a notebook, and where the answers are: [](../../book/exercises.md).
#
# Read [Accuracy](../evaluation/accuracy) first. `a` and `b` hold 1 where a model solved a problem and 0 where it did not, in the same order of problems.

# %%
import numpy as np
from scipy import stats

from finetune_geometry.exercises.paired_statistics import (
    check_bootstrap,
    check_equivalence,
    check_holm,
    check_mcnemar,
)

# %% [markdown]
# ## 1. McNemar's exact test
#
# :::{exercise}
# :label: ex-code-mcnemar
#
# *Code · ★★ · 10 minutes*
#
# Two models of equal skill would each be the winner on half of the problems that only one of them solves. Return the exact two-sided $p$ value of that hypothesis. It must never be above 1, and it is 1 if the models never differ.
# :::


# %%
def mcnemar(a, b):
    """0 or 1 in (n,) each: a p value."""
    raise NotImplementedError


# %%
check_mcnemar(mcnemar)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# Count the two kinds of discordant problems. The smaller count is that of a fair coin's heads: `stats.binom.cdf` gives one tail. Double it, and mind the case of equal counts.
# :::
#
# ::::{solution} ex-code-mcnemar
# :label: sol-code-mcnemar
# :class: dropdown
#
# `mcnemar` in `tests/exercises/key_paired_statistics.py`:
#
# ```{literalinclude} ../../tests/exercises/key_paired_statistics.py
# :pyobject: mcnemar
# ```
# ::::

# %% [markdown]
# ## 2. Holm's correction
#
# :::{exercise}
# :label: ex-code-holm
#
# *Code · ★★ · 10 minutes*
#
# Adjust $p$ values for the number of tests: the smallest times $m$, the next times $m - 1$, and so on. No adjusted value may be below that of a smaller $p$, and none above 1. Return them in the order of the input.
# :::


# %%
def holm(p):
    """(m,) p values: (m,) adjusted ones, in the same order."""
    raise NotImplementedError


# %%
check_holm(holm)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# `np.argsort` gives the order, and assigning to `adjusted[order]` undoes it. `np.maximum.accumulate` keeps a list from falling.
# :::
#
# ::::{solution} ex-code-holm
# :label: sol-code-holm
# :class: dropdown
#
# `holm` in `tests/exercises/key_paired_statistics.py`:
#
# ```{literalinclude} ../../tests/exercises/key_paired_statistics.py
# :pyobject: holm
# ```
# ::::

# %% [markdown]
# ## 3. A paired bootstrap
#
# :::{exercise}
# :label: ex-code-bootstrap
#
# *Code · ★★ · 15 minutes*
#
# Draw $n$ problems with replacement, `draws` times, and take accuracy(a) minus accuracy(b) on each draw. Return the 2.5 % and 97.5 % quantiles.
# :::


# %%
def bootstrap_difference(a, b, draws, seed):
    """0 or 1 in (n,) each: (low, high) of the 95 % percentile interval."""
    raise NotImplementedError


# %%
check_bootstrap(bootstrap_difference)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# `rng.integers(n, size=(draws, n))` draws the problems. Which array do you index with it so that both models keep their answers to the same problems?
# :::
#
# ::::{solution} ex-code-bootstrap
# :label: sol-code-bootstrap
# :class: dropdown
#
# `bootstrap_difference` in `tests/exercises/key_paired_statistics.py`:
#
# ```{literalinclude} ../../tests/exercises/key_paired_statistics.py
# :pyobject: bootstrap_difference
# ```
# ::::

# %% [markdown]
# ## 4. Equivalence
#
# :::{exercise}
# :label: ex-code-equivalence
#
# *Code · ★★★ · 15 minutes*
#
# Two models differ by `difference`, with standard error `error`. Are they equivalent, that is, is the true difference within $\pm$ `margin`? Do two one-sided tests with the normal distribution: one against "the difference is at most $-$margin", one against "it is at least $+$margin". Return the $p$ value of the whole.
# :::


# %%
def equivalence(difference, error, margin):
    """Three numbers, the last two positive: a p value."""
    raise NotImplementedError


# %%
check_equivalence(equivalence)

# %% [markdown] jupyter={"source_hidden": true}
# :::{dropdown} Hint
# For the first test ask how often a true difference of $-$margin would give a value as *high* as the one measured. Both tests must reject. Which of the two $p$ values decides that?
# :::
#
# ::::{solution} ex-code-equivalence
# :label: sol-code-equivalence
# :class: dropdown
#
# `equivalence` in `tests/exercises/key_paired_statistics.py`:
#
# ```{literalinclude} ../../tests/exercises/key_paired_statistics.py
# :pyobject: equivalence
# ```
# ::::

# %% [markdown]
# ## Take-away
#
# The answers are paired, so use the pairs. Many tests need a correction. "Not different" and "equivalent" are two claims, and each has a test of its own.
