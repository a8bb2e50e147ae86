"""`ext_proc.phases.table`: total, and every step of the story is in it."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from ext_proc.phases import StreamingSession
from ext_proc.phases import events as ev
from ext_proc.phases.table import TABLE, State

EVENTS = set(get_args(ev.Event))
NAMED = {name for row in TABLE.values() for name in row.values()}
BEFORE_THE_ANSWER = {
    State.START, State.ADMITTING, State.AUTHENTICATING, State.AWAIT_REQUEST_BODY, State.INSPECTING, State.DECIDING,
    State.OPENING_TOKENS, State.REDACTING_REQUEST, State.ASKING_APPROVAL, State.HOLDING, State.DECIDING_AGAIN,
    State.UNLOCKING,
}  # fmt: skip


def test_every_state_has_its_row() -> None:
    assert set(TABLE) == set(State)


@pytest.mark.parametrize("state", State)
def test_stream_may_end_in_every_state(state: State) -> None:
    """The driver relies on it: whatever happened, the end can be told."""
    assert ev.StreamEnded in TABLE[state]


@pytest.mark.parametrize("state", State)
def test_only_events_stand_in_it(state: State) -> None:
    assert set(TABLE[state]) <= EVENTS


def test_unknown_is_accepted_nowhere() -> None:
    assert all(ev.Unknown not in row for row in TABLE.values())


def test_every_method_exists_and_none_is_forgotten() -> None:
    told = {name for name, _ in inspect.getmembers(StreamingSession, inspect.isfunction) if name.startswith("on_")}
    assert told == NAMED


@pytest.mark.parametrize("state", State)
def test_state_waits_for_its_step_or_for_envoy(state: State) -> None:
    """A step is answered by its event or by Failed, and neither comes where no step is in progress."""
    is_waiting_for_us = not (
        state.name.startswith("AWAIT")
        or state.name in ("START", "SETTLED", "ENDED", "RELEASING_LOCAL_REPLY", "DRAINING")
    )
    answers = set(TABLE[state]) & set(get_args(ev.AnswerEvent))
    assert (len(answers), ev.Failed in answers) == ((2, True) if is_waiting_for_us else (0, False))


@pytest.mark.parametrize("state", State)
def test_local_reply_only_where_there_was_no_answer(state: State) -> None:
    if state in BEFORE_THE_ANSWER:
        assert TABLE[state][ev.ResponseHeaders] == "on_local_reply"
    else:
        assert TABLE[state].get(ev.ResponseHeaders) in (None, "on_kept", "on_response_headers")
