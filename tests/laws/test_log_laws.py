"""The laws of the log: whatever happens, in whatever order, what was acknowledged ends in the store: all, in order, once.

Also: nothing is freed that is not in the store, no number is missing or twice, each log has one end, and each exchange
that began has an outcome.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ext_proc.audit import segments
from ext_proc.errors import AuditUnavailable
from tests.fakes.auditor import findings
from tests.fakes.disk import BadDisk, Faults
from tests.fakes.log import AT, a_keyring, a_writer, epoch, in_store, intent, on_disk, outcome
from tests.fakes.shipping import Notes, StandingClock, a_shipper
from tests.fakes.store import BadStore

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.keys import KeyRing
    from ext_proc.audit.writer import Writer

STORE_FAULTS = ["", "refused", "lost", "persisted but error", "lying", "exists", "slow"]
ACTS = st.one_of(
    st.tuples(st.just("record"), st.integers(1, 12), st.sampled_from([0, 300, 4000])),
    st.tuples(st.just("ship"), st.just(0), st.just(0)),
    st.tuples(st.just("new shipper"), st.just(0), st.just(0)),
    st.tuples(st.just("journal"), st.sampled_from([0, 1]), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
    st.tuples(st.just("kill"), st.just(0), st.just(0)),
    st.tuples(st.just("store"), st.sampled_from(STORE_FAULTS), st.integers(1, 3)),
    st.tuples(st.just("disk"), st.sampled_from(["", "sync", "write", "allocate"]), st.integers(0, 4)),
)


class House:
    """One gateway's disk, store and current writer, and what it has promised."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keyring: KeyRing = a_keyring(folder)
        self.clock = StandingClock()
        self.store = BadStore(clock=self.clock)
        self.notes = Notes()
        self.shipper = a_shipper(folder, self.store, self.clock, self.notes)
        self.faults = Faults()
        self.promised: dict[tuple[str, int], tuple[str, str]] = {}
        self.epochs = 0
        self.exchanges = 0
        self.writer: Writer | None = None
        self.stale: list[Writer] = []

    async def open(self) -> None:
        """A new process."""
        self.epochs += 1
        self.faults = Faults()
        self.writer = await a_writer(
            self.folder,
            epoch(self.epochs),
            ops=BadDisk(self.faults),
            keyring=self.keyring,
            segment_bytes=16 * 1024,
        )

    async def act(self, what: str, one: Any, two: Any) -> None:
        """One thing happens."""
        assert self.writer is not None
        match what:
            case "record":
                await asyncio.gather(*(self.exchange(two) for _ in range(one)))
            case "ship":
                self.ship()
            case "new shipper":
                self.shipper = a_shipper(self.folder, self.store, self.clock, self.notes)
            case "journal":
                self.notes.is_down = bool(one)
            case "restart":
                await self.writer.close(AT)
                await self.open()
            case "kill":
                await self.kill()
            case "store":
                self.store.fault, self.store.times = one, two if one else 0
            case "disk":
                for name in ("sync", "write", "allocate"):
                    setattr(self.faults, name, "")
                if one:
                    setattr(self.faults, one, "ENOSPC" if one == "allocate" else "EIO")
                    self.faults.after = two

    async def kill(self) -> None:
        """What SIGKILL leaves: the files as they are now, and no lock. The old writer cannot write any more."""
        assert self.writer is not None
        self.faults.write, self.faults.allocate, self.faults.after = "EIO", "ENOSPC", 0
        name = epoch(self.epochs)
        live = self.folder / "evidence" / name
        aside = self.folder / f"ghost-{self.epochs}"
        shutil.copytree(live, aside)
        live.rename(self.folder / f"old-{self.epochs}")
        aside.rename(live)
        ghost = self.writer
        await self.open()
        await ghost.close(AT)

    async def exchange(self, size: int) -> None:
        """An intent and, if it was acknowledged, an outcome."""
        assert self.writer is not None
        self.exchanges += 1
        writer, number = self.writer, self.exchanges
        for entry in (intent(number, b"x" * size if size else None), outcome(number, b"y" * size if size else None)):
            try:
                receipt = await writer.record(entry, AT)
            except AuditUnavailable:
                return
            place = (receipt.origin, receipt.sequence)
            assert place not in self.promised, "a number is given once"
            self.promised[place] = (entry.kind, str(entry.exchange_id))

    def ship(self) -> None:
        """A round; whatever it freed is in the store."""
        self.shipper.run_once()
        here = {(leaf["origin"], leaf["sequence"]) for leaf in in_store(self.store) + self.on_disk()}
        assert set(self.promised) <= here, "nothing that was acknowledged is nowhere"

    def on_disk(self) -> list[dict[str, Any]]:
        """Every leaf on the disk."""
        return [leaf for folder in (self.folder / "evidence").iterdir() if folder.is_dir() for leaf in on_disk(folder)]


async def live(folder: Path, acts: list[tuple[str, Any, Any]]) -> House:
    """A life, and its end: the last process stops, store and disk are well, and all is shipped."""
    house = House(folder)
    await house.open()
    for act in acts:
        await house.act(*act)
    for name in ("sync", "write", "allocate"):
        setattr(house.faults, name, "")
    assert house.writer is not None
    await house.writer.close(AT)
    house.store.fault, house.store.times = "", 0
    house.notes.is_down = False
    house.shipper = a_shipper(folder, house.store, house.clock, house.notes)
    for _ in range(3):
        house.ship()
    return house


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(ACTS, max_size=14))
def test_what_was_acknowledged_is_in_the_store_in_order_once(tmp_path_factory, acts):
    folder = tmp_path_factory.mktemp("life")
    house = asyncio.run(live(folder, acts))
    leaves = in_store(house.store)
    by_log: dict[str, list[dict[str, Any]]] = {}
    for leaf in leaves:
        by_log.setdefault(leaf["origin"], []).append(leaf)
    for origin, mine in by_log.items():
        assert [leaf["sequence"] for leaf in mine] == list(range(len(mine))), origin
        assert mine[0]["kind"] == "log.open"
        assert sum(leaf["kind"] in {"log.close", "log.recovered"} for leaf in mine) == 1
        if any(leaf["kind"] == "log.recovered" for leaf in mine):
            begun = {leaf["exchange_id"] for leaf in mine if leaf["kind"] == "inference.intent"}
            ended = {leaf["exchange_id"] for leaf in mine if leaf["kind"] == "inference.outcome"}
            assert begun <= ended
    for (origin, sequence), (kind, exchange_id) in house.promised.items():
        leaf = by_log[origin][sequence]
        assert (leaf["kind"], leaf["exchange_id"]) == (kind, exchange_id)
    assert all(len(versions) == 1 for versions in house.store.objects.values())
    # An outcome that was refused because the disk was full, in a log that then was closed in order: the gate refuses the
    # answer, and says so with its own status. Everything else verifies.
    assert set(findings(house.store)) <= {"outcome_missing"}
    left = [path for path in (folder / "evidence").rglob("*") if path.suffix in {segments.WRITING, segments.SEALED}]
    assert left == []
    shutil.rmtree(folder)
