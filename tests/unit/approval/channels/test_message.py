"""What is told of holds: facts, in words, and no more of others' words than a line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ext_proc.approval.channels.message import (
    STATES,
    Event,
    announced,
    event_of,
    line_of,
    lines_of,
    plain,
    title_of,
    told_of,
)
from ext_proc.model import HoldState
from tests.fakes.asked_holds import FACTS
from tests.fakes.holds import TWO, a_hold, yes
from tests.fakes.told import NASTY, message, told


def test_the_facts_and_nothing_else():
    hold = a_hold(terms=TWO, facts={**FACTS, "path": "/secret-path"}, resolutions=(yes(),), sealed=b"sealed")
    one = told_of(hold, 3, HoldState.PENDING, lambda hold_id: f"https://desk/{hold_id}")
    assert (one.connection, one.model, one.findings, one.needed, one.given) == ("openai", "gpt-5", {"EMAIL": 2}, 2, 1)
    assert one.url == f"https://desk/{hold.hold_id}" and one.masked is None
    assert "secret-path" not in repr(one) and "sealed" not in repr(one)


def test_others_words_are_one_line_and_not_long():
    assert plain("a\r\nBcc: x@y\x00\u202eb\u2028c") == "a Bcc: x@y b c"
    assert plain("x" * 1000) == "x" * 200 + "…"
    assert plain(None) == ""


def test_every_state_that_is_told_has_words():
    assert {announced(state) for state in HoldState} == set(STATES)
    assert announced(HoldState.CLAIMED) is announced(HoldState.USED) is HoldState.APPROVED
    assert [event_of(state) for state in (HoldState.PENDING, HoldState.DENIED)] == [Event.PENDING, Event.RESOLVED]


@pytest.mark.parametrize(
    "one", [message(), message(count=37), message(Event.RESOLVED), message(Event.RESOLVED, 3), message(Event.TEST)]
)
def test_titles_are_our_own_words(one):
    assert NASTY[:5] not in title_of(one) and "\n" not in title_of(one)
    assert str(len(one.told)) in title_of(one) or len(one.told) < 2


def test_lines():
    lines = dict(lines_of(told()))
    assert lines["Found"] == "EMAIL 2, IBAN 1" and lines["Who may agree"] == "2 of approvers, officers"
    assert lines["Until"] == "2026-11-25 12:10 UTC"
    bare = dict(lines_of(told(findings={}, model="", reason="")))
    assert (bare["Found"], bare["Model"], bare["Why it waits"]) == ("nothing", "not named", "the policy wants it")
    assert "it waits, until 2026-11-25 12:10 UTC" in line_of(told(expires_at=told().asked_at + timedelta(minutes=10)))
