"""The tiny models: their word-level tokenizer, their Qwen3 configuration, their model card.

The tiny student and teacher are ordinary `transformers` checkpoints (`models/student`,
`models/teacher`), so that everything else treats them like Qwen3-4B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast, Qwen3Config

from finetune_geometry.problems import phrasings

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
    gives the text back exactly, spaces included, and encoding the tokens: a sampler may write two
    words without a space between them, and "ClaraMaria" is read as the two tokens that it is.
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

    pieces = WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix="")
    tokenizer = Tokenizer(pieces)
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
