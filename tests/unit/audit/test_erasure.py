"""Erasure: on record before and after, held by holds, finished after any crash."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.audit.erasure import ErasureResult, Order, erase, parse_reference, place_hold, release_hold
from ext_proc.audit.keys import KEPT_SECONDS, KeyRing, Shredded, create_key_files
from ext_proc.audit.registry import LegalHold, Place, SubjectKey
from ext_proc.errors import AuditUnavailable, ConfigError, IntegrityError
from ext_proc.model import Payload
from tests.fakes.registry import FakeJournal, FakeRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.registry import Registry

REF = "hmac-sha256:" + "ab" * 32
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ORDER = Order("ticket 4711", "privacy office")
PAYLOAD = [Payload("request.raw", b"the secret", "text/plain")]


def run(registry: Registry, journal: FakeJournal, waits: list[float] | None = None) -> ErasureResult:
    waited = [] if waits is None else waits
    return erase(registry, REF, order=ORDER, clock=lambda: NOW, journal=journal, wait=waited.append)


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    made.add(REF, 1, b"wrapped")
    made.add("other", 1, b"other")
    return made


def test_an_erasure(registry: FakeRegistry) -> None:
    journal, waits, order = FakeJournal(), [], []
    registry.before = order.append
    journal.before = order.append
    result = run(registry, journal, waits)
    assert result == ErasureResult("erased", Place("test/gw-0-command/1", 1), (1,)) and result.exit_status == 0
    steps = [step for step in order if step not in {"newest", "unfinished", "holds"}]
    assert steps == ["erasure.requested", "destroy", "scrub", "erasure.completed", "finish"]
    common = {"subject_ref": REF, "reason": "ticket 4711", "by": "privacy office"}
    assert journal.leaves == [("erasure.requested", common), ("erasure.completed", {**common, "generations": [1]})]
    assert waits == [KEPT_SECONDS]  # until no process uses the key from memory
    assert registry.rows["other", 1] == SubjectKey(1, b"other")
    again = run(registry, journal)
    assert again == ErasureResult("already", result.record) and again.exit_status == 0 and len(journal.leaves) == 2


def test_a_stranger() -> None:
    journal = FakeJournal()
    result = run(FakeRegistry(), journal)
    assert result.outcome == "unknown" and result.exit_status == 1 and journal.leaves == []


def test_a_key_that_somebody_blanked(registry: FakeRegistry) -> None:
    registry.rows[REF, 1] = SubjectKey(1, None)
    with pytest.raises(IntegrityError, match="no erasure explains it"):
        run(registry, FakeJournal())


def test_a_hold_is_stronger(registry: FakeRegistry) -> None:
    journal = FakeJournal()
    place_hold(registry, REF, "case-1", until=None, order=ORDER, journal=journal)
    result = run(registry, journal)
    assert (result.outcome, result.exit_status, result.hold) == ("held", 1, LegalHold(REF, "case-1", None))
    assert registry.rows[REF, 1].wrapped == b"wrapped"
    release_hold(registry, REF, "case-1", order=ORDER, journal=journal, at=NOW)
    assert run(registry, journal).outcome == "erased"
    kinds = ["legalhold.placed", "erasure.refused", "legalhold.released", "erasure.requested", "erasure.completed"]
    assert journal.kinds == kinds
    assert journal.leaves[0][1]["until"] is None and journal.leaves[1][1]["hold"] == "case-1"


def test_a_hold_placed_in_between(registry: FakeRegistry) -> None:
    journal = FakeJournal()
    journal.after = lambda kind: registry.hold(LegalHold(REF, "case-1", None)) if kind == "erasure.requested" else None
    assert run(registry, journal).outcome == "held"
    assert journal.kinds == ["erasure.requested", "erasure.refused"] and registry.rows[REF, 1].wrapped == b"wrapped"


def test_a_hold_ends_by_itself(registry: FakeRegistry) -> None:
    journal = FakeJournal()
    berlin = timezone(timedelta(hours=1))
    until = datetime(2026, 11, 25, 13, 0, 0, 1, tzinfo=berlin)
    place_hold(registry, REF, "case-1", until=until, order=ORDER, journal=journal)
    assert journal.leaves[0][1]["until"] == "2026-11-25T12:00:00.000001Z"
    assert run(registry, journal).outcome == "held"
    place_hold(registry, REF, "case-1", until=NOW, order=ORDER, journal=journal)
    assert run(registry, journal).outcome == "erased"


def test_a_hold_is_in_force_before_it_is_on_record_and_until_its_release_is(registry: FakeRegistry) -> None:
    journal = FakeJournal()

    def fail(kind: str) -> None:
        raise AuditUnavailable("full")

    journal.before = fail
    with pytest.raises(AuditUnavailable):
        place_hold(registry, REF, "case-1", until=None, order=ORDER, journal=journal)
    assert registry.holds(REF, NOW)
    with pytest.raises(AuditUnavailable):
        release_hold(registry, REF, "case-1", order=ORDER, journal=journal, at=NOW)
    assert registry.holds(REF, NOW)


def test_bad_orders(registry: FakeRegistry) -> None:
    journal = FakeJournal()
    for reason, by in (("", "x"), ("x", " "), ("two\nlines", "x"), ("x" * 201, "x")):
        with pytest.raises(ConfigError, match="one line"):
            Order(reason, by)
    for name in ("", "a b", "x" * 101, "../\n"):
        with pytest.raises(ConfigError, match="hold is named"):
            place_hold(registry, REF, name, until=None, order=ORDER, journal=journal)
    with pytest.raises(ConfigError, match="time zone"):
        place_hold(registry, REF, "case-1", until=datetime(2027, 1, 1), order=ORDER, journal=journal)  # noqa: DTZ001
    with pytest.raises(ConfigError, match="no hold case-2"):
        release_hold(registry, REF, "case-2", order=ORDER, journal=journal, at=NOW)
    assert journal.leaves == []
    assert parse_reference(REF) == REF and parse_reference("nobody") == "nobody"
    for text in ("ada", REF + "0", REF.upper(), f" {REF}"):
        with pytest.raises(ConfigError, match="64 hex digits"):
            parse_reference(text)


class Killed(BaseException):
    """The process ends here."""


STEPS = ["newest", "unfinished", "holds", "destroy", "scrub", "finish"]
KINDS = ["erasure.requested", "erasure.completed"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [*STEPS, *KINDS])
def test_killed_anywhere_and_run_again(at: str, when: str, registry: FakeRegistry) -> None:
    journal = FakeJournal()

    def kill(name: str) -> None:
        if name == at:
            raise Killed

    if when == "before":
        registry.before = journal.before = kill
    elif at in KINDS:
        journal.after = kill
    else:
        method = getattr(registry, at)

        def then_die(*arguments: Any) -> None:
            method(*arguments)
            raise Killed

        setattr(registry, at, then_die)
    with pytest.raises(Killed):
        run(registry, journal)
    registry.before = journal.before = journal.after = lambda _: None
    registry.__dict__.pop(at, None)
    if registry.rows[REF, 1].wrapped is None:
        assert "erasure.requested" in journal.kinds  # never destroyed unrecorded
        registry.add(REF, 2, b"made by a call meanwhile")
    result = run(registry, journal)
    assert result.outcome in {"erased", "already"}
    assert journal.kinds[0] == "erasure.requested" and journal.kinds[-1] == "erasure.completed"
    for row in (row for (ref, _), row in registry.rows.items() if ref == REF):
        assert row.wrapped is None and row.tombstone is not None and row.tombstone.completed is not None
        kind, leaf = journal.leaves[row.tombstone.completed.sequence]
        assert kind == "erasure.completed" and row.generation in leaf["generations"]


def test_nothing_on_the_disk_opens_it_afterwards(tmp_path: Path) -> None:
    """The whole way with SQLite: the old payload is gone for good, new ones are readable, others' are untouched."""
    keys = KeyRing.from_files(*create_key_files(tmp_path, "kek", "pepper"), tmp_path / "registry.sqlite")
    told, sealed = keys.encrypt(REF, PAYLOAD, "bound")
    other, other_sealed = keys.encrypt("other", PAYLOAD, "bound")
    wrapped = keys.registry.newest(REF)
    assert wrapped is not None and wrapped.wrapped is not None
    assert any(wrapped.wrapped in path.read_bytes() for path in tmp_path.iterdir())
    journal = FakeJournal()
    result = run(keys.registry, journal)
    assert result.outcome == "erased" and result.record is not None
    assert not any(wrapped.wrapped in path.read_bytes() for path in tmp_path.iterdir())
    worker = KeyRing.from_files(tmp_path / "kek", tmp_path / "pepper", tmp_path / "registry.sqlite")
    for ring in (keys, worker):
        with pytest.raises(Shredded) as caught:
            ring.decrypt(told[0], sealed[0], "bound")
        assert (caught.value.origin, caught.value.sequence) == (result.record.origin, result.record.sequence)
        assert ring.decrypt(other[0], other_sealed[0], "bound") == b"the secret"
    new, new_sealed = worker.encrypt(REF, PAYLOAD, "bound")
    assert keys.decrypt(new[0], new_sealed[0], "bound") == b"the secret" and new[0]["key"].endswith("#2")
