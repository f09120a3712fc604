"""`LowRankDelta` is the dense matrix in all but storage; folders load exactly or not at all."""

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from synthetic import dense, module_name, random_delta, write_adapter

from finetune_geometry.deltas.adapters import (
    Adapter,
    adapter_from,
    common_modules,
    load_adapter,
    zero_adapter,
)
from finetune_geometry.deltas.depth import depth_order, kind_of, layer_of, layers_of, stack_ranges
from finetune_geometry.deltas.lowrank import LowRankDelta, zero_delta
from finetune_geometry.runs.adapters import load_run
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError

Q = module_name(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def factors(rng):
    return {
        module_name(i): (rng.standard_normal((6, 3)), rng.standard_normal((3, 5))) for i in (0, 1)
    }


# --- the algebra -----------------------------------------------------------------------------


def test_algebra_equals_the_dense_matrices(rng):
    a, b = random_delta(rng), random_delta(rng, r=3, scale=-0.5)
    assert dense(a + b) == pytest.approx(dense(a) + dense(b), abs=1e-12)
    assert dense(a - b) == pytest.approx(dense(a) - dense(b), abs=1e-12)
    assert dense(-a) == pytest.approx(-dense(a))
    assert dense(3.0 * a) == pytest.approx(3 * dense(a))
    assert dense(a * 3.0) == pytest.approx(3 * dense(a))
    assert a.norm() == pytest.approx(np.linalg.norm(dense(a)), rel=1e-13)
    assert a.inner(b) == pytest.approx(np.sum(dense(a) * dense(b)), rel=1e-12)
    u, s, v = a.svd()
    assert (u * s) @ v.T == pytest.approx(dense(a), abs=1e-12)
    assert s == pytest.approx(np.linalg.svd(dense(a), compute_uv=False)[: a.r], rel=1e-12)


def test_interpolation_of_deltas_is_linear_though_that_of_factors_is_not(rng):
    a, b = random_delta(rng), random_delta(rng)
    halfway = 0.5 * a + 0.5 * b
    of_factors = LowRankDelta((a.B + b.B) / 2, (a.A + b.A) / 2, a.scale)
    assert dense(halfway) == pytest.approx((dense(a) + dense(b)) / 2, abs=1e-12)
    assert np.linalg.norm(dense(of_factors) - dense(halfway)) > 0.3 * halfway.norm()


def test_norm_of_a_difference_keeps_its_digits(rng):
    a = random_delta(rng)
    nudge = 1e-12 * random_delta(rng)
    assert ((a + nudge) - a).norm() == pytest.approx(nudge.norm(), rel=1e-3)


@given(st.integers(0, 2**32 - 1), st.floats(-2, 2))
def test_no_result_depends_on_the_gauge(seed, log_condition):
    rng = np.random.default_rng(seed)
    a, b = random_delta(rng), random_delta(rng)
    g = np.linalg.qr(rng.standard_normal((5, 5)))[0] * np.logspace(0, log_condition, 5)
    moved = LowRankDelta(a.B @ g, np.linalg.solve(g, a.A), a.scale)
    assert moved.norm() == pytest.approx(a.norm(), rel=1e-11)
    assert moved.inner(b) == pytest.approx(a.inner(b), abs=1e-10 * a.norm() * b.norm())
    assert moved.svd()[1] == pytest.approx(a.svd()[1], rel=1e-9)


def test_zero_delta_has_norm_zero_and_adds_nothing(rng):
    a, zero = random_delta(rng), zero_delta((24, 18))
    assert zero.norm() == 0.0
    assert a.inner(zero) == 0.0
    assert zero.svd()[1].size == 0
    assert dense(a + zero) == pytest.approx(dense(a))


def test_wrong_shapes_are_refused(rng):
    with pytest.raises(UserError, match=r"factors do not fit: B is \(4, 2\), A is \(3, 5\)"):
        LowRankDelta(np.zeros((4, 2)), np.zeros((3, 5)))
    with pytest.raises(UserError, match="deltas of different shape"):
        random_delta(rng) + random_delta(rng, d_out=7)


@pytest.mark.parametrize(
    ("module", "layer", "kind"),
    [
        ("model.layers.17.self_attn.q_proj", 17, "q_proj"),
        ("transformer.h.3.attn.c_attn", 3, "c_attn"),
        ("lm_head", -1, "lm_head"),
        ("model.layers2.q_proj", -1, "q_proj"),
    ],
)
def test_layer_and_kind_are_read_from_the_name(module, layer, kind):
    assert (layer_of(module), kind_of(module)) == (layer, kind)


def test_one_stack_keeps_its_own_numbers():
    modules = [f"model.layers.{i}.{m}" for i in (3, 10) for m in ("q", "mlp.experts.7.up", "o")]
    layers = layers_of(["lm_head", *modules])
    assert layers == {m: layer_of(m) for m in ["lm_head", *modules]}
    assert set(layers.values()) == {-1, 3, 10}
    assert stack_ranges(modules) == {"model.layers": (3, 10)}


@pytest.mark.parametrize(
    "blocks",
    [  # each network's blocks from input to output, with the modules of each
        [
            [f"encoder.block.{i}.layer.{j}.{m}" for j, m in ((0, "SelfAttention.q"), (1, "wi"))]
            for i in range(3)
        ]
        + [
            [f"decoder.block.{i}.layer.{j}.{m}" for j, m in ((0, "Self.q"), (1, "EncDec.q"))]
            for i in range(3)
        ],
        [
            ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
             "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"],
            ["down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q"],
            ["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"],
            ["mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
             "mid_block.attentions.0.transformer_blocks.0.ff.net.2"],
            ["up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"],
        ],
        [
            [f"convnext.encoder.stages.{s}.layers.{i}.{m}" for m in ("pwconv1", "pwconv2")]
            for s, depth in enumerate((3, 3, 11)) for i in range(depth)
        ],
        [["visual.blocks.0.qkv"], ["visual.blocks.1.qkv"], ["model.layers.0.q"]],
        [["bert.encoder.layer.0.q"], ["bert.encoder.layer.1.q"], ["classifier.0"]],
        [["encoder.block.0.1.q"], ["encoder.block.1.0.q"], ["encoder.block.1.1.q"]],
    ],
    ids=["t5", "unet", "convnext", "vision-language", "head", "numbers-in-a-row"],
)  # fmt: skip
def test_every_block_of_several_stacks_is_a_layer(blocks):
    wanted = {module: i for i, block in enumerate(blocks) for module in block}
    backwards = list(wanted)[::-1]
    assert layers_of(backwards) == wanted
    assert [wanted[m] for m in depth_order(backwards)] == sorted(wanted.values())


def test_stacks_are_named_with_their_layers():
    names = [
        "down_blocks.0.attentions.0.q",
        "down_blocks.1.attentions.0.q",
        "mid_block.0.q",
        "head",
    ]
    assert stack_ranges(names) == {"down_blocks": (0, 1), "mid_block": (2, 2)}


# --- loading what is right -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_floating_type_loads_exactly(tmp_path, factors, dtype):
    adapter = load_adapter(write_adapter(tmp_path / "a", factors, dtype=dtype))
    b, a = (torch.tensor(f, dtype=dtype).double().numpy() for f in factors[Q])
    assert np.array_equal(dense(adapter[Q]), 2.0 * (b @ a))
    assert adapter.name == "a"
    assert adapter.base_model == "student"
    assert adapter.shapes == {module_name(0): (6, 5), module_name(1): (6, 5)}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 12}, 4.0),
        ({"lora_alpha": 12, "use_rslora": True}, 12 / math.sqrt(3)),
        ({"lora_alpha": 12, "alpha_pattern": {"q_proj": 6}}, 2.0),
        ({"lora_alpha": 12, "alpha_pattern": {"layers.0.self_attn.q_proj": 6}}, 2.0),
        ({"lora_alpha": 12, "alpha_pattern": {r"layers\.\d+\.self_attn\.q_proj": 6}}, 2.0),
        ({"lora_alpha": 12, "alpha_pattern": {"layers.1.self_attn.q_proj": 6}}, 4.0),
        ({"lora_alpha": 12, "alpha_pattern": {"proj": 6}}, 4.0),
        ({"r": 9, "lora_alpha": 12, "rank_pattern": {"q_proj": 3}}, 4.0),
    ],
)
def test_scale_follows_the_configuration(tmp_path, factors, config, scale):
    assert load_adapter(write_adapter(tmp_path, factors, **config))[Q].scale == pytest.approx(scale)


def test_what_a_configuration_leaves_out_is_peft_s_own(tmp_path, rng):
    """r and lora_alpha are 8 to PEFT where its file does not name them."""
    factors = {"layers.0.q": (rng.standard_normal((9, 8)), rng.standard_normal((8, 9)))}
    settings = {"r": ..., "lora_alpha": ..., "base_model_name_or_path": ...}
    adapter = load_adapter(write_adapter(tmp_path / "all", factors, **settings))
    assert adapter["layers.0.q"].scale == 1.0
    assert adapter.rank("layers.0.q") == 8
    assert adapter.base_model == ""
    half = load_adapter(write_adapter(tmp_path / "r", factors, r=..., lora_alpha=4))
    assert half["layers.0.q"].scale == 0.5


def test_rank_one_is_a_rank(tmp_path, rng):
    one = {"layers.0.q": (rng.standard_normal((6, 1)), rng.standard_normal((1, 5)))}
    assert load_adapter(write_adapter(tmp_path / "r", one, r=1))["layers.0.q"].scale == 2.0
    patterned = write_adapter(tmp_path / "pattern", one, r=4, rank_pattern={"layers.0.q": 1})
    assert load_adapter(patterned).rank("layers.0.q") == 1


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("fan_in_fan_out", [False, True])
def test_deltas_are_those_that_peft_itself_computes(tmp_path, rslora, fan_in_fan_out):
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    class Toy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj = Conv1D(7, 5) if fan_in_fan_out else torch.nn.Linear(5, 7)
            self.o_proj = Conv1D(5, 7) if fan_in_fan_out else torch.nn.Linear(7, 5)

    config = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["q_proj", "o_proj"],
        use_rslora=rslora,
        fan_in_fan_out=fan_in_fan_out,
        rank_pattern={"o_proj": 2},
        alpha_pattern={"q_proj": 10},
        init_lora_weights=False,
    )
    model = get_peft_model(Toy(), config)
    model.save_pretrained(tmp_path)
    adapter = load_adapter(tmp_path)
    assert set(adapter) == {"q_proj", "o_proj"}
    for module, delta in adapter.items():
        theirs = model.base_model.model.get_submodule(module).get_delta_weight("default")
        theirs = (theirs.T if fan_in_fan_out else theirs).detach().double().numpy()
        assert dense(delta) == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_embedding_lora_is_the_transposed_product(tmp_path):
    from peft import LoraConfig, get_peft_model

    class Toy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(11, 6)

    config = LoraConfig(r=2, target_modules=["embed"], init_lora_weights=False)
    model = get_peft_model(Toy(), config)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    adapter = load_adapter(tmp_path)
    theirs = model.base_model.model.embed.get_delta_weight("default").detach().double().numpy()
    assert adapter.shapes == {"embed": (11, 6)}
    assert dense(adapter["embed"]) == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_shards_equal_the_whole_file(tmp_path, factors):
    whole = load_adapter(write_adapter(tmp_path / "whole", factors))
    indexed = load_adapter(write_adapter(tmp_path / "shards", factors, shards=3))
    (tmp_path / "shards" / "adapter_model.safetensors.index.json").unlink()
    bare = load_adapter(tmp_path / "shards")
    for module in whole:
        assert np.array_equal(dense(whole[module]), dense(indexed[module]))
        assert np.array_equal(dense(whole[module]), dense(bare[module]))


def test_other_tensors_are_named_and_left_aside(tmp_path, factors):
    extra = {
        "base_model.model.model.embed_tokens.weight": torch.zeros(3, 2),
        f"base_model.model.{Q}.lora_B.bias": torch.zeros(6),
    }
    adapter = load_adapter(write_adapter(tmp_path, factors, extra=extra))
    assert set(adapter) == set(factors)
    assert set(adapter.extras) == set(extra)


def test_modules_come_in_the_order_of_depth(tmp_path, rng):
    factors = {
        module_name(i): (rng.standard_normal((4, 2)), rng.standard_normal((2, 4)))
        for i in range(12)
    }
    assert [layer_of(m) for m in load_adapter(write_adapter(tmp_path, factors))] == list(range(12))


def test_only_the_module_asked_for_is_read(tmp_path, factors):
    """A NaN in one module does not hurt until that module is read: loading is lazy."""
    factors[module_name(1)][0][0, 0] = np.nan
    adapter = load_adapter(write_adapter(tmp_path, factors))
    assert adapter[Q].norm() > 0
    with pytest.raises(UserError, match=r"NaN in .*layers\.1\..*diverged"):
        adapter[module_name(1)]


def test_ranks_are_known_without_reading(tmp_path, rng):
    factors = {
        "layers.0.q": (rng.standard_normal((6, 2)), rng.standard_normal((2, 5))),
        "layers.1.q": (rng.standard_normal((3, 4)), rng.standard_normal((4, 5))),
    }
    factors["layers.0.q"][0][0, 0] = np.nan  # reading it would raise
    adapter = load_adapter(write_adapter(tmp_path, factors, r=4, rank_pattern={"layers.0.q": 2}))
    assert [adapter.rank(m) for m in adapter] == [2, 3]  # r, or the narrower side
    assert zero_adapter(adapter).rank("layers.0.q") == 0
    made = adapter_from("made", {"q": random_delta(rng, r=5)})
    assert made.rank("q") == 5
    assert Adapter("other", made.shapes, made.__getitem__).rank("q") == 5


def test_the_base_is_an_adapter_whose_deltas_are_zero(tmp_path, factors):
    adapter = load_adapter(write_adapter(tmp_path, factors))
    base = zero_adapter(adapter)
    assert base.name == "base"
    assert base.shapes == adapter.shapes
    assert all(delta.norm() == 0 for delta in base.values())
    with pytest.raises(KeyError):
        base["no.such.module"]


# --- refusing what is wrong ------------------------------------------------------------------


def refusal(folder) -> str:
    """The message of the `UserError` that loading and reading the folder raises."""
    with pytest.raises(UserError) as caught:
        list(load_adapter(folder).values())
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type IA3 is not supported"),
        ({"peft_type": "VERA"}, "peft_type VERA is not supported"),
        ({"peft_type": "PROMPT_TUNING"}, "peft_type PROMPT_TUNING is not supported"),
        ({"peft_type": "ADALORA"}, "peft_type ADALORA is not supported"),
        ({"peft_type": "NOT_A_TYPE"}, "peft_type NOT_A_TYPE is not supported"),
        ({"peft_type": ...}, "no peft_type"),
        ({"use_dora": True}, "DoRA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "LoRA on parameters"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "layer replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "initialised by pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "initialised by olora"),
        ({"r": 0}, "rank must be a whole number"),
        ({"r": 2.5}, "rank must be a whole number"),
        ({"r": "three"}, "r = 'three'"),
        ({"r": 8}, "says r = 8"),
        ({"lora_alpha": None}, "lora_alpha = None"),
        ({"lora_alpha": True}, "lora_alpha = True"),
        ({"rank_pattern": [1]}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": 0}}, "expected a whole number >= 1"),
        ({"rank_pattern": {"q_proj": 2}}, "says r = 2"),
        ({"alpha_pattern": {"q_proj": "big"}}, "expected a number"),
        ({"alpha_pattern": {"q_proj(": 2}}, "is no pattern"),
    ],
)
def test_configurations_that_are_refused(tmp_path, factors, config, words):
    assert words in refusal(write_adapter(tmp_path, factors, **config))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (f"base_model.model.{Q}.lora_magnitude_vector", "lora_magnitude_vector is not part"),
        (f"base_model.model.{Q}.ia3_l", "ia3_ is not part"),
        (f"base_model.model.{Q}.vera_lambda_b", "vera_lambda is not part"),
        ("prompt_embeddings", "prompt_embeddings is not part"),
        (
            "base_model.model.model.layers.7.q_proj.lora_A.weight",
            "lora_B of model.layers.7.q_proj is missing",
        ),
        (f"base_model.model.{Q}.lora_A.second.weight", f"two lora_A for {Q}"),
    ],
)
def test_tensors_that_are_refused(tmp_path, factors, tensor, words):
    assert words in refusal(write_adapter(tmp_path, factors, extra={tensor: torch.ones(3, 5)}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite_are_refused(tmp_path, factors, value, dtype):
    factors[Q][1][1, 2] = value
    word = "NaN" if math.isnan(value) else "inf"
    assert f"{word} in base_model.model.{Q}.lora_A" in refusal(
        write_adapter(tmp_path, factors, dtype=dtype)
    )


def test_integers_are_refused(tmp_path, factors):
    assert "is I8" in refusal(write_adapter(tmp_path, factors, dtype=torch.int8))


def test_convolutions_are_refused(tmp_path, factors):
    extra = {
        "base_model.model.conv.lora_A.weight": torch.ones(3, 5, 1, 1),
        "base_model.model.conv.lora_B.weight": torch.ones(6, 3, 1, 1),
    }
    assert "no convolutions" in refusal(write_adapter(tmp_path, factors, extra=extra))


def test_factors_that_do_not_fit_are_refused(tmp_path, factors):
    factors[Q] = factors[Q][0][:, :2], factors[Q][1]
    assert "B is (6, 2)" in refusal(write_adapter(tmp_path, factors, r=3))


def weights(folder: Path) -> Path:
    return folder / "adapter_model.safetensors"


def truncate(folder):
    weights(folder).write_bytes(weights(folder).read_bytes()[:-7])


def truncate_header(folder):
    weights(folder).write_bytes(weights(folder).read_bytes()[:20])


def empty_file(folder):
    weights(folder).write_bytes(b"")


def huge_header(folder):
    weights(folder).write_bytes(b"\xff" * 8 + weights(folder).read_bytes()[8:])


def flip_bit_in_header(folder):
    raw = bytearray(weights(folder).read_bytes())
    raw[9] ^= 0x40
    weights(folder).write_bytes(bytes(raw))


def no_factors(folder):
    save_file({"norm.weight": torch.ones(3)}, weights(folder))


def no_weights(folder):
    weights(folder).unlink()


def pickle_only(folder):
    weights(folder).rename(folder / "adapter_model.bin")


def git_lfs_pointer(folder):
    weights(folder).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 77\n"
    )


def no_config(folder):
    (folder / "adapter_config.json").unlink()


def broken_config(folder):
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", ')


def list_config(folder):
    (folder / "adapter_config.json").write_text("[]")


def binary_config(folder):
    (folder / "adapter_config.json").write_bytes(b"\xff\xfe\x00\x01")


def deep_config(folder):
    (folder / "adapter_config.json").write_text("[" * 200_000)


def index_of(folder, weight_map):
    weights(folder).unlink()
    text = json.dumps({"weight_map": weight_map})
    (folder / "adapter_model.safetensors.index.json").write_text(text)


def climbing_shard(folder):
    save_file({"x": torch.ones(1)}, folder.parent / "outside.safetensors")
    index_of(folder, {"x": "../outside.safetensors"})


def absolute_shard(folder):
    index_of(folder, {"x": "/etc/hostname"})


def missing_shard(folder):
    index_of(folder, {"x": "adapter_model-00001-of-00001.safetensors"})


def broken_index(folder):
    index_of(folder, None)


def missing_bare_shard(folder):
    weights(folder).rename(folder / "adapter_model-00001-of-00002.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (git_lfs_pointer, "fetch them: git lfs pull"),
        (truncate, "not a whole safetensors file"),
        (truncate_header, "not a whole safetensors file"),
        (empty_file, "not a whole safetensors file"),
        (huge_header, "not a whole safetensors file"),
        (flip_bit_in_header, "not a whole safetensors file"),
        (no_factors, "no LoRA factors"),
        (no_weights, "save the adapter with model.save_pretrained"),
        (pickle_only, "is a pickle"),
        (no_config, "no adapter_config.json"),
        (broken_config, "not valid JSON"),
        (list_config, "expected a JSON object"),
        (binary_config, "not valid JSON"),
        (deep_config, "not valid JSON"),
        (climbing_shard, "a shard must lie beside its index"),
        (absolute_shard, "a shard must lie beside its index"),
        (missing_shard, "is missing"),
        (broken_index, "not a shard index"),
        (missing_bare_shard, "1 of 2 shards"),
    ],
)
def test_broken_folders_are_refused(tmp_path, factors, damage, words):
    folder = write_adapter(tmp_path / "a", factors)
    damage(folder)
    assert words in refusal(folder)


def test_the_printed_conversion_of_a_pickle_works_for_tensors_of_a_gpu(
    tmp_path, factors, monkeypatch
):
    """Where there is no GPU, too: the tensors are moved as they are read."""
    folder = write_adapter(tmp_path / "a", factors)
    wanted = {m: dense(delta) for m, delta in load_adapter(folder).items()}
    with monkeypatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
        torch.save(load_file(weights(folder)), folder / "adapter_model.bin")
    weights(folder).unlink()
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(folder / "adapter_model.bin", weights_only=True)
    message = refusal(folder)
    assert "in that folder" in message
    command = shlex.split(message.partition("in that folder: ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=folder, check=True, timeout=120)
    assert command[0] == "python"
    for module, delta in load_adapter(folder).items():
        assert np.array_equal(dense(delta), wanted[module])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no-such-folder", "no such adapter"),
        ("../../etc", "no such adapter"),
        ("owner/../secrets", "no such adapter"),
        ("https://example.org/adapter", "no such adapter"),
        ("", "no adapter_config.json"),
    ],
)
def test_sources_that_are_no_adapter(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    assert words in refusal(source)


def test_a_missing_local_folder_is_not_looked_for_on_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    assert "no such adapter" in refusal("results/run/nope")


def test_a_file_is_no_folder(tmp_path, factors):
    assert "not a folder" in refusal(weights(write_adapter(tmp_path, factors)))


def test_a_hub_id_without_network_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "cannot fetch nobody/no-adapter" in refusal("nobody/no-adapter")


@pytest.fixture
def hub(tmp_path, factors, monkeypatch):
    """A repository with two adapters in folders, as a hub client would show and fetch it."""
    root = tmp_path / "cached"
    for name in ("math/sft", "math/dpo"):
        write_adapter(root / name, factors)
    (root / "README.md").write_text("two adapters")
    fetched: list[list[str]] = []

    def listed(self, repository, revision=None):
        assert (repository, revision) in {("owner/pair", None), ("owner/pair", "v2")}
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())

    def fetch(repository, revision=None, allow_patterns=()):
        fetched.append(sorted(allow_patterns))
        return str(root)

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listed)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return fetched


@pytest.mark.parametrize("source", ["owner/pair/math/sft", "owner/pair@v2/math/sft/"])
def test_a_folder_of_a_hub_repository_is_fetched_alone(hub, source):
    adapter = load_adapter(source, "sft")
    assert len(adapter)
    assert hub == [["math/sft/adapter_config.json", "math/sft/adapter_model.safetensors"]]


@pytest.mark.parametrize("source", ["owner/pair", "owner/pair/math"])
def test_a_hub_repository_with_adapters_further_down_lists_them(hub, source):
    message = refusal(source)
    assert "add one of: math/dpo, math/sft" in message
    assert not hub  # nothing was fetched


def test_a_hub_folder_without_weights_says_what_there_is(hub):
    assert "it holds nothing" in refusal("owner/pair/physics")


def test_a_folder_with_adapters_further_down_lists_them(tmp_path, factors):
    write_adapter(tmp_path / "sft", factors)
    assert "further down, add one of: sft" in refusal(tmp_path)


# --- what may be compared --------------------------------------------------------------------


def adapter_of(name: str, rng, modules, base: str = "student", d_out: int = 6) -> Adapter:
    return adapter_from(name, {m: random_delta(rng, d_out, 5, 2) for m in modules}, base)


def test_differences_are_listed_and_the_intersection_is_offered(rng):
    one = adapter_of("one", rng, [module_name(0), module_name(1)])
    two = adapter_of("two", rng, [module_name(1), module_name(2)])
    with pytest.raises(UserError, match=r"one lacks 1 \(model.layers.2.*two lacks 1.*intersection"):
        common_modules([one, two])
    assert common_modules([one, two], intersection=True) == [module_name(1)]


def test_a_run_whose_checkout_has_moved_has_one_base(tmp_path, monkeypatch, factors):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    run = Run.open("smoke")
    for name, base in (("sft", "/here/models/student"), ("dpo", "/there/models/student")):
        write_adapter(run.adapter_dir(name), factors, base_model_name_or_path=base)
    assert {adapter.base_model for adapter in load_run(run)} == {"models/student"}
    common_modules(load_run(run))
    write_adapter(run.adapter_dir("dpo"), factors, base_model_name_or_path="/there/models/teacher")
    with pytest.raises(UserError, match="different base models"):
        common_modules(load_run(run))


def test_incomparable_adapters_are_refused(rng):
    one = adapter_of("one", rng, [Q])
    with pytest.raises(UserError, match="different base models: one: student, two: other"):
        common_modules([one, adapter_of("two", rng, [Q], base="other")])
    assert common_modules([one, adapter_of("two", rng, [Q], base="other")], any_base=True) == [Q]
    with pytest.raises(UserError, match=r"different shapes.*one: \(6, 5\), two: \(7, 5\)"):
        common_modules([one, adapter_of("two", rng, [Q], d_out=7)])
    with pytest.raises(UserError, match="no module in common"):
        common_modules([one, adapter_of("two", rng, [module_name(3)])], intersection=True)
    with pytest.raises(UserError, match="two adapters are called 'one'"):
        common_modules([one, one])
    with pytest.raises(UserError, match="no adapters"):
        common_modules([])
