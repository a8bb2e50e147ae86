"""One suite for `console.ports.Exchanges`: the console's fake, and the real one over a bucket."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.console import seen
from ext_proc.console.people import Role, Viewer
from ext_proc.errors import GateError
from tests.fakes.console_rooms import NOW, FakeExchanges, person
from tests.fakes.console_rooms import Clock as RoomsClock
from tests.fakes.console_rooms import exchange_id as named
from tests.fakes.evidence_desk import Desk
from tests.fakes.indexed import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ext_proc.console.ports import Exchanges

pytestmark = pytest.mark.parametrize("made", ["fake", "bucket"], indirect=True)
ANYBODY = seen.Filters()


def auditor(tenant: str | None = None) -> Viewer:
    return Viewer(person("ida", "auditors", tenant=tenant), frozenset({Role.AUDITOR}))


@dataclass
class Made:
    """One implementation. ``add`` records an exchange; a higher number is an earlier one. ``readings`` counts those of
    bodies that are on record; after ``fail`` nothing can be had.
    """

    exchanges: Exchanges
    add: Callable[..., str]
    readings: Callable[[], int]
    fail: Callable[[], None]


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    if request.param == "fake":
        fake = FakeExchanges(RoomsClock(NOW))

        def fail_fake() -> None:
            fake.failure = GateError("away")

        yield Made(fake, fake.add, lambda: len(fake.readings), fail_fake)
        return
    desk = Desk(tmp_path)
    desk.clock.now = NOW
    log = desk.recorded.log(at=NOW - timedelta(hours=1))

    def add(number: int, *, tenant: str | None = None, **changes: Any) -> str:
        at = NOW - timedelta(seconds=number)
        name = named(number)
        if changes:
            masked = changes.pop("masked", (seen.Count("EMAIL", 1),))
            changes["allow"] = changes.pop("decision", "allow") == "allow"
            told(log, number, at, name=name, entity=masked[0].name if masked else None, **changes)
        else:
            log.exchange(name, at, replace(person("ada"), tenant=tenant), connection="demo", model="demo")
        log.seal()
        desk.indexed.round()
        return name

    def fail() -> None:
        for path in (tmp_path / "console").glob("index*"):
            path.unlink()

    yield Made(desk.exchanges, add, lambda: len(desk.journal.notes), fail)
    desk.close()


async def found(made: Made, **filters: Any) -> set[str]:
    page = await made.exchanges.search(auditor(), seen.Filters(**filters), 50, None)
    assert page.total == len(page.lines)
    return {line.exchange_id for line in page.lines}


async def test_the_newest_first_in_pages(made: Made) -> None:
    ids = [made.add(number) for number in (5, 3, 1, 2, 4)]
    after, read = None, []
    for size in (2, 2, 1):
        page = await made.exchanges.search(auditor(), ANYBODY, 2, after)
        assert (len(page.lines), page.total) == (size, 5)
        read += [line.exchange_id for line in page.lines]
        after = page.next_after
    assert after is None
    assert read == [named(number) for number in (1, 2, 3, 4, 5)]
    assert set(read) == set(ids)
    at = [line.at for line in (await made.exchanges.search(auditor(), ANYBODY, 50, None)).lines]
    assert at == [NOW - timedelta(seconds=number) for number in (1, 2, 3, 4, 5)]


async def test_filters(made: Made) -> None:
    one = made.add(1, connection="c1", model="m1")
    two = made.add(2, decision="deny", outcome="denied", code="policy_denied", http_status=403)
    three = made.add(3, masked=(seen.Count("PHONE", 2),))
    assert await found(made) == {one, two, three}
    assert await found(made, connection="c1") == {one}
    assert await found(made, connection="c") == set()
    assert await found(made, model="m1") == {one}
    assert await found(made, decision="deny") == {two}
    assert await found(made, decision="none") == set()
    assert await found(made, outcome="denied") == {two}
    assert await found(made, code="policy_denied") == {two}
    assert await found(made, entity="PHONE") == {three}
    assert await found(made, since=NOW - timedelta(seconds=2)) == {one, two}
    assert await found(made, until=NOW - timedelta(seconds=2)) == {three}
    assert await found(made, query=one) == {one}
    assert await found(made, query=one[:14]) == {one, two, three}
    assert await found(made, query="hmac-sha256:" + f"{2:064x}") == {two}
    assert await found(made, query="%' OR 1=1 --") == set()
    assert await found(made, connection="c1", decision="deny") == set()


async def test_another_tenants_is_what_never_was(made: Made) -> None:
    north, nobodys = made.add(1, tenant="north"), made.add(2)
    for who, name in ((auditor("south"), north), (auditor("south"), nobodys), (auditor(), named(99))):
        assert await made.exchanges.one(who, name) is None
        assert await made.exchanges.payloads(who, name, "ticket 1") is None
        assert await made.exchanges.verify_one(who, name) is None
    assert (await made.exchanges.search(auditor("south"), ANYBODY, 50, None)).lines == ()
    page = await made.exchanges.search(auditor("north"), ANYBODY, 50, None)
    assert ([line.exchange_id for line in page.lines], page.total) == ([north], 1)
    assert await made.exchanges.one(auditor("north"), north) is not None
    assert await made.exchanges.one(auditor(), nobodys) is not None
    assert made.readings() == 0


async def test_one_with_its_proof(made: Made) -> None:
    name = made.add(1)
    one = await made.exchanges.one(auditor(), name)
    assert one is not None
    assert (one.line.exchange_id, one.line.decision, one.line.outcome) == (name, "allow", "completed")
    assert (one.line.connection, one.line.model) == ("demo", "demo")
    assert [step.at for step in one.steps] == sorted(step.at for step in one.steps)
    assert (one.steps[0].phase, one.steps[-1].phase) == ("received", "ended")
    assert one.proofs
    assert all(proof.lock_mode == "COMPLIANCE" and proof.root_hash and proof.locked_until for proof in one.proofs)
    assert one.payload_roles == ("request.raw", "request.forwarded", "response.upstream", "response.released")
    verdict = await made.exchanges.verify_one(auditor(), name)
    assert verdict is not None
    assert verdict.is_ok
    assert all(each.is_ok for each in verdict.examined)


async def test_bodies_are_read_on_record(made: Made) -> None:
    name = made.add(1)
    shown = await made.exchanges.payloads(auditor(), name, "ticket 1")
    assert shown is not None
    assert made.readings() == 1
    assert shown.record is not None
    assert [body.role for body in shown.bodies][:2] == ["request.raw", "request.forwarded"]
    marked = [segment for segment in shown.bodies[0].segments if segment.entity]
    assert [(segment.entity, segment.action) for segment in marked] == [("EMAIL", "mask")]


async def test_every_hour_of_the_charts(made: Made) -> None:
    made.add(1)
    charts = await made.exchanges.charts(auditor(), NOW - timedelta(hours=5))
    assert [hour.at for hour in charts.hours] == [NOW - timedelta(hours=number) for number in (5, 4, 3, 2, 1, 0)]


async def test_nothing_can_be_had(made: Made) -> None:
    made.add(1)
    made.fail()
    for ask in (
        made.exchanges.search(auditor(), ANYBODY, 50, None),
        made.exchanges.one(auditor(), named(1)),
        made.exchanges.charts(auditor(), NOW),
        made.exchanges.activations(),
        made.exchanges.verification(),
    ):
        with pytest.raises(GateError):
            await ask
