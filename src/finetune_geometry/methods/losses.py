"""The objectives as pure functions on per-token log-probabilities.

Shapes, everywhere: `log_probs` (rows, tokens) holds log pi(y_t | x, y_<t) of the completion's
tokens under the model that is trained and 0 at every other position; `mask` (rows, tokens) is 1
at completion tokens; `reward` and `advantage` are (rows,).  Log-probabilities are in nats.

The unpaired objectives return the loss of each token, (rows, tokens), 0 off the mask; the trainer
adds them up and divides by the number of completion tokens in the batch, the same for all of them.
Each is a weighted negative log-likelihood in gradient, -w * d log pi; its docstring gives w.  `dpo`
returns one loss for each pair.

Where a primary source and the paper (arXiv:2606.23740) differ, the paper's is the plain name and
the primary's carries the source in its name.  Terms in pi itself are taken per token: pi of a
whole sequence of hundreds of tokens is zero in floating point.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def sft(log_probs: Tensor) -> Tensor:
    """Supervised fine-tuning on all rollouts, right and wrong: w = 1."""
    return -log_probs


def rft(log_probs: Tensor, reward: Tensor) -> Tensor:
    """Rejection-sampling fine-tuning (Yuan et al., arXiv:2308.01825): SFT on right rollouts, w = r.

    Wrong rows stay in the batch with weight 0, so that row order and step count are those of SFT.
    The primary source also trains on the original solutions and keeps one rollout for each list of
    equations; `rows.distinct_reward` keeps one for each text.
    """
    return -reward[:, None] * log_probs


def dft(log_probs: Tensor) -> Tensor:
    """Dynamic fine-tuning (Wu et al., arXiv:2508.05629): w = sg(pi(y_t)).

    The weight is a constant for the gradient (stop-gradient).  It damps tokens that the model
    finds improbable.
    """
    return -log_probs.exp().detach() * log_probs


def rift(log_probs: Tensor, reward: Tensor, reward_lambda: float) -> Tensor:
    """RIFT as the paper prints it: w = 1 - r * lambda, with lambda not stated there."""
    return -(1 - reward_lambda * reward)[:, None] * log_probs


def rift_published(
    log_probs: Tensor, mask: Tensor, reward: Tensor, negative_reward: float
) -> Tensor:
    """Reward-informed fine-tuning as published (Liu et al., arXiv:2601.09253).

    Right rollouts: -log pi, w = 1.  Wrong rollouts: -r- * pi with r- = `negative_reward` < 0,
    which is linear in pi and hence bounded: w = r- * pi, an ever weaker push away.
    """
    right = -log_probs
    wrong = -negative_reward * log_probs.exp() * mask
    return torch.where(reward[:, None] > 0, right, wrong)


def offline_grpo(log_probs: Tensor, advantage: Tensor) -> Tensor:
    """Offline GRPO as the paper prints it: w = A, with A = r - mean(r) + 0.1 of the group.

    No probability ratio, no clipping, no KL term, no division by the standard deviation.
    """
    return -advantage[:, None] * log_probs


def offline_grpo_krafton(
    log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor, advantage: Tensor, kl: float
) -> Tensor:
    """Offline GRPO as in KRAFTON's code: -A pi(y_t) + kl * KL estimate; w = A pi(y_t) + KL part.

    The code's small reward for entropy (coefficient 0.001) is left out: it is no function of
    log pi(y_t).

    The KL estimate is GRPO's (Shao et al., arXiv:2402.03300, eq. 4): q - log q - 1 with
    q = pi_ref / pi.  `reference_log_probs` (rows, tokens) comes from the model without adapter.
    """
    log_ratio = reference_log_probs - log_probs
    divergence = log_ratio.exp() - log_ratio - 1
    return (-advantage[:, None] * log_probs.exp() + kl * divergence) * mask


def group_advantage(reward: Tensor, bias: float) -> Tensor:
    """A = r - mean(r) + bias within each group: (groups, K) to (groups, K).

    With bias 0.1 a group without a contrast, all right or all wrong, gives +0.1 to every row.
    """
    return reward - reward.mean(-1, keepdim=True) + bias


def group_advantage_krafton(reward: Tensor, bias: float) -> Tensor:
    """As `group_advantage`, but the bias goes to all-right groups only: (groups, K) both."""
    all_right = reward.amin(-1, keepdim=True) > 0
    return reward - reward.mean(-1, keepdim=True) + bias * all_right


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> Tensor:
    """Direct preference optimisation (Rafailov et al., arXiv:2305.18290, eq. 7): (pairs,).

    Each argument is the log-probability of a whole completion, summed over its tokens, (pairs,).
    Training goes through TRL's DPOTrainer; this closed form is its oracle and the book's text.
    """
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -logsigmoid(beta * margin)
