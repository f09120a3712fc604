"""Loading models and adapters, and the hash of the shared initialisation."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from toy import save_toy_model
from transformers import Gemma2Config, LlamaConfig, MistralConfig, Qwen3Config

from finetune_geometry.methods.card_facts import lora_a_sha256, peak_memory_mb, versions
from finetune_geometry.methods.trainers import RowCollator
from finetune_geometry.models.inference import packed_linears, require_full_attention
from finetune_geometry.models.loading import load_adapted, load_model, load_tokenizer
from finetune_geometry.models.prompts import end_of_turn
from finetune_geometry.models.tiny import CHAT_TEMPLATE, build_config, build_tokenizer
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile


@pytest.fixture
def profile(toy_model):
    return load_profile("tiny", {"model.base": str(toy_model), "model.teacher": str(toy_model)})


@pytest.fixture
def adapters(profile, tmp_path):
    """Two adapters of the toy model, "one" and "two", with random factors of different ranks."""
    folders = {}
    for seed, (name, r) in enumerate({"one": 2, "two": 3}.items()):
        torch.manual_seed(seed)
        config = LoraConfig(r=r, lora_alpha=2 * r, target_modules=["q_proj", "o_proj"])
        model = get_peft_model(load_model(profile)[0], config)
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(tmp_path / name)
        folders[name] = tmp_path / name
    return folders


def test_the_tiny_architecture_is_that_of_the_paper_s_models():
    config = build_config(400)
    assert config.model_type == "qwen3"
    assert config.num_hidden_layers >= 8
    assert config.tie_word_embeddings
    assert config.eos_token_id == build_tokenizer().eos_token_id
    assert config.pad_token_id == build_tokenizer().pad_token_id


def test_a_model_comes_in_fp32_and_in_evaluation_mode(profile):
    for role in ("base", "teacher"):
        model, tokenizer = load_model(profile, role)
        assert not model.training
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert model.config._attn_implementation == profile.model.attention
        assert tokenizer.padding_side == "left"


def test_a_missing_model_is_named():
    profile = load_profile("tiny", {"model.base": "models/nothing"})
    with pytest.raises(UserError, match=r"no model there: .*models/nothing: .*make models"):
        load_model(profile)


def test_the_hash_sees_lora_a_only(profile):
    def adapted(seed: int):
        torch.manual_seed(seed)
        return get_peft_model(load_model(profile)[0], LoraConfig(r=2, target_modules=["q_proj"]))

    one, other = adapted(0), adapted(1)
    before = lora_a_sha256(one)
    assert before == lora_a_sha256(adapted(0))
    assert before != lora_a_sha256(other)
    weights = dict(one.named_parameters())
    with torch.no_grad():
        next(p for n, p in weights.items() if "lora_B" in n).add_(1)
    assert lora_a_sha256(one) == before
    with torch.no_grad():
        next(p for n, p in weights.items() if "lora_A" in n)[0, 0] += 1e-6
    assert lora_a_sha256(one) != before


def test_adapters_act_one_at_a_time_as_their_delta_says(profile, adapters):
    adapted, tokenizer = load_adapted(profile, adapters)
    ids = tokenizer("Tom has 12 apples.", return_tensors="pt").input_ids
    assert adapted.active_adapter == "one"
    for name, folder in adapters.items():
        plain, _ = load_model(profile)
        factors = load_file(folder / "adapter_model.safetensors")
        with torch.no_grad():
            for layer in range(2):
                for kind in ("q_proj", "o_proj"):
                    stem = f"base_model.model.model.layers.{layer}.self_attn.{kind}"
                    delta = factors[f"{stem}.lora_B.weight"] @ factors[f"{stem}.lora_A.weight"]
                    getattr(plain.model.layers[layer].self_attn, kind).weight += 2 * delta
            adapted.set_adapter(name)
            torch.testing.assert_close(
                adapted(input_ids=ids).logits, plain(input_ids=ids).logits, atol=2e-5, rtol=1e-4
            )


def test_base_and_teacher_are_the_models_of_the_profile(toy_model, tmp_path):
    other = save_toy_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file(
        {name: tensor + 1 for name, tensor in weights.items()},
        other / "model.safetensors",
        metadata={"format": "pt"},
    )
    (other / "chat_template.jinja").write_text("another")
    names = {"model.base": str(toy_model), "model.teacher": str(other)}
    profile = load_profile("tiny", names)
    for role, folder, template in (
        ("base", toy_model, CHAT_TEMPLATE),
        ("teacher", other, "another"),
    ):
        model, tokenizer = load_model(profile, role)
        held = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        assert torch.equal(model.model.embed_tokens.weight, held)
        assert tokenizer.chat_template == template


@pytest.mark.parametrize("reserved", ["<|finetune_right_pad_id|>", "[PAD]", None])
def test_a_model_without_a_padding_token_is_padded_and_still_learns_to_end(
    toy_model, tmp_path, reserved
):
    """A token that is set aside is taken; else the padding looks like ends, and is no label."""
    folder = shutil.copytree(toy_model, tmp_path / "model")
    text = (folder / "tokenizer.json").read_text().replace('"<unk>"', '"<|other|>"')
    assert '"<pad>"' in text
    text = text.replace('"<pad>"', f'"{reserved or "<|filler|>"}"')
    (folder / "tokenizer.json").write_text(text)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for key in ("pad_token", "unk_token"):
        settings.pop(key)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(load_profile("tiny", {"model.base": str(folder)}))
    assert tokenizer.pad_token == (reserved or tokenizer.eos_token)
    ends = end_of_turn(tokenizer)
    texts = ([], [6, 7])
    rows = [
        {"input_ids": [5, *text, *ends], "labels": [-100, *text, *ends], "weight": 1.0}
        for text in texts
    ]
    batch = RowCollator(tokenizer.pad_token_id)(rows)
    assert batch["labels"].tolist() == [[-100, *ends, -100, -100], [-100, 6, 7, *ends]]
    assert batch["attention_mask"].sum(1).tolist() == [2, 4]


def test_packed_linear_layers_compute_the_same(profile, adapters):
    adapted, tokenizer = load_adapted(profile, adapters)
    ids = tokenizer("Tom has 12 apples.", return_tensors="pt").input_ids
    with torch.inference_mode():
        before = adapted(input_ids=ids).logits
        with packed_linears(adapted):
            packed = adapted(input_ids=ids).logits
            assert any("forward" in vars(module) for module in adapted.modules())
        torch.testing.assert_close(packed, before, atol=1e-5, rtol=1e-5)
        assert torch.equal(adapted(input_ids=ids).logits, before)


def test_a_missing_adapter_is_named(profile, adapters, tmp_path):
    with pytest.raises(UserError, match=r"no adapter 'dpo': .*nothing: .*methods/dpo"):
        load_adapted(profile, {**adapters, "dpo": tmp_path / "nothing"})
    with pytest.raises(UserError, match="no adapter given"):
        load_adapted(profile, {})


@pytest.mark.parametrize("position", ["first", "second"])
@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # PEFT only warns
@pytest.mark.parametrize(
    "fault", ["shape", "layers", "missing", "module", "truncated", "type", "no config"]
)
def test_a_foreign_adapter_is_refused(profile, adapters, tmp_path, fault, position):
    folder = shutil.copytree(adapters["two"], tmp_path / "foreign")
    file, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    factors, config = load_file(file), json.loads(settings.read_text())
    if fault == "shape":  # an adapter of a wider model
        save_file({k: torch.cat([v, v], -1) for k, v in factors.items()}, file)
    elif fault == "layers":  # of a deeper model
        more = {k.replace("layers.1", "layers.7"): v.clone() for k, v in factors.items()}
        save_file(factors | more, file)
    elif fault == "missing":
        save_file({k: v for k, v in factors.items() if "layers.1" not in k}, file)
    elif fault == "module":
        settings.write_text(json.dumps(config | {"target_modules": ["c_attn"]}))
    elif fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "type":
        settings.write_text(json.dumps(config | {"peft_type": "MAGIC"}))
    else:
        settings.unlink()
    chosen = {"foreign": folder} if position == "first" else {**adapters, "foreign": folder}
    with pytest.raises(
        UserError, match=r"adapter 'foreign' does not fit .*: .*foreign: "
    ) as caught:
        load_adapted(profile, chosen)
    assert "\n" not in str(caught.value)


def test_card_entries_are_measured():
    assert 50 < peak_memory_mb()["resident"] < 2**20
    assert {"torch", "transformers", "peft", "trl", "python"} <= versions().keys()


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_peak_memory_is_in_mib_on_every_system(monkeypatch, platform, unit):
    """The system counts in KiB, on macOS in bytes."""
    usage = SimpleNamespace(ru_maxrss=300 * 2**20 // unit)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("resource.getrusage", lambda who: usage)
    assert peak_memory_mb()["resident"] == 300


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Qwen3Config(), None),
        (Qwen3Config(sliding_window=8), None),  # not used: the switch is off
        (LlamaConfig(), None),
        (MistralConfig(sliding_window=None), None),
        (Qwen3Config(use_sliding_window=True, sliding_window=8), "a window of 8 tokens, sliding_"),
        (MistralConfig(sliding_window=64), "a window of 64 tokens"),
        (Gemma2Config(), "sliding_attention"),
        (Qwen3Config(layer_types=["full_attention"] * 31 + ["chunked_attention"]), "chunked_"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_full_attention_in_every_layer_passes(config, reason):
    if reason is None:
        require_full_attention(config)
        return
    with pytest.raises(UserError, match=f"a layer does not see the whole text.*{reason}"):
        require_full_attention(config)


def test_the_toy_model_is_the_same_every_time(toy_model, tmp_path):
    again = save_toy_model(tmp_path / "again") / "model.safetensors"
    assert again.read_bytes() == (toy_model / "model.safetensors").read_bytes()
