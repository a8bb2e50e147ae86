"""`docs/policy-input.md`, made from the published schemas. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INTRODUCTION: Final = """\
# What the policy is asked, and what it answers

This page is generated from `opa/schemas/question.json` and `opa/schemas/decision.json`.

The gate puts one question to OPA for every call, before anything goes to the model: `input` is the
document below, and the answer is `data.inference.decision`. It asks once, within its time, with strict built-in errors.

- **Every field is always there.** Where there is nothing to say, a field is null (only those marked so), never absent:
  in Rego a rule about an absent field is undefined, and an undefined denial would allow.
- **Findings are counts, never values.** The policy learns that there were two e-mail addresses, not which.
- **Time is in the question.** Use `input.time` and not `time.now_ns()`: the same question then gives the same decision,
  today and before an auditor.
- **What cannot be scanned is counted.** `request.parameters.media_count`: images, sound, files, and members of a
  message that its protocol does not know. The default policy denies them (`media_not_inspectable`) where the model is
  not registered to take them.
- **Only a decision allows.** Undefined, an error, too late, a field too many or of another type: the call is refused
  with 503 and recorded.
"""
_QUESTION: Final = "\n## The question\n\n"
_DECISION: Final = "\n## The decision\n\n"
_EXAMPLE: Final = """
## The default policy

`opa/inference` is useful as it stands and reads its settings from `data.inference` (`opa/data.json`), which a
deployment replaces: `models` (groups and operations by model), `without_model`, `approval`, `limits`, `masking`,
`record`; `allowances`, `data_classes`, `networks`, `office_hours`, `risk` and `tools`, each null while it is off; and
`reasons`: a text for each code, for people and programs of yours that explain a refusal. The gate does not read them: a
caller gets the codes, in the error's `reasons` and at the end of its `message`. What each says, and how to write a
policy of your own and know that it fails closed: [policy-authors](policy-authors.md).

`approval` names models and tags of connections whose calls people must agree to. Models are compared without regard to
case, and a name may have `*` for anything: where `models` has a line `*`, give `approval.models` one too, or name what
may go without (`demo-*`): another spelling of a model, as its service takes it, is another name here. A line's
`clear_to` names groups whose approvers may read the request as it came.

`masking` says what is done with what the scan finds, by entity, and in `fields` with fields, whatever they say
(`docs/redaction.md`, Fields). Here e-mail addresses become pseudonyms; of the requests' tool results nobody's birthday
goes on, though it stays a date; and what the model asks of a tool must not name a salary:

```json
{
  "masking": {
    "request": {"*": "mask", "EMAIL": "hash"},
    "response": {"*": "mask"},
    "fields": {
      "request": [{"path": "$.messages..birth_date", "action": "mask", "keep": "date", "name": "BIRTH_DATE"}],
      "response": [{"path": "$.choices[*].message.tool_calls[*].function.arguments.salary", "action": "block"}]
    }
  }
}
```

Each folder under `opa/inference/concerns/` is one concern, with a rule `allow`, false by default, and a set `reasons`.
A call passes only if every concern allows and none gives a reason; a set `demands` has approvals that it wants. A
concern of your own is one more folder:

```rego
package inference.concerns.hours

default allow := false

allow if {
	input.time.hour >= 6
	input.time.hour < 22
}

reasons contains "outside_hours" if not allow
```

`masking.roles` has lines of their own for callers in a group, in place of those for everybody; of several the strictest
counts:

```json
{"masking": {
  "request": {"*": "mask"},
  "response": {"*": "mask"},
  "roles": {"clinicians": {"response": {"PERSON": "allow"}}}
}}
```

Tokens that come back ([redaction](redaction.md#tokens)) are a matter of `masking`. Nobody gets values back unless the
data say so, by group:

```json
{"masking": {
  "request": {"*": "mask", "EMAIL": "tokenise"},
  "response": {"*": "mask"},
  "restore": {"support": ["EMAIL"]}
}}
```
"""


def render(question: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    """The page, in Markdown, from the two schemas as parsed."""
    return "".join(
        (_INTRODUCTION, _QUESTION, _table(question), _DECISION, _table(decision), _EXAMPLE),
    )


def _table(schema: Mapping[str, Any]) -> str:
    lines = ["| field | type | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{path}` | {kind} | {meaning} |" for path, kind, meaning in _fields(schema, schema, "")]
    return "\n".join(lines) + "\n"


def _fields(root: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for name, inner in schema.get("properties", {}).items():
        shown = _resolved(root, inner)
        here = f"{path}.{name}" if path else name
        yield here, _kind(shown), shown.get("description", "")
        for one in (shown, *shown.get("oneOf", ())):
            yield from _fields(root, one, here)
            items = _resolved(root, one.get("items", {}))
            for either in (items, *(_resolved(root, other) for other in items.get("oneOf", ()))):
                yield from _fields(root, either, f"{here}[]")


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = root["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "oneOf" in schema:
        return " or ".join(_kind(one) for one in schema["oneOf"])
    kind = schema.get("type", "any")
    said = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "items" in schema:
        return f"{said} of {schema['items'].get('type', 'object')}s"
    return said
