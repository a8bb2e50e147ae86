"""`ext_proc.app.console.evidence`: what an auditor sees of the bucket, and what of it is nobody else's business."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.app.console.evidence import (
    BadPurpose,
    EvidenceDamaged,
    EvidenceNotIndexed,
    EvidenceUnavailable,
    ReadingNotRecorded,
)
from ext_proc.app.evidence.verification import WholeVerification
from ext_proc.audit import note
from ext_proc.audit.record import instant
from ext_proc.console import seen
from ext_proc.console.people import Role, Viewer
from ext_proc.errors import AuditUnavailable
from ext_proc.evidence.versions import EvidenceError, Lock
from ext_proc.model import Identity
from tests.fakes.evidence_desk import Desk
from tests.fakes.indexed import exchange_id, told
from tests.fakes.recorded import GATEWAY, NOON, SPAN, Recorded, as_json
from tests.fakes.signer import FakeSigner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ext_proc.evidence.versions import Version
from tests.fakes.recorded import Log

X = exchange_id(1)
SECOND = timedelta(seconds=1)


def auditor(tenant: str | None = None, subject: str = "ida") -> Viewer:
    return Viewer(
        Identity("https://idp.example", subject, "oidc", ("auditors",), tenant=tenant), frozenset({Role.AUDITOR})
    )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def one_exchange(desk: Desk) -> Log:
    log = desk.recorded.log()
    log.exchange(X, NOON)
    log.seal()
    desk.indexed.round()
    return log


# Search, tenants -------------------------------------------------------------------------------------------------


async def test_search_passes_every_filter_on(desk: Desk) -> None:
    log = desk.recorded.log()
    for number in range(5):
        told(log, number, NOON + number * SECOND, connection=f"c{number}", model=f"m{number}", entity=f"E{number}",
             code=f"code_{number}", outcome="completed" if number else "denied", allow=number > 0)  # fmt: skip
    log.seal()
    desk.indexed.round()
    for filters, expected in (
        (seen.Filters(), [4, 3, 2, 1, 0]),
        (seen.Filters(query=exchange_id(2)), [2]),
        (seen.Filters(since=NOON + 3 * SECOND), [4, 3]),
        (seen.Filters(until=NOON + SECOND), [0]),
        (seen.Filters(connection="c1"), [1]),
        (seen.Filters(model="m2"), [2]),
        (seen.Filters(decision="deny"), [0]),
        (seen.Filters(outcome="denied"), [0]),
        (seen.Filters(entity="E3"), [3]),
        (seen.Filters(code="code_4"), [4]),
    ):
        found = await desk.exchanges.search(auditor(), filters, 50, None)
        assert [int(line.exchange_id[-2:], 16) for line in found.lines] == expected, filters
        assert (found.total, found.next_after) == (len(expected), None)
    page = await desk.exchanges.search(auditor(), seen.Filters(), 2, None)
    assert page.next_after == exchange_id(3)
    page = await desk.exchanges.search(auditor(), seen.Filters(), 3, page.next_after)
    assert [line.exchange_id for line in page.lines] == [exchange_id(2), exchange_id(1), exchange_id(0)]
    assert page.next_after is None


async def test_of_another_tenant_there_is_nothing(desk: Desk) -> None:
    log = desk.recorded.log()
    told(log, 1, NOON, tenant=desk.tenant("acme"))
    told(log, 2, NOON, tenant=desk.tenant("zenith"), entity="PHONE")
    told(log, 3, NOON)
    log.seal()
    desk.indexed.round()
    for tenant, mine in (("acme", {1}), ("zenith", {2}), ("other", set()), (None, {1, 2, 3}), ("", {1, 2, 3})):
        viewer = auditor(tenant)
        found = await desk.exchanges.search(viewer, seen.Filters(), 50, None)
        assert {line.exchange_id for line in found.lines} == {exchange_id(number) for number in mine}
        assert found.total == len(mine)
        for number in (1, 2, 3):
            name = exchange_id(number)
            is_mine = number in mine
            assert (await desk.exchanges.one(viewer, name) is not None) == is_mine
            assert (await desk.exchanges.verify_one(viewer, name) is not None) == is_mine
            assert (await desk.exchanges.payloads(viewer, name, "ticket 1") is not None) == is_mine
        charts = await desk.exchanges.charts(viewer, NOON)
        assert sum(hour.allowed for hour in charts.hours) == len(mine)
        assert ("PHONE" in {one.name for one in charts.entities}) == (2 in mine)
    assert desk.journal.notes == [], "there were no bodies to read"


# One exchange ----------------------------------------------------------------------------------------------------


async def test_one_is_told_in_order_with_what_proves_it(desk: Desk) -> None:
    log = desk.recorded.log()
    told(log, 1, NOON)
    log.tool_call(X, NOON + SECOND, "call_1")
    log.add("inference.undelivered", NOON + 2 * SECOND, {"exchange_id": X, "outcome_sequence": 2, "payloads": []})
    log.add(
        "access.read", NOON + 3 * SECOND, {"exchange_id": X, "roles": ["request.raw"], "by": "desk", "purpose": "t 1"}
    )
    log.add("never.heard.of", NOON + 4 * SECOND, {"exchange_id": X})
    key = log.seal()
    desk.indexed.round()
    found = await desk.exchanges.one(auditor(), X)
    assert found is not None
    assert [step.phase for step in found.steps] == [
        "received", "identified", "inspected", "decided", "masked", "forwarded", "answered", "answered", "ended", "ended",
        "ended", "ended",
    ]  # fmt: skip
    assert [step.at for step in found.steps] == sorted(step.at for step in found.steps)
    titles = [step.title for step in found.steps]
    for title in ("The answer asks for a tool", "The answer was not taken", "Somebody read its bodies"):
        assert title in titles
    assert len(found.proofs) == 6
    first = found.proofs[0]
    assert (first.kind, first.object_key, first.lock_mode) == ("inference.intent", key, "COMPLIANCE")
    assert first.record == seen.Place(log.origin, 1)
    assert first.leaf_hash == hashlib.sha256(b"\0" + log.leaves[1]).hexdigest()
    assert first.checkpoint_size == len(log.leaves)
    assert first.root_hash is not None
    assert first.locked_until is not None


async def test_the_timeline_of_a_call_that_waited_for_people(desk: Desk) -> None:
    log, desk_log = desk.recorded.log(), desk.recorded.log("gw-0-command", salt="cccccccc")
    person = "hmac-sha256:" + "9" * 64
    hold = {"hold_id": "ab" * 16, "state": "pending", "asked": instant(NOON), "expires": instant(NOON + 60 * SECOND)}
    log.add("approval.requested", NOON, {
        "exchange_id": X, "payloads": [], "approval": hold, "time": {"received": instant(NOON), "decided": instant(NOON)},
        "request": {"connection": "models", "protocol": "openai.chat"}, "policy": {"allow": True, "approval_required": True},
        "terms": {"groups": ["approvers"], "count": 1, "reason": "restricted_model"}, "actor": {"subject_ref": person},
    })  # fmt: skip
    of_person = {"exchange_id": X, "hold_id": "ab" * 16, "channel": "console", "actor": {"subject_ref": person}}
    desk_log.add("approval.viewed", NOON + 2 * SECOND, {**of_person, "is_clear": False})
    place = desk_log.add("approval.resolved", NOON + 3 * SECOND, {**of_person, "action": "approve"})
    desk_log.add("approval.refused", NOON + 4 * SECOND, {**of_person, "action": "deny", "code": "already_said"})
    record = {"origin": desk_log.origin, "sequence": place}
    agreed = [{"action": "approve", "person_ref": person, "time": instant(NOON + 3 * SECOND), "record": record}]
    told(log, 1, NOON + 5 * SECOND, approval={**hold, "state": "claimed", "resolutions": agreed})
    log.seal()
    desk_log.seal()
    desk.indexed.round()
    found = await desk.exchanges.one(auditor(), X)
    assert found is not None
    held = [(step.title, step.code) for step in found.steps if step.phase == "held"]
    assert sorted(held, key=str) == [
        ("It had this approval", "approve"), ("People are asked", None), ("Somebody looked at it", None),
        ("Somebody said yes", "approve"), ("Somebody was not let resolve it", "already_said"),
    ]  # fmt: skip
    linked = next(step for step in found.steps if step.title == "It had this approval")
    assert linked.record == seen.Place(desk_log.origin, place), "the record links both"
    assert found.line.hold_id == "ab" * 16
    assert {proof.record.origin for proof in found.proofs} == {log.origin, desk_log.origin}


async def test_records_of_no_form_at_all_are_shown_as_far_as_they_go(desk: Desk) -> None:
    log = desk.recorded.log()
    for kind in (
        "inference.intent",
        "inference.outcome",
        "approval.requested",
        "approval.resolved",
        "effect.tool_call",
    ):
        for junk in (7, [], {"removed": [1], "resolutions": [5], "content": {}}, "text"):
            names = ("request", "policy", "time", "actor", "approval", "outcome", "tool_call", "terms", "payloads")
            log.add(kind, NOON, {"exchange_id": X, **dict.fromkeys((*names, "request_redaction", "source"), junk)})
    log.seal()
    desk.indexed.round()
    found = await desk.exchanges.one(auditor(), X)
    assert found is not None
    assert found.steps
    verdict = await desk.exchanges.verify_one(auditor(), X)
    assert verdict is not None
    assert (await desk.exchanges.payloads(auditor(), X, "ticket 1")) is not None


async def test_a_streamed_answer_of_very_many_records(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    log = desk.recorded.log()
    told(log, 1, NOON, outcome=None)
    for number in range(5_000):
        log.add("inference.part", NOON, {"exchange_id": X, "part": {"number": number}, "payloads": []})
    log.add("inference.outcome", NOON + SECOND, {"exchange_id": X, "outcome": {"status": "completed"}, "payloads": []})
    log.seal()
    desk.indexed.round()
    found = await desk.exchanges.one(auditor(), X)
    assert found is not None
    assert len(found.steps) < 20
    assert found.steps[-1].title == "Released to the caller"
    assert any(link.name == "Not shown" and link.value.startswith("3000 more") for link in found.links)
    monkeypatch.setattr("ext_proc.app.console.evidence._BODIES_MAX", 100)
    with pytest.raises(Exception, match="too_long"):
        await desk.exchanges.payloads(auditor(), X, "ticket 1")
    assert desk.journal.notes == []


# Bodies ----------------------------------------------------------------------------------------------------------


async def test_bodies_are_shown_once_it_is_on_record_that_they_are(desk: Desk) -> None:
    one_exchange(desk)
    shown = await desk.exchanges.payloads(auditor(), X, "ticket 4711")
    assert shown is not None
    [(kind, fields)] = desk.journal.notes
    by = desk.recorded.keyring.subject_reference(auditor().identity)
    assert (kind, fields["purpose"], fields["by"]) == ("access.read", "ticket 4711", by)
    assert shown.record == seen.Place("command", 1)
    roles = ["request.raw", "request.forwarded", "response.upstream", "response.released"]
    assert [(body.role, body.state) for body in shown.bodies] == [(role, "read") for role in roles]
    raw = shown.bodies[0]
    [marked] = [segment for segment in raw.segments if segment.entity]
    assert (marked.text, marked.entity, marked.action) == ("ada@example.com", "EMAIL", "mask")
    whole = "".join(segment.text for segment in raw.segments)
    assert json.loads(whole)["messages"][0]["content"] == "Write to ada@example.com, please"
    [instead] = [segment for segment in shown.bodies[1].segments if segment.entity]
    assert (instead.text, instead.entity, instead.action) == ("[EMAIL]", "EMAIL", "mask")
    assert [segment for body in shown.bodies[2:] for segment in body.segments if segment.entity] == []


async def test_a_text_that_looks_like_a_mark_is_text(desk: Desk) -> None:
    log = desk.recorded.log()
    said = "Write to ada@example.com, ⟦EMAIL mask: x⟧ ⟦{0} EMAIL mask: x{0}⟧".format("0123456789abcdef" * 2)
    log.exchange(X, NOON, raw=as_json({"messages": [{"role": "user", "content": said}]}))
    log.seal()
    desk.indexed.round()
    shown = await desk.exchanges.payloads(auditor(), X, "ticket 1")
    assert shown is not None
    assert [segment.text for segment in shown.bodies[0].segments if segment.entity] == ["ada@example.com"]
    assert said in json.loads("".join(one.text for one in shown.bodies[0].segments))["messages"][0]["content"]
    assert SPAN["end"] == 24


async def test_what_a_caller_writes_like_a_placeholder_is_not_marked_as_masked(desk: Desk) -> None:
    log = desk.recorded.log()
    kept = {"role": "user", "content": "[EMAIL] [PERSON]"}
    bodies = [
        as_json({"messages": [{"role": "user", "content": f"Write to {who}, [EMAIL], [PERSON]"}, kept]})
        for who in ("ada@example.com", "[EMAIL]")
    ]
    log.exchange(X, NOON, raw=bodies[0], forwarded=bodies[1])
    log.seal()
    desk.indexed.round()
    shown = await desk.exchanges.payloads(auditor(), X, "ticket 1")
    assert shown is not None
    for body, marked in zip(shown.bodies, ("ada@example.com", "[EMAIL]"), strict=False):
        assert [one.text for one in body.segments if one.entity] == [marked]
        [before] = [one for one, after in zip(body.segments, body.segments[1:], strict=False) if after.entity]
        assert before.text.endswith("Write to ")


async def test_no_record_no_view(desk: Desk) -> None:
    one_exchange(desk)
    before = len(desk.recorded.store.downloads)
    desk.journal.failure = AuditUnavailable("full")
    with pytest.raises(ReadingNotRecorded) as raised:
        await desk.exchanges.payloads(auditor(), X, "ticket 1")
    assert "on record" in raised.value.client_text
    packs = [key for key in desk.recorded.store.downloads[before:] if key.startswith("v1/payload/")]
    assert packs == []


@pytest.mark.parametrize("purpose", ["", "  ", "x" * 201, "two\nlines", "\x1b[2J"])
async def test_a_purpose_that_cannot_stand_in_a_record(purpose: str, desk: Desk) -> None:
    one_exchange(desk)
    with pytest.raises(BadPurpose) as raised:
        await desk.exchanges.payloads(auditor(), X, purpose)
    assert raised.value.http_status == 400
    assert desk.journal.notes == []


async def test_a_body_that_is_gone_says_what_became_of_it(desk: Desk) -> None:
    one_exchange(desk)
    pack = next(key for key, _, _ in desk.recorded.store.puts if key.startswith("v1/payload/"))
    desk.recorded.store.puts = [one for one in desk.recorded.store.puts if one[0] != pack]
    shown = await desk.exchanges.payloads(auditor(), X, "ticket 1")
    assert shown is not None
    assert {body.state for body in shown.bodies} == {"missing"}
    assert all("affidavit verify" in body.why and body.segments == () for body in shown.bodies)


# Verify one ------------------------------------------------------------------------------------------------------


def change(desk: Desk, key: str, how: Any) -> None:
    desk.recorded.store.puts = [
        (name, how(body) if name == key else body, at) for name, body, at in desk.recorded.store.puts
    ]


async def verdict_of(desk: Desk) -> tuple[bool, set[str]]:
    verdict = await desk.exchanges.verify_one(auditor(), X)
    assert verdict is not None
    assert [one.name for one in verdict.examined] == ["Records", "Tree and signature", "Lock", "Versions", "Bodies"]
    assert verdict.is_ok == all(one.is_ok for one in verdict.examined)
    return verdict.is_ok, {one.name for one in verdict.examined if not one.is_ok}


async def test_verify_one_that_is_as_it_was_written(desk: Desk) -> None:
    one_exchange(desk)
    assert await verdict_of(desk) == (True, set())


async def test_verify_one_finds_whatever_was_done(desk: Desk) -> None:
    log = one_exchange(desk)
    store = desk.recorded.store
    events = next(key for key, _, _ in store.puts if key.startswith("v1/events/"))
    pack = next(key for key, _, _ in store.puts if key.startswith("v1/payload/"))
    checkpoint = next(key for key, _, _ in store.puts if "/checkpoint/" in key)
    kept = list(store.puts)

    change(desk, pack, lambda body: body[:-1] + bytes([body[-1] ^ 1]))
    assert await verdict_of(desk) == (False, {"Bodies"})
    store.puts = [one for one in kept if one[0] != pack]
    assert await verdict_of(desk) == (False, {"Bodies"})
    store.puts = [one for one in kept if one[0] != checkpoint]
    assert await verdict_of(desk) == (False, {"Tree and signature"})
    store.puts = list(kept)
    change(desk, checkpoint, lambda body: body.replace(b"\n3\n", b"\n4\n"))
    assert (await verdict_of(desk))[1] == {"Tree and signature"}
    store.puts = [*kept, (events, None, NOON + timedelta(hours=1))]
    assert await verdict_of(desk) == (False, {"Versions"})
    store.puts = list(kept)
    other = Recorded(desk.recorded.keyring)
    forged = replace(log, of=other)  # the whole log anew, with another answer, but the same key
    forged.leaves, forged.waiting = [], []
    forged.__post_init__()
    forged.exchange(X, NOON, answer=b'{"other":1}')
    key = forged.seal(checkpoint=False)
    body = next(one[1] for one in other.store.puts if one[0] == key)
    change(desk, events, lambda _: body)
    assert (await verdict_of(desk))[1] >= {"Records", "Tree and signature"}
    store.puts = [one for one in kept if one[0] != events]
    assert (await verdict_of(desk))[1] >= {"Records", "Tree and signature"}
    store.puts = list(kept)
    desk.clock.now = NOON + timedelta(days=500)
    assert await verdict_of(desk) == (False, {"Lock"})


async def test_a_lock_that_is_shorter_than_the_policy_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    one_exchange(desk)
    for lock in (
        Lock("COMPLIANCE", NOON + timedelta(days=300)),
        Lock("GOVERNANCE", NOON + timedelta(days=500)),
        Lock(),
    ):
        original = type(desk.recorded.store).download

        def download(store: Any, version: Version, into: Any, lock: Lock = lock, original: Any = original) -> Lock:
            original(store, version, into)
            return lock

        with monkeypatch.context() as patch:
            patch.setattr(type(desk.recorded.store), "download", download)
            assert await verdict_of(desk) == (False, {"Lock"}), lock


async def test_not_signed_for_yet(desk: Desk) -> None:
    log = desk.recorded.log()
    log.exchange(X, NOON)
    log.seal(checkpoint=False)
    desk.indexed.round()
    assert await verdict_of(desk) == (False, {"Tree and signature"})
    found = await desk.exchanges.one(auditor(), X)
    assert found is not None
    assert found.proofs[0].root_hash is None
    ours, desk.recorded.signer = desk.recorded.signer, FakeSigner("somebody else")
    log.checkpoint()
    desk.recorded.signer = ours
    found = await desk.exchanges.one(auditor(), X)
    assert found is not None
    assert found.proofs[0].root_hash is None, "what somebody else signed is no signed head"
    log.checkpoint()
    found = await desk.exchanges.one(auditor(), X)
    assert found is not None
    assert found.proofs[0].root_hash is not None


# When something is not there -------------------------------------------------------------------------------------


async def test_before_the_index_there_is_a_word_about_it(desk: Desk) -> None:
    for ask in (
        desk.exchanges.search(auditor(), seen.Filters(), 50, None),
        desk.exchanges.one(auditor(), X),
        desk.exchanges.charts(auditor(), NOON),
        desk.exchanges.activations(),
    ):
        with pytest.raises(EvidenceNotIndexed) as raised:
            await ask
        assert (raised.value.http_status, raised.value.is_retryable) == (503, True)


async def test_the_bucket_is_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    one_exchange(desk)

    def away(prefix: str, after: str = "") -> Iterator[Version]:
        raise EvidenceError(f"s3://evidence{prefix}{after} cannot be read: ConnectTimeout")

    monkeypatch.setattr(desk.recorded.store, "versions", away)
    found = await desk.exchanges.search(auditor(), seen.Filters(), 50, None)
    assert [line.exchange_id for line in found.lines] == [X], "what is known can be looked for"
    for ask in (
        desk.exchanges.one(auditor(), X),
        desk.exchanges.payloads(auditor(), X, "ticket 1"),
        desk.exchanges.verify_one(auditor(), X),
        desk.exchanges.verification(),
    ):
        with pytest.raises(EvidenceUnavailable) as raised:
            await ask
        assert "audit.s3" in raised.value.client_text
        assert "ConnectTimeout" in raised.value.detail
    assert desk.journal.notes == []


async def test_what_was_indexed_is_gone_or_damaged(desk: Desk) -> None:
    log = one_exchange(desk)
    change(desk, next(key for key, _, _ in desk.recorded.store.puts if "v1/events" in key), lambda _: b"garbage")
    with pytest.raises(EvidenceDamaged) as raised:
        await desk.exchanges.one(auditor(), X)
    assert "affidavit verify" in raised.value.client_text
    assert log.leaves


# The whole -------------------------------------------------------------------------------------------------------


async def test_charts_have_every_hour(desk: Desk) -> None:
    log = desk.recorded.log()
    for number, outcome in enumerate(("completed", "completed", "error", "held", "refused", "abandoned")):
        told(log, number, NOON + number * SECOND, outcome=outcome)
    told(log, 9, NOON, allow=False, outcome="denied", code="policy_denied")
    for number, code in enumerate(("approval_denied", "approval_denied", "approval_expired"), 20):
        told(log, number, NOON, outcome="denied", code=code)
    log.seal()
    desk.clock.now = NOON + timedelta(hours=2, minutes=30)
    desk.indexed.round()
    charts = await desk.exchanges.charts(auditor(), NOON - timedelta(hours=1))
    assert [hour.at for hour in charts.hours] == [NOON + timedelta(hours=number) for number in (-1, 0, 1, 2)]
    busy = charts.hours[1]
    assert (busy.allowed, busy.denied, busy.refused, busy.failed) == (2, 1, 2, 2)
    assert busy.denied_by_people == 2, "not the policy said no"
    assert busy.latency_ms_p50 == pytest.approx(10, rel=0.03)
    assert charts.hours[0].latency_ms_p50 is None
    assert charts.entities == (seen.Count("EMAIL", 20),)


def bundle(path: Path, **files: str) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"/{name}.rego")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_activations_with_their_differences(desk: Desk) -> None:
    log = desk.recorded.log()
    first = bundle(desk.bundle, main="package a\nallow := true\n", old="package b\n")
    told(log, 1, NOON, digest=first, revision="r1")
    log.seal()
    desk.indexed.round()
    [one] = (await desk.exchanges.activations()).activations
    assert (one.digest, one.is_current, one.differences) == (first, True, None)
    second = bundle(desk.bundle, main="package a\nallow := false\n", new="package c\n")
    told(log, 2, NOON + SECOND, digest=second, revision="r2")
    told(log, 3, NOON + 2 * SECOND, digest="c" * 64, revision="r3")
    log.seal()
    desk.indexed.round()
    third, newer, older = (await desk.exchanges.activations()).activations
    assert [one.is_current for one in (third, newer, older)] == [True, False, False]
    assert third.differences is None, "nobody has that bundle"
    assert newer.differences is not None
    told_ = {(one.path, one.change) for one in newer.differences}
    assert told_ == {("main.rego", "changed"), ("new.rego", "added"), ("old.rego", "removed")}
    [main] = [one for one in newer.differences if one.path == "main.rego"]
    assert {"-allow := true", "+allow := false"} <= set(main.lines)
    kept = desk.folder / "console" / "bundles" / f"{first}.tar.gz"
    bundle(kept, main="package a\n")  # somebody put another in its place
    assert (await desk.exchanges.activations()).activations[1].differences is None


async def test_what_the_shipper_says_of_bundles_and_what_the_bucket_has_of_them(desk: Desk) -> None:
    folder = desk.folder / "elsewhere"
    folder.mkdir()
    digests = []
    for name, text in (("one", "package a\n"), ("two", "package a\n\nallow := true\n")):
        digests.append(bundle(folder / f"{name}.tar.gz", main=text))
        desk.recorded.store.put(f"v1/policy/{digests[-1]}.tar.gz", (folder / f"{name}.tar.gz").read_bytes())
    log, shipper = desk.recorded.log(), desk.recorded.log("gw-0-shipper", salt="bbbbbbbb")
    for number, digest in enumerate(digests):
        told(log, number, NOON + number * SECOND, digest=digest, revision=f"r{number}")
    named = {"revision": "r1", "digest": digests[1]}
    for at in (NOON + 3 * SECOND, NOON + 9 * SECOND):  # of each replica
        shipper.add("policy.activated", at, {**named, "key": "k", "number": 7, "key_id": "k1", "previous": None})
    shipper.add("policy.refused", NOON, {"digest": "e" * 64, "reason": "unsigned", "number": None, "active": named})
    shadow = {"exchange_id": "e1", "decision_id": "d", "fields": [], "effects": ["newly_denied"], "active": named}
    shipper.add("policy.shadow_differed", NOON, {**shadow, "candidate": {"revision": "r9", "digest": "f" * 64}})
    log.seal()
    shipper.seal()
    desk.indexed.round()
    found = await desk.exchanges.activations()
    newer, older = found.activations
    assert (newer.archived_at, newer.number, newer.key_id) == (NOON + 3 * SECOND, 7, "k1")
    assert (older.archived_at, older.number) == (None, None)
    assert newer.differences is not None and [one.path for one in newer.differences] == ["main.rego"]
    [refused], [shadowed] = found.refused, found.shadows
    assert (refused.reason, refused.origin.rsplit("/", 2)[1]) == ("unsigned", "gw-0-shipper")
    assert (shadowed.digest, shadowed.effect, shadowed.calls, shadowed.example) == ("f" * 64, "newly_denied", 1, "e1")
    before = len(desk.recorded.store.downloads)
    await desk.exchanges.activations()
    assert len(desk.recorded.store.downloads) == before, "each is fetched once"


def statement(desk: Desk, day: str, at_hour: int, **changes: Any) -> None:
    fields = {
        "schema": "affidavit/reconcile/v1", "gateway": GATEWAY, "day": day, "envoy": 30, "audited": 29, "orphans": 1,
        "explained": [{"class": "unrecorded"}] * 2, "gaps": [{"code": "bypass"}], "at": instant(NOON + timedelta(hours=at_hour)),
    } | changes  # fmt: skip
    body = note.sign_json(fields, GATEWAY, changes.pop("signer", desk.recorded.signer))
    desk.recorded.store.put(f"v1/reconcile/dt={day}/{hashlib.sha256(body).hexdigest()[:16]}.note", body)


async def test_the_standing(desk: Desk) -> None:
    log, other = desk.recorded.log(), desk.recorded.log("gw-1-0", salt="bbbbbbbb")
    told(log, 1, NOON)
    log.seal()
    other.add("log.close", NOON + SECOND, {"leaves": 2})
    other.seal()
    told(log, 2, NOON + 5 * SECOND)
    log.seal(checkpoint=False)
    statement(desk, "2026-11-24", 0)
    statement(desk, "2026-11-24", 1, orphans=0, gaps=[])
    statement(desk, "2026-11-23", 0)
    statement(desk, "2026-11-22", 0, gateway="somebody else's")
    desk.recorded.store.put("v1/reconcile/dt=2026-11-21/0000000000000000.note", b"garbage")
    statement(desk, "2026-08-01", 0)
    desk.indexed.round()
    (desk.folder / "status").write_text("1")
    finding = {"code": "object_changed", "object": "v1/x", "explanation": "Its bytes ..."}
    report = {"ok": False, "leaves": 10, "epochs": 2, "findings": [finding]}
    (desk.folder / "report").write_text(json.dumps(report))
    standing = await desk.exchanges.verification()
    assert standing.verified is None, "it was just begun"
    assert [(one.day, one.orphans) for one in standing.reconciled] == [("2026-11-24", 0), ("2026-11-23", 1)]
    newest = standing.reconciled[0]
    assert (newest.envoy, newest.explained, newest.gaps) == (30, (seen.Count("unrecorded", 2),), ())
    assert [(one.origin, one.size, one.end) for one in standing.heads] == [
        (log.origin, 3, None), (other.origin, 2, "close"),
    ]  # fmt: skip
    desk.whole.wait()
    standing = await desk.exchanges.verification()
    assert standing.verified == seen.Verified(
        desk.clock(), False, 10, 2, (seen.FindingSeen("object_changed", "v1/x", "Its bytes ..."),)
    )


# The verification of the whole -------------------------------------------------------------------------------------


async def test_the_whole_is_verified_at_most_once_an_hour(desk: Desk) -> None:
    (desk.folder / "status").write_text("0")
    (desk.folder / "report").write_text(json.dumps({"ok": True, "leaves": 1, "epochs": 1, "findings": []}))
    assert desk.whole.begin_if_due() is True
    desk.whole.wait()
    assert desk.whole.begin_if_due() is False
    desk.clock.move(minutes=59)
    assert desk.whole.begin_if_due() is False
    again = WholeVerification(desk.folder / "console", "fake", desk.policy, {}, desk.clock, ("/bin/false",))
    assert again.begin_if_due() is False, "also after a restart"
    desk.clock.move(minutes=2)
    assert desk.whole.begin_if_due() is True
    desk.whole.wait()
    ran = (desk.folder / "ran").read_text().splitlines()
    assert len(ran) == 2
    assert ran[0].startswith("fake --policy ")
    assert WholeVerification(desk.folder / "console", "another", desk.policy, {}, desk.clock).last() is None


@pytest.mark.parametrize(("status", "report"), [("2", ""), ("0", "no json"), ("0", "[]"), ("0", '{"ok":true}')])
async def test_a_verification_that_could_not_run_is_none(status: str, report: str, desk: Desk) -> None:
    (desk.folder / "status").write_text(status)
    (desk.folder / "report").write_text(report)
    desk.whole.begin_if_due()
    desk.whole.wait()
    assert desk.whole.last() is None
    assert desk.whole.begin_if_due() is False, "nor is it tried again and again"


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"source":"fake","began_at":5}', b"\xff"])
def test_what_was_kept_of_it_is_damaged(kept: bytes, desk: Desk) -> None:
    (desk.folder / "console").mkdir()
    (desk.folder / "console" / "verification.json").write_bytes(kept)
    assert desk.whole.last() is None
    with suppress(OSError):
        assert desk.whole.begin_if_due() is True
    desk.whole.wait()
