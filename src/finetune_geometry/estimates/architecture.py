"""The shape of a model: what its config says, the parameters and the bytes that follow from it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import COMMIT, fetched
from finetune_geometry.settings.sections import Lora

#: Facts of the `config.json` that the shipped profiles' models have on the hub, so that an estimate
#: needs no network. A model that was fetched, or lies in a folder, is read instead.
KNOWN = Path(__file__).with_name("architectures.json")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Architecture:
    """A decoder of dense blocks, as Qwen3 and Llama 3 are."""

    vocabulary: int
    width: int  # of the residual stream
    inner: int  # of the gated MLP
    layers: int
    heads: int
    key_value_heads: int
    head: int  # size of one
    tied: bool  # the head is the embedding
    head_norms: bool  # queries and keys are normalised (Qwen3)
    bias: bool = False  # of q, k and v

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of the linear layers of one block, by name."""
        queries, keys = self.heads * self.head, self.key_value_heads * self.head
        return {
            "q_proj": (self.width, queries),
            "k_proj": (self.width, keys),
            "v_proj": (self.width, keys),
            "o_proj": (queries, self.width),
            "gate_proj": (self.width, self.inner),
            "up_proj": (self.width, self.inner),
            "down_proj": (self.inner, self.width),
        }

    @property
    def block_weights(self) -> int:
        """Weights of the linear layers of one block."""
        return sum(inputs * outputs for inputs, outputs in self.shapes.values())

    @property
    def parameters(self) -> int:
        """All of them, embeddings and norms included."""
        norms = 2 * self.width + (2 * self.head if self.head_norms else 0)
        bias = (self.heads + 2 * self.key_value_heads) * self.head if self.bias else 0
        embeddings = self.vocabulary * self.width * (1 if self.tied else 2)
        return embeddings + self.layers * (self.block_weights + norms + bias) + self.width

    def cache_bytes(self, dtype: str) -> int:
        """Of the keys and values of one token."""
        return 2 * self.layers * self.key_value_heads * self.head * BYTES[dtype]

    def trained(self, lora: Lora) -> int:
        """Parameters of the adapters."""
        return self.layers * self.adapter_weights(lora)

    def modules(self, lora: Lora) -> int:
        """Linear layers that get an adapter."""
        return self.layers * len(self._targets(lora))

    def adapter_weights(self, lora: Lora) -> int:
        """Parameters of the adapters of one block."""
        return sum(lora.r * sum(self.shapes[name]) for name in self._targets(lora))

    def _targets(self, lora: Lora) -> list[str]:
        unknown = sorted(set(lora.target_modules) - self.shapes.keys())
        if unknown:
            raise UserError(
                f"no estimate for adapters on {unknown[0]!r}: lora.target_modules: "
                f"those known are {', '.join(self.shapes)}"
            )
        return list(dict.fromkeys(lora.target_modules))


def read_config(config: Mapping[str, Any], where: str) -> Architecture:
    """The architecture that a `config.json` describes. Raises UserError for another kind."""
    kind = str(config.get("model_type"))
    if kind not in ("qwen3", "llama", "qwen2", "mistral"):
        raise UserError(
            f"no estimate for a model of type {kind!r}: {where}: known are dense decoders, as "
            "qwen3 and llama; with another source of rollouts (rollouts.source) a teacher is not "
            "needed here"
        )
    heads = int(config["num_attention_heads"])
    return Architecture(
        vocabulary=int(config["vocab_size"]),
        width=int(config["hidden_size"]),
        inner=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        key_value_heads=int(config.get("num_key_value_heads") or heads),
        head=int(config.get("head_dim") or config["hidden_size"] // heads),
        tied=bool(config.get("tie_word_embeddings", False)),
        head_norms=kind == "qwen3",
        bias=bool(config.get("attention_bias", False)) or kind == "qwen2",
    )


@functools.lru_cache(maxsize=16)
def architecture_of(name: str, revision: str = "") -> Architecture:
    """The architecture of a model: a folder, a repository that was fetched, or one of KNOWN.

    Nothing is fetched. Raises UserError with the command that does for a model not known here.
    """
    local = project_root() / name / "config.json"
    if local.is_file():
        return read_config(json.loads(local.read_text(encoding="utf-8")), name)
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    if name in known:
        return read_config(known[name], name)
    found = _fetched_config(name, revision)
    if found is None:
        raise UserError(
            f"the shape of this model is not known here: {name}: fetch the profile's files first "
            "(finetune-geometry prefetch --profile ...), or choose another rollouts.source if it "
            "is the teacher"
        )
    return read_config(json.loads(found.read_text(encoding="utf-8")), name)


def _fetched_config(name: str, revision: str) -> Path | None:
    """`config.json` of a repository that was fetched, or None."""
    if not COMMIT.fullmatch(revision):
        return None
    try:
        return fetched(name, revision, files=("config.json",)) / "config.json"
    except UserError:
        return None
