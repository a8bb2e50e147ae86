"""Each rule by its vectors: what it hits exactly, and what it must leave alone."""

from __future__ import annotations

import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from ext_proc.redaction.detect import apart, scan
from ext_proc.redaction.gate import ANCHORS
from ext_proc.redaction.packs import read_pack
from ext_proc.redaction.rules import ENTITIES, PACKS, RULES, RULES_VERSION, is_secret

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "redaction.json").read_text(encoding="utf-8"))["rules"]


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(rule, one["text"].replace("¦", ""), one, id=f"{rule}-{index}")
        for rule, both in VECTORS.items()
        for index, one in enumerate(both[kind])
    ]


SAMPLES = [(sample.rule, sample.text, sample.key, sample.found) for pack in PACKS for sample in pack.samples]
# Too long to be written down, or in the vectors.
WITHOUT_HITS = {"jwt-long", "secret-key-long"}


def test_every_rule_has_samples() -> None:
    with_hits = {rule for rule, _, _, found in SAMPLES if found is not None}
    with_misses = {rule for rule, _, _, found in SAMPLES if found is None}
    names = {rule.id for rule in RULES}
    assert names - with_hits == WITHOUT_HITS
    assert names == with_misses
    assert set(VECTORS) <= names


@pytest.mark.parametrize(("rule", "text", "key", "finds"), SAMPLES)
def test_samples(rule: str, text: str, key: str, finds: str | None) -> None:
    found = [text[span.start : span.end] for span in apart(text, key) if span.rule == rule]
    assert found == [] if finds is None else finds in found


@pytest.mark.parametrize("pack", ["core", "secrets"])
def test_built_in_packs_are_safe(pack: str) -> None:
    """They are read without the checks at every start; here they are read with them."""
    data = pkgutil.get_data("ext_proc.redaction", f"packs/{pack}.yaml")
    assert data is not None
    assert [rule.id for rule in read_pack(data).rules] == [rule.id for rule in RULES if rule.pack == pack]


def test_at_least_sixty_providers_and_ten_countries() -> None:
    secrets = {rule.id for rule in RULES if rule.pack == "secrets"}
    countries = {rule.id[:2] for rule in RULES if rule.entity == "NATIONAL_ID"}
    assert len(secrets) > 100
    assert len(countries - {"na"}) >= 25


def test_long_tokens() -> None:
    long_jwt, long_secret = "eyJ" + "a1" * 600, "a1" * 400
    assert ("jwt-long", f"x {long_jwt}".index("e")) in {(s.rule, s.start) for s in apart(f"x {long_jwt}")}
    assert "secret-key-long" in {span.rule for span in apart(long_secret, "api_key")}


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
        "BANK_ACCOUNT", "COORDINATES", "CRYPTO_ADDRESS", "DATE_OF_BIRTH", "DEVICE_ID", "DRIVER_LICENSE", "EMAIL", "IBAN",
        "IP_ADDRESS", "MAC_ADDRESS", "MEDICAL_RECORD", "NATIONAL_ID", "PASSPORT", "PAYMENT_CARD", "PHONE", "URL", "US_SSN",
    }  # fmt: skip
