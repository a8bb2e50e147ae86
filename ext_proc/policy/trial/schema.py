"""Does a question fit its schema? As much of JSON Schema as `question.json` uses. Pure.

The gate itself never needs this: it makes the question. An author's files are another matter, and so are questions that
were spoiled on purpose.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMAS: Final = Path(__file__).resolve().parent.parent / "schemas"
"""The published schemas, as this version of the gate has them."""
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "null": type(None),
}


@cache
def question_schema() -> dict[str, Any]:
    """The question's schema."""
    found: dict[str, Any] = json.loads((SCHEMAS / "question.json").read_text())
    return found


def problems(schema: Mapping[str, Any], value: Any, path: str = "input") -> Iterator[str]:
    """What does not fit, each with its place."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_of(kind, value) for kind in kinds):
        yield f"{path}: must be {' or '.join(kinds)}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{path}: must be one of {', '.join(map(json.dumps, schema['enum']))}"
    elif isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{path}: too short"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{path}: out of range"
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            yield f"{path}: too many"
        for number, one in enumerate(value):
            yield from problems(schema.get("items", {}), one, f"{path}[{number}]")
    elif isinstance(value, dict):
        yield from _problems_of_object(schema, value, path)


def _problems_of_object(schema: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: is missing"
    for name, one in value.items():
        if name in known:
            yield from problems(known[name], one, f"{path}.{name}")
        elif others is False:
            yield f"{path}.{name}: is no field of the question"
        else:
            yield from problems(others, one, f"{path}.{name}")


def _is_of(kind: str, value: Any) -> bool:
    if kind == "integer":
        return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    return isinstance(value, _TYPES[kind]) and (kind != "number" or not isinstance(value, bool))
