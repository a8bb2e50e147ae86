"""The chart's generated files: ``values.schema.json`` and ``README.md``, from ``values.yaml`` and the configuration.

``values.yaml`` is the documentation: the comment above a value says what it is for, and a line ``@schema {...}`` in it
narrows what it may be. Below ``config`` stands the gateway's own configuration, less what the chart decides itself.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

CHART: Final = Path(__file__).resolve().parent.parent / "helm" / "affidavit"

OWNED: Final[dict[str, tuple[str, ...]]] = {
    "Config": ("run_dir", "state_dir", "metrics"),
    "Listen": ("http", "tls", "admin"),
    "PolicySection": ("opa_socket", "bundle_file"),
    "DistributionSection": ("listen",),
    "RedactionSection": ("hash_key_file",),
    "AuditSection": ("replica", "replica_file", "key_encryption_key_file", "pepper_file", "receipt_key_file"),
    "ConsoleSection": ("listen", "metrics"),
}
"""Fields of the configuration that the chart sets: nobody else may."""

_NEEDED: Final = {"Config": ["identity", "audit", "connections"], "AuditSection": ["origin", "s3"]}
"""What has no default here, although the file of a single machine may leave it out."""

_NAME: Final = "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_LABEL: Final = "([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_QUANTITY: Final = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
_AMOUNTS: Final = {"type": "object", "additionalProperties": _QUANTITY}
_KUBERNETES: Final[dict[str, Any]] = {
    "Name": {"type": "string", "pattern": f"^{_NAME}$", "description": "The name of an object."},
    "ObjectName": {"type": "string", "pattern": f"^({_NAME})?$", "description": "The name of an object; empty: none."},
    "EntryKey": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,253}$", "description": "An entry of an object."},
    "LabelKey": {"type": "string", "pattern": "^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"},
    "Labels": {
        "type": "object",
        "propertyNames": {"$ref": "#/definitions/LabelKey"},
        "additionalProperties": {"type": "string", "pattern": f"^{_LABEL}$"},
    },
    "Annotations": {
        "type": "object",
        "propertyNames": {"$ref": "#/definitions/LabelKey"},
        "additionalProperties": {"type": "string"},
    },
    "Resources": {
        "type": "object",
        "properties": {"requests": _AMOUNTS, "limits": _AMOUNTS},
        "additionalProperties": False,
        "description": "As in a container.",
    },
    "EnvVar": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "value": {"type": "string"},
            "valueFrom": {"type": "object"},
        },
        "additionalProperties": False,
    },
    "Mount": {
        "type": "object",
        "required": ["name", "mountPath"],
        "properties": {
            "name": {"$ref": "#/definitions/Name"},
            "mountPath": {"type": "string", "pattern": "^/"},
            "subPath": {"type": "string"},
            "readOnly": {"type": "boolean"},
        },
        "additionalProperties": False,
    },
    "Named": {"type": "object", "required": ["name"], "properties": {"name": {"$ref": "#/definitions/Name"}}},
    "Container": {
        "type": "object",
        "required": ["name", "image"],
        "properties": {"name": {"$ref": "#/definitions/Name"}, "image": {"type": "string", "minLength": 1}},
    },
}

_SCHEMA: Final = re.compile(r"@schema (\{.*\})$")
_TYPES: Final = {"str": "string", "bool": "boolean", "int": "integer", "float": "number", "seq": "array"}


class BadValues(Exception):
    """``values.yaml`` does not say what it must."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the chart: ``schema`` is what its comment narrows, ``inner`` are values below it."""

    path: tuple[str, ...]
    meaning: str
    schema: dict[str, Any]
    default: Any
    kind: str
    inner: tuple[Value, ...]

    def flat(self) -> Iterator[Value]:
        """Itself and all below it."""
        yield self
        for one in self.inner:
            yield from one.flat()


def values() -> tuple[Value, ...]:
    """What ``values.yaml`` says, in its order.

    Raises:
        BadValues: a value has no comment, or its schema cannot be read.
    """
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise BadValues("values.yaml: not a mapping")
    return _values(root, (), text.splitlines())


def _values(node: yaml.MappingNode, above: tuple[str, ...], lines: list[str]) -> tuple[Value, ...]:
    return tuple(_value(key, value, above, lines) for key, value in node.value)


def _value(key: yaml.Node, node: yaml.Node, above: tuple[str, ...], lines: list[str]) -> Value:
    path = (*above, key.value)
    meaning, schema = _comment(path, key.start_mark.line, lines)
    kind = node.tag.rpartition(":")[2]
    default = yaml.SafeLoader("").construct_document(node)
    has_inner = isinstance(node, yaml.MappingNode) and bool(node.value) and not node.flow_style
    if isinstance(node, yaml.MappingNode) and has_inner and not {"additionalProperties", "$ref"} & set(schema):
        return Value(path, meaning, schema, default, kind, _values(node, path, lines))
    return Value(path, meaning, schema, default, kind, ())


def _comment(path: tuple[str, ...], line: int, lines: list[str]) -> tuple[str, dict[str, Any]]:
    said: list[str] = []
    schema: dict[str, Any] = {}
    for above in reversed(lines[:line]):
        text = above.strip()
        if not text.startswith("#"):
            break
        if found := _SCHEMA.search(text):
            schema = json.loads(found[1])
        else:
            said.insert(0, text.lstrip("# "))
    if not said:
        raise BadValues(f"values.yaml: {'.'.join(path)} has no comment: say what it is for")
    return " ".join(said), schema


# values.schema.json ----------------------------------------------------------------------------------------------


def schema() -> str:
    """What values may be, for Helm."""
    whole = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart affidavit",
        "description": "Generated by `make generate`; do not edit.",
        "type": "object",
        "properties": {**{one.path[-1]: _schema_of(one) for one in values()}, "global": {"type": "object"}},
        "required": _kept(values()),
        "additionalProperties": False,
        "definitions": {**_KUBERNETES, **_configuration()},
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _schema_of(one: Value) -> dict[str, Any]:
    if "$ref" in one.schema:  # what stands beside a reference is not looked at
        return one.schema
    if one.inner:
        properties = {inner.path[-1]: _schema_of(inner) for inner in one.inner}
        made = {"type": "object", "properties": properties, "additionalProperties": False, "required": _kept(one.inner)}
    else:
        made = {"type": "object" if one.kind == "map" else _TYPES.get(one.kind, "null")}
    return {"description": one.meaning, **made, **one.schema}


def _kept(inner: tuple[Value, ...]) -> list[str]:
    """What is always there, because `values.yaml` has it: to Helm a null means to take a default away, and without it
    templates would render something that nobody chose.
    """
    return [one.path[-1] for one in inner if "null" not in one.schema.get("type", ())]


def _configuration() -> dict[str, Any]:
    """The configuration's sections, without what the chart decides."""
    whole = Config.model_json_schema(ref_template="#/definitions/{model}")
    sections = {**whole.pop("$defs"), "Config": whole}
    for name, fields in OWNED.items():
        section = sections[name]
        for field in fields:
            del section["properties"][field]
        section["required"] = _NEEDED.get(name) or [one for one in section.get("required", ()) if one not in fields]
        if not section["required"]:
            del section["required"]
    del sections["TlsListener"]  # the chart's own
    plain: dict[str, Any] = _without_titles(sections)
    return plain


def _without_titles(node: Any) -> Any:
    """Less what nobody reads: titles, pydantic's own word, and whole sections as defaults (they show what is ours)."""
    if isinstance(node, dict):
        return {
            key: _without_titles(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str))
            and not (key == "default" and isinstance(value, dict))
            and key != "discriminator"
        }
    return [_without_titles(one) for one in node] if isinstance(node, list) else node


# README.md -------------------------------------------------------------------------------------------------------

_MARK: Final = "<!-- values: generated from values.yaml by `make generate`; do not edit below -->\n"


def readme() -> str:
    """What stands in the README up to the mark, and a table of every value below it.

    Raises:
        BadValues: the mark is gone.
    """
    written, mark, _ = (CHART / "README.md").read_text().partition(_MARK)
    if not mark:
        raise BadValues(f"README.md: this line is missing: {_MARK}")
    rows = [
        f"| `{'.'.join(one.path)}` | {_default(one)} | {_cell(one.meaning)} |" for top in values() for one in top.flat()
    ]
    return "\n".join([written + _MARK, "## Values", "", "| value | default | meaning |", "|---|---|---|", *rows, ""])


def _default(one: Value) -> str:
    return "" if one.inner else f"`{_cell(json.dumps(one.default, ensure_ascii=False))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
