"""Laws of streams: for every text, rule pack, decision and chunking, the stream's redaction is the whole text's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.model import Action, RedactionRule
from ext_proc.redaction import Redactor
from ext_proc.redaction.detect import BUILT_IN, Detector
from ext_proc.redaction.liveness import Cursor
from ext_proc.redaction.look import HELD_TOO_LONG
from ext_proc.redaction.looker import NO_WORDS, UNLIKE_WORDS
from ext_proc.redaction.packs import read_pack
from ext_proc.redaction.reading import Reading
from ext_proc.redaction.rules import ENTITIES, PACKS, RULES
from tests.fuzz.differ import going_on, is_other
from tests.unit.redaction.streams import EXAMPLES, KEY, chunkings, in_chunks, stream, streamed, texts, whole

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from ext_proc.redaction import StreamRedactor

KEYS = ("", "", "note", "password", "phone_number", "ssn", "dob", "api_key", "licence")
OWN = b"""
pack: own
version: "1"
rules:
  - id: badge
    entity: BADGE
    anchor: 'AC-'
    pattern: '(?<![A-Z])AC-\\d{4}-[A-Z]{2}(?![A-Z])'
    score: 0.9
    hits: ['badge \xc2\xabAC-1234-XY\xc2\xbb']
  - id: house-token
    entity: SECRET_HOUSE
    anchor: 'hst_'
    pattern: 'hst_[a-z0-9]{8}'
    run: '[a-z0-9]'
    score: 0.95
    hits: ['key \xc2\xabhst_abcd1234ef\xc2\xbb']
"""
OWN_RULES = read_pack(OWN, "own").rules
DETECTORS = {
    "built in": BUILT_IN,
    **{pack.name: Detector(pack.rules) for pack in PACKS},
    "own": Detector(OWN_RULES),
    "own and built in": Detector((*RULES, *OWN_RULES)),
}
decisions = st.lists(
    st.builds(
        RedactionRule, st.sampled_from(("*", *ENTITIES)), st.sampled_from([a for a in Action if a is not Action.BLOCK])
    ),
    max_size=3,
    unique_by=lambda rule: rule.entity,
).map(tuple)


def is_withheld(redactor: StreamRedactor) -> bool:
    return any(one.rule == HELD_TOO_LONG for one in redactor.removals)


def assert_same(
    chunks: Sequence[str], rules: Sequence[RedactionRule] = (), context: str = "", detector: Detector = BUILT_IN
) -> None:
    text = "".join(chunks)
    redactor = stream(rules, context, detector)
    said = streamed(chunks, redactor)
    if is_withheld(redactor):  # longer than may be held: see `test_what_is_held_too_long...`
        return
    assert said == whole(text, rules, context, detector)
    spans = detector.scan(text, context)
    assert redactor.removals == Redactor(KEY, detector).edits("", text, spans, rules, context).removals
    assert redactor.scanned == len(text)
    assert not redactor.held


@settings(max_examples=400, deadline=None)
@given(st.data(), texts, st.sampled_from(KEYS), decisions)
def test_a_stream_is_redacted_as_the_whole_text(
    data: st.DataObject, text: str, context: str, rules: tuple[RedactionRule, ...]
) -> None:
    assert_same(data.draw(chunkings(text)), rules, context)


@pytest.mark.parametrize("name", DETECTORS)
@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    texts | st.lists(st.sampled_from(["AC-1234-XY", "AC-12", "hst_abcd12", "hst_abcd1234ef", " "])).map("".join),
)
def test_with_every_pack(name: str, data: st.DataObject, text: str) -> None:
    assert_same(data.draw(chunkings(text)), detector=DETECTORS[name])


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((4, 50, 20_000)))
def test_values_that_go_on_with_others_in_them(rng: random.Random, size: int) -> None:
    """What is withheld is not the whole text's, but nothing goes on of what that masks."""
    text = going_on(rng) + " and on. bob@example.org"
    assert not is_other(in_chunks(text, size), text, BUILT_IN)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.text(st.characters(), max_size=80))
def test_arbitrary_text(data: st.DataObject, text: str) -> None:
    assert_same(data.draw(chunkings(text)))


@settings(max_examples=150, deadline=None)
@given(st.data(), texts)
def test_nothing_that_the_whole_text_masks_is_ever_let_go(data: st.DataObject, text: str) -> None:
    """After every chunk, not only at the end: what went on is a beginning of what will have gone on."""
    redactor, said = stream(), ""
    expected = whole(text)
    for chunk in data.draw(chunkings(text)):
        said += redactor.feed(chunk)
        assert is_withheld(redactor) or expected.startswith(said)


@settings(max_examples=100, deadline=None)
@given(st.data(), texts, st.sampled_from(ENTITIES))
def test_nothing_goes_on_after_what_is_blocked(data: st.DataObject, text: str, entity: str) -> None:
    rules = (RedactionRule(entity, Action.BLOCK),)
    redactor = stream(rules)
    said, before = "", ""
    for chunk in data.draw(chunkings(text)):
        was_blocked = bool(redactor.blocked)
        before, said = said, said + redactor.feed(chunk)
        assert not was_blocked or said == before
    was_blocked = bool(redactor.blocked)
    said, before = said + redactor.finish(), said
    assert not was_blocked or said == before
    blocked = Redactor(KEY).edits("", text, BUILT_IN.scan(text), rules).blocked
    if not is_withheld(redactor):
        assert set(redactor.blocked) <= set(blocked)
        assert bool(redactor.blocked) == bool(blocked)
        assert whole(text, rules).startswith(said)


LONG = (
    "a" * 40,
    "QUJD" * 12,
    "eyJ" + "a" * 30,
    ".",
    "sk-abcdefgh12345678" * 3,
    " ",
    "bob@example.org",
    "\n",
    "1 2 3 4 ",
    "%40",
    "A1" * 30,
)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.lists(st.sampled_from(LONG), max_size=14).map("".join), st.integers(20, 200))
def test_what_is_held_too_long_is_masked_alike_for_every_chunking(data: st.DataObject, text: str, limit: int) -> None:
    """And it covers what it touches: no character of a value of the whole text goes on."""
    once = stream(limit=limit)
    expected = streamed([text], once)
    redactor = stream(limit=limit)
    assert streamed(data.draw(chunkings(text)), redactor) == expected
    assert redactor.removals == once.removals
    gone = [(one.start, one.end) for one in redactor.removals]
    for span in BUILT_IN.scan(text):
        if span.entity != "URL":
            assert any(start <= span.start and span.end <= end for start, end in gone)


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[A-Za-z0-9-]{1,24}", fullmatch=True))
def test_plain_words_are_no_numbers(text: str) -> None:
    """What lets most words go unscanned: see `look.UNLIKE_WORDS`."""
    if not UNLIKE_WORDS.search(text):
        assert not any(validator(text) for validator in NO_WORDS)


# The law can fail: each of these is one mistake in the bound -------------------------------------------------------


def a_character_too_far(patch: pytest.MonkeyPatch) -> None:
    settled = Cursor.settled
    patch.setattr(Cursor, "settled", lambda self: min(settled(self) + 1, self.at))


def one_character_too_few(patch: pytest.MonkeyPatch) -> None:
    settled = Cursor.settled
    patch.setattr(Cursor, "settled", lambda self: self.at if settled(self) == self.at - 1 else settled(self))


def hits_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reading, "hits", lambda _self: (None, 0))


def escapes_cut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cursor, "crossed", lambda self: self.at)


@pytest.mark.parametrize("mistake", [a_character_too_far, one_character_too_few, hits_unseen, escapes_cut])
def test_a_mistake_in_the_bound_is_caught(mistake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)  # type: ignore[operator]
    caught = 0
    for text in [*EXAMPLES[::3], "bob&#64;example.org", "4111%2d1111%2d1111%2d1111", "a@b.c@example.org"]:
        for size in (1, 4):
            try:
                assert_same(in_chunks(text, size))
            except AssertionError:
                caught += 1
    assert caught
