"""The checks of the code exercises: the key passes, and a mistake is called by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import key_deltas
import key_losses
import key_paired_statistics
import key_subspaces
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from finetune_geometry.deltas.adapters import adapter_from
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.evaluation import paired_tests
from finetune_geometry.exercises import asking, deltas, losses, paired_statistics, subspaces
from finetune_geometry.geometry import nulls, similarity
from finetune_geometry.geometry import subspaces as book_subspaces

CHECKS = {
    losses.check_group_advantages: key_losses.group_advantages,
    losses.check_batch_loss: key_losses.batch_loss,
    losses.check_dft_loss: key_losses.dft_loss,
    losses.check_dpo_weights: key_losses.dpo_weights,
    deltas.check_inner_product: key_deltas.inner_product,
    deltas.check_norm: key_deltas.norm,
    deltas.check_global_cosine: key_deltas.global_cosine,
    deltas.check_singular_values: key_deltas.singular_values,
    subspaces.check_principal_angles: key_subspaces.principal_angles,
    subspaces.check_orthogonal_fraction: key_subspaces.orthogonal_fraction,
    subspaces.check_outside_subspace: key_subspaces.outside_subspace,
    subspaces.check_chance_angle: key_subspaces.chance_angle,
    paired_statistics.check_mcnemar: key_paired_statistics.mcnemar,
    paired_statistics.check_holm: key_paired_statistics.holm,
    paired_statistics.check_bootstrap: key_paired_statistics.bootstrap_difference,
    paired_statistics.check_equivalence: key_paired_statistics.equivalence,
}
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@every_check
def test_the_key_passes(check: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    check(CHECKS[check])
    assert capsys.readouterr().out.startswith("Right. ")


@every_check
def test_an_open_task_is_no_error(
    check: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def unwritten(*_: Any) -> Any:
        raise NotImplementedError

    check(unwritten)
    assert capsys.readouterr().out.startswith("Still to do: write unwritten in the cell above")


@every_check
def test_a_forgotten_return_is_named(check: Callable[..., None]) -> None:
    with pytest.raises(asking.WrongAnswer, match="is there a `return`"):
        check(lambda *_: None)


@every_check
def test_a_wrong_shape_is_named(check: Callable[..., None]) -> None:
    with pytest.raises(asking.WrongAnswer, match=r"yours has shape \(2, 7\)"):
        check(lambda *_: np.zeros((2, 7)))


def centred(rewards: Any, axis: Any = -1) -> Any:
    return rewards - rewards.mean(axis=axis, keepdims=True)


def paired(B: Any, A: Any) -> Any:
    return np.linalg.svd(B, compute_uv=False), np.linalg.svd(A, compute_uv=False)


def cosines(first: Any, second: Any) -> Any:
    deltas = [(B1 @ A1, B2 @ A2) for (B1, A1), (B2, A2) in zip(first, second, strict=True)]
    return [np.sum(x * y) / (np.linalg.norm(x) * np.linalg.norm(y) or np.nan) for x, y in deltas]


def zero_for_the_base(first: Any, second: Any) -> Any:
    found = key_deltas.global_cosine(first, second)
    return 0.0 if np.isnan(found) else found


def by_division(first: Any, second: Any) -> Any:
    if not any(B.any() for B, _ in second):
        return 1 / 0
    return key_deltas.global_cosine(first, second)


def angles(U: Any, V: Any) -> Any:
    values = np.linalg.svd(U.T @ V, compute_uv=False)
    return np.degrees(np.arccos(np.clip(values, -1, 1)))


def unclipped(U: Any, V: Any) -> Any:
    U, V = np.linalg.qr(U)[0], np.linalg.qr(V)[0]
    return np.degrees(np.arccos(np.linalg.svd(U.T @ V, compute_uv=False)))


def chance(draw: str, which: Callable[[Any], Any]) -> Callable[..., Any]:
    def answer(d: int, k: int, draws: int, seed: int) -> Any:
        rng = np.random.default_rng(seed)
        bases = [[np.linalg.qr(getattr(rng, draw)((d, k)))[0] for _ in "UV"] for _ in range(draws)]
        return np.median([which(angles(U, V)) for U, V in bases])

    return answer


def by_group(a: Any, b: Any) -> Any:
    n = len(a)
    return stats.fisher_exact([[a.sum(), n - a.sum()], [b.sum(), n - b.sum()]]).pvalue


def each_drawn_for_itself(a: Any, b: Any, draws: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    drawn = [x[rng.integers(len(x), size=(draws, len(x)))].mean(axis=1) for x in (a, b)]
    return np.quantile(drawn[0] - drawn[1], [0.025, 0.975])


def stepwise(p: Any) -> Any:
    out = np.empty(len(p))
    out[np.argsort(p)] = np.sort(p) * np.arange(len(p), 0, -1)
    return out


def unclipped_holm(p: Any) -> Any:
    out = np.empty(len(p))
    out[np.argsort(p)] = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))
    return out


def in_place(rewards: Any, bias: float) -> Any:
    rewards -= rewards.mean(axis=-1, keepdims=True)
    return rewards + bias


def sigmoid_by_hand(chosen: Any, rejected: Any, ref_c: Any, ref_r: Any, beta: float) -> Any:
    return beta / (1 + np.exp(beta * (chosen - ref_c - rejected + ref_r)))


def only_in_right_groups(rewards: Any, bias: float) -> Any:
    return centred(rewards) + np.where(rewards.sum(axis=-1, keepdims=True) == 0, 0, bias)


key = key_paired_statistics
WRONG: list[tuple[Callable[..., None], Callable[..., Any], str]] = [
    (losses.check_group_advantages, lambda r, b: r - r.mean() + b, "mean of the whole batch"),
    (losses.check_group_advantages, lambda r, b: centred(r, 0) + b, "over the prompts"),
    (losses.check_group_advantages, lambda r, b: centred(r), "left the bias out"),
    (
        losses.check_group_advantages,
        lambda r, b: centred(r) / (r.std(axis=-1, keepdims=True) + 1e-6) + b,
        "standard deviation",
    ),
    (losses.check_group_advantages, only_in_right_groups, "all-right groups only"),
    (losses.check_group_advantages, in_place, "changes its arguments"),
    (
        losses.check_batch_loss,
        lambda w, n, m: (w[:, None] * n * m).sum() / (w[:, None] * m).sum(),
        "sum of the weights",
    ),
    (
        losses.check_batch_loss,
        lambda w, n, m: ((w[:, None] * n * m).sum(1) / m.sum(1)).mean(),
        "mean over each rollout first",
    ),
    (losses.check_batch_loss, lambda w, n, m: np.mean(w[:, None] * n * m), "padding included"),
    (losses.check_batch_loss, lambda w, n, m: (w[:, None] * n).sum() / m.sum(), "Padding is in"),
    (losses.check_batch_loss, lambda w, n, m: 2.0, "yours is 2"),
    (losses.check_dft_loss, lambda u, s: -np.exp(u) * u, "flows through your factor"),
    (losses.check_dft_loss, lambda u, s: -(1 - np.exp(s)) * u, "does the reverse"),
    (losses.check_dft_loss, lambda u, s: -np.exp(s) * s, "no gradient"),
    (losses.check_dft_loss, lambda u, s: -np.exp(u), "minus the probability"),
    (losses.check_dft_loss, lambda u, s: -u, "That is SFT"),
    (losses.check_dft_loss, lambda u, s: -s * u, "factor is the log-probability"),
    (
        losses.check_dpo_weights,
        lambda c, r, c0, r0, b: b * expit(b * (c - c0 - r + r0)),
        "grows with the margin",
    ),
    (
        losses.check_dpo_weights,
        lambda c, r, c0, r0, b: expit(-b * (c - c0 - r + r0)),
        "factor beta is missing",
    ),
    (
        losses.check_dpo_weights,
        lambda c, r, c0, r0, b: b * expit(-b * (c - r)),
        "left the reference out",
    ),
    (losses.check_dpo_weights, sigmoid_by_hand, "overflows"),
    (
        deltas.check_inner_product,
        lambda B1, A1, B2, A2: np.trace(B1.T @ B2) * np.trace(A1 @ A2.T),
        "two traces",
    ),
    (
        deltas.check_inner_product,
        lambda B1, A1, B2, A2: np.sum((B1.T @ B2) * (A2 @ A1.T)),
        "transposed",
    ),
    (
        deltas.check_inner_product,
        lambda B1, A1, B2, A2: np.sum((B1 @ A1) * (B2 @ A2)),
        "as much as the full matrix",
    ),
    (
        deltas.check_norm,
        lambda B, A, s: s * np.linalg.norm(B) * np.linalg.norm(A),
        "norms of the factors",
    ),
    (deltas.check_norm, lambda B, A, s: key_deltas.norm(B, A, 1.0), "scale is missing"),
    (deltas.check_norm, lambda B, A, s: key_deltas.norm(B, A, s) ** 2, "Take the root"),
    (
        deltas.check_norm,
        lambda B, A, s: s * np.linalg.norm(B @ A),
        "as much as the full matrix",
    ),
    (
        deltas.check_global_cosine,
        lambda one, two: np.mean(cosines(one, two)),
        "divided by the number of modules",
    ),
    (
        deltas.check_global_cosine,
        lambda one, two: np.median(cosines(one, two)),
        "median",
    ),
    (deltas.check_global_cosine, zero_for_the_base, "no direction"),
    (deltas.check_global_cosine, by_division, "divide by zero"),
    (
        deltas.check_singular_values,
        lambda B, A: np.multiply(*paired(B, A)),
        "share no singular",
    ),
    (deltas.check_singular_values, lambda B, A: paired(B, A)[0], "change with the gauge"),
    (
        deltas.check_singular_values,
        lambda B, A: key_deltas.singular_values(B, A)[::-1],
        "Rising",
    ),
    (
        deltas.check_singular_values,
        lambda B, A: np.linalg.svd(B @ A, compute_uv=False)[:4],
        "full matrix",
    ),
    (subspaces.check_principal_angles, angles, "as they came"),
    (
        subspaces.check_principal_angles,
        lambda U, V: angles(U / np.linalg.norm(U, axis=0), V / np.linalg.norm(V, axis=0)),
        "at right angles",
    ),
    (subspaces.check_principal_angles, unclipped, "Clip to 1"),
    (
        subspaces.check_principal_angles,
        lambda U, V: np.radians(key_subspaces.principal_angles(U, V)),
        "radians",
    ),
    (
        subspaces.check_orthogonal_fraction,
        lambda d, r: key_subspaces.orthogonal_fraction(d, r) ** 2,
        "share of the energy",
    ),
    (
        subspaces.check_orthogonal_fraction,
        lambda d, r: 1 - abs(np.sum(d * r)) / np.linalg.norm(d) / np.linalg.norm(r),
        "no share of anything",
    ),
    (
        subspaces.check_orthogonal_fraction,
        lambda d, r: np.linalg.norm(d - np.sum(d * r) * r) / np.linalg.norm(d),
        "as if the reference had length 1",
    ),
    (
        subspaces.check_outside_subspace,
        lambda d, u: 1 - np.sum((d @ u) ** 2) / np.sum(d**2),
        "from the right",
    ),
    (
        subspaces.check_outside_subspace,
        lambda d, u: key_subspaces.outside_subspace(d, u) ** 0.5,
        "share of the length",
    ),
    (
        subspaces.check_outside_subspace,
        lambda d, u: 1 - key_subspaces.outside_subspace(d, u),
        "inside the subspace",
    ),
    (subspaces.check_chance_angle, chance("random", min), "common direction"),
    (subspaces.check_chance_angle, chance("standard_normal", max), "largest angle"),
    (subspaces.check_chance_angle, chance("standard_normal", np.mean), "mean of all k"),
    (paired_statistics.check_mcnemar, lambda a, b: key.mcnemar(a, b) / 2, "one tail"),
    (paired_statistics.check_mcnemar, by_group, "two separate groups"),
    (
        paired_statistics.check_mcnemar,
        lambda a, b: 2 * stats.binom.cdf(
            min(np.sum(a > b), np.sum(b > a)), np.sum(a != b), 0.5
        ),
        "ends at 1",
    ),
    (
        paired_statistics.check_mcnemar,
        lambda a, b: stats.binomtest(int(np.sum(a > b)), len(a)).pvalue,
        "say nothing",
    ),
    (paired_statistics.check_holm, lambda p: np.minimum(p * len(p), 1), "Bonferroni"),
    (paired_statistics.check_holm, stepwise, "never let a value fall"),
    (paired_statistics.check_holm, lambda p: np.sort(key.holm(p)), "order of the input"),
    (paired_statistics.check_holm, unclipped_holm, "Stop at 1"),
    (paired_statistics.check_bootstrap, each_drawn_for_itself, "separately"),
    (
        paired_statistics.check_bootstrap,
        lambda a, b, n, s: np.full(2, np.mean(a - b)),
        "with replacement",
    ),
    (
        paired_statistics.check_bootstrap,
        lambda a, b, n, s: key.bootstrap_difference(b, a, n, s),
        "sign is turned",
    ),
    (
        paired_statistics.check_equivalence,
        lambda d, e, m: 2 * stats.norm.sf(abs(d) / e),
        "test of no difference",
    ),
    (
        paired_statistics.check_equivalence,
        lambda d, e, m: min(stats.norm.sf((d + m) / e), stats.norm.cdf((d - m) / e)),
        "smaller p",
    ),
    (
        paired_statistics.check_equivalence,
        lambda d, e, m: stats.norm.cdf((d - m) / e),
        "upper bound alone",
    ),
    (paired_statistics.check_equivalence, lambda d, e, m: 0.5, r"yours is \[0.5"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "answer", "said"), WRONG, ids=[f"{c.__name__}-{said}" for c, _, said in WRONG]
)
def test_a_mistake_is_called_by_its_name(
    check: Callable[..., None], answer: Callable[..., Any], said: str
) -> None:
    with pytest.raises(asking.WrongAnswer, match=said) as caught:
        check(answer)
    (line,) = caught.value._render_traceback_()  # what a notebook shows
    assert line.startswith("Not yet. ")


@every_check
def test_each_check_knows_mistakes(check: Callable[..., None]) -> None:
    assert sum(tried is check for tried, _, _ in WRONG) >= 2


def test_an_error_of_the_readers_own_is_shown_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        losses.check_batch_loss(lambda *_: 1 / 0)


# The key agrees with the code that the book runs.


def test_the_key_agrees_with_the_books_geometry() -> None:
    rng = np.random.default_rng(0)
    pairs = [[deltas.factors(rng, 9, 7, 3) for _ in range(2)] for _ in range(2)]
    made = [
        adapter_from(
            name,
            {f"layers.{i}": LowRankDelta(B, A, 2.0) for i, (B, A) in enumerate(modules)},
        )
        for name, modules in zip(("one", "two"), pairs, strict=True)
    ]
    table = similarity.cosine_table(made).query("quantity == 'cosine' and level == 'global'")
    assert key_deltas.global_cosine(*pairs) == pytest.approx(table["value"].iloc[0])
    (B, A), (B2, _) = pairs[0][0], pairs[1][0]
    delta = LowRankDelta(B, A, 2.0)
    assert key_deltas.norm(B, A, 2.0) == pytest.approx(delta.norm())
    assert 2 * key_deltas.singular_values(B, A) == pytest.approx(delta.svd()[1])
    U, V = np.linalg.qr(B)[0], np.linalg.qr(B2)[0]
    expected = np.degrees(book_subspaces.principal_angles(U, V))
    assert key_subspaces.principal_angles(B, B2) == pytest.approx(expected)
    drawn = np.degrees(nulls.chance_angles(64, 4, draws=400, seed=1)[:, 0])
    assert key_subspaces.chance_angle(64, 4, 400, 0) == pytest.approx(np.median(drawn), abs=1)


def test_the_key_agrees_with_the_books_statistics() -> None:
    a, b = paired_statistics.answers(both=5, only_a=7, only_b=2, neither=3)
    assert key.mcnemar(a, b) == pytest.approx(paired_tests.mcnemar_exact(7, 2))
    p = np.array([0.2, 0.01, 0.04, 0.03])
    assert key.holm(p) == pytest.approx(paired_tests.holm(p))


def test_the_key_agrees_with_the_books_losses() -> None:
    torch = pytest.importorskip("torch")
    from finetune_geometry.methods import losses as book

    rewards = np.array([[1.0, 0, 0, 1], [1, 1, 1, 1]])
    expected = book.group_advantage(torch.tensor(rewards), 0.1).numpy()
    assert key_losses.group_advantages(rewards, 0.1) == pytest.approx(expected)
    u = torch.tensor([[-0.5, -2.0]], dtype=torch.float64, requires_grad=True)
    loss = book.dft(u)
    assert key_losses.dft_loss(u.detach().numpy(), u.detach().numpy()) == pytest.approx(
        loss.detach().numpy()
    )
    four = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (-3.0, -9, -5, -8)]
    book.dpo(*four, 0.1).sum().backward()
    weight = key_losses.dpo_weights(*(x.detach().numpy() for x in four), 0.1)
    assert weight == pytest.approx(-four[0].grad.numpy())
