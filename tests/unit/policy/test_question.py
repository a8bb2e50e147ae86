"""The question: every field, always; and the published schema says the same as the code."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import jsonschema
import pytest

from ext_proc.policy.question import SCHEMA, question
from tests.fakes.policy import ROOT, a_call

QUESTION_SCHEMA = json.loads((ROOT / "opa" / "schemas" / "question.json").read_text())


def _objects(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every closed object in a schema, by path."""
    found = [(path, schema)] if "properties" in schema else []
    for name, inner in schema.get("properties", {}).items():
        found += _objects(inner, f"{path}.{name}".strip("."))
    return found


def test_an_ordinary_call() -> None:
    asked = question(a_call(findings={"EMAIL": 2}, parameters={"max_tokens": 10}))
    jsonschema.validate(asked, QUESTION_SCHEMA)
    assert asked["schema"] == SCHEMA
    assert asked["findings"] == {"EMAIL": 2}
    assert asked["time"] == {"now": "2026-11-24T12:00:00.000Z", "weekday": "tuesday", "hour": 12}
    assert asked["identity"]["client"] is None
    assert json.loads(json.dumps(asked)) == asked


def test_betas_are_there_with_and_without() -> None:
    asked = question(replace(a_call(), betas=("prompt-caching-2024-07-31",), query=(("beta", "true"),)))
    jsonschema.validate(asked, QUESTION_SCHEMA)
    assert asked["request"]["betas"] == ["prompt-caching-2024-07-31"]
    assert question(a_call())["request"]["betas"] == []


def test_time_is_utc_whatever_the_clock_says() -> None:
    elsewhere = datetime(2026, 11, 29, 23, 30, 1, 999_999, tzinfo=timezone(timedelta(hours=-5)))
    assert question(replace(a_call(), received_at=elsewhere))["time"] == {
        "now": "2026-11-30T04:30:01.999Z",
        "weekday": "monday",
        "hour": 4,
    }


def test_the_same_call_gives_the_same_question() -> None:
    assert json.dumps(question(a_call())) == json.dumps(
        question(replace(a_call(), received_at=datetime(2026, 11, 24, 12, tzinfo=UTC)))
    )


@pytest.mark.parametrize(("path", "schema"), _objects(QUESTION_SCHEMA))
def test_code_and_schema_name_the_same_fields(path: str, schema: dict[str, Any]) -> None:
    asked: Any = question(a_call())
    for name in filter(None, path.split(".")):
        asked = asked[name]
    assert set(asked) == set(schema["properties"]) == set(schema["required"])
    assert schema["additionalProperties"] is False
    assert all("description" in inner for inner in schema["properties"].values())


def test_the_documentation_names_every_field() -> None:
    text = (ROOT / "docs" / "policy-input.md").read_text()
    for path, schema in _objects(QUESTION_SCHEMA):
        for name in schema["properties"]:
            assert f"`{path + '.' if path else ''}{name}`" in text
