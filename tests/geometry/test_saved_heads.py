"""What adapters save whole: named, measured and compared."""

import numpy as np
import pytest
import torch
from synthetic import module_name, write_adapter

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.geometry import saved_heads as saved
from finetune_geometry.geometry.saved_heads import shown_name, tabulate_saved

FACTORS = {module_name(0): (np.ones((6, 2)), np.ones((2, 5)))}
HEAD = "base_model.model.classifier.weight"


def adapters_with(tmp_path, **heads):
    return [
        load_adapter(write_adapter(tmp_path / name, FACTORS, extra=extra), name)
        for name, extra in heads.items()
    ]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (HEAD, "classifier.weight"),
        ("base_model.model.score.modules_to_save.default.weight", "score.weight"),
        ("base_model.model.score.modules_to_save.weight", "score.weight"),
        ("model.layers.0.q_proj.bias", "model.layers.0.q_proj.bias"),
    ],
)
def test_names_are_shown_without_wrappers(key, shown):
    assert shown_name(key) == shown


def test_norms_and_cosines_of_heads(tmp_path):
    one, two = (torch.randn(3, 5, generator=torch.Generator().manual_seed(i)) for i in range(2))
    found = tabulate_saved(
        adapters_with(
            tmp_path,
            a={HEAD: one},
            b={HEAD.replace("classifier.", "classifier.modules_to_save.default."): two},
            c={HEAD: torch.ones(4, 5)},
            d={},
        )
    )
    rows = found.set_index(["a", "b", "quantity"])["value"]
    assert rows["a", "", "norm"] == pytest.approx(float(one.norm()))
    assert rows["a", "b", "cosine"] == pytest.approx(
        float((one * two).sum() / one.norm() / two.norm()), rel=1e-5
    )
    assert rows["c", "", "norm"] == pytest.approx(np.sqrt(20))
    assert len(rows) == 4  # nothing is compared across shapes
    assert set(found["shape"]) == {"3 x 5", "4 x 5"}


def test_what_cannot_be_compared_is_named_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "LARGEST", 100)
    found = tabulate_saved(
        adapters_with(
            tmp_path,
            a={
                "m.position_ids": torch.arange(4),
                "m.bad": torch.tensor([1.0, float("nan")]),
                "m.large": torch.ones(101),
                "m.zero": torch.zeros(7),
            },
            b={"m.zero": torch.zeros(7)},
        )
    )
    rows = found.set_index(["tensor", "a"])
    for name, size in (("m.position_ids", 4), ("m.bad", 2), ("m.large", 101)):
        assert rows.loc[(name, "a"), "quantity"] == "not_read"
        assert rows.loc[(name, "a"), "value"] == size
    assert rows.loc[("m.zero", "a"), "value"] == 0.0
    assert "cosine" not in set(found["quantity"])


def test_adapters_without_such_tensors_give_an_empty_table(tmp_path):
    assert len(tabulate_saved(adapters_with(tmp_path, a={}, b={}))) == 0
