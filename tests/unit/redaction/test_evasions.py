"""Values in disguise: all of `evasions.yaml` is found in a channel's text, and nothing of what it hides is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc.redaction import scan

GROUPS = yaml.safe_load(Path(__file__).with_name("evasions.yaml").read_text(encoding="utf-8"))


def decoded(case: dict[str, Any]) -> str:
    """The channel's text."""
    text: str = case["text"].replace("¦", "")
    return str(json.loads(f'"{text}"')) if case.get("wire") else text


CASES = [
    pytest.param(decoded(case), case["entity"], id=f"{group['group']}-{index}")
    for group in GROUPS
    for index, case in enumerate(group["cases"])
]


def test_there_are_enough() -> None:
    assert len(CASES) >= 70
    assert len({case.values[0] for case in CASES}) == len(CASES) - 1, "one stands both on the wire and in the text"


@pytest.mark.parametrize(("text", "entity"), CASES)
def test_found(text: str, entity: str) -> None:
    assert entity in {span.entity for span in scan(text)}
