"""Values out of the chart's own schema, for Hypothesis: each leaf by its path, right and wrong ones."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.chart.rendering import CHART, ci_values

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALIDATOR = Draft7Validator(SCHEMA)

_PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "there"}}}
FREE: dict[str, list[Any]] = {
    "global": [{}, {"anything": 1}],
    "callers": [[], [_PEER]],
    "monitoring": [[], [_PEER]],
    "people": [[_PEER]],
    "dns": [[_PEER, {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]],
    "services": [[{"ipBlock": {"cidr": "10.0.0.0/8"}}]],
    "extraEgress": [[{"ports": [{"protocol": "TCP", "port": 8080}], "to": [_PEER]}]],
    "tolerations": [[{"key": "gpu", "operator": "Exists"}]],
    "affinity": [{"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}],
    "behavior": [{"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}}],
    "extraMetrics": [
        [
            {
                "type": "Pods",
                "pods": {"metric": {"name": "in_flight"}, "target": {"type": "AverageValue", "averageValue": "20"}},
            }
        ]
    ],
    "extraVolumes": [[{"name": "shared", "configMap": {"name": "more"}}]],
    "extraContainers": [[], [{"name": "tail", "image": "tail:1", "args": ["-f"]}]],
    "extraObjects": [
        [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}],
        ["apiVersion: v1\nkind: Secret\nmetadata: {name: {{ .Release.Name }}-b}"],
    ],
    "container": [{"name": "own", "image": "own:1"}],
    "body": [{"input": "x", "model": "y"}],
    "options": [{"model": "en", "threads": 2}],
    "valueFrom": [{"fieldRef": {"fieldPath": "status.podIP"}}],
}
"""For what no schema of ours describes: what Kubernetes takes there."""


class Leaf(NamedTuple):
    """A value that holds no others of a name of their own."""

    path: tuple[str | int, ...]
    schema: dict[str, Any]

    @property
    def dotted(self) -> str:
        return ".".join(str(one) for one in self.path if not isinstance(one, int))


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def _base() -> dict[str, Any]:
    """Everything on, and one of each in every list; with the defaults, as Helm looks at it."""
    whole = _over(yaml.safe_load((CHART / "values.yaml").read_text()), ci_values("whole"))
    config = whole["config"]
    config["audit"]["witnesses"] = [{"url": "https://witness.example.com", "key": "w+1+key"}]
    config["redaction"] = {"ner": {"adapter": "spacy"}}
    connection = config["connections"][0]
    rule = {"path": "$.metadata.ssn", "action": "mask"}
    connection["redaction"] = {"fields": {"request": [rule], "response": [rule]}}
    connection["ner"] = {}
    people = "/etc/affidavit/configmaps/people/people.json"
    slack = {
        "token_file": "/etc/affidavit/secrets/slack/token",
        "signing_secret_file": "/etc/affidavit/secrets/slack/s",
    }
    config["approvals"]["channels"] += [
        {"kind": "slack", "name": "chat", "channel": "C0123456789", "people_file": people, **slack}
    ]
    return whole


def _over(defaults: Any, chosen: Any) -> Any:
    if not (isinstance(defaults, dict) and isinstance(chosen, dict)):
        return chosen
    return {**defaults, **{name: _over(defaults.get(name), value) for name, value in chosen.items()}}


BASE = _base()


def leaves(schema: dict[str, Any] = SCHEMA, value: Any = BASE, path: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    schema = resolved(schema)
    for way in ("anyOf", "oneOf"):
        sections = [one for one in map(resolved, schema.get(way, ())) if "properties" in one]
        if sections:
            yield from leaves(_fitting(sections, value), value, path)
            return
    if "properties" in schema and path[-1:] != ("resources",):
        for name, inner in schema["properties"].items():
            below = value.get(name) if isinstance(value, dict) else None
            yield from leaves(inner, below, (*path, name))
    elif schema.get("type") == "array" and _is_section(schema["items"]) and value and path[-1] not in FREE:
        for number, below in enumerate(value):
            yield from leaves(schema["items"], below, (*path, number))
    else:
        yield Leaf(path, schema)


def _is_section(items: dict[str, Any]) -> bool:
    items = resolved(items)
    return "properties" in items or "oneOf" in items


def _fitting(sections: list[dict[str, Any]], value: Any) -> dict[str, Any]:
    kind = value.get("kind") if isinstance(value, dict) else None
    return next((one for one in sections if one["properties"].get("kind", {}).get("const") == kind), sections[0])


def put(values: dict[str, Any], leaf: Leaf, value: Any) -> dict[str, Any]:
    """The values with this one; what a section needs beside it is put there too."""
    whole = copy.deepcopy(values)
    at, schema = whole, SCHEMA
    for number, step in enumerate(leaf.path):
        schema = _section_of(schema, at)
        if number == len(leaf.path) - 1:
            at[step] = value
            return whole
        schema = schema["items"] if isinstance(step, int) else schema["properties"][step]
        if not isinstance(step, int) and at.get(step) is None:
            at[step] = _least(_section_of(schema, None))
        at = at[step]
    raise AssertionError(leaf)


def _section_of(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    schema = resolved(schema)
    for way in ("anyOf", "oneOf"):
        if way in schema:
            return _fitting([one for one in map(resolved, schema[way]) if "properties" in one], value)
    return schema


_PLAIN = dict.fromkeys(("url", "issuer", "public_url", "address", "endpoint"), "https://there.example.com")


def _least(section: dict[str, Any]) -> dict[str, Any]:
    """The least that a section may hold."""
    made = {}
    for name in section.get("required", ()):
        inner = resolved(section["properties"][name])
        if "properties" in inner:
            made[name] = _least(inner)
        elif inner["type"] == "array":
            made[name] = ["one"]
        elif inner["type"] == "integer":
            made[name] = max(1, inner.get("minimum", 1))
        else:
            made[name] = _PLAIN.get(name) or inner.get("const") or (inner.get("enum") or ["/etc/one"])[0]
    return made


# Right ones ------------------------------------------------------------------------------------------------------

_ASCII = st.characters(min_codepoint=32, max_codepoint=126)


def right(leaf: Leaf) -> st.SearchStrategy[Any]:
    """What the schema says a value may be."""
    if leaf.path[-1] in FREE and _is_free(leaf.schema):
        return st.sampled_from(FREE[str(leaf.path[-1])])
    return _of(leaf.schema)


def _is_free(schema: dict[str, Any]) -> bool:
    items = resolved(schema.get("items", {}))
    kinds = [schema.get("type"), items.get("type")]
    is_open = "properties" not in schema and "propertyNames" not in schema
    return ("object" in kinds and is_open) or isinstance(items.get("type"), list)


def _of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    schema = resolved(schema)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([_of(one) for one in schema["anyOf"]])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([_of_kind(kind, schema) for kind in kinds])


def _of_kind(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one for each kind
    match kind:
        case "string":
            return _texts(schema)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "integer":
            least = max(schema.get("minimum", -1000), schema.get("exclusiveMinimum", -1001) + 1)
            return st.integers(least, schema.get("maximum", max(1000, 2 * least)))
        case "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 0.5)
            return st.integers(int(least) + 1, int(schema.get("maximum", 1000))).map(float)
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            return st.lists(_of(schema["items"]), min_size=schema.get("minItems", 0), max_size=most, unique_by=str)
        case _:
            return _mappings(schema)


def _texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("format") == "path":
        return st.sampled_from(["/etc/affidavit/secrets/some-one/key", "/etc/affidavit/configmaps/a.b/c", "/mnt/x"])
    if "pattern" in schema:
        return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z", alphabet=_ASCII).filter(
            lambda one: len(one) < 64
        )
    return st.text(_ASCII, min_size=schema.get("minLength", 0), max_size=20)


def _mappings(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    if "properties" in schema:
        needed = schema.get("required", ())
        fields = {name: _of(one) for name, one in schema["properties"].items() if not _is_free(resolved(one))}
        return st.fixed_dictionaries(
            {name: fields[name] for name in fields if name in needed},
            optional={name: fields[name] for name in fields if name not in needed},
        )
    keys = _of(schema["propertyNames"]) if "propertyNames" in schema else st.sampled_from(["cpu", "memory"])
    inner = schema.get("additionalProperties", True)
    return st.dictionaries(keys, _of(inner) if isinstance(inner, dict) else st.text(_ASCII, max_size=9), max_size=3)


# Wrong ones ------------------------------------------------------------------------------------------------------

_STRANGE: list[Any] = [7, "no such thing!\n", True, -1, 10**12, 0.5, [7], {"no": "such"}, [[]], None]


def wrong(leaf: Leaf) -> list[Any]:
    """What it may not be."""
    checked = Draft7Validator({**leaf.schema, "definitions": SCHEMA["definitions"]})
    return [one for one in _STRANGE if not checked.is_valid(one)]
