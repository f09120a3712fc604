"""What the hub of the profile `smoke-hub` serves: two small models and the paper's data sets.

The student is of the Qwen3 kind, with a chat template that thinks unless it is told not to. The
teacher is of the Llama kind: another tokenizer, no padding token, two tokens that end a turn, and a
template that stamps the day. Both are raised here for a few seconds, to answer 1 or 2: half of what
they write is right.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from fake_hub import FakeHub
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from finetune_geometry.models.prompts import completion_ids, prompt_ids
from finetune_geometry.settings.sections import Prompt

QWEN_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
LLAMA_TEMPLATE = """\
{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday is ' + date_string + '<|eot_id|>' }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{{- message.content + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
LLAMA_SPECIAL = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|finetune_right_pad_id|>"),
]
SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512,
}  # fmt: skip
INSTRUCTION = "Reason step by step, and put the final answer within \\boxed{}."
#: Answers that are not a plain number, as DeepScaleR has them: nobody here finds one.
LATEX = ["(1,2)", "[0,1)", "\\{1,2,3\\}", "10{,}000", "\\frac{1}{2}"]


def fill(hub: FakeHub, folder: Path) -> None:
    """Add the repositories; models are made in `folder` first."""
    rng = random.Random(0)
    words = "apples pears plums ducks boats keys cups maps coins hats".split()
    asked = [
        f"What is {a} - {b}, counted in {word}?"
        for word in words
        for a, b in ((rng.randint(9, 99), rng.randint(1, 9)) for _ in range(8))
    ]
    for name, tokenizer, kind in (
        ("student", _tokenizer(asked, QWEN_SPECIAL, QWEN_TEMPLATE), Qwen3ForCausalLM),
        ("teacher", _tokenizer(asked[::2], LLAMA_SPECIAL, LLAMA_TEMPLATE), LlamaForCausalLM),
    ):
        _save(kind, tokenizer, asked[:40], folder / name)
        files = {path.name: path for path in (folder / name).iterdir()}
        hub.add(f"example/{name}", {**files, "pytorch_model.bin": b"not read"})
    answers = [str(rng.randint(1, 2)) for _ in asked]
    rows = [
        {"problem": question, "answer": answer, "solution": ""}
        for question, answer in zip(asked[:36], answers[:31] + LATEX, strict=True)
    ]
    hub.add(
        "agentica-org/DeepScaleR-Preview-Dataset",
        {"README.md": "# DeepScaleR", "deepscaler.json": json.dumps(rows)},
        "dataset",
    )
    gsm8k = pd.DataFrame(
        {"question": asked[36:52], "answer": [f"So.\n#### {a}" for a in answers[36:52]]}
    )
    card = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train-*}, {split: test, path: main/test-*}]
- config_name: socratic
  data_files: [{split: test, path: socratic/test-*}]
---
"""
    part = "-00000-of-00001.parquet"
    hub.add(
        "openai/gsm8k",
        {
            "README.md": card,
            f"main/train{part}": _parquet(gsm8k),
            f"main/test{part}": _parquet(gsm8k),
            f"socratic/test{part}": _parquet(gsm8k.iloc[:1]),
        },
        "dataset",
    )
    aime = pd.DataFrame(
        {"problem_idx": range(1, 5), "problem": asked[52:56], "answer": map(int, answers[52:56])}
    )
    hub.add("MathArena/aime_2026", {f"data/train{part}": _parquet(aime)}, "dataset")
    hub.add(
        "PrimeIntellect/NuminaMath-QwQ-CoT-5M",
        {"data/train-00000-of-00088.parquet": _parquet(_traces(asked[56:], answers[56:]))},
        "dataset",
    )


def _traces(questions: list[str], answers: list[str]) -> pd.DataFrame:
    """Six responses to each question, in the schema of NuminaMath-QwQ-CoT-5M."""
    rows = []
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        for sample in range(6):
            found = answer if (number + sample) % 3 else "3"
            response = f"Let me see, try {sample}. It is \\boxed{{{found}}}."
            rows.append((number, question, response, answer, found == answer))
    return pd.DataFrame(rows, columns="problem_id prompt response ground_truth correct".split())


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _tokenizer(texts: list[str], special: list[str], template: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with some merges; Llama's begins every text with a token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = len(alphabet) + len(special) + 40
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    core.train_from_iterator([*texts, INSTRUCTION], trainer)
    llama = special is LLAMA_SPECIAL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=special[0] if llama else None,
        eos_token="<|eot_id|>" if llama else "<|im_end|>",
        pad_token=None if llama else special[0],
        additional_special_tokens=special,
    )
    fast.chat_template = template
    return fast


def _save(kind: Any, tokenizer: PreTrainedTokenizerFast, questions: list[str], to: Path) -> None:
    """A model of two layers that has learnt to write "It is \\boxed{1}." or the same with 2."""
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config = (Qwen3Config if kind is Qwen3ForCausalLM else LlamaConfig)(
        vocab_size=len(tokenizer), **SHAPE, tie_word_embeddings=True, eos_token_id=end,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = kind(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    prompt = Prompt(INSTRUCTION, {"enable_thinking": False, "date_string": "26 Jul 2024"})
    asked = [prompt_ids(tokenizer, question, prompt) for question in questions]
    texts = [f"It is \\boxed{{{1 + number % 2}}}." for number in range(len(questions))]
    written = completion_ids(tokenizer, texts, [True] * len(texts), prompt)
    width = max(len(one) + len(two) for one, two in zip(asked, written, strict=True))
    ids = torch.full((len(asked), width), end)
    labels = torch.full_like(ids, -100)
    for line, (one, two) in enumerate(zip(asked, written, strict=True)):
        ids[line, : len(one) + len(two)] = torch.tensor([*one, *two])
        labels[line, len(one) : len(one) + len(two)] = torch.tensor(two)
    for _ in range(60):
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    ends = [end, tokenizer.convert_tokens_to_ids(tokenizer.all_special_tokens[1])]
    model.generation_config = GenerationConfig(eos_token_id=ends)
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
