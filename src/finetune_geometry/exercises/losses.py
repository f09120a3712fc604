"""Checks for notebooks/exercises/losses: advantages, a batch's loss, DFT, the weights of DPO.

Log-probabilities are in nats. The definitions are those of `methods/losses.py`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from finetune_geometry.exercises.asking import Answer, Array, WrongAnswer, ask, check, judge


@check(
    "A group without a contrast is imitated with weight 0.1, right or wrong; only a mixed group "
    "pushes anything away."
)
def check_group_advantages(answer: Answer) -> None:
    """`answer(rewards, bias)`: (groups, K) and a number to (groups, K)."""
    rewards, bias = np.array([[1.0, 1, 0, 0], [1, 0, 0, 0]]), 0.1
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    mistakes = [
        (
            rewards - rewards.mean() + bias,
            "You subtracted the mean of the whole batch. A group is the rollouts of one prompt: "
            "take the mean along the last axis.",
        ),
        (
            rewards - rewards.mean(axis=0) + bias,
            "You took the mean over the prompts. A group is one row: take it along the last axis.",
        ),
        (centred, "You left the bias out: it is added to every advantage."),
        *(
            (
                centred / rewards.std(axis=-1, keepdims=True, ddof=ddof) + bias,
                "You divided by the standard deviation of the group. Online GRPO does that; the "
                "paper's Offline GRPO does not.",
            )
            for ddof in (0, 1)
        ),
    ]
    found = ask(answer, rewards, bias, shape=rewards.shape)
    judge(found, centred + bias, mistakes, "For the groups 1100 and 1000")
    plain = np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    only_right = plain * bias
    judge(
        ask(answer, plain, bias, shape=plain.shape),
        np.full(plain.shape, bias),
        [
            (
                only_right,
                "You add the bias in all-right groups only. That is KRAFTON's rule. The paper adds "
                "it everywhere, so that an all-wrong group is imitated, too.",
            ),
            (
                np.zeros(plain.shape),
                "You add no bias where a group has no contrast. The paper adds it everywhere.",
            ),
        ],
        "For the groups 1111 and 0000",
    )


@check(
    "Rows of weight 0 count in the divisor. So RFT's loss is lower than SFT's where rollouts are "
    "wrong, and a step of RFT is the step of SFT with some of its pulls left out."
)
def check_batch_loss(answer: Answer) -> None:
    """`answer(weights, nll, mask)`: (rows,), (rows, tokens), (rows, tokens) to a number."""
    weights = np.array([1.0, 0.0, 2.0])
    nll = np.array([[1.0, 2.0, 9.0, 9.0], [3.0, 3.0, 3.0, 9.0], [1.0, 1.0, 1.0, 2.0]])
    mask = np.array([[1.0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    weighted = weights[:, None] * nll * mask
    by_row = weighted.sum(axis=1) / mask.sum(axis=1)
    mistakes = [
        (
            weighted.sum() / (weights[:, None] * mask).sum(),
            "You divided by the sum of the weights. Then a pool with few right rollouts would take "
            "larger steps. Divide by all completion tokens, also those of weight 0.",
        ),
        (
            weighted.sum() / mask[weights > 0].sum(),
            "You left the tokens of weight 0 out of the divisor. Wrong rows stay in the batch.",
        ),
        (
            by_row.mean(),
            "You took a mean over each rollout first. Then a token of a short rollout counts for "
            "more than one of a long one. Add up all tokens, then divide once.",
        ),
        (
            weighted.sum() / mask.size,
            "You divided by all positions, padding included. Divide by the sum of the mask.",
        ),
        (
            (weights[:, None] * nll).sum() / mask.sum(),
            "Padding is in your sum. Multiply by the mask before you add.",
        ),
        (weighted.sum(), "You did not divide: the loss is per completion token."),
    ]
    right = weighted.sum() / mask.sum()
    judge(ask(answer, weights, nll, mask), right, mistakes, "For three rows of 2, 3 and 4 tokens")


@check(
    "The factor is used, and no gradient flows through it: the weight of a token is its own "
    "probability."
)
def check_dft_loss(answer: Answer) -> None:
    """`answer(log_probs, frozen)`: (tokens,) twice, equal in value, to the losses (tokens,).

    The check moves `log_probs` alone, as a gradient does; `frozen` stands for what a stop-gradient
    holds.
    """
    u = np.log(np.array([0.02, 0.2, 0.5, 0.9]))
    p, h = np.exp(u), 1e-5

    def loss(moved: Array) -> Array:
        return ask(answer, moved, u, shape=u.shape)

    slope = (loss(u + h) - loss(u - h)) / (2 * h)
    mistakes = [
        (
            -p * (1 + u),
            "The gradient flows through your factor, too: the weight became p (1 + log p), which "
            "is negative below p = 1/e. Take the factor from `frozen`.",
        ),
        (
            -(1 - p),
            "You play down what the student already believes. DFT does the reverse: the factor is "
            "the probability itself, so unlikely tokens pull little.",
        ),
        (-np.ones(4), "That is SFT: there is no factor in front of the log-probability."),
        (
            np.zeros(4),
            "Nothing depends on `log_probs`, so there is no gradient. Only the factor is frozen.",
        ),
        (p, "The sign is wrong: a loss falls when the token becomes more likely."),
        (-u, "Your factor is the log-probability. Take the probability, `np.exp(frozen)`."),
    ]
    judge(slope, -p, mistakes, "For tokens of probability 0.02, 0.2, 0.5 and 0.9 the slope")
    judge(
        loss(u),
        -p * u,
        [
            (
                -p,
                "The gradient is right and the value is not: you wrote minus the probability. It "
                "trains in the same way, which is the gradient identity; the task is the form with "
                "a logarithm.",
            )
        ],
        "The gradient is right; the loss of the same tokens",
    )


@check(
    "At the base every pair has weight beta / 2. A pair that is told apart brakes by itself, and "
    "one that is ranked wrongly pulls with almost beta."
)
def check_dpo_weights(answer: Answer) -> None:
    """`answer(chosen, rejected, reference_chosen, reference_rejected, beta)`: four (pairs,) and a
    number to (pairs,): the weight of DPO's gradient on each token of the right rollout."""
    chosen, rejected = np.array([-10.0, -12.0, -30.0]), np.array([-11.0, -25.0, -14.0])
    reference = (np.array([-10.0, -15.0, -20.0]), np.array([-11.0, -20.0, -16.0]))
    beta = 0.1
    margin = (chosen - reference[0]) - (rejected - reference[1])
    right = beta * expit(-beta * margin)
    mistakes = [
        (
            beta * expit(beta * margin),
            "Your weight grows with the margin. It must shrink: a pair that is told apart has "
            "little left to teach. The derivative of -log sigma(h) is -sigma(-h).",
        ),
        (
            expit(-beta * margin),
            "The factor beta is missing: h is beta times the margin, so it comes out by the chain "
            "rule.",
        ),
        (beta * expit(-margin), "Inside the sigmoid stands h, which is beta times the margin."),
        (
            beta * expit(-beta * (chosen - rejected)),
            "You left the reference out. What counts is how much further apart the two are than "
            "under the base.",
        ),
        (-right, "That is the gradient. The weight is its negative: positive on the right one."),
        (-np.log(expit(beta * margin)), "That is the loss. The task asks for its weight."),
    ]
    found = ask(answer, chosen, rejected, *reference, beta, shape=(3,))
    judge(found, right, mistakes, "For margins of 0, 8 and -12")
    far, zero = np.array([2e4, -2e4]), np.zeros(2)
    try:
        with np.errstate(over="raise"):
            found = ask(answer, far, zero, zero, zero, beta, shape=(2,))
    except FloatingPointError:
        raise WrongAnswer(
            "Right for small margins, but exp overflows for large ones. "
            "`scipy.special.expit` computes the sigmoid without that."
        ) from None
    judge(found, np.array([0.0, beta]), [], "For margins of 20,000 and -20,000")
