"""A delta along a reference and off it, against whole matrices."""

import numpy as np
import pytest

from finetune_geometry.deltas.adapters import adapter_from
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.split_off import random_rest, rest_norms, shares_along

SHAPES = {"layers.0.q": (7, 5), "layers.0.v": (4, 5), "layers.1.q": (7, 5)}


def adapter(name: str, seed: int):
    rng = np.random.default_rng(seed)
    deltas = {
        module: LowRankDelta(rng.standard_normal((out, 2)), rng.standard_normal((2, into)), 0.5)
        for module, (out, into) in SHAPES.items()
    }
    return adapter_from(name, deltas)


def whole(one) -> dict[str, np.ndarray]:
    return {module: delta.scale * delta.B @ delta.A for module, delta in one.items()}


def test_the_rest_is_orthogonal_over_the_whole_network():
    sft, other = adapter("sft", 1), adapter("other", 2)
    share = shares_along([sft, other], "sft")["other"]
    a, b = whole(sft), whole(other)
    rest = {module: b[module] - share * a[module] for module in SHAPES}
    assert sum((rest[module] * a[module]).sum() for module in SHAPES) == pytest.approx(0, abs=1e-12)
    norms = rest_norms(other, sft, share)
    assert norms == pytest.approx({module: np.linalg.norm(rest[module]) for module in SHAPES})


def test_a_random_rest_has_the_norms_and_the_inputs_of_the_real_one():
    sft, other = adapter("sft", 1), adapter("other", 2)
    norms = rest_norms(other, sft, 0.3)
    drawn = random_rest(other, norms, seed=5)
    assert drawn.name == "other-random"
    for module, matrix in whole(drawn).items():
        assert np.linalg.norm(matrix) == pytest.approx(norms[module])
        # Its rows lie in the span of the adapter's A.
        coefficients = np.linalg.lstsq(other[module].A.T, matrix.T, rcond=None)[0]
        assert np.allclose(other[module].A.T @ coefficients, matrix.T)
    again, fresh = random_rest(other, norms, seed=5), random_rest(other, norms, seed=6)
    assert np.array_equal(again["layers.0.q"].B, drawn["layers.0.q"].B)
    assert not np.array_equal(fresh["layers.0.q"].B, drawn["layers.0.q"].B)
