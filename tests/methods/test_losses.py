"""Each objective against hand-computed values, its gradient weight, and its limits."""

import inspect
import math

import pytest
import torch
from torch import Tensor

from finetune_geometry.methods import losses, rows
from finetune_geometry.methods.trainers import token_loss
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import OBJECTIVES
from finetune_geometry.settings.sections import METHOD_SECTIONS

# Two rows of three tokens: a right one with probabilities 1/2, 1/4 and a wrong one with 1/8.
PROBABILITIES = torch.tensor([[0.5, 0.25, 1.0], [0.125, 1.0, 1.0]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool)
REWARD = torch.tensor([1.0, 0.0], dtype=torch.float64)
LOG2 = math.log(2)
VARIANTS = [
    pytest.param(name, variant, id=f"{name}-{variant.name}")
    for name, objective in OBJECTIVES.items()
    for variant in objective.variants
]
UNPAIRED = [case for case in VARIANTS if not OBJECTIVES[case.values[0]].paired]


def log_probs() -> Tensor:
    return PROBABILITIES.log().requires_grad_()


def weights(loss: Tensor, leaf: Tensor) -> Tensor:
    """w of each token where the loss's gradient is -w d log pi."""
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return -gradient


def check_close(found: Tensor, expected: list) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_sft_is_the_negative_log_likelihood():
    leaf = log_probs()
    loss = losses.sft(leaf)
    check_close(loss, [[LOG2, 2 * LOG2, 0], [3 * LOG2, 0, 0]])
    check_close(weights(loss, leaf)[MASK], [1, 1, 1])


def test_rft_drops_the_wrong_row():
    leaf = log_probs()
    loss = losses.rft(leaf, REWARD)
    check_close(loss, [[LOG2, 2 * LOG2, 0], [0, 0, 0]])
    check_close(weights(loss, leaf)[MASK], [1, 1, 0])


def test_dft_weighs_a_token_by_its_probability_and_does_not_differentiate_the_weight():
    leaf = log_probs()
    loss = losses.dft(leaf)
    check_close(loss, [[LOG2 / 2, 2 * LOG2 / 4, 0], [3 * LOG2 / 8, 0, 0]])
    check_close(weights(loss, leaf)[MASK], [0.5, 0.25, 0.125])


def test_rift_as_printed_halves_the_right_row():
    leaf = log_probs()
    loss = losses.rift(leaf, REWARD, 0.5)
    check_close(loss, [[LOG2 / 2, LOG2, 0], [3 * LOG2, 0, 0]])
    check_close(weights(loss, leaf)[MASK], [0.5, 0.5, 1])


def test_rift_as_published_pushes_the_wrong_row_away_in_proportion_to_its_probability():
    leaf = log_probs()
    loss = losses.rift_published(leaf, MASK, REWARD, -0.2)
    check_close(loss, [[LOG2, 2 * LOG2, 0], [0.2 * 0.125, 0, 0]])
    check_close(weights(loss, leaf), [[1, 1, 1], [-0.2 * 0.125, 0, 0]])  # bounded by 0.2


def test_offline_grpo_weighs_by_the_advantage():
    leaf = log_probs()
    loss = losses.offline_grpo(leaf, torch.tensor([0.6, -0.4], dtype=torch.float64))
    check_close(loss, [[0.6 * LOG2, 1.2 * LOG2, 0], [-1.2 * LOG2, 0, 0]])
    check_close(weights(loss, leaf)[MASK], [0.6, 0.6, -0.4])


def test_offline_grpo_of_krafton_is_linear_in_the_probability_with_a_kl_term():
    leaf = log_probs()
    reference = torch.tensor([[0.25, 0.25, 1.0], [0.25, 1.0, 1.0]], dtype=torch.float64).log()
    advantage = torch.tensor([0.5, -0.5], dtype=torch.float64)
    loss = losses.offline_grpo_krafton(leaf, reference, MASK, advantage, 0.2)
    # q = reference / pi is 1/2, 1 and 2; the estimate is q - log q - 1.
    kl = [0.5 + LOG2 - 1, 0.0, 2 - LOG2 - 1]
    check_close(loss, [[-0.25 + 0.2 * kl[0], -0.125, 0], [0.0625 + 0.2 * kl[2], 0, 0]])
    # w = A pi + kl (q - 1)
    found = weights(loss, leaf)
    check_close(found[MASK], [0.25 - 0.2 * 0.5, 0.125, -0.0625 + 0.2 * 1.0])
    assert found[~MASK].abs().max() == 0


def test_krafton_s_kl_term_is_never_negative_and_zero_at_the_reference():
    torch.manual_seed(0)
    policy, reference = -torch.rand(2, 5, 7).double() * 5
    nothing, mask = torch.zeros(5).double(), torch.ones(5, 7).bool()
    loss = losses.offline_grpo_krafton(policy, reference, mask, nothing, 1.0)
    assert loss.min() > 0
    assert losses.offline_grpo_krafton(policy, policy, mask, nothing, 1.0).abs().max() == 0


@pytest.mark.parametrize(
    ("reward", "paper", "krafton"),
    [
        ((1, 1, 1, 1), (0.1, 0.1, 0.1, 0.1), (0.1, 0.1, 0.1, 0.1)),
        ((0, 0, 0, 0), (0.1, 0.1, 0.1, 0.1), (0, 0, 0, 0)),
        ((1, 1, 0, 0), (0.6, 0.6, -0.4, -0.4), (0.5, 0.5, -0.5, -0.5)),
        ((1, 0, 0, 0), (0.85, -0.15, -0.15, -0.15), (0.75, -0.25, -0.25, -0.25)),
    ],
)
def test_group_advantages(reward, paper, krafton):
    group = torch.tensor([reward], dtype=torch.float64)
    check_close(losses.group_advantage(group, 0.1), [list(paper)])
    check_close(losses.group_advantage_krafton(group, 0.1), [list(krafton)])


def test_dpo_by_hand():
    chosen, rejected = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -2.0])
    reference = torch.tensor([-2.0, -2.0])
    loss = losses.dpo(chosen, rejected, reference, reference, 0.1)
    # margins 2 and 0
    expected = [math.log(1 + math.exp(-0.2)), LOG2]
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_dpo_pulls_both_completions_with_the_same_weight():
    chosen = torch.tensor([-3.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-5.0], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    loss = losses.dpo(chosen, rejected, zero, zero, 0.1)
    up, down = torch.autograd.grad(loss.sum(), (chosen, rejected))
    expected = 0.1 / (1 + math.exp(0.1 * 2))  # beta * sigmoid(-beta * margin)
    check_close(-up, [expected])
    check_close(down, [expected])


def test_a_beginning_that_both_completions_share_cancels_in_dpo():
    """The proposition of the book, with log-probabilities of tokens in their context."""
    torch.manual_seed(0)
    logits = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)  # of the next token

    def loss(first: int) -> Tensor:
        """DPO of a pair that shares three tokens, its sums beginning at token `first`."""
        sums = []
        for tokens in ([0, 1, 2, 3, 4], [0, 1, 2, 5, 1, 3]):
            steps = torch.tensor(tokens).unfold(0, 2, 1)[first:]
            for model in (logits, logits.detach().flip(0)):  # policy, reference
                sums.append(model.log_softmax(-1)[steps[:, 0], steps[:, 1]].sum())
        chosen, reference_chosen, rejected, reference_rejected = sums
        return losses.dpo(chosen, rejected, reference_chosen, reference_rejected, 0.1)

    whole, rest = loss(0), loss(2)
    torch.testing.assert_close(whole, rest)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (whole, rest)]
    torch.testing.assert_close(*gradients)
    assert gradients[0][2].abs().max() > 0  # where the two part
    assert not torch.allclose(whole, loss(3))


# Limits: where two objectives must be the same function.


@pytest.fixture
def batch():
    torch.manual_seed(1)
    mask = torch.arange(9)[None] < torch.tensor([9, 4, 7, 1])[:, None]
    return -torch.rand(4, 9).double() * 4 * mask, mask


def test_rift_with_lambda_0_is_sft(batch):
    reward = torch.tensor([1.0, 0, 1, 0]).double()
    assert torch.equal(losses.rift(batch[0], reward, 0.0), losses.sft(batch[0]))


def test_published_rift_without_negatives_is_rft(batch):
    log_probs, mask = batch
    reward = torch.tensor([1.0, 0, 1, 0]).double()
    found = losses.rift_published(log_probs, mask, reward, 0.0)
    assert torch.equal(found.abs(), losses.rft(log_probs, reward).abs())
    right = torch.ones(4).double()
    found = losses.rift_published(log_probs, mask, right, -0.2)
    assert torch.equal(found, losses.rft(log_probs, right))


def test_all_right_rows_make_rft_sft(batch):
    right = torch.ones(4).double()
    assert torch.equal(losses.rft(batch[0], right), losses.sft(batch[0]))


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_groups_without_a_contrast_make_offline_grpo_a_tenth_of_sft(batch, reward):
    advantage = losses.group_advantage(torch.full((1, 4), reward).double(), 0.1)[0]
    found = losses.offline_grpo(batch[0], advantage)
    torch.testing.assert_close(found, 0.1 * losses.sft(batch[0]), atol=0, rtol=1e-12)


def test_a_certain_model_makes_dft_sft():
    almost_one = torch.full((2, 3), -1e-9).double()
    torch.testing.assert_close(losses.dft(almost_one), losses.sft(almost_one))


def test_dpo_does_not_change_when_reference_and_policy_move_together():
    a, b, c, d = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    moved = losses.dpo(a + 3, b - 2, c + 3, d - 2, 0.1)
    torch.testing.assert_close(moved, losses.dpo(a, b, c, d, 0.1))


#: What each variant of the book is, as a function of (log_probs, mask, weight, reference).
EXPECTED = {
    ("sft", "paper"): lambda p, m, w, r: losses.sft(p),
    ("rft", "paper"): lambda p, m, w, r: losses.rft(p, w),
    ("rft", "distinct"): lambda p, m, w, r: losses.rft(p, w),
    ("dft", "paper"): lambda p, m, w, r: losses.dft(p),
    ("rift", "paper"): lambda p, m, w, r: losses.rift(p, w, 0.3),
    ("rift", "published"): lambda p, m, w, r: losses.rift_published(p, m, w, -0.7),
    ("offline_grpo", "paper"): lambda p, m, w, r: losses.offline_grpo(p, w),
    ("offline_grpo", "krafton"): lambda p, m, w, r: losses.offline_grpo_krafton(p, r, m, w, 0.9),
}


@pytest.mark.parametrize(("method", "variant"), EXPECTED)
def test_every_variant_trains_with_its_own_loss(batch, method, variant):
    log_probs, mask = batch
    weight, reference = torch.tensor([1.0, 0, 1, 0]).double(), log_probs - 0.5 * mask
    constants = {"reward_lambda": 0.3, "negative_reward": -0.7, "kl": 0.9, "bias": 0.1}
    own = {name: constants[name] for name in OBJECTIVES[method].constants}
    settings = METHOD_SECTIONS[method](variant=variant, **own)
    found = token_loss(method, settings)(log_probs, mask, weight, lambda: reference)
    assert torch.equal(found, EXPECTED[method, variant](log_probs, mask, weight, reference))


@pytest.mark.parametrize(("method", "variant"), UNPAIRED)
def test_every_loss_is_silent_off_the_mask(batch, method, variant):
    log_probs, mask = batch
    settings = METHOD_SECTIONS[method](variant=variant.name)
    weight = torch.tensor([1.0, 0, 1, 0]).double()
    found = token_loss(method, settings)(log_probs, mask, weight, lambda: log_probs - 0.5 * mask)
    assert found.shape == log_probs.shape
    assert found[~mask].abs().max() == 0


# The table of objectives against the functions that it names.


@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_the_table_agrees_with_the_signatures(method, variant):
    constants = set(OBJECTIVES[method].constants)
    assert tuple(inspect.signature(getattr(losses, variant.loss)).parameters) == variant.takes
    weight = inspect.signature(getattr(rows, variant.weight)).parameters
    assert tuple(weight) == ("rows", *variant.weight_takes)
    assert set(variant.weight_takes) <= constants
    tensors = {"log_probs", "reference_log_probs", "mask", "reward", "advantage"}
    tensors |= {"chosen", "rejected", "reference_chosen", "reference_rejected"}
    assert set(variant.takes) - tensors <= constants
    assert variant.needs_reference == any("reference" in name for name in variant.takes)


@pytest.mark.parametrize("method", OBJECTIVES)
def test_every_constant_is_taken_by_a_variant(method):
    variants = OBJECTIVES[method].variants
    taken = {name for v in variants for name in (*v.takes, *v.weight_takes)}
    assert set(OBJECTIVES[method].constants) <= taken
    assert len({v.name for v in variants}) == len(variants)


@pytest.mark.parametrize(("method", "variant"), UNPAIRED)
def test_the_pull_of_the_table_is_the_gradient_weight_of_the_loss(method, variant):
    """... and where the table has none, the weight hangs on the probability of the token."""
    settings = METHOD_SECTIONS[method](variant=variant.name)
    row_weights = torch.tensor([1.0, 0.0]).double()
    found = []
    for factor in (1.0, 0.5):
        leaf = (factor * PROBABILITIES).log().requires_grad_()
        loss = token_loss(method, settings)(leaf, MASK, row_weights, PROBABILITIES.log)
        found.append(weights(loss, leaf)[MASK])
    if variant.pull is None:
        assert not torch.allclose(*found)
    else:
        right, wrong = (float(variant.pull(w, settings)) for w in (1.0, 0.0))
        for one in found:
            check_close(one, [right, right, wrong])


def test_an_unknown_variant_is_told_in_one_line():
    with pytest.raises(UserError) as caught:
        token_loss("rft", METHOD_SECTIONS["rft"](variant="papr"))
    wanted = "unknown variant 'papr': methods.rft.variant: use one of paper, distinct"
    assert str(caught.value) == wanted
