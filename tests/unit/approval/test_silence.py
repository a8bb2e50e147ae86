"""`ext_proc.approval.silence`: who is silent, whatever the clocks of those who speak say."""

from __future__ import annotations

from ext_proc.approval.silence import BEAT_SECONDS, SILENT_SECONDS, Silence

ONE, OTHER = "gw/worker-0/1", "gw/worker-0/2"
LOOKS = int(SILENT_SECONDS / BEAT_SECONDS)


def test_the_same_for_long_enough() -> None:
    silence = Silence()
    for look in range(LOOKS):
        assert silence.after({ONE: "a", OTHER: f"{look}"}, 1000 + look * BEAT_SECONDS) == {}
    assert silence.after({ONE: "a", OTHER: "x"}, 1000 + SILENT_SECONDS) == {ONE: "a"}
    assert silence.after({ONE: "b", OTHER: "x"}, 1000 + SILENT_SECONDS + BEAT_SECONDS) == {}


def test_what_they_say_is_no_time() -> None:
    """A clock that is days behind, or stands in the future, is as good as any."""
    silence = Silence()
    for look in range(3 * LOOKS):
        beats = {ONE: f"2020-01-01T00:00:{look:02}", OTHER: f"2099-01-01T00:00:{59 - look:02}"}
        assert silence.after(beats, look * BEAT_SECONDS) == {}


def test_who_was_forgotten_meanwhile_begins_anew() -> None:
    silence = Silence()
    for look in range(LOOKS - 1):
        silence.after({ONE: "a"}, look * BEAT_SECONDS)
    silence.after({}, SILENT_SECONDS - BEAT_SECONDS)
    assert silence.after({ONE: "a"}, SILENT_SECONDS) == {}


def test_what_could_not_be_heard_is_no_silence() -> None:
    """The database was away for a minute: everybody has the whole time again to say that they live."""
    silence, back = Silence(), 60 + BEAT_SECONDS
    silence.after({ONE: "a"}, 0)
    silence.after({ONE: "a"}, BEAT_SECONDS)
    for look in range(LOOKS):
        assert silence.after({ONE: "a"}, back + look * BEAT_SECONDS) == {}
    assert silence.after({ONE: "a"}, back + SILENT_SECONDS) == {ONE: "a"}


def test_a_database_that_was_away_between_two_looks_makes_nobody_silent() -> None:
    """A worker that was just about to speak finds it away, and speaks at its next turn."""
    silence, longest = Silence(), 1.5 * BEAT_SECONDS
    assert silence.after({ONE: "a"}, BEAT_SECONDS) == {}
    away_until = BEAT_SECONDS + longest
    looks = [away_until, away_until + BEAT_SECONDS - 0.1]
    assert [silence.after({ONE: "a"}, at) for at in looks] == [{}, {}]
    assert silence.after({ONE: "b"}, away_until + 2 * BEAT_SECONDS) == {}
