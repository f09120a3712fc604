"""Checking what a person wrote: pydantic reads it, and a mistake becomes one line with its fix.

Profiles, the ledger of claims and the parameters of notebooks are plain text at first. Classes
that are read here are pydantic's dataclasses with `KNOWN_KEYS`, their fields of the types below.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from finetune_geometry.settings.errors import UserError, closest

Built = TypeVar("Built")

#: A key that a class does not declare is a mistake.
KNOWN_KEYS = ConfigDict(extra="forbid")


def _text(read: Callable[[str], Any]) -> BeforeValidator:
    """Text is read, and left as it is where it cannot be; what is not text passes through."""

    def parse(value: Any) -> Any:
        try:
            return read(value.strip()) if isinstance(value, str) else value
        except (ValueError, KeyError):
            return value

    return BeforeValidator(parse)


def _among(holds: Callable[[Any], bool], wanted: str) -> AfterValidator:
    """Of values of several types: those that `holds` is true of."""

    def check(value: Any) -> Any:
        if not holds(value) or type(value) is int:  # 1 == True
            raise PydanticCustomError("among", "{wanted}", {"wanted": wanted})
        return value

    return AfterValidator(check)


_NONE = _text(lambda text: {"none": None, "null": None}[text.lower()])
_TRUE_OR_FALSE = _text(lambda text: {"true": True, "false": False}[text.lower()])
_LIST = _text(lambda text: text.split(","))

# "1e-3" is text to YAML and to a command line, so text is read as the kind asks. Strict: a whole
# number passes for a number, but 1.5 for no whole one, and true and false for neither.
Whole = Annotated[int, Field(strict=True), _text(int)]
Number = Annotated[float, Field(strict=True), _text(float)]
Flag = Annotated[bool, Field(strict=True), _TRUE_OR_FALSE]
#: true, false or "auto".
Choice = Annotated[
    Any, _TRUE_OR_FALSE, _among(lambda v: v in (True, False, "auto"), "true, false or auto")
]
#: true, false or text: what a chat template takes.
Switch = Annotated[
    Any, _TRUE_OR_FALSE, _among(lambda v: isinstance(v, bool | str), "true, false or text")
]
WholeOrNone = Annotated[Whole | None, _NONE]
NumberOrNone = Annotated[Number | None, _NONE]
Texts = Annotated[tuple[str, ...], _LIST]
Wholes = Annotated[tuple[Whole, ...], _LIST]
Numbers = Annotated[tuple[Number, ...], _LIST]

_UNKNOWN, _MISSING = "unexpected_keyword_argument", "missing"
_FIRST = {_UNKNOWN: 0, _MISSING: 1}  # a misspelt key is missing under its right name, too
_WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dataclass_type": "a section of key: value lines",
    "dict_type": "named sections",
}


def build(kind: type[Built], value: Any, path: Path, where: str = "") -> Built:
    """`value`, as YAML gives it, as an instance of `kind`.

    Raises UserError that names the key (below `where`), the file and the remedy: for a key that is
    unknown, missing, or of another type, in this order.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = min(error.errors(include_url=False), key=lambda e: _FIRST.get(e["type"], 2))
    keys = [str(key) for key in first["loc"] if isinstance(key, str)]  # a number: place in a list
    name = ".".join([where, *keys] if where else keys)
    if first["type"] == _UNKNOWN:
        advice = closest(keys[-1], _fields(kind, keys[:-1]))
        raise UserError(f"unknown key {name!r}: {path}: {advice}")
    if first["type"] == _MISSING:
        raise UserError(f"missing key {name!r}: {path}: add it")
    for key in keys:
        value = value[key]
    raise UserError(f"{name} = {value!r}: {path}: expected {expected(first)}")


def expected(error: Mapping[str, Any]) -> str:
    """What pydantic wanted instead, in words; `error` is one of a ValidationError's `errors()`."""
    return _WORDS.get(error["type"]) or error["msg"].removeprefix("Input should be ")


def _fields(kind: Any, keys: list[str]) -> list[str]:
    """Names of the fields of the class that lies below `keys` in `kind`."""
    for key in keys:
        if typing.get_origin(kind) is Mapping:
            kind = typing.get_args(kind)[1]
        else:
            kind = typing.get_type_hints(kind)[key]
    return [field.name for field in dataclasses.fields(kind)]


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested mapping under dotted names: {"a": {"b": 1}} gives ("a.b", 1)."""
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from dotted(value, name)
        else:
            yield name, value
