"""Checking what a person wrote: declared types, and errors that name the fix.

Profiles and notebook parameters are both plain text at first. Here text becomes a value of the
declared type, or a `UserError` in one line.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune_geometry.settings.errors import UserError, closest


def build(kind: Any, value: Any, path: Path, where: str = "") -> Any:
    """`value` as an instance of the declared type `kind`, or a `UserError` that names `where`."""
    if dataclasses.is_dataclass(kind):
        if isinstance(value, typing.cast(type, kind)):
            return value
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict):
            raise UserError(f"{where} = {value!r}: {path}: expected a section of key: value lines")
        for key in value:
            if key not in hints:
                raise UserError(f"unknown key {_join(where, key)!r}: {path}: {closest(key, hints)}")
        fields = dataclasses.fields(kind)
        for field in fields:
            needed = dataclasses.MISSING is field.default is field.default_factory
            if needed and field.name not in value:
                raise UserError(f"missing key {_join(where, field.name)!r}: {path}: add it")
        return typing.cast(Any, kind)(
            **{key: build(hints[key], value[key], path, _join(where, key)) for key in value}
        )
    if typing.get_origin(kind) is Mapping:  # one section for each name; the keys are its caller's
        if not isinstance(value, dict):
            raise UserError(f"{where} = {value!r}: {path}: expected named sections")
        item = typing.get_args(kind)[1]
        return {name: build(item, value[name] or {}, path, _join(where, name)) for name in value}
    try:
        return convert(value, kind)
    except ValueError as error:
        raise UserError(f"{where} = {value!r}: {path}: expected {error}") from None


def convert(value: Any, kind: Any) -> Any:
    """`value` as `kind` (bool, int, float, str, `X | None`, tuple or list of one kind).

    Text is read as the kind asks ("1e-3" is a string to YAML and to a command line), a whole
    number passes for a float; anything else raises ValueError with the kind in words.
    """
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        choices = [k for k in typing.get_args(kind) if k is not type(None)]
        if value is None or (isinstance(value, str) and value.lower() in {"none", "null"}):
            return None
        return convert(value, choices[0])
    if origin in (tuple, list):
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ValueError("a list")
        return origin(convert(item, typing.get_args(kind)[0]) for item in items)
    text = value.strip() if isinstance(value, str) else None
    if kind is bool:
        if text is not None and text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")
    if kind in (int, float):
        wanted = "a whole number" if kind is int else "a number"
        number = value
        if text is not None:
            try:
                number = kind(text)
            except ValueError:
                raise ValueError(wanted) from None
        if isinstance(number, bool) or not isinstance(number, (int, kind)):
            raise ValueError(wanted)
        return kind(number)
    if not isinstance(value, kind):
        raise ValueError({"str": "text"}.get(kind.__name__, kind.__name__))
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested mapping under dotted names: {"a": {"b": 1}} gives ("a.b", 1)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from dotted(value, _join(prefix, key))
        else:
            yield _join(prefix, key), value
