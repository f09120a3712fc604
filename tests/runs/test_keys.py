"""A key changes with everything that decides a result, and with nothing that does not."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs import keys
from finetune_geometry.runs.keys import adapter_origin, answers_key, content_sha256, rollouts_key
from finetune_geometry.settings.objectives import OBJECTIVES
from finetune_geometry.settings.profiles import load_profile

PROBLEMS = [Problem(f"p{i}", f"question {i}", f"so {i}", str(i), 2) for i in range(3)]
DECIDING = (
    *("model.safetensors", "config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt"),
    *("chat_template.jinja", "additional_chat_templates/tool.jinja", "merges.txt"),
)
NOT_DECIDING = ("card.json", "README.md", "LICENSE.txt", "training_args.bin", ".DS_Store")


@pytest.fixture
def folder(tmp_path):
    """Folders "base", "teacher" and "adapter" with all that a model's folder may hold."""
    for name in ("base", "teacher", "adapter"):
        made = tmp_path / name
        (made / "additional_chat_templates").mkdir(parents=True)
        for file in (*DECIDING, *NOT_DECIDING):
            (made / file).write_text(f"{file} of {name}")
    return tmp_path


@pytest.mark.parametrize("file", DECIDING)
def test_the_content_of_a_model_is_all_that_decides_its_tokens(folder, file):
    before = content_sha256(str(folder / "base"))
    path = folder / "base" / file
    text = path.read_text()
    path.write_text(text + " ")
    assert content_sha256(str(folder / "base")) != before
    path.write_text(text)
    assert content_sha256(str(folder / "base")) == before
    path.rename(path.with_name("other" + path.suffix))
    assert content_sha256(str(folder / "base")) != before


@pytest.mark.parametrize("file", NOT_DECIDING)
def test_cards_and_notes_are_no_content(folder, file):
    before = content_sha256(str(folder / "base"))
    (folder / "base" / file).write_text("changed")
    assert content_sha256(str(folder / "base")) == before


def test_contents_that_only_together_are_the_same_differ(tmp_path):
    """The end of one file may be the beginning of the next, or of its name."""
    for name, files in {
        "one": {"a.json": "1b.json2"},
        "two": {"a.json": "1", "b.json": "2"},
        "three": {"a.json": "", "b.json": "12"},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    assert len({content_sha256(str(tmp_path / name)) for name in ("one", "two", "three")}) == 3


def test_content_does_not_hang_on_where_it_lies(folder):
    before = content_sha256(str(folder / "base"))
    shutil.copytree(folder / "base", folder / "elsewhere/moved")
    assert content_sha256(str(folder / "elsewhere/moved")) == before
    assert content_sha256(str(folder / "teacher")) != before


def test_a_hub_id_stands_for_itself():
    assert content_sha256("some/model-1b") == "some/model-1b"


def profile(folder, changes=()):
    models = {f"model.{name}": str(folder / name) for name in ("base", "teacher")}
    return load_profile("smoke", models | dict(changes))


def rollouts(folder, changes=(), problems=PROBLEMS, shard=2):
    return rollouts_key(profile(folder, changes), problems, shard)


def answers(folder, changes=(), problems=PROBLEMS, names=("base", "adapter")):
    return answers_key(profile(folder, changes), [str(folder / name) for name in names], problems)


def origin(folder, changes=(), method="sft", rows="of rows"):
    return json.dumps(adapter_origin(profile(folder, changes), method, rows))


KEYS = {"rollouts": rollouts, "answers": answers, "origin": origin}


CHANGES = [
    *((key, f"model.{name}") for key in KEYS for name in ("dtype", "attention")),
    *(
        ("rollouts", f"rollouts.{name}")
        for name in ("source", "k", "temperature", "max_new_tokens", "seed", "batch_size")
    ),
    ("rollouts", "prompt.instruction"),
    ("rollouts", "prompt.teacher_template.enable_thinking"),
    ("answers", "prompt.instruction"),
    ("answers", "prompt.template.enable_thinking"),
    ("answers", "prompt.teacher_template.enable_thinking"),
    *(("answers", f"evaluation.{name}") for name in ("max_new_tokens", "batch_size")),
    *(("origin", f"lora.{name}") for name in ("r", "alpha", "dropout", "seed", "target_modules")),
    *(
        ("origin", f"training.{name}")
        for name in (
            *("steps", "batch_size", "micro_batch_size", "learning_rate", "warmup_ratio"),
            *("weight_decay", "max_grad_norm", "scheduler", "schedule_steps", "seed", "optimizer"),
            *("pool", "mixed_share"),
            *("threads", "bf16", "gradient_checkpointing", "micro_batch_tokens", "processes"),
        )
    ),
    *(
        ("origin", f"methods.sft.{name}")
        for name in (
            *("variant", "steps", "batch_size", "micro_batch_size", "learning_rate", "seed"),
        )
    ),
    *(
        ("origin", f"methods.{method}.{name}")
        for method, objective in OBJECTIVES.items()
        for name in objective.constants
    ),
]


@pytest.mark.parametrize(("key", "change"), CHANGES)
def test_each_setting_that_decides_changes_the_key(folder, key, change, monkeypatch):
    monkeypatch.setattr(keys, "fast_bf16", lambda: True)
    values = {
        "model.dtype": "bfloat16",
        "model.attention": "sdpa",
        "rollouts.source": "endpoint",
        "prompt.instruction": "Reason.",
        "lora.target_modules": ["q_proj"],
        "lora.dropout": 0.5,
        "training.scheduler": "linear",
        "training.optimizer": "sgd",
        "training.pool": "mixed",
        "training.mixed_share": 0.5,
        "training.bf16": False,
        "training.gradient_checkpointing": True,
        "training.micro_batch_size": 2,
        "methods.sft.micro_batch_size": 2,
        "methods.sft.variant": "other",
    }
    value = values.get(change, True if change.endswith("enable_thinking") else 64)
    options = {"method": change.split(".")[1]} if change.startswith("methods.") else {}
    before, *after = (KEYS[key](folder, c, **options) for c in ({}, *[{change: value}] * 2))
    assert before != after[0]
    assert after[0] == after[1]


def test_no_setting_was_forgotten_above():
    """A setting that is added must be tried, or named among those that decide nothing."""
    held = load_profile("smoke").flat()
    sections = ("lora.", "training.", "methods.sft.", "rollouts.")
    constants = {f"methods.{m}.{name}" for m, o in OBJECTIVES.items() for name in o.constants}
    assert constants <= held.keys()
    untried = {name for name in held if name.startswith(sections)} - {name for _, name in CHANGES}
    # Each source of rollouts has a key of its own.
    untried -= {n for n in held if n.startswith(("rollouts.endpoint.", "rollouts.traces."))}
    afterwards = {"rollouts.prompts", "rollouts.heldout_prompts"}  # they divide what is sampled
    assert untried == afterwards | {f"training.{name}" for name in keys.WRITING}


def test_bf16_decides_only_where_the_machine_has_it(folder, monkeypatch):
    half, whole = {}, {"training.bf16": False}
    for fast, same in ((True, False), (False, True)):
        monkeypatch.setattr(keys, "fast_bf16", lambda fast=fast: fast)
        assert (KEYS["origin"](folder, half) == KEYS["origin"](folder, whole)) == same


@pytest.mark.parametrize(
    ("capability", "fast"), [("DEFAULT", False), ("AVX2", False), ("AVX512", True)]
)
def test_a_processor_without_avx_512_has_no_fast_bf16(capability, fast, monkeypatch):
    monkeypatch.setattr(keys, "device_type", lambda: "cpu")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert keys.fast_bf16() == fast
    monkeypatch.setattr(keys, "device_type", lambda: "cuda")
    assert keys.fast_bf16()


@pytest.mark.parametrize("key", KEYS)
def test_the_kind_of_device_changes_every_key(folder, key, monkeypatch):
    found = set()
    for available in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=available: there)
        found.add(KEYS[key](folder))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("key", "name"),
    [("rollouts", "teacher"), ("answers", "base"), ("answers", "adapter"), ("origin", "base")],
)
@pytest.mark.parametrize("file", ["model.safetensors", "chat_template.jinja"])
def test_the_content_of_each_model_changes_the_key(folder, key, name, file):
    before = KEYS[key](folder)
    (folder / name / file).write_text("retrained")
    assert KEYS[key](folder) != before


@pytest.mark.parametrize("key", ["rollouts", "answers"])
@pytest.mark.parametrize("field", ["id", "question", "answer"])
def test_what_is_asked_changes_the_key(folder, key, field):
    other = dataclasses.replace(PROBLEMS[1], **{field: "another"})
    for problems in ([PROBLEMS[0], other, PROBLEMS[2]], PROBLEMS[:2], PROBLEMS[::-1]):
        assert KEYS[key](folder, problems=problems) != KEYS[key](folder)


def test_what_else_decides_changes_its_key(folder):
    harder = [dataclasses.replace(problem, steps=3) for problem in PROBLEMS]
    assert rollouts(folder, problems=harder) != rollouts(folder)  # a column of the pool
    assert rollouts(folder, shard=3) != rollouts(folder)  # each shard has a seed
    assert answers(folder, names=("base",)) != answers(folder)
    assert answers(folder, names=("base",)) != answers(folder, names=("teacher",))
    assert origin(folder, rows="other rows") != origin(folder)
    assert origin(folder, method="rft") != origin(folder)


@pytest.mark.parametrize("key", KEYS)
def test_what_decides_nothing_changes_no_key(folder, key, monkeypatch):
    before = KEYS[key](folder)
    for name in ("base", "teacher", "adapter"):
        for file in NOT_DECIDING:
            (folder / name / file).write_text("later")
    assert KEYS[key](folder) == before
    changes = {
        "training.logging_steps": 17,
        "training.save_steps": 17,
        "training.snapshots": [0.3],
        "evaluation.equivalence_margin": 0.3,
        "geometry.k": 2,
        "methods.dpo.beta": 7.0,
        "problems.validation": 3,
        "model.max_length": 4096,  # an error or nothing
    }
    assert KEYS[key](folder, changes) == before
    shutil.copytree(folder, folder / "moved")
    assert KEYS[key](folder / "moved") == before


def test_which_prompts_are_held_out_changes_no_rollout(folder):
    changes = {"rollouts.prompts": 2, "rollouts.heldout_prompts": 1}
    assert rollouts(folder, changes) == rollouts(folder)
    solved = [dataclasses.replace(problem, solution="otherwise") for problem in PROBLEMS]
    assert rollouts(folder, problems=solved) == rollouts(folder)
    assert answers(folder, problems=solved) == answers(folder)


def test_only_its_own_models_decide_a_key(folder):
    before = {key: make(folder) for key, make in KEYS.items()}
    (folder / "teacher/model.safetensors").write_text("retrained")
    assert (answers(folder), origin(folder)) == (before["answers"], before["origin"])
    (folder / "teacher/model.safetensors").write_text("model.safetensors of teacher")
    (folder / "base/model.safetensors").write_text("retrained")
    assert rollouts(folder) == before["rollouts"]


SCRIPT = """
import sys
from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs import keys
from finetune_geometry.settings.profiles import load_profile
assert "torch" not in sys.modules
folder = sys.argv[1]
models = {f"model.{name}": f"{folder}/{name}" for name in ("base", "teacher")}
profile = load_profile("smoke", models)
problems = [Problem(f"p{i}", f"question {i}", f"so {i}", str(i), 2) for i in range(3)]
print(keys.rollouts_key(profile, problems, 2))
print(keys.answers_key(profile, [f"{folder}/base", f"{folder}/adapter"], problems))
"""


def test_keys_are_the_same_in_every_process_and_importing_them_needs_no_torch(folder):
    for seed in ("0", "1"):
        said = subprocess.run(
            [sys.executable, "-c", SCRIPT, folder],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.split() == [rollouts(folder), answers(folder)]
