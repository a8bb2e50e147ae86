"""What Helm says after an install: each line of it can be typed as it stands, and what is left open is warned of."""

from __future__ import annotations

import json
import tempfile
from typing import Any

import pytest

from tests.chart.rendering import CHART, CI, changed, ci_values, helm


def notes(values: dict[str, Any]) -> str:
    """Of an install that asks no cluster."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        told = ("--namespace", "gateway", "--values", file.name, "--dry-run=client")
        done = helm("install", "gw", str(CHART), *told)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


@pytest.mark.parametrize("name", CI)
def test_no_line_starts_two_things(name: str) -> None:
    """A port-forward that goes on in the background is nobody's any more: it is a line of its own."""
    said = notes(ci_values(name))
    assert "port-forward gw-affidavit-0 9464" in said
    assert " & " not in said


def test_the_console_is_named_where_there_is_one() -> None:
    values = ci_values("whole")
    said = notes(values)
    assert f"is at {values['config']['console']['public_url']}:" in said
    assert "the Service gw-affidavit-console," in said
    assert "console" not in notes(ci_values("gateway"))


def test_images_that_are_looked_for_at_docker_hub_are_warned_of() -> None:
    values = ci_values("gateway")
    assert "image.registry is empty" in notes(changed(values, "image", {}))
    assert "image.registry is empty" not in notes(changed(values, "image", {"registry": "registry.example.com"}))
    own = {"image": {"repository": "registry.example.com/ai/affidavit"}}
    assert "image.registry is empty" not in notes(changed(values, "gate", own))
