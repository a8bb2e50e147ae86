"""`opa/`: what `opa test` cannot see of it: texts for codes, metadata, names that must be there, off by default."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests.fakes.policy import ROOT, opa_program

_CONCERNS = ROOT / "opa" / "inference" / "concerns"
_SOURCES = [path for path in sorted((ROOT / "opa").rglob("*.rego")) if not path.name.endswith("_test.rego")]
_DATA: dict[str, Any] = json.loads((ROOT / "opa" / "data.json").read_text())["inference"]
_NEW = ("allowances", "data_classes", "networks", "office_hours", "risk", "tools")


def _name(path: Any) -> str:
    return str(path.relative_to(ROOT / "opa"))


def test_every_code_has_a_text_and_every_text_a_code() -> None:
    text = "\n".join(path.read_text() for path in _SOURCES)
    codes = set(re.findall(r'reasons contains "([a-z_]+)"', text)) | {"no_reason_given"}

    assert set(_DATA["reasons"]) == codes
    assert all(text.endswith(".") for text in _DATA["reasons"].values())


def test_a_bundle_without_one_of_ours_allows_nothing() -> None:
    decision = (ROOT / "opa" / "inference" / "decision.rego").read_text()
    [required] = re.findall(r"_required := \{(.*?)\}", decision, re.DOTALL)

    assert set(re.findall(r'"(\w+)"', required)) == {path.name for path in _CONCERNS.iterdir()}


@pytest.mark.parametrize("path", _SOURCES, ids=_name)
def test_each_package_and_each_rule_for_others_says_what_it_is(path: Any) -> None:
    done = subprocess.run(
        [opa_program(), "inspect", "--annotations", "--format", "json", path], capture_output=True, check=True
    )
    annotated = json.loads(done.stdout).get("annotations", [])
    described = {
        "/".join(str(part["value"]) for part in one["path"][1:])
        for one in annotated
        if one["annotations"].get("title") or one["annotations"].get("description")
    }
    text = path.read_text()
    [package] = re.findall(r"^package (\S+)$", text, re.MULTILINE)
    public = set(re.findall(r"^(?:default )?([a-z]\w*)(?= :=| contains| if|\[)", text, re.MULTILINE))
    place = package.replace(".", "/")

    assert {place, *(f"{place}/{name}" for name in public)} <= described


@pytest.mark.parametrize("concern", _NEW)
def test_off_until_somebody_writes_data(concern: str) -> None:
    assert _DATA[concern] is None


@pytest.mark.parametrize("path", sorted(_CONCERNS.iterdir()), ids=lambda path: path.name)
def test_one_concern_a_folder_with_its_test(path: Any) -> None:
    assert {file.name for file in path.iterdir()} == {f"{path.name}.rego", f"{path.name}_test.rego"}
    assert "default allow := false" in (path / f"{path.name}.rego").read_text()


def test_schemas_of_the_wheel_are_these() -> None:
    for name in ("question", "decision"):
        packed = ROOT / "ext_proc" / "policy" / "schemas" / f"{name}.json"
        assert packed.read_bytes() == (ROOT / "opa" / "schemas" / f"{name}.json").read_bytes()
