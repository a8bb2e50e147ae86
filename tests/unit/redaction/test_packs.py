"""Packs: what a file may say, and how it is told that it may not."""

from __future__ import annotations

import pytest
import yaml

from ext_proc.redaction.detect import Detector
from ext_proc.redaction.packs import BadPack, read_pack
from ext_proc.redaction.rules import RULES

BADGE = {"id": "badge", "entity": "ACME_BADGE", "anchor": "XY-", "pattern": r"XY-\d{4}(?!\d)"}


def pack(*rules: dict[str, object], **more: object) -> bytes:
    return yaml.safe_dump({"pack": "acme", "version": "1", "rules": list(rules), **more}, allow_unicode=True).encode()


def test_a_rule_of_ones_own_beside_the_built_in_ones() -> None:
    made = read_pack(pack({**BADGE, "hits": ["my «XY-1234»!"], "misses": ["XY-12345"]}))
    detector = Detector([*RULES, *made.rules])
    text = "badge XY-1234, mail bob@example.org"
    assert [(s.entity, text[s.start : s.end]) for s in detector.scan(text)] == [
        ("ACME_BADGE", "XY-1234"),
        ("EMAIL", "bob@example.org"),
    ]
    assert detector.scan("password: [ACME_BADGE]") == []
    assert detector.version != Detector().version
    assert [(s.rule, s.text, s.found) for s in made.samples] == [
        ("badge", "my XY-1234!", "XY-1234"),
        ("badge", "XY-12345", None),
    ]


def test_words_in_any_case_joined_or_apart() -> None:
    made = read_pack(pack({"id": "badge", "entity": "X_Y", "words": ["staff no"], "pattern": r"\d{5}"}))
    detector = Detector(made.rules)
    for text in ("Staff No 12345", "STAFFNO:12345", "staff_no=12345", "staff-no 12345"):
        assert [text[s.start : s.end] for s in detector.scan(text)] == ["12345"]
    assert detector.scan("12345") == []


def test_pieces() -> None:
    made = read_pack(pack({**BADGE, "pattern": r"XY-%{FOUR}"}, define={"FOUR": r"%{ONE}{4}", "ONE": r"\d"}))
    assert made.rules[0].pattern.pattern == r"XY-\d{4}"


def test_an_open_ended_value_is_decided_by_its_beginning() -> None:
    text = {"id": "tok", "entity": "SECRET_X", "anchor": "tk_", "pattern": "tk_[a-z0-9]{4}", "run": "[a-z0-9]", "validator": "token"}  # fmt: skip
    [rule] = read_pack(pack(text)).rules
    assert (rule.open_ended, rule.max_length) == (True, 7)
    found = Detector([rule]).scan("tk_abc1" + "z" * 9000 + " tk_abcd1234")
    assert [(s.start, s.end) for s in found] == [(0, 9007)]


def test_a_group_that_a_run_goes_on_in() -> None:
    [rule] = read_pack(pack({**BADGE, "pattern": "XY-([A-Z]{2})", "run": "[A-Z]", "end": "="})).rules
    assert rule.pattern.pattern == "XY-([A-Z]{2}[A-Z]*(?:=)?)"


BAD = {
    "not YAML": (b"pack: [", "not valid YAML"),
    "not UTF-8": (b"\xff\xfe", "file: it is not text"),
    "empty": (b"", "file: it is empty"),
    "a list": (b"- a", "file: it has no `pack`"),
    "itself": (b"&a [*a]", "file: it holds what no pack can"),
    "a date": (b"pack: a\nversion: 2026-01-01\nrules: [x]", "version: it is no text; put it in quotes"),
    "no date": (b"pack: a\nversion: 2026-99-99\nrules: [x]", "not valid YAML"),
    "a key twice": (b"pack: a\nversion: '1'\nrules: [x]\nrules: [y]", "line 4: rules stands twice; keep one"),
    "no rules": (b"pack: a\nversion: '1'\nrules: []", "rules: "),
    "no pattern": (pack({"id": "badge", "entity": "X_Y"}), "badge.pattern: it is missing; add it"),
    "misspelt": (pack({**BADGE, "patern": "x"}), "badge.patern: there is no such field; did you mean `pattern`?"),
    "unknown": (pack({**BADGE, "zzz": "x"}), "badge.zzz: there is no such field; one of: id, entity, pattern"),
    "unknown above": (pack(BADGE, defines={}), "defines: there is no such field; did you mean `define`?"),
    "a number": (pack({**BADGE, "pattern": 7}), "badge.pattern: it is no text; put it in quotes"),
    "a word": (pack({**BADGE, "words": "x"}), "badge.words: it is no list"),
    "a sample": (pack({**BADGE, "hits": [7]}), "badge.hits.0: it is no text"),
    "a rule": (pack("x"), "rules.0: "),  # type: ignore[arg-type]
    "an id": (pack({**BADGE, "id": "Bad Id"}), "rules.0.id: it must be of 2 to 63 small letters"),
    "an entity": (pack({**BADGE, "entity": "lower"}), "badge.entity: it must be of 2 to 63 capitals"),
    "a piece": (pack(BADGE, define={"a": "b"}), "its name must be of capitals"),
    "a score": (pack({**BADGE, "score": 2.0}), "badge.score"),
    "a window": (pack({**BADGE, "after": 99999}), "badge.after"),
    "twice": (pack(BADGE, BADGE), "badge: two rules"),
    "no anchor": (pack({**BADGE, "anchor": None}), "badge.anchor: there is none"),
    "both": (pack({**BADGE, "words": ["x"]}), "badge.anchor: there are `words` too"),
    "unbounded": (pack({**BADGE, "pattern": "XY-.*"}), "badge.pattern: it repeats without a bound"),
    "unbounded anchor": (pack({**BADGE, "anchor": "X+"}), "badge.anchor: it repeats without a bound"),
    "long anchor": (pack({**BADGE, "anchor": "X{1,99}"}), "badge.anchor: it is empty or too long"),
    "odd anchor": (pack({**BADGE, "anchor": "X(?=Y)"}), "badge.anchor: the gate"),
    "an anchor with flags": (pack({**BADGE, "anchor": "(?a)XY"}), "badge.anchor: the gate"),
    "an anchor with a zero": (pack({**BADGE, "anchor": "X\0Y"}), "badge.anchor: the gate"),
    "an anchor that escapes": (pack({**BADGE, "anchor": "X\\é"}), "badge.anchor: the gate"),
    "no character": (b'pack: "\\ud800"', "file: invalid JSON"),
    "catastrophic": (pack({**BADGE, "pattern": "(?:X{1,9}){1,9}Y"}), "badge.pattern: a repeat holds a repeat"),
    "a look back": (pack({**BADGE, "pattern": "(?<=a|bc)XY"}), "badge.pattern: it looks back at 1 to 2 characters"),
    "flags": (pack({**BADGE, "pattern": "(?u)XY"}), "badge.pattern: it is no regular expression"),
    "a run of flags": (pack({**BADGE, "pattern": "XY", "run": "(?x)a"}), "badge.run: it is not one class"),
    "an end of flags": (pack({**BADGE, "pattern": "XY", "run": "a", "end": "(?x)b"}), "badge.end: it is no regular"),
    "odd words": (pack({**BADGE, "anchor": None, "words": ["a("]}), "badge.words: it is no regular expression"),
    "empty match": (pack({**BADGE, "pattern": "X?"}), "badge.pattern: it matches an empty text"),
    "two groups": (pack({**BADGE, "pattern": "(X)(Y)"}), "badge.pattern: it has more than one group"),
    "validator": (pack({**BADGE, "validator": "nope"}), "badge.validator: there is no 'nope'"),
    "undefined": (pack({**BADGE, "pattern": "%{NOPE}"}), "badge.pattern: %{NOPE} is not defined"),
    "a circle": (pack({**BADGE, "pattern": "%{A}"}, define={"A": "%{A}"}), "go round in a circle"),
    "a run": (pack({**BADGE, "pattern": "XY", "run": "ab"}), "badge.run: it is not one class"),
    "an end": (pack({**BADGE, "pattern": "XY", "run": "[a-z]", "end": "a"}), "badge.end: it may begin"),
    "a lone end": (pack({**BADGE, "end": "a"}), "badge.end: there is no `run`"),
    "a run after": (pack({**BADGE, "pattern": "XY(?!Z)", "run": "[a-z]"}), "badge.pattern: it looks ahead"),
    "a run, a group": (pack({**BADGE, "pattern": "(X)Y", "run": "[a-z]"}), "badge.pattern: the run goes on"),
    "a hit": (pack({**BADGE, "hits": ["XY-1234"]}), "badge.hits: a hit does not mark"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_packs(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(BadPack) as caught:
        read_pack(data, "acme.yaml")
    assert reason in str(caught.value)
    assert str(caught.value).startswith("acme.yaml: ")
    assert all(problem.remedy for problem in caught.value.problems)


def test_what_does_not_fit_is_said_once() -> None:
    with pytest.raises(BadPack) as caught:
        read_pack(pack({**BADGE, "entity": "lower", "patern": "x"}))
    assert [problem.where for problem in caught.value.problems] == ["badge.entity", "badge.patern"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(BadPack) as caught:
        read_pack(pack({**BADGE, "pattern": "a*"}, {**BADGE, "id": "other", "pattern": "b*"}))
    assert [problem.where for problem in caught.value.problems] == ["badge.pattern", "other.pattern"]
