"""What a stream costs grows with its length only, whatever comes: counted, not timed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from ext_proc.redaction.detect import NOTHING_DONE, Detector, Done
from ext_proc.redaction.liveness import Cursor
from ext_proc.redaction.look import HELD_TOO_LONG
from ext_proc.redaction.reading import Reading, rules_automaton
from tests.unit.redaction.streams import in_chunks, stream, streamed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.model import Removal, Span

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def drawn(chars: str) -> Callable[[int], str]:
    return lambda n: "".join(random.Random(n).choices(chars, k=n))


BAIT: dict[str, Callable[[int], str]] = {
    "digits": lambda n: "1" * n,
    "any digits": drawn("0123456789"),
    "spaced digits": lambda n: "1 2 3 4 " * (n // 8),
    "any spaced digits": lambda n: " ".join(drawn("0123456789")(n // 2)),
    "digits with dashes": drawn("0123456789-"),
    "hexadecimal": drawn("0123456789abcdef"),
    "base64": drawn(LETTERS[:-2]),
    "base64 with slashes": drawn(LETTERS),
    "a@": lambda n: "a@" * (n // 2),
    "+1": lambda n: "+1" * (n // 2),
}
SMALL, TIMES = 1024, 4
SCANS_MAX = 24
"""Characters scanned for one that came: 5 of each look, twice where words come nearer, and what is told early."""


class Counting(Detector):
    """Counts the characters that it is asked to look at."""

    scanned = 0

    def apart(self, text: str, context: str = "") -> list[Span]:
        self.scanned += len(text)
        return super().apart(text, context)

    def rest(
        self, text: str, only: frozenset[int] | None = None, done: Done = NOTHING_DONE, since: int = 0
    ) -> tuple[list[Span], list[Span]]:
        self.scanned += len(text)
        return super().rest(text, only, done, since)


WORDS = (
    "you 1.2.3.4[PAYMENT_CARD:abcdefgh]. 5PHONE me and me my born me see number account\n7, card call me: two one two "
    "five five five zero one two threestreet password card born 2024, 9250(.8104me 12 call 7, 7, street"
)
COUNTING = Counting()


@pytest.mark.parametrize("size", [4, SMALL * TIMES])
@pytest.mark.parametrize("name", BAIT)
def test_what_is_scanned_is_linear(name: str, size: int) -> None:
    def scanned(length: int) -> int:
        before = COUNTING.scanned
        streamed(in_chunks(BAIT[name](length), size), stream(detector=COUNTING))
        return COUNTING.scanned - before

    small, large = scanned(SMALL), scanned(SMALL * TIMES)
    assert large <= small * TIMES * 2 + 4 * SMALL
    assert large <= SCANS_MAX * SMALL * TIMES


@pytest.mark.parametrize("name", ["digits with dashes", "base64 with slashes"])
def test_few_states_are_worked_out_for_what_never_comes_again(name: str) -> None:
    """Else a stranger has each character of a text work out a state, and all others lose theirs."""
    cursor = Cursor(rules_automaton(COUNTING))
    text = BAIT[name](8192)
    before = cursor.automaton.worked_out
    cursor.feed(text)
    assert cursor.automaton.worked_out - before < len(text) // 4


@pytest.mark.parametrize("name", ["digits with dashes", "base64 with slashes", "words"])
def test_read_without_states_it_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"so {WORDS if name == 'words' else BAIT[name](600)} and bob@example.org"
    kept, loose = Cursor(rules_automaton(COUNTING)), Cursor(rules_automaton(COUNTING))
    for at in range(0, len(text), 50):
        kept.feed(text[at : at + 50])
        with monkeypatch.context() as patch:
            patch.setattr("ext_proc.redaction.liveness._DEBT_MAX", -1)
            patch.setattr(loose, "_debt", 1 << 20)
            loose.feed(text[at : at + 50])
        assert (loose.starts, loose.state.after) == (kept.starts, kept.state.after)
        assert (loose.hit_first, loose.hit_last, loose.hit_rules) == (kept.hit_first, kept.hit_last, kept.hit_rules)
        assert loose.resisting == kept.resisting


@pytest.mark.parametrize("name", ["digits", "base64 with slashes"])
def test_what_is_masked_for_its_length_is_read_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one character at a time: that was most of the cost."""
    fed = 0
    feed = Cursor.feed

    def counting(self: Cursor, text: str) -> None:
        nonlocal fed
        fed += 1
        feed(self, text)

    monkeypatch.setattr(Cursor, "feed", counting)
    redactor = stream(detector=COUNTING)
    text = BAIT[name](8192)
    streamed([text], redactor)
    assert HELD_TOO_LONG in {one.rule for one in redactor.removals}
    assert fed < len(text) // 8


def test_a_long_run_behind_what_is_undone_is_read_once_in_each_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its escapes are not looked for in text that has none, and the reading is not copied for each piece."""
    fed = copied = 0
    feed, copy = Cursor.feed, Reading.copy

    def feeding(self: Cursor, text: str) -> None:
        nonlocal fed
        fed += len(text)
        feed(self, text)

    def copying(self: Reading) -> Reading:
        nonlocal copied
        copied += 1
        return copy(self)

    monkeypatch.setattr(Cursor, "feed", feeding)
    monkeypatch.setattr(Reading, "copy", copying)
    text = "a\u200b" + "a" * 6000
    streamed(in_chunks(text, 4), stream(detector=COUNTING))
    assert fed < len(text) * 2.2
    assert copied < len(text) // 50


def test_what_was_taken_out_long_ago_is_not_told_anew() -> None:
    """A stream is asked for all of it at every large piece."""
    redactor = stream(detector=COUNTING)
    known: tuple[Removal, ...] = ()
    for _ in range(30):
        redactor.feed("bob@example.org and " * 20)
        said = redactor.removals
        assert len(said) >= len(known)
        assert all(one is other for one, other in zip(said, known[:-20], strict=False))
        known = said
    redactor.finish()
    assert len(redactor.removals) == redactor.removal_count == 600
