from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ext_proc.errors import IntegrityError
from ext_proc.evidence.records import Filter, filtered
from ext_proc.evidence.times import parse_time
from ext_proc.evidence.versions import EvidenceError
from tests.fakes import forge as forging
from tests.fakes.recorded import ADA, GRACE, NOON, Recorded

HOUR = timedelta(hours=1)


@pytest.fixture
def recorded(tmp_path):
    return Recorded.at(tmp_path)


def names(store, **wanted):
    return sorted(row.exchange_id for row in filtered(store, Filter(**wanted)))


def test_a_row_says_who_what_and_where_it_can_be_proved(recorded):
    log = recorded.log()
    log.exchange("one", NOON)
    log.seal()
    (row,) = filtered(recorded.store, Filter())
    assert (row.origin, row.intent_sequence, row.outcome_sequence) == (log.origin, 1, 2)
    assert row.to_json() == {
        "at": "2026-11-25T12:00:00.000000Z",
        "exchange_id": "one",
        "origin": log.origin,
        "intent_sequence": 1,
        "outcome_sequence": 2,
        "subject_ref": recorded.keyring.subject_reference(ADA),
        "connection": "models",
        "operation": "chat",
        "model": "gpt-4o",
        "model_served": "gpt-4o-2024-08-06",
        "decision": "allow",
        "reasons": (),
        "outcome": "completed",
        "http_status": 200,
        "code": None,
        "input_tokens": 9,
        "output_tokens": 3,
        "released_bytes": row.released_bytes,
        "found": {"EMAIL": 1},
        "masked": {"EMAIL": 1},
    }


def test_each_filter_takes_its_own(recorded):
    log = recorded.log()
    log.exchange("ada", NOON)
    log.exchange("grace", NOON, GRACE, model="o3", connection="other", status="error")
    log.refused("refused", NOON)
    log.exchange("open", NOON, outcome=False)
    log.seal()
    store = recorded.store
    assert names(store) == ["ada", "grace", "open", "refused"]
    assert names(store, subject_ref=recorded.keyring.subject_reference(GRACE)) == ["grace"]
    assert names(store, model="o3") == ["grace"]
    assert names(store, model="gpt-4o-2024-08-06") == ["ada", "grace"], "as served counts too"
    assert names(store, connection="other") == ["grace"]
    assert names(store, decision="deny") == ["refused"]
    assert names(store, decision="allow") == ["ada", "grace", "open"]
    assert names(store, entity="EMAIL") == ["ada", "grace", "open"]
    assert names(store, entity="IBAN") == []
    assert names(store, outcome="in flight") == ["open"]
    assert names(store, outcome="error", model="o3") == ["grace"]
    assert names(store, code="policy_denied") == ["refused"]


def test_a_span_reads_only_its_hours(recorded):
    log = recorded.log(at=NOON - 5 * HOUR)
    keys = {}
    for hours in (-5, -4, -2, -1, 0, 3):
        log.exchange(f"h{hours}", NOON + hours * HOUR)
        keys[hours] = log.seal()
    assert names(recorded.store, since=NOON - HOUR, until=NOON) == ["h-1", "h0"]
    assert set(recorded.store.downloads) == {keys[-2], keys[-1], keys[0]}


def test_an_object_of_the_hour_before_may_hold_leaves_of_this_one(recorded):
    log = recorded.log(at=NOON - timedelta(minutes=1))
    log.exchange("late", NOON + timedelta(seconds=5))
    assert "hour=11" in log.seal()
    assert names(recorded.store, since=NOON) == ["late"]


def test_an_outcome_after_the_span_belongs_to_what_began_in_it(recorded):
    log, other = recorded.log(), recorded.log("gw-0-1", salt="bbbbbbbb")
    log.exchange("held", NOON, outcome=False)
    log.exchange("never", NOON, outcome=False)
    log.seal()
    other.seal()
    other.exchange("elsewhere", NOON + 5 * HOUR)
    unrelated = other.seal()
    log.outcome("held", NOON + 4 * HOUR, 1)
    log.exchange("later", NOON + 4 * HOUR)
    log.seal()
    rows = {row.exchange_id: row.outcome for row in filtered(recorded.store, Filter(until=NOON + HOUR / 2))}
    assert rows == {"held": "completed", "never": "in flight"}
    assert unrelated not in recorded.store.downloads
    since = {row.exchange_id for row in filtered(recorded.store, Filter(since=NOON + 3 * HOUR))}
    assert since == {"later", "elsewhere"}, "what began before is not of this span"


def test_damage_is_an_error_and_no_empty_list(recorded):
    log = recorded.log()
    log.exchange("one", NOON)
    key = log.seal()
    number = next(n for n, (name, _, _) in enumerate(recorded.store.puts) if name == key)
    at = recorded.store.puts[number][2]
    recorded.store.puts[number] = (key, b"nonsense", at)
    with pytest.raises(IntegrityError, match="affidavit verify"):
        names(recorded.store)
    line = b'{"kind":"inference.outcome","policy":7,"request_redaction":{"removed":[1]}}'
    recorded.store.puts[number] = (key, forging.compressed([line] * 3), at)
    with pytest.raises(IntegrityError, match="affidavit verify"):
        names(recorded.store)
    recorded.store.puts[number] = (key, forging.compressed([b'{"kind":"inference.outcome"'] * 3), at)
    with pytest.raises(IntegrityError, match="affidavit verify"):
        names(recorded.store)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-25", "2026-11-25T00:00:00"),
        ("2026-11-25T10:30", "2026-11-25T10:30:00"),
        ("2026-11-25 10:30:05", "2026-11-25T10:30:05"),
        ("2026-11-25T10:30:00Z", "2026-11-25T10:30:00"),
        ("2026-11-25T10:30:00+02:00", "2026-11-25T08:30:00"),
        ("-2h", "2026-11-25T10:00:00"),
        ("2h", "2026-11-25T10:00:00"),
        ("90 m ago", "2026-11-25T10:30:00"),
        ("1w", "2026-11-18T12:00:00"),
        ("now", "2026-11-25T12:00:00"),
        ("today", "2026-11-25T00:00:00"),
        ("Yesterday", "2026-11-24T00:00:00"),
    ],
)
def test_times_as_people_write_them(text, at):
    assert parse_time(text, NOON) == datetime.fromisoformat(at).replace(tzinfo=UTC)


def test_a_day_as_an_end_is_its_last_moment():
    assert parse_time("2026-11-25", NOON, is_end=True) == datetime(2026, 11, 25, 23, 59, 59, 999_999, tzinfo=UTC)
    assert parse_time("2026-11-25T10:00", NOON, is_end=True) == NOON - 2 * HOUR


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-11", "h", "--2h", "999999w", "2026-02-30", "9" * 40])
def test_what_is_no_time(text):
    with pytest.raises(EvidenceError, match="is no time"):
        parse_time(text, NOON)
