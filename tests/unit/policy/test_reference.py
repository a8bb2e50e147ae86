"""The page about the policy's input is what the schemas say."""

from __future__ import annotations

import json

from ext_proc.policy.reference import render
from tests.fakes.policy import ROOT


def test_the_page_is_up_to_date() -> None:
    question, decision = (
        json.loads((ROOT / "opa" / "schemas" / f"{name}.json").read_text()) for name in ("question", "decision")
    )
    assert (ROOT / "docs" / "policy-input.md").read_text() == render(question, decision)
