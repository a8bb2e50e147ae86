"""Rules of one's own: found, masked and named like the built-in ones, in whole answers and in streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ext_proc.app.exchange.content import ContentGate
from ext_proc.app.exchange.rule_packs import detector_of, rules_of
from ext_proc.errors import ConfigError
from ext_proc.redaction import BUILT_IN, RULES
from tests.fakes.configured import a_config
from tests.unit.app.exchange.bodies import CHAT, CONNECTION, JSON, PATHS, SSE, deltas, events_of, stream, wire

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.config import Config

PACK = """
pack: acme
version: "1"
rules:
  - id: badge
    entity: ACME_BADGE
    anchor: 'XY-'
    pattern: 'XY-\\d{4}(?!\\d)'
    hits: ['my badge is «XY-1234»']
"""
UNSAFE = PACK.replace("XY-\\d{4}(?!\\d)", "XY-(?:a|aa){1,50}b")


def configured(folder: Path, *packs: Path) -> Config:
    """With these packs."""
    config, _ = a_config(folder)
    return config.model_copy(update={"redaction": config.redaction.model_copy(update={"rule_packs": packs})})


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "acme.yaml"
    path.write_text(PACK)
    return path


def test_without_packs_the_built_in_rules_are_all(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert detector_of(config) is BUILT_IN
    assert tuple(rules_of(config)) == tuple(RULES)


def test_own_rules_are_found_whole_and_in_streams(tmp_path: Path, pack: Path) -> None:
    config = configured(tmp_path, pack)
    detector = detector_of(config)
    assert detector.version != BUILT_IN.version, "another set of rules, another name in the record"
    gate = ContentGate(b"k" * 32, detector)
    asked = gate.inspect(CONNECTION, "POST", PATHS["openai.chat"], JSON, wire(CHAT))
    made = gate.redact_response(asked, (), 200, JSON, wire({"text": "badge XY-1234 of bob@example.org"}), 1 << 20)
    assert made.body == b'{"text":"badge [ACME_BADGE] of [EMAIL]"}'
    answer = gate.open_stream(asked, (), SSE, 1 << 20)
    out = answer.feed(stream(*deltas(*"badge XY-1234 of bob@example.org"), "[DONE]"), is_last=True).body
    said = "".join(one["choices"][0]["delta"]["content"] for one in events_of(out)[:-1])
    assert said == "badge [ACME_BADGE] of [EMAIL]"
    assert {one.version for one in answer.told().removals} == {detector.version}


def test_an_id_is_one_rules(tmp_path: Path, pack: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(PACK)
    with pytest.raises(
        ConfigError, match=r"other\.yaml: badge: a rule of .*acme\.yaml has this id; give yours another"
    ):
        rules_of(configured(tmp_path, pack, other))
    other.write_text(PACK.replace("id: badge", "id: email"))
    with pytest.raises(ConfigError, match="email: a rule of the built-in pack core has this id"):
        rules_of(configured(tmp_path, other))


@pytest.mark.parametrize(("text", "why"), [(UNSAFE, "pattern"), ("pack: [", "acme.yaml"), (None, "acme.yaml")])
def test_what_cannot_be_used_is_said(tmp_path: Path, pack: Path, text: str | None, why: str) -> None:
    if text is None:
        pack.unlink()
    else:
        pack.write_text(text)
    with pytest.raises(ConfigError, match=why):
        detector_of(configured(tmp_path, pack))
