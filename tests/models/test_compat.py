"""Private names of torch, transformers and TRL: used in models/compat.py and nowhere else."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trl.trainer.utils
from conftest import ROOT
from transformers import AttentionInterface, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from finetune_geometry.methods import steps, trainers
from finetune_geometry.models import compat, generation, inference

PACKAGE = ROOT / "src" / "finetune_geometry"
COMPAT = PACKAGE / "models" / "compat.py"
OTHERS = sorted(set(PACKAGE.rglob("*.py")) - {COMPAT})
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def names(path: Path) -> tuple[set[str], set[str]]:
    """Private names that a module makes, and those that it reads off an object or imports."""
    made, read = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Attribute):
            (read if isinstance(node.ctx, ast.Load) else made).add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            read |= {alias.name for alias in node.names}
            read |= set((node.module or "").split("."))
    return {n for n in made if private(n)}, {n for n in read if private(n)}


def test_private_names_that_are_read_are_the_package_s_own() -> None:
    found = [names(path) for path in OTHERS]
    own = {name for made, _ in found for name in made}
    foreign = {
        (path.name, name) for path, (_, read) in zip(OTHERS, found, strict=True)
        for name in read - own
    }  # fmt: skip
    assert not foreign
    made, read = names(COMPAT)
    assert {"_attn_implementation", "_linear_pointwise", "_reorder_linear_weight"} <= read
    assert {"_get_train_sampler", "_prepare_dataset"} <= made


@pytest.mark.parametrize("module", [trainers, steps, generation, inference])
def test_no_class_overrides_a_private_method_of_a_library(module) -> None:
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if kind.__module__ != module.__name__:
            continue
        theirs = {
            name
            for base in kind.__mro__
            if base.__module__.partition(".")[0] in LIBRARIES
            for name in vars(base)
        }
        own = {name for name, value in vars(kind).items() if inspect.isfunction(value)}
        assert not {name for name in own & theirs if private(name)}, kind


@pytest.mark.parametrize("name", ["fused_lm_head", "label_mask", "mkldnn._", "integrations."])
def test_undocumented_names_occur_in_one_module(name: str) -> None:
    assert name in COMPAT.read_text(encoding="utf-8")
    for path in OTHERS:
        assert name not in path.read_text(encoding="utf-8"), path


def test_the_releases_that_were_checked_are_those_that_are_pinned() -> None:
    """A new pin asks for a new look: the oracles of training and of generation, then CHECKED."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for name, release in compat.CHECKED.items():
        assert f"{name}=={release}" in pins


def test_an_attention_is_registered_when_it_is_first_used(toy_model) -> None:
    """Importing leaves transformers as it was."""
    code = (
        "import finetune_geometry.models.generation as g; from transformers import "
        "AttentionInterface; assert g.ATTENTION not in AttentionInterface().valid_keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    model = AutoModelForCausalLM.from_pretrained(toy_model, attn_implementation="eager")
    assert compat.attention_of(model) == "eager"
    with inference.fast_inference(model):
        assert compat.attention_of(model) == "sdpa"
    assert compat.attention_of(model) == "eager"

    class Tokenizer:
        pad_token_id = 0

    generation.generate(model.eval(), Tokenizer(), [[5, 6, 7]], max_new_tokens=1)
    assert generation.ATTENTION in AttentionInterface().valid_keys()


def test_packed_layers_compute_what_the_layer_does() -> None:
    torch.manual_seed(0)
    for bias in (True, False):
        layer = torch.nn.Linear(48, 32, bias=bias)
        inputs = torch.randn(3, 5, 48)
        with torch.inference_mode():
            torch.testing.assert_close(compat.packed_linear(layer)(inputs), layer(inputs))


@pytest.mark.parametrize(("vocabulary", "scored"), [(12_000, 5), (500, 14)])
def test_a_large_vocabulary_is_scored_where_a_label_counts(vocabulary, scored, monkeypatch) -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **size, **heads))
    add_fused_lm_head(model)
    ids = torch.randint(0, 500, (2, 8))
    labels = ids.clone()
    labels[0, :6], labels[1, :5] = -100, -100  # 2 and 3 count
    inputs = {"input_ids": ids, "labels": labels}
    plain, mask, _ = compat.token_log_probs(model, inputs)
    rows = []
    function = trl.trainer.utils._ChunkedLogProbFunction
    apply = function.apply
    monkeypatch.setattr(
        function, "apply", lambda hidden, *args: rows.append(len(hidden)) or apply(hidden, *args)
    )
    with compat.compact_head(model):
        compact, same_mask, _ = compat.token_log_probs(model, inputs)
    assert rows == [scored]
    assert torch.equal(mask, same_mask)
    torch.testing.assert_close(compact, plain)
    rows.clear()
    compat.token_log_probs(model, inputs)
    assert rows == [14]
