"""Loading a profile's models, with or without adapters on them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from finetune_geometry.models.device import device, enough_memory
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import fetched, is_path
from finetune_geometry.settings.profiles import Profile


def load_model(profile: Profile, role: str = "base") -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer) of a profile's "base" or "teacher".

    A path is taken relative to the project; anything else is a hub id, read from where `prefetch`
    put it.  The weights have the profile's dtype; adapters are added in fp32 and never merged, so
    that a small delta survives beside bf16 weights.
    """
    source, where = _source(profile, role), device(profile)
    disable_progress_bar()  # of loading weights: noise in a notebook
    part = "base" if role == "base" else "teacher"
    with enough_memory(f"model.{part}", source, "take a smaller model or a larger machine"):
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=getattr(torch, profile.model.dtype),
            attn_implementation=profile.model.attention,
            use_safetensors=True,
        )
        model = model.to(where)
    return model.eval(), load_tokenizer(profile, role)


#: What models without a padding token set aside for one, the likeliest first.
RESERVED = ("<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<pad>", "[PAD]")


@functools.lru_cache(maxsize=4)
def _tokenizer(source: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    if tokenizer.pad_token is None:
        # Padding is masked by its place, never by its token, so any would do. One that is set
        # aside keeps the ends of turns apart from it for whoever looks at a batch.
        known = tokenizer.get_vocab()
        named = (token for token in (*RESERVED, tokenizer.unk_token) if token in known)
        tokenizer.pad_token = next(named, tokenizer.eos_token)
    return tokenizer


def load_tokenizer(profile: Profile, role: str = "base") -> Any:
    """The tokenizer of a profile's "base" or "teacher"."""
    return _tokenizer(str(_source(profile, role)))


def teacher_is_here(profile: Profile) -> bool:
    """Whether the teacher is a model that can be asked here, not a server or a data set."""
    return profile.rollouts.source == "model"


def _source(profile: Profile, role: str) -> Path:
    """Where the files of a model are: a folder of the project, or of the hub client's cache."""
    model = profile.model
    name = model.base if role == "base" else model.teacher
    local = project_root() / name
    if is_path(name) and not (local / "config.json").is_file():
        raise UserError(
            f"no model there: {local}: restore it from version control or retrain it with "
            "`make models`"
        )
    if local.is_dir():
        return local
    revision = model.base_revision if role == "base" else model.teacher_revision
    return fetched(name, revision, "model", profile.name)


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
