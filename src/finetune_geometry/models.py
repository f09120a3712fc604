"""Models: the tokenizer and the Qwen3 architecture of the tiny models, and loading any model.

The tiny student and teacher are ordinary `transformers` checkpoints (`models/student`,
`models/teacher`), so that everything after this module treats them like Qwen3-4B.
"""

from __future__ import annotations

import hashlib
import platform
import re
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config
from transformers.utils.logging import disable_progress_bar

from finetune_geometry import phrasings
from finetune_geometry.profiles import Profile, UserError
from finetune_geometry.records import project_root

#: A word keeps the space before it; digits, signs and the box are tokens of their own.
TOKEN_PATTERN = r"\\boxed\{|\.\n| ?[A-Za-z]+|[^A-Za-z]"
PAD, EOS, ANSWER = "<pad>", "<eos>", "<answer>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}"
    "{{ '<answer>' if m['role'] == 'user' else '<eos>' }}{% endfor %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The word-level tokenizer of the generated problems; every digit is a single token.

    The vocabulary is read off `phrasings`, so a new phrasing needs retrained models.  Decoding
    gives the text back exactly, spaces included.
    """
    texts = [*phrasings.OPENINGS, *phrasings.DISTRACTORS, *phrasings.QUESTIONS]
    texts += [t for options in phrasings.STEP_KINDS.values() for t in options]
    words = {w for text in texts for w in re.findall(r"[A-Za-z]+", re.sub(r"\{\w+\}", "", text))}
    for names in phrasings.NAMES.values():
        words.update(names)
    words.update([*phrasings.THINGS, *phrasings.CONTAINERS, "dollars"])
    words.update(form for pronoun in phrasings.NAMES for form in (pronoun, pronoun.lower()))
    words.update(t.capitalize() for t in phrasings.THINGS)
    for number_words in (phrasings.FRACTIONS, phrasings.TIMES):
        words.update(w for text in number_words.values() for w in text.split())
    words.update(["The", "answer", "is", "has", "of"])
    marks = ["\\boxed{", ".\n", *"0123456789+-*/=%.,?} \n"]
    tokens = [PAD, EOS, ANSWER, "<unk>", *marks]
    tokens += [form for word in sorted(words) for form in (word, " " + word)]
    vocabulary = {token: index for index, token in enumerate(tokens)}

    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN_PATTERN), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token="<unk>",
        additional_special_tokens=[ANSWER],
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_config(vocabulary_size: int, **changes: Any) -> Qwen3Config:
    """The tiny Qwen3 configuration: 8 layers, width 192, 6 query heads and 3 key-value heads."""
    settings: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    return Qwen3Config(**{**settings, **changes})


def load_model(profile: Profile, role: str = "base") -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer) of a profile's "base" or "teacher".

    A path is taken relative to the project; anything else is a hub id.  On a CPU the weights are
    fp32, whatever the profile says: a small delta does not survive bf16 there (and gains no speed).
    """
    name = profile.model.base if role == "base" else profile.model.teacher
    local = project_root() / name
    if name.startswith(("models/", "./", "/")) and not (local / "config.json").is_file():
        raise UserError(
            f"no model there: {local}: restore it from version control or retrain it with "
            "`make models`"
        )
    source = local if local.is_dir() else name
    on_gpu = torch.cuda.is_available()
    disable_progress_bar()  # of loading weights: noise in a notebook
    model: Any = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=getattr(torch, profile.model.dtype) if on_gpu else torch.float32,
        attn_implementation=profile.model.attention,
        use_safetensors=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    return model.to("cuda" if on_gpu else "cpu").eval(), tokenizer


def load_adapted(profile: Profile, adapters: Mapping[str, Path]) -> tuple[Any, Any]:
    """(PeftModel with every named adapter loaded, tokenizer); the first adapter is active."""
    model, tokenizer = load_model(profile)
    adapted: Any = None
    for name, folder in adapters.items():
        if not (folder / "adapter_model.safetensors").is_file():
            raise UserError(
                f"no adapter {name!r}: {folder}: train it first with notebooks/methods/{name}.ipynb"
            )
        try:
            if adapted is None:
                adapted = PeftModel.from_pretrained(model, folder, adapter_name=name)
            else:
                adapted.load_adapter(folder, adapter_name=name)
            held = get_peft_model_state_dict(adapted, adapter_name=name).keys()
            with safe_open(folder / "adapter_model.safetensors", "pt") as file:
                differing = sorted(held ^ set(file.keys()))
            if differing:  # PEFT leaves out what has no place and fills in what is missing
                raise ValueError(f"{len(differing)} weights differ, as {differing[0]}")
        except Exception as error:  # of many kinds: PEFT's, safetensors', a shape of PyTorch's
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"adapter {name!r} does not fit {profile.model.base}: {folder}: train it on this "
                f"base model ({type(error).__name__}: {reason})"
            ) from error
    if adapted is None:
        raise UserError("no adapter given: load_adapted: name at least one")
    return adapted.eval(), tokenizer


def write_model_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write `folder`/README.md, the model card of a tiny model, from its training card."""
    start = card["start_from"]
    text = f"""---
license: mit
library_name: transformers
---

# {folder.name}: a tiny Qwen3 that solves grade-school word problems

{card["parameters"]:,} parameters, {card["architecture"]}, word-level tokenizer with single digits,
bf16 safetensors. Made for the book "The Geometry of Fine-Tuning Losses"; of no use beyond it.

| | |
|---|---|
| data | {card["problems"]:,} generated problems, each seen once |
| steps per problem | {card["min_steps"]} to {card["max_steps"]} |
| largest number | {card["max_value"]} |
| starts from | {f"the {start}" if start else "random weights"} |
| tokens seen (padding included) | {card["tokens"]:,} |
| updates | {card["step"]:,} of about {card["tokens_per_batch"]:,} tokens |
| optimiser | AdamW, peak learning rate {card["learning_rate"]}, bf16 autocast |
| seed | {card["seed"]} |
| time | {card["seconds"]:.0f} s on {card["threads"]} CPU core |
| validation accuracy (210 problems, 2 to 8 steps) | {card["accuracy"][-1][1]:.1%} |
| curves | `loss` and `accuracy` in `card.json` |
| retrain | `make models` |
"""
    (folder / "README.md").write_text(text, encoding="utf-8")


def require_full_attention(config: Any) -> None:
    """Raise UserError unless every layer of a model attends to the whole text before a token."""
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):  # where there is no switch it is on
        others.add(f"a window of {window} tokens")
    if others:
        name = getattr(config, "name_or_path", "") or config.model_type
        raise UserError(
            f"a layer does not see the whole text ({', '.join(sorted(others))}): {name}: take a "
            "model of full attention, as Qwen3 or Llama 3: sampling here knows no other"
        )


@contextmanager
def fast_inference(model: Any, attention: str = "sdpa") -> Iterator[None]:
    """Read or write with a model as fast as may be: fused attention and `packed_linears`.

    attention: an implementation that transformers knows. The model is left as it was.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(attention)
    try:
        with packed_linears(model):
            yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def packed_linears(model: Any) -> Iterator[None]:
    """Run the fp32 linear layers on a CPU through oneDNN with packed weights, for inference.

    PyTorch's default, MKL, reaches half of its speed on processors of another maker.  Results
    differ in rounding only; weights must not change meanwhile, and nothing can be trained.
    """
    linears = [
        module
        for module in model.modules()
        if type(module) is torch.nn.Linear
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
    ]
    for module in linears:
        packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), 64)
        module.forward = partial(_packed_linear, packed, module.bias)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in linears:
            del module.forward


def _packed_linear(packed: Any, bias: torch.Tensor | None, inputs: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def lora_a_sha256(model: Any) -> str:
    """SHA-256 of all lora_A weights in name order: the shared initialisation has one value."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if ".lora_A." in name:
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def peak_memory_mb() -> dict[str, float]:
    """Peak memory of this process so far in MiB: resident, and on the GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in KiB
    peak = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    if torch.cuda.is_available():
        peak["gpu"] = torch.cuda.max_memory_allocated() / 2**20
    return peak


def versions() -> dict[str, str]:
    """Versions of what decides a training's result."""
    names = ("torch", "transformers", "peft", "trl", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
