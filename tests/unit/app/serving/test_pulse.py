from __future__ import annotations

from ext_proc.app.serving import due
from ext_proc.app.serving.due import Due
from ext_proc.app.serving.pulse import LOOK_SECONDS, Pulse


def looks(pulse, *said):
    return [pulse.is_gone(one) for one in said]


def test_who_says_the_same_for_too_long_is_gone():
    assert looks(Pulse(3 * LOOK_SECONDS), 1.0, 1.0, 1.0, 1.0, 1.0) == [False, False, False, True, True]


def test_a_word_in_between_is_enough():
    assert not any(looks(Pulse(2 * LOOK_SECONDS), 1.0, 1.0, 2.0, 2.0, 3.0, 3.0))


def test_a_clock_that_goes_back_is_a_word_too():
    assert not any(looks(Pulse(2 * LOOK_SECONDS), 9.0, 9.0, 2.0, 2.0, 1.0))


def test_who_has_said_nothing_yet_may_be_waiting():
    assert not any(looks(Pulse(LOOK_SECONDS), *[None] * 100))


def test_what_is_due_does_not_ask_a_clock_that_people_set(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(due, "monotonic", lambda: now[0])
    made = Due()
    assert made.is_now
    made.again_in(60)
    assert not made.is_now
    now[0] = 160.0
    assert made.is_now
