"""Text becomes a value of the declared type, or one line that says what was expected where."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass

from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.parameters import check_parameters
from finetune_geometry.settings.schema import (
    KNOWN_KEYS,
    Flag,
    Number,
    NumberOrNone,
    Numbers,
    Texts,
    Whole,
    WholeOrNone,
    Wholes,
    build,
    dotted,
)


@dataclass(frozen=True, config=KNOWN_KEYS)
class Part:
    size: Whole
    rate: NumberOrNone = None


@dataclass(frozen=True, config=KNOWN_KEYS)
class All:
    part: Part
    parts: Mapping[str, Part]


FILE = Path("some.yaml")


def test_the_closest_names_are_offered_three_at_most():
    assert closest("step", ["stop", "steep"]) == "did you mean 'steep' or 'stop'?"
    near = [f"name{i}" for i in range(5)]
    assert closest("name", near).count(" or ") == 2
    assert closest("x", ["alpha", "beta"]) == "valid names: alpha, beta"


def built(kind, value):
    """What a field of this kind makes of a value."""
    one = type("One", (), {"__annotations__": {"field": kind}})
    return build(dataclass(one, config=KNOWN_KEYS), {"field": value}, FILE).field


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        ("null", WholeOrNone, None), ("None", NumberOrNone, None), (None, WholeOrNone, None),
        ("4", WholeOrNone, 4), ("1e-3", Number, 1e-3), (2, Number, 2.0), (" 3 ", Whole, 3),
        ("TRUE", Flag, True), ("false", Flag, False), (False, Flag, False), ("none", str, "none"),
        ("1,2", Wholes, (1, 2)), (["1", 2], Numbers, (1.0, 2.0)), ("x", str, "x"),
        ("a,b", Texts, ("a", "b")), ("1e-3", NumberOrNone, 1e-3), ((1, 2), Wholes, (1, 2)),
    ],
)  # fmt: skip
def test_text_is_read_as_the_kind_asks(value, kind, wanted):
    found = built(kind, value)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (1, Flag, "true or false"), ("yes", Flag, "true or false"), (1.5, Whole, "a whole number"),
        (True, Whole, "a whole number"), (2.0, Whole, "a whole number"), (True, Number, "a number"),
        ("x", Number, "a number"), ([], Number, "a number"), ("x", WholeOrNone, "a whole number"),
        (3, Wholes, "a list"), (3, str, "text"), (3, dict, "named sections"),
        (["x"], Wholes, "a whole number"), ("1,x", Wholes, "a whole number"),
    ],
)  # fmt: skip
def test_what_was_expected_is_said_in_words(value, kind, words):
    with pytest.raises(UserError) as caught:
        built(kind, value)
    assert str(caught.value) == f"field = {value!r}: some.yaml: expected {words}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"part": {}, "parts": {}}, "missing key 'part.size': some.yaml: add it"),
        ({"part": {"size": 1}, "parts": 3}, "parts = 3: some.yaml: expected named sections"),
        (
            {"part": {"size": 1}, "parts": {"a": {"size": "x"}}},
            "parts.a.size = 'x': some.yaml: expected a whole number",
        ),
        (
            {"part": {"size": 1}, "parts": {"a": {"size": 1, "rat": 1}}},
            "unknown key 'parts.a.rat': some.yaml: did you mean 'rate'?",
        ),
        (  # the key that is missing is the one that is misspelt
            {"part": {"siz": 1}, "parts": {"a": {"size": "x"}}},
            "unknown key 'part.siz': some.yaml: did you mean 'size'?",
        ),
        ({"part": 1}, "part = 1: some.yaml: expected a section of key: value lines"),
    ],
)
def test_every_error_names_key_file_and_remedy(value, message):
    if "parts" not in value:
        value = value | {"parts": {}}
    with pytest.raises(UserError) as caught:
        build(All, value, FILE)
    assert str(caught.value) == message


def test_the_place_of_a_part_is_named():
    with pytest.raises(UserError) as caught:
        build(Part, {"size": "x"}, FILE, "parts.a")
    assert str(caught.value) == "parts.a.size = 'x': some.yaml: expected a whole number"


def test_a_tree_is_built_and_flattened():
    tree = {"part": {"size": "3"}, "parts": {"a": {"size": 1, "rate": "1e-3"}}}
    assert build(All, tree, FILE) == All(Part(3), {"a": Part(1, 1e-3)})
    assert dict(dotted(tree)) == {"part.size": "3", "parts.a.size": 1, "parts.a.rate": "1e-3"}


def notebook(cells: list[str], **values) -> dict:
    return {"__annotations__": {"k": int, "name": str, "rate": float | None}, "In": cells, **values}


def test_every_cell_that_papermill_put_in_is_checked():
    declaring = "k: int = 1\nname: str = ''\nrate: float | None = None"
    later = "# Parameters\nkk = 3\n"
    with pytest.raises(UserError) as caught:
        check_parameters(notebook([declaring, later], k=1, name="", rate=None, kk=3))
    assert str(caught.value) == ("unknown parameter 'kk': first code cell: did you mean 'k'?")


def test_every_line_of_a_cell_that_papermill_put_in_counts():
    cells = ["k: int = 1", "# Parameters\nother = 3\nk = 2\n"]
    with pytest.raises(UserError, match="unknown parameter 'other'"):
        check_parameters(notebook(cells, k=2, name="", rate=None, other=3))


def test_text_is_taken_where_the_declared_type_has_it_among_others():
    script = {"__annotations__": {"name": str | None, "rate": float | None}}
    check_parameters(script | {"name": "mine", "rate": None})
    check_parameters(script | {"name": None, "rate": None})
    with pytest.raises(UserError, match=r"rate = 'mine': parameter: expected float \| None"):
        check_parameters(script | {"name": "mine", "rate": "mine"})


def test_a_cell_with_magic_declares_nothing():
    """It is no Python: it is passed over, wherever it stands."""
    cells = ["%matplotlib inline", "k: int = 1", "# Parameters\nk = 2\n", "total = obj.x = 3"]
    found = notebook(cells, k=2, name="", rate="1")
    with pytest.raises(UserError) as caught:
        check_parameters(found)
    assert str(caught.value) == "rate = '1': parameter: expected float | None"
    check_parameters(notebook(cells, k=2, name="", rate=None))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": "2"}, "k = '2': parameter: expected int"),
        ({"k": 2.0}, "k = 2.0: parameter: expected a whole number"),
        ({"k": True}, "k = True: parameter: expected a whole number"),
        ({"name": 2}, "name = 2: parameter: expected text"),
        ({"other": 2}, "unknown parameter 'other': first code cell: valid names: k, name, rate"),
    ],
)
def test_a_plain_script_s_values_are_checked_too(values, message):
    script = {"__annotations__": {"k": int, "name": str, "rate": float | None}}
    script |= {"k": 1, "name": "", "rate": 1, "_own": 3, "function": len}
    check_parameters(script)
    assert script["rate"] == 1.0
    assert isinstance(script["rate"], float)
    with pytest.raises(UserError) as caught:
        check_parameters(script | values)
    assert str(caught.value) == message


def test_annotations_may_be_kept_as_a_function():
    """As Python 3.14 does."""
    script = {"__annotate__": lambda form: {"k": int} if form == 1 else None, "k": 2.5}
    with pytest.raises(UserError, match=r"k = 2\.5: parameter"):
        check_parameters(script)
