"""Adapters: mappings from module to weight change, read from PEFT's files when asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from finetune_geometry.deltas.adapter_files import (
    LoraSettings,
    TensorFiles,
    read_settings,
    weight_files,
)
from finetune_geometry.deltas.depth import depth_order
from finetune_geometry.deltas.locations import locate
from finetune_geometry.deltas.lowrank import LowRankDelta, zero_delta
from finetune_geometry.settings.errors import UserError

BASE = "base"
Point = tuple[tuple[str, float], ...]
"""A model that adapters are added to: (adapter, weight) pairs; the empty point is the base."""
_FACTOR = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])"
    r"(?:\.(?!bias$)(?P<adapter>[^.]+))??(?:\.weight)?$"
)
_FOREIGN = re.compile(
    r"lora_magnitude_vector|ia3_|vera_lambda|prompt_embeddings|prompt_encoder|hada_w|lokr_w|lora_E"
)
# Weights of the base that PEFT saves beside the factors as they were: no change of the model.
_COPY = re.compile(r"\.base_layer\.weight$|\.original_module\.")


class Adapter(Mapping[str, LowRankDelta]):
    """The weight changes of one fine-tuning: module name -> `LowRankDelta`, read when asked for.

    Attributes:
        name: as it appears in tables.
        shapes: (d_out, d_in) of each module, in the order of depth.
        base_model: what the adapter says it was trained on, "" if it does not say.
        extras: names of saved tensors that are neither LoRA factors nor copies of the base (heads,
            embeddings, norms, biases): what was trained there changes the model, too, and no
            measure of this project sees it.
        extra_files: the files that hold `extras`; None if what changed there was not saved as such.
    """

    def __init__(
        self,
        name: str,
        shapes: Mapping[str, tuple[int, int]],
        read: Callable[[str], LowRankDelta],
        *,
        base_model: str = "",
        extras: Sequence[str] = (),
        ranks: Mapping[str, int] | None = None,
        extra_files: TensorFiles | None = None,
    ) -> None:
        self.name = name
        self.shapes = {module: shapes[module] for module in depth_order(shapes)}
        self.base_model = base_model
        self.extras = tuple(extras)
        self.extra_files = extra_files
        self._read = read
        self._ranks = ranks

    def __getitem__(self, module: str) -> LowRankDelta:
        if module not in self.shapes:
            raise KeyError(module)
        return self._read(module)

    def rank(self, module: str) -> int:
        """Rank that a module's change can have: r, or the narrower side if that is less.

        0 if it is known to be unchanged. From the file's header, where there is a file.
        """
        r = self[module].r if self._ranks is None else self._ranks[module]
        return min(r, *self.shapes[module])

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __repr__(self) -> str:
        return f"Adapter({self.name!r}, {len(self)} modules)"


def adapter_from(name: str, deltas: Mapping[str, LowRankDelta], base_model: str = "") -> Adapter:
    """An adapter of deltas that are in memory already."""
    shapes = {module: delta.shape for module, delta in deltas.items()}
    ranks = {module: delta.r for module, delta in deltas.items()}
    return Adapter(name, shapes, deltas.__getitem__, base_model=base_model, ranks=ranks)


def zero_adapter(like: Adapter, name: str = BASE) -> Adapter:
    """The base model itself, as an adapter: the same modules, every delta 0."""
    return Adapter(
        name,
        like.shapes,
        lambda m: zero_delta(like.shapes[m]),
        base_model=like.base_model,
        ranks=dict.fromkeys(like.shapes, 0),
    )


def load_adapter(source: str | Path, name: str | None = None) -> Adapter:
    """A PEFT LoRA adapter from a folder or a hub id; factors are read when a module is asked for.

    Handles alpha / r and rsLoRA scaling, rank and alpha patterns, shards, fp16 / bf16 / fp32 /
    fp64, and LoRA on embeddings. A delta is always (output side, input side), so PEFT's
    `fan_in_fan_out` (weights stored transposed) needs no case of its own. The base model is not
    needed. Raises `UserError` on anything broken and on what is not dW = s B A (DoRA, IA3, ...).
    """
    folder = locate(source)
    settings = read_settings(folder)
    tensors = TensorFiles(weight_files(folder))
    factors, extras = _pair_factors(tensors, folder)
    shapes = {
        module: _checked_shape(module, a, b, tensors, settings, folder)
        for module, (a, b) in factors.items()
    }

    def read(module: str) -> LowRankDelta:
        a, b = (tensors.read(key) for key in factors[module])
        scale = settings.scale(module)
        # An embedding's weight is (vocabulary, hidden), and PEFT adds (B A)^T to it.
        if "lora_embedding_A" in factors[module][0]:
            return LowRankDelta(a.T, b.T, scale)
        return LowRankDelta(b, a, scale)

    return Adapter(
        name or folder.resolve().name,
        shapes,
        read,
        base_model=settings.base_model,
        extras=extras,
        ranks={module: settings.rank(module) for module in shapes},
        extra_files=tensors,
    )


def common_modules(
    adapters: Sequence[Adapter], *, intersection: bool = False, any_base: bool = False
) -> list[str]:
    """The modules that all adapters change, in order of depth.

    Raises `UserError`, listing the differences, unless all adapters change the same modules
    (or `intersection`: then those in common count) of the same shapes and name the same base
    model (or `any_base`).
    """
    if not adapters:
        raise UserError("no adapters: nothing to compare: give at least one")
    names = [adapter.name for adapter in adapters]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two adapters are called {twice[0]!r}: {', '.join(names)}: rename one")
    bases = {a.base_model: a.name for a in adapters if a.base_model}
    if len(bases) > 1 and not any_base:
        listed = ", ".join(f"{name}: {base}" for base, name in bases.items())
        raise UserError(
            f"different base models: {listed}: deltas of different bases cannot be compared; if "
            "these names mean one and the same model, allow it: --any-base (any_base=True)"
        )
    first = adapters[0]
    shared = [m for m in first.shapes if all(m in a.shapes for a in adapters)]
    missing = [
        f"{a.name} lacks {len(lacking)} ({lacking[0]}, ...)"
        for a in adapters
        if (lacking := sorted({m for b in adapters for m in b.shapes} - a.shapes.keys()))
    ]
    if not shared:
        raise UserError(f"no module in common: {', '.join(names)}: {'; '.join(missing)}")
    if missing and not intersection:
        raise UserError(
            f"different modules: {'; '.join(missing)}: compare those in common: --intersection "
            "(intersection=True)"
        )
    for module in shared:
        shapes = {a.shapes[module]: a.name for a in adapters}
        if len(shapes) > 1:
            listed = ", ".join(f"{name}: {shape}" for shape, name in shapes.items())
            raise UserError(
                f"different shapes: {module}: {listed}: these adapters are not of one base model"
            )
    return shared


def _pair_factors(
    tensors: TensorFiles, folder: Path
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Module -> names of its A and B tensors; and the other tensors, but for copies of the base."""
    sides: dict[str, dict[str, str]] = {}
    extras = []
    for key in tensors:
        if foreign := _FOREIGN.search(key):
            raise UserError(
                f"tensor {key}: {folder}: {foreign.group()} is not part of a LoRA update s B A; "
                "merge the adapter and compare full checkpoints"
            )
        match = _FACTOR.match(key)
        if match is None:
            if not _COPY.search(key):
                extras.append(key)
            continue
        pair = sides.setdefault(match["module"], {})
        if match["side"] in pair:
            raise UserError(
                f"two lora_{match['side']} for {match['module']}: {folder}: "
                "save one adapter to a folder"
            )
        pair[match["side"]] = key
    for module, pair in sides.items():
        for side in "AB":
            if side not in pair:
                raise UserError(f"lora_{side} of {module} is missing: {folder}: fetch it again")
    if not sides:
        raise UserError(f"no LoRA factors: {folder}: it holds {len(extras)} other tensors")
    return {module: (pair["A"], pair["B"]) for module, pair in sides.items()}, extras


def _checked_shape(
    module: str, a: str, b: str, tensors: TensorFiles, settings: LoraSettings, folder: Path
) -> tuple[int, int]:
    shape_a, shape_b = tensors.shapes[a], tensors.shapes[b]
    if len(shape_a) != 2 or len(shape_b) != 2:
        raise UserError(
            f"{module} has factors of shape {shape_a} and {shape_b}: {folder}: "
            "only linear layers and embeddings are supported, no convolutions"
        )
    r = settings.rank(module)
    if not (shape_a[0] == shape_b[1] == r) or 0 in (*shape_a, *shape_b):
        raise UserError(
            f"{module}: {folder}: A is {shape_a}, B is {shape_b}, but adapter_config.json says "
            f"r = {r}; the two files do not belong together"
        )
    shape = shape_b[0], shape_a[1]
    return shape[::-1] if "lora_embedding_A" in a else shape
