"""Full fine-tunings as differences of checkpoints: exact cosines, spectra with a stated error."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from synthetic import dense, write_adapter

from finetune_geometry.cli import main
from finetune_geometry.deltas.adapters import adapter_from
from finetune_geometry.deltas.checkpoints import is_checkpoint, leading_part, load_checkpoint
from finetune_geometry.geometry.similarity import cosine_table, orthogonal_fraction_table
from finetune_geometry.geometry.subspaces import principal_angle_table, spectrum_table
from finetune_geometry.settings.errors import UserError

Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def save(folder, tensors, dtype=torch.float32, shards=False):
    folder.mkdir()
    tensors = {name: torch.tensor(value, dtype=dtype) for name, value in tensors.items()}
    if not shards:
        save_file(tensors, folder / "model.safetensors")
        return folder
    where = {name: f"model-{i}.safetensors" for i, name in enumerate(tensors)}
    for name, file in where.items():
        save_file({name: tensors[name]}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


@pytest.fixture
def models(tmp_path, rng):
    """base; full (every weight moved); also the LoRA adapter `lora` of the same base."""
    base = {f"{Q}.weight": rng.standard_normal((24, 20)), "model.norm.weight": np.ones(20)}
    moved = {name: value + 0.1 * rng.standard_normal(value.shape) for name, value in base.items()}
    b, a = rng.standard_normal((24, 3)), rng.standard_normal((3, 20))
    return {
        "base": save(tmp_path / "base", base),
        "full": save(tmp_path / "full", moved, shards=True),
        "lora": write_adapter(tmp_path / "lora", {Q: (b, a)}),
    }


def test_difference_is_that_of_the_tensors(models, rng):
    adapter = load_checkpoint(models["full"], models["base"])
    assert list(adapter) == [Q]
    assert adapter.name == "full"
    assert adapter.extras == ("model.norm.weight",)
    delta = adapter[Q]
    assert delta.scale * delta.B @ delta.A == pytest.approx(delta.full, abs=1e-12)


def test_cosines_of_truncated_deltas_are_exact(rng):
    x, y = rng.standard_normal((2, 60, 50))
    b, a = rng.standard_normal((60, 4)), rng.standard_normal((4, 50))
    from finetune_geometry.deltas.lowrank import LowRankDelta

    one, two = leading_part(x, rank=5), leading_part(y + 0.5 * x, rank=5)
    low = LowRankDelta(b, a)
    assert one.r == 5
    names = ("one", "two", "low")
    adapters = [
        adapter_from(n, {"layers.0": d}) for n, d in zip(names, (one, two, low), strict=True)
    ]
    table = cosine_table(adapters).query("level == 'global'").set_index(["a", "b", "quantity"])
    matrices = {"one": x, "two": y + 0.5 * x, "low": dense(low)}
    for first, second in (("one", "two"), ("one", "low"), ("two", "low")):
        u, v = matrices[first].ravel(), matrices[second].ravel()
        wanted = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        found = table["value"]
        assert found[first, second, "cosine"] == pytest.approx(wanted, abs=1e-12)
        assert found[first, second, "distance"] == pytest.approx(np.linalg.norm(u - v))
    orthogonal = orthogonal_fraction_table(adapters, reference="one", ks=[2])
    u, v = x.ravel(), (y + 0.5 * x).ravel()
    wanted = np.linalg.norm(v - (u @ v) / (u @ u) * u) / np.linalg.norm(v)
    row = orthogonal.query(
        "a == 'two' and level == 'global' and quantity == 'orthogonal_to_direction_norm'"
    )
    assert row["value"].iloc[0] == pytest.approx(wanted, abs=1e-7)


def test_what_the_truncation_leaves_out_is_reported(rng):
    x = rng.standard_normal((200, 150))
    delta = leading_part(x, rank=10)
    table = spectrum_table([adapter_from("one", {"layers.0": delta})])
    row = table.query("quantity == 'truncated_norm' and module == 'layers.0'")
    wanted = np.linalg.norm(x - delta.B @ delta.A) / np.linalg.norm(x)
    assert row["value"].iloc[0] == pytest.approx(wanted, rel=1e-6)


def test_leading_directions_of_a_decaying_spectrum_are_found(rng):
    """A spectrum like those of fine-tunings: a few strong directions over a long weak tail."""
    u, _ = np.linalg.qr(rng.standard_normal((300, 200)))
    v, _ = np.linalg.qr(rng.standard_normal((250, 200)))
    s = np.concatenate([np.linspace(10, 5, 8), 0.5 * np.ones(192)])
    x = (u * s) @ v.T
    found = leading_part(x, rank=16).svd()
    assert found[1][:8] == pytest.approx(s[:8], rel=1e-6)
    one, two = leading_part(x, rank=16), leading_part(x, rank=16, seed=1)
    pair = [adapter_from("a", {"layers.0": one}), adapter_from("b", {"layers.0": two})]
    angles = principal_angle_table(pair, ks=[8]).query("quantity == 'angle_largest'")
    assert angles["value"].max() < 1e-3


def test_full_and_lora_compare_on_the_command_line(models, capsys):
    sources = [f"full={models['full']}", f"lora={models['lora']}"]
    assert main(["compare", *sources, "--json", "--draws", "5"]) == 2
    assert "say which model it was trained from" in capsys.readouterr().err
    command = ["compare", *sources, "--base-model", str(models["base"]), "--json", "--draws", "5"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modules"] == 1
    assert found["adapters"]["full"]["tensors_not_compared"] == 1


def test_unchanged_checkpoint_is_a_zero_delta(models):
    adapter = load_checkpoint(models["base"], models["base"], "same")
    assert adapter[Q].norm() == 0
    table = cosine_table([adapter, load_checkpoint(models["full"], models["base"], "full")])
    assert "undefined_cosine" in set(table["quantity"])
    assert np.isfinite(table["value"]).all()


def test_checkpoints_of_other_models_and_pickles_are_refused(models, tmp_path, rng):
    other = save(tmp_path / "other", {f"{Q}.weight": rng.standard_normal((24, 21))})
    with pytest.raises(UserError, match=r"tensors: 1 in one only.*1 of different shapes"):
        load_checkpoint(other, models["base"])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="is a pickle"):
        load_checkpoint(pickled, models["base"])
    vectors = save(tmp_path / "vectors", {"norm.weight": np.ones(3)})
    with pytest.raises(UserError, match="no weight matrices"):
        load_checkpoint(vectors, vectors)
    assert is_checkpoint(models["full"])
    assert not is_checkpoint(models["lora"])
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        load_checkpoint(models["lora"], models["base"])


@pytest.mark.parametrize(
    ("dtype", "modules_with_angles", "words"),
    [
        (torch.float32, 3, "(k = 10, not defined in 1 of 4 modules)"),
        # Without rounding the rank is 6, that of the factors.
        (torch.float64, 0, "No module has k = 10 directions in both: a smaller k gives angles."),
    ],
)
def test_two_merged_adapters_compare_though_the_first_matrix_is_unchanged(
    tmp_path, capsys, rng, dtype, modules_with_angles, words
):
    """The way out that refusals name: merge, and compare with --base-model."""
    modules = [f"model.layers.{i}.self_attn.q_proj" for i in range(3)]
    base = {f"{m}.weight": rng.standard_normal((40, 30)) for m in modules}
    base["model.embed_tokens.weight"] = rng.standard_normal((50, 30))
    sources = []
    for name in ("one", "two"):
        merged = dict(base)
        for m in modules:
            b, a = rng.standard_normal((40, 6)), rng.standard_normal((6, 30))
            merged[f"{m}.weight"] = base[f"{m}.weight"] + b @ a
        sources.append(f"{name}={save(tmp_path / name, merged, dtype=dtype)}")
    folder = save(tmp_path / "base", base, dtype=dtype)
    command = ["compare", *sources, "--base-model", str(folder), "--draws", "5"]
    assert main([*command, "--json", "--out", str(tmp_path / "report")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modules"] == 4
    assert found["k"] == 10
    (pair,) = found["pairs"]
    assert (pair["initial_a"], pair["shared_a"], pair["cosine_of_a"]) == ("no A", None, None)
    assert pair["angle_modules"] == modules_with_angles
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "with these input directions" in said
    assert words in said


def test_ranks_are_0_where_a_matrix_did_not_change(models, tmp_path, rng):
    adapter = load_checkpoint(models["full"], models["base"], rank=7)
    assert adapter.rank(Q) == 7
    # The same numbers in another type are no change.
    base = {f"{Q}.weight": np.float32(rng.standard_normal((24, 20)).astype(np.float16))}
    single = save(tmp_path / "single", base)
    half = save(tmp_path / "half", base, dtype=torch.float16)
    adapter = load_checkpoint(half, single)
    assert adapter.rank(Q) == 0
    assert adapter[Q].r == 0
