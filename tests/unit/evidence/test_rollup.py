"""The roll-up against buckets of the forge, which shares no code with the writer, and against the verifier."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ext_proc.audit.note import json_of, open_note
from ext_proc.errors import IntegrityError
from ext_proc.evidence.rollup import roll_up
from ext_proc.evidence.versions import EvidenceError
from ext_proc.verify import verify
from tests.fakes import forge as forging
from tests.fakes.recorded import GATEWAY, NOON, Recorded
from tests.fakes.versions import FakeVersions

DAY, NEXT = "2026-11-24", "2026-11-25"
AT = datetime(2026, 11, 25, 0, 30, tzinfo=UTC)


class ForgedSigner:
    """The forge's key as the gateway's signer."""

    def __init__(self, signer=forging.SIGNER):
        self._signer = signer
        self.public_key = signer.public

    def sign(self, data):
        return self._signer.sign(data)


def store_of(forge, until=None):
    store = FakeVersions(at=forging.NOW)
    for one in sorted(forge.bucket.versions, key=lambda one: one.at):
        if until is None or one.at < until:
            store.put(one.key, one.body, one.at)
    return store


def made(store, day=DAY, at=AT, signer=None):
    return roll_up(store, day, GATEWAY, signer or ForgedSigner(), at, lambda _what, _count: None)


@pytest.fixture
def forge():
    return forging.build()


def rolled(forge, folder):
    forge.policy(folder / "policy.yaml")
    return verify(str(forge.bucket.export(folder / "export", forging.NOW)), folder / "policy.yaml", jobs=1)


def test_it_says_what_the_other_writer_says(forge):
    """Rows, order, ends, instants and roots are those of the forge's roll-up, so nothing is to be made."""
    (theirs,) = forge.bucket.named("v1/rollup/")
    found = made(store_of(forge))
    assert not found.is_new
    assert found.sealed.key == theirs.key
    assert found.sealed.body == theirs.body
    assert {row["end"] for row in found.epochs} == {"close", "recovered"}


def test_without_one_it_makes_the_same_rows(forge):
    (theirs,) = forge.bucket.named("v1/rollup/")
    forge.bucket.remove(theirs)
    found = made(store_of(forge))
    assert found.is_new
    told = json_of(open_note(found.sealed.body.decode()))
    assert told["epochs"] == json_of(open_note(theirs.body.decode()))["epochs"]
    assert told["previous_sha256"] is None
    assert found.leaf() == {"day": DAY, "key": found.sealed.key, "sha256": found.sealed.sha256}


def test_the_next_day_names_the_day_before_and_the_verifier_accepts_it(forge, tmp_path):
    (theirs,) = forge.bucket.named("v1/rollup/")
    found = made(store_of(forge), NEXT)
    assert json_of(open_note(found.sealed.body.decode()))["previous_sha256"] == forging.sha(theirs.body)
    assert len(found.epochs) == 3
    assert {row["end"] for row in found.epochs} == {"close", None}
    forge.bucket.put(found.sealed.key, found.sealed.body, AT)
    report = rolled(forge, tmp_path)
    assert report.ok, report.findings


def test_a_day_with_more_than_before_gets_a_second_one_that_names_the_first(forge, tmp_path):
    early = AT - timedelta(minutes=10)
    first = made(store_of(forge, early), NEXT, early)
    forge.bucket.put(first.sealed.key, first.sealed.body, early)
    second = made(store_of(forge), NEXT)
    assert second.is_new
    assert json_of(open_note(second.sealed.body.decode()))["previous_sha256"] == first.sealed.sha256
    forge.bucket.put(second.sealed.key, second.sealed.body, AT)
    again = made(store_of(forge), NEXT, AT + timedelta(hours=1))
    assert (again.is_new, again.sealed) == (False, second.sealed)
    report = rolled(forge, tmp_path)
    assert report.ok, report.findings


def test_one_of_an_earlier_day_cannot_follow(forge):
    """The chain goes by days: the verifier would find it broken."""
    later = made(store_of(forge), NEXT)
    forge.bucket.put(later.sealed.key, later.sealed.body, AT)
    forge.bucket.remove(*forge.bucket.named(f"v1/rollup/dt={DAY}"))
    with pytest.raises(EvidenceError, match="forward"):
        made(store_of(forge))


def test_a_roll_up_that_somebody_else_signed_is_no_part_of_the_chain(forge):
    other = ForgedSigner(forging.Signer("somebody else"))
    theirs = made(store_of(forge), NEXT, AT - timedelta(minutes=1), other)
    forge.bucket.put(theirs.sealed.key, theirs.sealed.body, AT)
    ours = made(store_of(forge), NEXT)
    assert ours.is_new
    (first,) = forge.bucket.named(f"v1/rollup/dt={DAY}")
    assert json_of(open_note(ours.sealed.body.decode()))["previous_sha256"] == forging.sha(first.body)


def test_a_leaf_after_midnight_in_an_object_of_the_day_before_counts(tmp_path):
    recorded = Recorded.at(tmp_path)
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    log = recorded.log(at=midnight - timedelta(minutes=3))
    log.add("heartbeat", midnight + timedelta(seconds=5), {})
    log.seal()
    other = recorded.log("gw-0-1", at=midnight - timedelta(minutes=3), salt="bbbbbbbb")
    other.add("heartbeat", midnight - timedelta(seconds=5), {})
    other.seal()
    found = made(recorded.store, NEXT, signer=recorded.signer)
    assert [row["origin"] for row in found.epochs] == [log.origin]
    (row,) = found.epochs
    assert (row["size"], row["end"], row["last_at"]) == (2, None, "2026-11-25T00:00:05.000000Z")


def test_leaves_beyond_the_newest_checkpoint_are_left_to_the_next(tmp_path):
    recorded = Recorded.at(tmp_path)
    log = recorded.log()
    log.add("heartbeat", NOON, {})
    log.seal()
    log.add("heartbeat", NOON + timedelta(minutes=1), {})
    log.seal(checkpoint=False)
    (row,) = made(recorded.store, NEXT, signer=recorded.signer).epochs
    assert (row["size"], row["last_at"]) == (2, "2026-11-25T12:00:00.000000Z")


def test_leaves_that_are_signed_for_and_gone_end_it(forge):
    gone = forge.bucket.named(f"v1/events/dt={DAY}")[-1]
    forge.bucket.remove(gone)
    with pytest.raises(IntegrityError, match="verify"):
        made(store_of(forge))


def test_a_checkpoint_that_is_none_ends_it(forge):
    head = max(forge.bucket.named(f"v1/log/{forging.FIRST[0]}/{forging.FIRST[1]}/checkpoint/"), key=lambda one: one.key)
    head.body = b"nonsense"
    with pytest.raises(IntegrityError, match="verify"):
        made(store_of(forge))
