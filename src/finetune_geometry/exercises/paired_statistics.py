"""Checks for notebooks/exercises/paired_statistics: McNemar, Holm, bootstrap, equivalence.

The definitions are those of `evaluation/paired_tests.py`, but for the equivalence test, which takes
a standard error here and a score statistic there.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from finetune_geometry.exercises.asking import Answer, Array, WrongAnswer, ask, check, judge


def answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[Array, Array]:
    """Right (1) or wrong (0) of two models, problem by problem, shuffled: two arrays (n,)."""
    rows = [(1, 1)] * both + [(1, 0)] * only_a + [(0, 1)] * only_b + [(0, 0)] * neither
    table = np.random.default_rng(9).permutation(np.array(rows, dtype=np.float64))
    return table[:, 0], table[:, 1]


@check("Only the problems that one of the two solves speak. Nine against one is evidence, whether "
       "there are thirty problems or three thousand.")  # fmt: skip
def check_mcnemar(answer: Answer) -> None:
    """`answer(a, b)`: right (1) or wrong (0) of two models, (n,) each, to the exact two-sided p."""
    a, b = answers(both=20, only_a=9, only_b=2, neither=9)
    tail = stats.binom.cdf(2, 11, 0.5)
    share = (a.mean() + b.mean()) / 2
    z = (a.mean() - b.mean()) / np.sqrt(share * (1 - share) * 2 / a.size)
    mistakes = [
        (tail, "That is one tail. Nobody said beforehand which model is better: double it."),
        (
            stats.chi2.sf(49 / 11, 1),
            "That is the chi-square approximation. With eleven discordant problems count exactly: "
            "a fair coin, thrown eleven times.",
        ),
        (
            stats.chi2.sf(36 / 11, 1),
            "That is the corrected chi-square approximation. Count exactly with the binomial.",
        ),
        (
            2 * stats.norm.sf(abs(z)),
            "You compared two shares as if the models had answered different problems. The answers "
            "are paired: use the discordant ones.",
        ),
        (
            stats.binomtest(9, 40).pvalue,
            "You threw the coin once for every problem. Problems on which both agree say nothing "
            "about who is better: throw it for the discordant ones alone.",
        ),
        (
            stats.fisher_exact([[29, 11], [22, 18]]).pvalue,
            "Fisher's test is for two separate groups. Here both models saw the same problems.",
        ),
    ]
    judge(ask(answer, a, b), 2 * tail, mistakes, "For 9 problems that only a solves, 2 only b")
    even = answers(both=5, only_a=3, only_b=3, neither=5)
    twice = 2 * stats.binom.cdf(3, 6, 0.5)
    message = "With equal counts the doubled tail is above 1. A p value ends at 1."
    judge(ask(answer, *even), 1.0, [(twice, message)], "For 3 against 3")
    alike = answers(both=5, only_a=0, only_b=0, neither=5)
    judge(ask(answer, *alike), 1.0, [], "For two models with the same answers")


@check("The smallest p is multiplied by the number of tests, the next by one less, and none may "
       "end below one before it.")  # fmt: skip
def check_holm(answer: Answer) -> None:
    """`answer(p)`: p values (m,) to Holm's adjusted ones, (m,), in the order given."""
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.6])
    m, order = p.size, np.argsort(p)
    steps = np.empty(m)
    steps[order] = p[order] * np.arange(m, 0, -1)
    right, up, fdr = np.empty(m), np.empty(m), np.empty(m)
    right[order] = np.maximum.accumulate(steps[order])
    up[order] = np.minimum.accumulate(steps[order][::-1])[::-1]
    ranked = p[order] * m / np.arange(1, m + 1)
    fdr[order] = np.minimum.accumulate(ranked[::-1])[::-1]
    mistakes = [
        (
            np.minimum(p * m, 1),
            "That is Bonferroni: every p times the number of tests. Holm multiplies the second "
            "smallest by one less, and so on.",
        ),
        (
            steps,
            "A larger p ended with a smaller adjusted value: 0.04 came out below 0.03. Go up the "
            "sorted list and never let a value fall (`np.maximum.accumulate`).",
        ),
        (
            right[order],
            "The values are right and in sorted order. Put them back in the order of the input.",
        ),
        (up, "That is Hochberg's step-up method, which asks more of the tests. Holm goes down."),
        (
            fdr,
            "That is Benjamini and Hochberg's, which bounds the share of false alarms. Holm bounds "
            "the chance of any.",
        ),
    ]
    judge(ask(answer, p, shape=(m,)), right, mistakes, "For 0.01, 0.04, 0.03, 0.005 and 0.6")
    large = np.array([0.7, 0.8])
    message = "An adjusted p came out above 1. Stop at 1."
    judge(
        ask(answer, large, shape=(2,)), np.ones(2), [(np.full(2, 1.4), message)], "For 0.7 and 0.8"
    )


@check("Problems are drawn, and both models keep their answers to them. Problems that are hard for "
       "both then cancel, and the interval is narrower.")  # fmt: skip
def check_bootstrap(answer: Answer) -> None:
    """`answer(a, b, draws, seed)`: 0 or 1 in (n,) each to the 95 % percentile interval (low, high)
    of accuracy(a) - accuracy(b)."""
    a, b = answers(both=220, only_a=30, only_b=10, neither=140)
    n, difference = a.size, a.mean() - b.mean()
    paired = np.sqrt(np.var(a - b) / n)
    apart = np.sqrt((np.var(a) + np.var(b)) / n)
    low, high = ask(answer, a, b, 2000, 0, shape=(2,))
    if low > high:
        raise WrongAnswer("The lower end is above the upper one.")
    middle, half = (low + high) / 2, (high - low) / 2
    if half < 1e-9:
        raise WrongAnswer(
            "The interval has no width: every draw held the same problems. Draw n problems with "
            "replacement, so that some come twice and some not at all."
        )
    if abs(middle + difference) < paired / 2:
        raise WrongAnswer("The sign is turned: the difference is accuracy(a) - accuracy(b).")
    expected = {
        apart / paired: "You drew problems for a and for b separately, which makes the interval "
        "too wide. The answers are paired: draw problems, and take both models' answers to them.",
        1.645 / 1.96: "That is an interval of 90 %. For 95 % cut 2.5 % off at either end.",
        1 / 1.96: "That is one standard error to either side. Cut 2.5 % off at either end.",
        np.sqrt(n): "That is the spread of single problems. Take the mean of each draw.",
    }
    ratio = half / (1.96 * paired)
    if abs(ratio - 1) > 0.08:  # the percentiles of 2,000 draws are good to a few per cent
        for value, message in expected.items():
            if abs(ratio / value - 1) < 0.08:
                raise WrongAnswer(message)
        raise WrongAnswer(
            f"The interval is {ratio:.2f} times as wide as it should be (about "
            f"{difference - 1.96 * paired:.3f} to {difference + 1.96 * paired:.3f})."
        )
    if abs(middle - difference) > paired / 2:
        raise WrongAnswer(f"The interval is not around the difference, {difference:.3f}.")


@check("Both one-sided tests must reject, so the larger p counts. A large p of the usual test is "
       "no substitute.")  # fmt: skip
def check_equivalence(answer: Answer) -> None:
    """`answer(difference, error, margin)`: a difference, its standard error and the margin to the
    p value of two one-sided tests, with the normal distribution."""
    error, margin = 0.01, 0.03
    differences = np.array([0.01, -0.02, 0.05])  # one near each bound, one outside
    lower = stats.norm.sf((differences + margin) / error)
    upper = stats.norm.cdf((differences - margin) / error)
    none = 2 * stats.norm.sf(np.abs(differences) / error)
    right = np.maximum(lower, upper)
    mistakes = [
        (
            np.minimum(lower, upper),
            "You took the smaller p. Equivalence needs both: not too low AND not too high.",
        ),
        (
            none,
            "That is the test of no difference. Its p can be large because nothing differs or "
            "because the sample is small.",
        ),
        (1 - none, "One minus the p of the usual test is no evidence for equivalence."),
        (2 * right, "No doubling: both tests are one-sided and both must reject."),
        (lower + upper, "You added the two. Take the larger one."),
        (lower, "You tested the lower bound alone. The difference may also be too high."),
        (upper, "You tested the upper bound alone. The difference may also be too low."),
        (1 - right, "That is the other tail: a small p must speak FOR equivalence."),
    ]
    found = np.array([ask(answer, float(d), error, margin) for d in differences])
    where = "For differences of 0.01, -0.02 and 0.05 with error 0.01 and margin 0.03"
    judge(found, right, mistakes, where)
