"""The disk x each way to fail, then a restart: what was acknowledged is in the store, in order, once."""

from __future__ import annotations

import asyncio

import pytest

from ext_proc.errors import AuditUnavailable
from ext_proc.model import Receipt
from tests.fakes.auditor import findings
from tests.fakes.disk import BadDisk, Faults
from tests.fakes.log import AT, a_writer, in_store, intent, outcome
from tests.fakes.shipping import StandingClock, a_shipper, a_store

CASES = [("write", "EIO"), ("sync", "EIO"), ("write", "ENOSPC"), ("allocate", "ENOSPC"), ("extend", "ENOSPC")]


def count_open(leaves):
    """Exchanges whose outcome was refused for want of space, in a log that was closed in order."""
    begun = {leaf["exchange_id"] for leaf in leaves if leaf["kind"] == "inference.intent"}
    return len(begun - {leaf["exchange_id"] for leaf in leaves if leaf["kind"] == "inference.outcome"})


@pytest.mark.parametrize("after", [0, 1, 2, 5, 11, 17])
@pytest.mark.parametrize(("call", "error"), CASES)
async def test_disk_fault(tmp_path, call, error, after):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults), segment_bytes=16 * 1024, seal_seconds=0.3)
    setattr(faults, call, error)
    faults.after = after
    acknowledged: dict[int, tuple[str, str]] = {}
    refused = 0

    async def client(number: int) -> None:
        nonlocal refused
        for turn in range(6):
            exchange = number * 100 + turn
            for entry in (intent(exchange, b"x" * 900), outcome(exchange, b"y" * 400)):
                try:
                    receipt = await writer.record(entry, AT)
                except AuditUnavailable:
                    refused += 1
                else:
                    assert isinstance(receipt, Receipt)
                    assert receipt.sequence not in acknowledged
                    acknowledged[receipt.sequence] = (entry.kind, entry.exchange_id)

    async with asyncio.timeout(60):
        await asyncio.gather(*(client(number) for number in range(10)))
        is_broken = writer.health().failure is not None
        assert is_broken == (call in {"write", "sync"}), "no space is not the end; a failed write or sync is"
        if call == "allocate":
            assert refused
        setattr(faults, call, "")
        await writer.close(AT)

    store = a_store(StandingClock())
    report = a_shipper(tmp_path, store, store.clock).run_once()
    assert report.failures == []
    assert findings(store) in ([], ["outcome_missing"] * count_open(in_store(store)))
    leaves = in_store(store)
    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves)))
    for sequence, (kind, exchange_id) in acknowledged.items():
        assert (leaves[sequence]["kind"], leaves[sequence]["exchange_id"]) == (kind, exchange_id)
    ends = [leaf["kind"] for leaf in leaves if leaf["kind"] in {"log.close", "log.recovered"}]
    assert ends == ["log.recovered" if is_broken else "log.close"]
    if is_broken:
        begun = {leaf["exchange_id"] for leaf in leaves if leaf["kind"] == "inference.intent"}
        ended = {leaf["exchange_id"] for leaf in leaves if leaf["kind"] == "inference.outcome"}
        assert begun <= ended
        torn = call == "write"
        assert [one.name.endswith(".quarantine") for one in (tmp_path / "evidence").rglob("*.quarantine")] == [
            True
        ] * torn, "half a frame is put aside"
