"""`ext_proc.generate_chart`: the chart's schema is the configuration's, less what the chart decides; comments are needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft7Validator

from ext_proc import generate_chart
from ext_proc.generate_chart import OWNED, BadValues, values

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = json.loads(generate_chart.schema())


def test_schema_is_one() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["additionalProperties"] is False


def test_every_section_of_the_configuration_is_there_and_closed() -> None:
    definitions = SCHEMA["definitions"]
    for name in ("Config", "AuditSection", "S3Section", "ConnectionSection", "Issuer", "WebhookSection"):
        assert definitions[name]["additionalProperties"] is False
    assert "TlsListener" not in definitions


def test_what_the_chart_decides_is_not_to_be_set() -> None:
    for section, fields in OWNED.items():
        assert not set(fields) & set(SCHEMA["definitions"][section]["properties"])
        assert not set(fields) & set(SCHEMA["definitions"][section].get("required", ()))


def test_patterns_of_the_configuration_are_the_schemas() -> None:
    pattern = SCHEMA["definitions"]["S3Section"]["properties"]["bucket"]["pattern"]
    assert pattern == "^(?:[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])$"
    text = json.dumps(SCHEMA)
    assert "(?!" not in text  # Helm's engine, RE2, knows no looking ahead


def test_every_value_has_a_meaning() -> None:
    told = [inner for one in values() for inner in one.flat()]
    assert len(told) > 100
    assert [one.path for one in told if len(one.meaning) < 8 or "@schema" in one.meaning] == []


@pytest.fixture
def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(generate_chart, "CHART", tmp_path)
    return tmp_path


def test_value_without_a_comment_is_refused(chart: Path) -> None:
    (chart / "values.yaml").write_text("# One.\none: 1\n\ntwo:\n  # Three.\n  three: 3\n")
    with pytest.raises(BadValues, match=r"values\.yaml: two has no comment"):
        values()


def test_kinds_are_those_of_the_defaults(chart: Path) -> None:
    (chart / "values.yaml").write_text(
        '# A.\na: ""\n# B.\nb: 1\n# C.\nc: [1]\n# D.\nd: true\n# E,\n# and more.\n# @schema {"enum": ["x", "y"]}\ne: x\n'
        '# F.\nf:\n  # G.\n  g: 0.5\n# H.\n# @schema {"additionalProperties": true}\nh:\n  i: 1\n'
    )
    made = json.loads(generate_chart.schema())["properties"]
    kinds = {name: one["type"] for name, one in made.items() if name != "global"}
    assert kinds == {
        "a": "string", "b": "integer", "c": "array", "d": "boolean", "e": "string", "f": "object", "h": "object"
    }  # fmt: skip
    assert made["e"] == {"description": "E, and more.", "type": "string", "enum": ["x", "y"]}
    assert made["f"]["properties"]["g"] == {"description": "G.", "type": "number"}
    assert "properties" not in made["h"]


def test_readme_keeps_what_was_written_by_hand(chart: Path) -> None:
    (chart / "values.yaml").write_text("# This | that.\none: 1\n")
    (chart / "README.md").write_text(f"# By hand\n\n{generate_chart._MARK}old")
    made = generate_chart.readme()
    assert made.startswith("# By hand\n")
    assert "| `one` | `1` | This \\| that. |" in made and "old" not in made
    (chart / "README.md").write_text("# Without the mark\n")
    with pytest.raises(BadValues, match="this line is missing"):
        generate_chart.readme()
