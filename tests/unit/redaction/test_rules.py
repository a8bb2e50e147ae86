"""Each rule by its vectors: what it hits exactly, and what it must leave alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ext_proc.redaction.detect import apart, scan
from ext_proc.redaction.gate import ANCHORS
from ext_proc.redaction.rules import ENTITIES, RULES, RULES_VERSION, is_secret

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "redaction.json").read_text(encoding="utf-8"))["rules"]


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(rule, one["text"].replace("¦", ""), one, id=f"{rule}-{index}")
        for rule, both in VECTORS.items()
        for index, one in enumerate(both[kind])
    ]


def test_every_rule_has_vectors() -> None:
    assert set(VECTORS) == {rule.id for rule in RULES}
    assert all(len(both["hits"]) >= 3 and len(both["misses"]) >= 3 for both in VECTORS.values())


@pytest.mark.parametrize(("rule", "text", "one"), cases("hits"))
def test_hits(rule: str, text: str, one: dict[str, str]) -> None:
    found = [(span.rule, text[span.start : span.end]) for span in apart(text, one.get("context", ""))]
    assert (rule, one["finds"].replace("¦", "")) in found


@pytest.mark.parametrize(("rule", "text", "one"), cases("misses"))
def test_near_misses(rule: str, text: str, one: dict[str, str]) -> None:
    assert rule not in {span.rule for span in apart(text, one.get("context", ""))}


STANDING_FREE = [
    case for case in cases("hits") if "context" not in case.values[2] and case.values[0] != "pem-private-key"
]


@pytest.mark.parametrize(("rule", "text", "one"), STANDING_FREE)
def test_still_hits_far_inside_a_long_text(rule: str, text: str, one: dict[str, str]) -> None:
    around = "lorem ipsum dolor sit amet, " * 400
    whole = f"{around}\n{text}\n{around}"
    value = one["finds"].replace("¦", "")
    at = whole.index(value, len(around))
    assert any(span.start <= at and span.end >= at + len(value) for span in scan(whole))


def test_rules_are_well_formed() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.pattern.groups <= 1 and rule.pattern.flags & re.ASCII for rule in RULES)
    assert all(0 < rule.score < 1 for rule in RULES)
    assert len(ANCHORS) == len(RULES) + 2
    assert re.fullmatch(r"[0-9a-f]{12}", RULES_VERSION)


def test_secrets_are_named_so() -> None:
    assert {entity for entity in ENTITIES if not is_secret(entity)} == {
        "DATE_OF_BIRTH", "DRIVER_LICENSE", "EMAIL", "IBAN", "IP_ADDRESS", "PASSPORT", "PAYMENT_CARD", "PHONE", "US_SSN",
    }  # fmt: skip
