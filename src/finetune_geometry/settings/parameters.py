"""Checking the parameters of a notebook, as papermill or a person set them."""

from __future__ import annotations

import ast
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.schema import expected

#: A value must have the type that its parameter names; a whole number passes for a float.
AS_DECLARED = ConfigDict(strict=True, arbitrary_types_allowed=True)


def check_parameters(globals_: dict[str, Any]) -> None:
    """Check a notebook's parameters: `check_parameters(globals())` in its second code cell.

    Declared are the names annotated in the cell tagged `parameters`. papermill only warns about a
    name that is not declared and about a missing tag; both are a `UserError` here, as is a value of
    another type. A whole number given for a float becomes one.
    """
    declared = _annotations(globals_)
    cells = [str(cell) for cell in globals_.get("In", [])]
    injected = [n for n, cell in enumerate(cells) if cell.startswith("# Parameters\n")]
    if not declared:
        raise UserError("no parameter is declared: first code cell: annotate each, `k: int = 10`")
    if cells:  # in Jupyter: what papermill put in, not what the reader has defined since
        given = {name for n in injected for name in _assigned(cells[n])}
        first = min(n for n, cell in enumerate(cells) if declared.keys() & set(_assigned(cell)))
        if first in injected:
            raise UserError("papermill found no cell to set: first code cell: tag it 'parameters'")
    else:  # a plain script, or a test
        plain = (bool, int, float, str, list, dict, tuple, type(None))
        given = {
            name
            for name, value in globals_.items()
            if isinstance(value, plain) and not name.startswith("_")
        }
    for name in sorted(given - declared.keys()):
        raise UserError(f"unknown parameter {name!r}: first code cell: {closest(name, declared)}")
    for name, kind in declared.items():
        value = globals_[name]
        try:
            # Text is not converted here: the notebook's own literal must have the type it names.
            globals_[name] = TypeAdapter(kind, config=AS_DECLARED).validate_python(value)
        except ValidationError as error:
            words = expected(error.errors()[0])
            if isinstance(value, str):
                words = getattr(kind, "__name__", None) or str(kind)
            raise UserError(f"{name} = {value!r}: parameter: expected {words}") from None


def _annotations(globals_: dict[str, Any]) -> dict[str, Any]:
    found = dict(globals_.get("__annotations__") or {})
    if not found and "__annotate__" in globals_:  # Python 3.14 keeps annotations as a function
        found = dict(globals_["__annotate__"](1))
    return found


def _assigned(cell: str) -> list[str]:
    """Names that a cell's source binds by assignment at its top level."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return []
    names: list[str] = []
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names
