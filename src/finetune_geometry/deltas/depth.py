"""Where a module lies in its network, read from its name: its block, its layer, its kind."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A number below one of these counts blocks again: a stage's blocks, a UNet's transformers. A number
# below anything else (T5's "layer", "experts", "to_out") tells apart the parts of one block.
_CONTAINERS = {"layers", "blocks", "transformer_blocks", "attentions", "resnets"}
# Stacks that run before and after those of any other name, by a word of their path.
_EARLY = {"encoder", "down", "vision", "visual", "audio"}
_LATE = {"decoder", "up", "single", "head", "heads", "score", "classifier"}


def layer_of(module: str) -> int:
    """Index of the block that a module belongs to: the first number in its name; -1 if none.

    Right where a network is one stack of blocks; of several stacks see `layers_of`.
    """
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", module)
    return int(number.group(1)) if number else -1


def kind_of(module: str) -> str:
    """Last part of a module's name, its place in the block: "q_proj"."""
    return module.rpartition(".")[2]


def layers_of(modules: Iterable[str]) -> dict[str, int]:
    """Module -> its layer, for all modules of one network; -1 for those outside of any block.

    One stack of blocks keeps the numbers that its names carry. Of several (encoder and decoder,
    the stages of a convolutional network, the arms of a UNet) the blocks count on from one stack
    to the next, in the order of `depth_order`, so that every block has a number of its own. A
    block is everything whose name agrees up to and including the block's number.
    """
    blocks = {module: _block(module) for module in modules}
    distinct = set(blocks.values()) - {""}
    if len({_stack(block) for block in distinct}) == 1:
        numbers = {block: int(kind_of(block)) for block in distinct}
    else:
        numbers = {block: i for i, block in enumerate(sorted(distinct, key=_place))}
    return {module: numbers.get(block, -1) for module, block in blocks.items()}


def depth_order(modules: Iterable[str]) -> list[str]:
    """The modules from the input to the output, as far as names tell; without a block, first."""
    layers = layers_of(modules)
    return sorted(layers, key=lambda module: (layers[module], _parts(module)))


def stack_ranges(modules: Iterable[str]) -> dict[str, tuple[int, int]]:
    """First and last layer of each stack, by the path before its first number.

    Stages of one path ("encoder.stages") are one entry here.
    """
    ranges: dict[str, tuple[int, int]] = {}
    for module, layer in layers_of(modules).items():
        if layer >= 0:
            path = re.split(r"(?:^|\.)\d+(?:\.|$)", module, maxsplit=1)[0]
            low, high = ranges.get(path, (layer, layer))
            ranges[path] = min(low, layer), max(high, layer)
    return dict(sorted(ranges.items(), key=lambda item: item[1]))


def _block(module: str) -> str:
    """The name up to the number of its block; "" if it holds no number."""
    parts = module.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return ""
    end = numbers[0]
    for i in numbers[1:]:
        if parts[i - 1] in _CONTAINERS or i == end + 1:
            end = i
    return ".".join(parts[: end + 1])


def _stack(block: str) -> str:
    return block.rpartition(".")[0]


def _place(block: str) -> tuple[int, list[tuple[int, str]]]:
    """Sorts blocks from the input to the output."""
    words = set(re.split(r"[._]", _stack(block)))
    # "text_decoder.bert.encoder.layer" is a decoder: of two words the late one counts.
    rank = 2 if words & _LATE else 0 if words & _EARLY else 1
    return rank, _parts(block)


def _parts(name: str) -> list[tuple[int, str]]:
    """A key under which "10" comes after "9"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
