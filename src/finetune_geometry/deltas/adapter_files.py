"""Adapter folders as they lie on disk: which files, which settings, which tensors.

Reads PEFT's LoRA format (`adapter_config.json` beside `adapter_model.safetensors`, whole or in
shards) and nothing that can run code: pickles are refused. Tensors are read one at a time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_geometry.deltas.locations import CONFIG, adapters_below
from finetune_geometry.settings.errors import UserError

WEIGHTS = "adapter_model.safetensors"
_FLOATS = {"F64", "F32", "F16", "BF16"}
# These start from factors that were first taken out of the base weight: the saved product is then
# not the change of the published base model.
_MOVES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_CHANGES_THE_FORM = {
    "use_dora": "DoRA (its magnitudes rescale the base weight)",
    "use_qalora": "QA-LoRA (it pools the input)",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
    "arrow_config": "Arrow (a router over adapters)",
    "alora_invocation_tokens": "activated LoRA (it acts on some tokens only)",
    "layer_replication": "layer replication",
    "target_parameters": "LoRA on parameters instead of modules",
}


@dataclass(frozen=True)
class LoraSettings:
    """What `adapter_config.json` says about the size of the update.

    The update of a module is `scale(module) * B @ A`, with alpha / r or, for rsLoRA
    (Kalajdzievski 2023, arXiv:2312.03732), alpha / sqrt(r).
    """

    base_model: str = ""
    r: int = 8
    alpha: float = 8.0
    rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def rank(self, module: str) -> int:
        return int(_matching(self.rank_pattern, module, self.r))

    def scale(self, module: str) -> float:
        r = self.rank(module)
        alpha = float(_matching(self.alpha_pattern, module, self.alpha))
        return alpha / math.sqrt(r) if self.rslora else alpha / r


def _matching(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """PEFT's rule: the first key that matches the end of the module's name, as an expression."""
    for key, value in patterns.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def read_settings(folder: Path) -> LoraSettings:
    """Read and check `adapter_config.json`; refuse by name whatever is not dW = s B A."""
    path = folder / CONFIG
    if not path.is_file():
        deeper = [p for level in ("*", "*/*") for p in folder.glob(f"{level}/{CONFIG}")]
        below = adapters_below(p.relative_to(folder).as_posix() for p in deeper)
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise UserError(
            f"no {CONFIG}: {folder}: " + (below or f"not a PEFT adapter folder (it holds {found})")
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON: {path}: {_line(error)}; save the adapter again") from None
    if not isinstance(config, dict):
        raise UserError(f"not a configuration: {path}: expected a JSON object")
    _refuse_other_forms(config, path)
    r = _number(config, "r", path, default=8)
    if r != int(r) or r < 1:
        raise UserError(f"r = {r}: {path}: the rank must be a whole number of at least 1")
    return LoraSettings(
        base_model=str(config.get("base_model_name_or_path") or ""),
        r=int(r),
        alpha=_number(config, "lora_alpha", path, default=8),
        rslora=bool(config.get("use_rslora")),
        rank_pattern=_patterns(config, "rank_pattern", path, at_least=1),
        alpha_pattern=_patterns(config, "alpha_pattern", path),
    )


def _refuse_other_forms(config: Mapping[str, Any], path: Path) -> None:
    kind = str(config.get("peft_type") or "").upper()
    if not kind:
        raise UserError(f"no peft_type: {path}: not a PEFT configuration; save the adapter again")
    if kind != "LORA":
        raise UserError(
            f"peft_type {kind} is not supported: {path}: its change of the weights is not s B A; "
            "compare LoRA adapters, or merge it and compare full checkpoints"
        )
    for key, name in _CHANGES_THE_FORM.items():
        if config.get(key):
            raise UserError(
                f"{name} is not supported: {path}: its change of the weights is not s B A; "
                "merge it and compare full checkpoints"
            )
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(_MOVES_THE_BASE):
        raise UserError(
            f"initialised by {start}, which alters the base weights: {path}: convert it with "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...) first"
        )


def _number(config: Mapping[str, Any], key: str, path: Path, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key} = {value!r}: {path}: expected a number")
    return float(value)


def _patterns(
    config: Mapping[str, Any], key: str, path: Path, at_least: int | None = None
) -> dict[str, Any]:
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise UserError(f"{key}: {path}: expected an object of pattern and number")
    for pattern in patterns:
        value = _number(patterns, pattern, path, default=0)
        if at_least is not None and (value < at_least or value != int(value)):
            raise UserError(f"{key}[{pattern!r}] = {value:g}: {path}: expected a whole number >= 1")
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{key}: {path}: {pattern!r} is no pattern: {error}") from None
    return patterns


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of an adapter folder: one, or the shards that its index names."""
    whole = folder / WEIGHTS
    if whole.is_file():
        return [whole]
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        return shards_of(index)
    shards = sorted(folder.glob("adapter_model-*-of-*.safetensors"))
    if shards:
        total = int(shards[0].stem.rpartition("-of-")[2])
        if len(shards) != total:
            raise UserError(f"{len(shards)} of {total} shards: {folder}: fetch the missing ones")
        return shards
    if (folder / "adapter_model.bin").is_file():
        raise UserError(
            f"adapter_model.bin is a pickle: {folder}: if you trust it, convert it, in that "
            'folder: python -c "import torch, safetensors.torch as s; s.save_file(torch.load('
            "'adapter_model.bin', map_location='cpu', weights_only=True), "
            "'adapter_model.safetensors')\""
        )
    raise UserError(f"no {WEIGHTS}: {folder}: save the adapter with model.save_pretrained(folder)")


def shards_of(index: Path) -> list[Path]:
    """The files that a `*.safetensors.index.json` names, each checked to lie beside it."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"not a shard index: {index}: fetch the adapter again") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name:
            raise UserError(f"shard {name!r}: {index}: a shard must lie beside its index")
        if not (index.parent / name).is_file():
            raise UserError(f"shard {name} is missing: {index.parent}: fetch it")
    return sorted(index.parent / name for name in names)


class TensorFiles:
    """The tensors of some safetensors files, read one at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        import ml_dtypes  # noqa: F401  teaches numpy bf16
        from safetensors import SafetensorError, safe_open

        self._where: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        for path in files:
            try:
                handle = safe_open(path, framework="np", backend="pread")
                names = list(handle.keys())
            except (SafetensorError, OSError) as error:
                if _is_pointer(path):
                    raise UserError(
                        f"a Git LFS pointer, not the weights: {path}: fetch them: git lfs pull"
                    ) from None
                raise UserError(
                    f"not a whole safetensors file: {path}: {_line(error)}; fetch or save it again"
                ) from None
            for name in names:
                if name in self._where:
                    raise UserError(f"tensor {name} is there twice: {path}: delete one file")
                view = handle.get_slice(name)
                self._where[name] = (handle, path)
                self.shapes[name] = tuple(view.get_shape())
                self.dtypes[name] = str(view.get_dtype())

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def read(self, name: str) -> NDArray[np.float64]:
        """One tensor in fp64. Raises `UserError` unless it is finite and of a floating type."""
        handle, path = self._where[name]
        if self.dtypes[name] not in _FLOATS:
            raise UserError(
                f"{name} is {self.dtypes[name]}: {path}: save the factors as fp32, fp16 or bf16"
            )
        values: NDArray[np.float64] = handle.get_tensor(name).astype(np.float64)
        if not np.isfinite(values).all():
            bad = "NaN" if np.isnan(values).any() else "inf"
            raise UserError(f"{bad} in {name}: {path}: the training diverged or the file is broken")
        return values

    def equal(self, name: str, other: TensorFiles) -> bool:
        """Whether a tensor holds the same numbers in `other`, be it in another type."""
        one, two = (files._where[name][0].get_tensor(name) for files in (self, other))
        if one.dtype != two.dtype:
            one, two = one.astype(np.float64), two.astype(np.float64)
        return np.array_equal(one, two)


def _is_pointer(path: Path) -> bool:
    """Whether a file is the note of three lines that Git LFS keeps in place of a large file."""
    with path.open("rb") as file:
        return file.read(64).startswith(b"version https://git-lfs")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
