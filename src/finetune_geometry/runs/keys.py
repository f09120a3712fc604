"""Keys: what decides a result, hashed; what was kept under an equal key may be used again.

Every cache of the project asks here: the shards of rollouts, the adapters, the answers.  A key
holds what a person can change and a result can depend on: the contents of models (never where they
lie), the settings, the kind of device.  It may hold too much and cost time; too little gives
wrong numbers.  Left out are cards and logs, and what belongs to a machine rather than to a run:
versions of libraries, the make of a processor, how many threads sample.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.hub import pinned
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.sections import WRITING

#: Of a model's folder: weights; settings and tokenizer; chat templates; sentence pieces.
DECIDING = {".safetensors", ".json", ".jinja", ".model"}
DECIDING_TEXT = {"merges.txt", "vocab.txt"}  # older tokenizers
NOT_DECIDING = {"card.json"}  # holds times, and changes with every training
#: Of `training`: what there was no other value of when the first cards were written: not held.
_ONLY = {"optimizer": "adamw", "pool": "all", "mixed_share": None}


def content_sha256(source: str, revision: str = "") -> str:
    """SHA-256 of a folder's weights, configuration, tokenizer and chat templates.

    source: a model or an adapter; relative to the project, or absolute.  A hub id stands for
    itself, with its commit, `revision`.
    """
    folder = project_root() / source  # an absolute path stays as it is
    if not folder.is_dir():
        return pinned(source, revision)
    digest = hashlib.sha256()
    for path in sorted(_deciding_files(folder)):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _deciding_files(folder: Path) -> Iterator[Path]:
    for path in [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]:
        chosen = path.suffix in DECIDING or path.name in DECIDING_TEXT
        if chosen and path.name not in NOT_DECIDING and path.is_file():
            yield path


def device_type() -> str:
    """Where models run on this machine: "cuda" or "cpu"."""
    import torch  # kept here: reading a key must not wait for it

    return "cuda" if torch.cuda.is_available() else "cpu"


def fast_bf16() -> bool:
    """Whether this machine has instructions for products of bf16 numbers: a GPU, or AVX-512.

    Elsewhere PyTorch has no kernel for them: on a processor with AVX2 alone, products of a
    training's shapes reached a tenth to a quarter of the speed of fp32.
    """
    import torch  # as above

    if device_type() == "cuda":
        return True
    capability: str = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512")


def _loading(profile: Profile) -> dict[str, str]:
    """How `load_model` makes a model of its files: each of these changes how it rounds."""
    return {
        "dtype": profile.model.dtype,
        "attention": profile.model.attention,
        "device": device_type(),
    }


def rollouts_key(profile: Profile, problems: Sequence[Problem], shard_prompts: int) -> str:
    """Key of the shards of a pool, 12 hexadecimal digits.

    problems: all that are sampled, in their order.  Which of them are held out is decided after
    sampling and is not part of the key.
    shard_prompts: prompts in a shard; each shard has a seed of its own.
    """
    settings = dataclasses.asdict(profile.rollouts)
    for key in ("prompts", "heldout_prompts", "endpoint", "traces"):
        del settings[key]
    settings["prompt"] = [profile.prompt.instruction, dict(profile.prompt.teacher_template)]
    asked = [(problem.id, problem.question, problem.answer, problem.steps) for problem in problems]
    teacher = content_sha256(profile.model.teacher, profile.model.teacher_revision)
    return _sha256([teacher, _loading(profile), settings, shard_prompts, asked])[:12]


def request_key(body: Mapping[str, Any], sample: int) -> str:
    """Key of one request to a server, 24 hexadecimal digits.

    body: all that is sent, the model's name and the prompt among it.  Not where it is sent to: a
    server's address is no pin, and may change between two starts of a run.
    sample: which of the prompt's K, as a seed may be left out of the body.
    """
    return _sha256([dict(body), sample])[:24]


def asked_key(problems: Sequence[Problem], requests: Sequence[str], shard_prompts: int) -> str:
    """Key of the shards of a pool that a server wrote, 12 hexadecimal digits.

    requests: the keys of all requests, those of a problem side by side.
    """
    asked = [(problem.id, problem.question, problem.answer, problem.steps) for problem in problems]
    return _sha256([list(requests), shard_prompts, asked])[:12]


def answers_key(profile: Profile, sources: Sequence[str], problems: Sequence[Problem]) -> str:
    """Key of a model's greedy answers to `problems`.

    sources: what holds its weights, in order: a model (with "@" and its commit, if it is from a
    hub), and the adapter on it if there is one.
    The batch size counts: a product of other shape may round differently, and where two tokens are
    as likely as each other, that decides between them.
    """
    weights = [content_sha256(source) for source in sources]
    evaluation, prompt = profile.evaluation, profile.prompt
    settings = [evaluation.max_new_tokens, evaluation.batch_size, prompt.instruction]
    # Those of both roles: which of the two answers is not told here.
    settings += [dict(prompt.template), dict(prompt.teacher_template)]
    asked = [(problem.id, problem.question, problem.answer) for problem in problems]
    return _sha256([weights, _loading(profile), settings, asked])


def models_key(profile: Profile, folders: Sequence[str]) -> str:
    """Key of what is measured of the base model with adapters on it, in their order."""
    base = content_sha256(profile.model.base, profile.model.base_revision)
    return _sha256([base, [content_sha256(folder) for folder in folders], _loading(profile)])


def part_key(decided_by: Any) -> str:
    """Key of one part of a measurement, 12 hexadecimal digits, from all that decides it."""
    return _sha256(decided_by)[:12]


def rows_hash(rows: pd.DataFrame) -> str:
    """SHA-256 of token ids and rewards, in row order: equal hashes mean equal training data."""
    digest = hashlib.sha256()
    known = "prompt_ids completion_ids chosen_ids rejected_ids input_ids labels weight reward"
    columns = [column for column in known.split() if column in rows]
    for row in rows[columns].itertuples(index=False):
        for value in row:
            digest.update(np.asarray(value, dtype=np.float64).tobytes() + b"|")
    return digest.hexdigest()


def adapter_origin(profile: Profile, method: str, rows_sha256: str) -> dict[str, Any]:
    """All that decides the weights of an adapter, in JSON's types, as its card holds it.

    rows_sha256: the `rows_hash` of what it is trained on.
    """
    training = vars(profile.training_of(method))
    training = training | {"bf16": training["bf16"] and fast_bf16()}
    for setting, only in _ONLY.items():
        if training[setting] == only:
            del training[setting]
    origin = {
        "objective": method,
        "rows_sha256": rows_sha256,
        "base_sha256": content_sha256(profile.model.base, profile.model.base_revision),
        "settings": {
            "method": vars(profile.methods[method]),
            "training": {key: value for key, value in training.items() if key not in WRITING},
            "lora": vars(profile.lora),
            "model": _loading(profile),
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(origin))
    return plain


def _sha256(value: Any) -> str:
    # Token ids may be numpy's.
    text = json.dumps(value, sort_keys=True, default=lambda number: number.tolist())
    return hashlib.sha256(text.encode()).hexdigest()
