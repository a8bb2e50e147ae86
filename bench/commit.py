"""Group commit beside a plain ``fdatasync`` writer, in one run; and what a gateway under load costs the store in PUTs.

Latency of one record of about 4 KB, from the call until it is durable, with 16 exchanges at once:

- ``gate``: our writer, everything included: leaf, encryption, receipt, sequence, group commit;
- ``plain``: a thread that writes each record's bytes into a preallocated file and syncs, one after the other;
- ``floor``: the same bytes, all that wait with one sync, and nothing else: less than this no log can cost.

``busy``: the 16 never pause. ``paced``: each waits 50 ms for its model between intent and outcome, as exchanges do.
The order alternates; medians of the rounds are told. The ratio that counts is the larger one of gate to plain.

PUTs: two workers' writers and the shipper's own log with the default configuration, 100 exchanges a second for some
minutes of their clock, shipped to a store that counts.

``python -m bench.commit`` prints a table and writes ``bench/out/commit.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from ext_proc.audit.keys import KeyRing
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.audit.shipper import Shipper, Terms
from ext_proc.audit.signer import LocalSigner
from ext_proc.audit.store import Stored, StoreUnavailable
from ext_proc.audit.writer import WalLimits, Writer
from ext_proc.config import WalSection
from ext_proc.database import sqlite_url
from ext_proc.model import Entry, ExchangeId, Identity, Payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

OUT: Final = Path(__file__).parent / "out" / "commit.json"
CONCURRENT: Final = 16
BODY: Final = 1024
UPSTREAM_SECONDS: Final = 0.05
RATIO_MAX: Final = 1.5
PUTS_MAX: Final = 6.0
ADA: Final = Identity("https://idp.example.com", "ada", "oidc")
RETENTION: Final = timedelta(days=400)
ACCESS_LOG_SECONDS: Final = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.commit", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="the order alternates; medians are told (default: 5)")
    parser.add_argument("--minutes", type=float, default=5.0, help="of load for counting PUTs (default: 5)")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured (default: the temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="affidavit-commit-", dir=options.directory) as name:
        found = uvloop.run(_measure(Path(name), options.seconds, options.rounds))
        found["puts"] = uvloop.run(_count_puts(Path(name) / "puts", options.minutes))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    _show(found)
    return 0 if found["ratio"] <= RATIO_MAX and found["puts"]["per_1000_exchanges"] <= PUTS_MAX else 1


# Latency -----------------------------------------------------------------------------------------------------------


async def _measure(folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    taken: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds):
        kinds = [(kind, pause) for kind in (_gate, _plain, _floor) for pause in (0.0, UPSTREAM_SECONDS)]
        for kind, pause in kinds if number % 2 == 0 else reversed(kinds):
            name = f"{kind.__name__.strip('_')}_{'paced' if pause else 'busy'}"
            place = folder / f"{name}-{number}"
            place.mkdir()
            print(f"round {number + 1} of {rounds}: {name}", flush=True)
            taken.setdefault(name, []).append(await kind(place, seconds, pause))
    rows = {name: {key: _median([row[key] for row in found]) for key in found[0]} for name, found in taken.items()}
    ratios = {
        f"gate_to_{other}_{load}_{key}": rows[f"gate_{load}"][f"{key}_ms"] / rows[f"{other}_{load}"][f"{key}_ms"]
        for other in ("plain", "floor")
        for load in ("busy", "paced")
        for key in ("p50", "p99")
    }
    counts = max(ratios["gate_to_plain_busy_p50"], ratios["gate_to_plain_paced_p50"])
    return {"concurrent": CONCURRENT, **rows, "ratios": ratios, "ratio": counts}


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


async def _gate(folder: Path, seconds: float, pause: float) -> dict[str, float]:
    """Our writer, as a worker uses it."""
    writer = await _writer(folder, "0", _default_limits())
    try:

        async def record(number: int, kind: str) -> None:
            await writer.record(_entry(number, kind), datetime.now(UTC))

        return await _load(record, seconds, pause)
    finally:
        await writer.close(datetime.now(UTC))


async def _plain(folder: Path, seconds: float, pause: float) -> dict[str, float]:
    return await _bare(folder, seconds, pause, most=1)


async def _floor(folder: Path, seconds: float, pause: float) -> dict[str, float]:
    return await _bare(folder, seconds, pause, most=CONCURRENT * 4)


async def _bare(folder: Path, seconds: float, pause: float, most: int) -> dict[str, float]:
    """Bytes into a preallocated file, in a thread: everybody who waits, at most ``most``, with one sync."""
    loop = asyncio.get_running_loop()
    waiting: SimpleQueue[asyncio.Future[None] | None] = SimpleQueue()
    size = 64 * 1024 * 1024
    descriptor = os.open(folder / "file", os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(descriptor, 0, size)
    os.fsync(descriptor)
    body = os.urandom(_RECORD_BYTES)

    def tell(done: list[asyncio.Future[None]]) -> None:
        for one in done:
            one.set_result(None)

    def write_forever() -> None:
        offset = 0
        while True:
            batch = [waiting.get()]
            while len(batch) < most and not waiting.empty():
                batch.append(waiting.get())
            done = [one for one in batch if one is not None]
            if offset + len(body) * len(done) > size:
                offset = 0
            offset += os.pwrite(descriptor, body * len(done), offset)
            os.fdatasync(descriptor)
            loop.call_soon_threadsafe(tell, done)
            if len(done) < len(batch):
                return

    thread = threading.Thread(target=write_forever)
    thread.start()
    try:

        async def record(_number: int, _kind: str) -> None:
            done: asyncio.Future[None] = loop.create_future()
            waiting.put(done)
            await done

        return await _load(record, seconds, pause)
    finally:
        waiting.put(None)
        await asyncio.to_thread(thread.join)
        os.close(descriptor)


async def _load(record: Callable[[int, str], Awaitable[None]], seconds: float, pause: float) -> dict[str, float]:
    """16 exchanges at once, after a second to warm up."""
    times: list[float] = []
    began = perf_counter()
    warm, until = began + 1, began + 1 + seconds

    async def timed(number: int, kind: str) -> None:
        started = perf_counter()
        await record(number, kind)
        if started > warm:
            times.append(perf_counter() - started)

    async def client(number: int) -> None:
        turn = number * 10_000_000
        await asyncio.sleep(pause * number / CONCURRENT)
        while perf_counter() < until:
            await timed(turn, "intent")
            if pause:
                await asyncio.sleep(pause)
            await timed(turn, "outcome")
            turn += 1

    await asyncio.gather(*(client(number) for number in range(CONCURRENT)))
    times.sort()
    at = {"p50_ms": 0.5, "p99_ms": 0.99}
    return {"records_per_second": len(times) / seconds, **{k: 1000 * times[int(len(times) * v)] for k, v in at.items()}}


# PUTs --------------------------------------------------------------------------------------------------------------


class CountingStore:
    """`audit.store.Store` in memory that forgets bodies and counts."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._kept: dict[str, Stored] = {}
        self.puts: dict[str, int] = {}

    def put(self, key: str, body: bytes, sha256: str) -> None:
        """See `Store.put`."""
        room = key.split("/")[1]
        self.puts[room] = self.puts.get(room, 0) + 1
        until = self._clock() + RETENTION
        self._kept[key] = Stored(hashlib.sha256(body).hexdigest(), len(body), "COMPLIANCE", until, sha256)

    def read_back(self, key: str) -> Stored | None:
        """See `Store.read_back`."""
        return self._kept.get(key)

    def fetch(self, key: str) -> bytes:
        """There is nothing to fetch."""
        raise StoreUnavailable(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store.keys`."""
        yield from sorted(key for key in self._kept if key.startswith(prefix))


async def _count_puts(folder: Path, minutes: float) -> dict[str, Any]:
    """100 exchanges a second over two workers, in real time: the writers seal by the clock of the machine."""

    def clock() -> datetime:
        return datetime.now(UTC)

    folder.mkdir()  # noqa: ASYNC240 - before anything is counted
    writers = [await _writer(folder, str(index), _default_limits()) for index in range(2)]
    small = WalLimits(1024 * 1024, 1 << 30, 1 << 20, _default_limits().seal_seconds)
    own = await _writer(folder, "shipper", small)
    store = CountingStore(clock)
    loop = asyncio.get_running_loop()

    def journal(kind: str, facts: Any) -> None:
        asyncio.run_coroutine_threadsafe(own.note(kind, facts, clock()), loop).result(30)

    shipper = Shipper(folder / "evidence", store, Terms(RETENTION, LocalSigner(b"l" * 32)), clock, journal)
    stop = threading.Event()
    shipping = asyncio.ensure_future(asyncio.to_thread(shipper.run, stop, 0.5, lambda _: None))
    total = int(minutes * 60 * 100)
    started = perf_counter()
    beat_at = access_at = started + 60
    parts = 0
    for number in range(0, total, 2):
        await asyncio.gather(*(_exchange(writer, number + index) for index, writer in enumerate(writers)))
        now = perf_counter()
        if now >= beat_at:
            beat_at += 60
            for writer in (*writers, own):
                await writer.note("heartbeat", {}, clock())
        if now >= access_at:  # a part of Envoy's access log, and the leaf that names it
            access_at += ACCESS_LOG_SECONDS
            parts += 1
            await own.note("access.shipped", {"key": "x" * 90, "sha256": "0" * 64}, clock())
        await asyncio.sleep(max(0.0, started + (number + 2) / 100 - perf_counter()))
    took = perf_counter() - started
    stop.set()
    await shipping
    for writer in (*writers, own):
        await writer.close(clock())
    puts = {**store.puts, "access": parts}
    per_hour = 60 / minutes
    # Once an hour each log has a digest, whose leaf and heartbeat share a segment; once in its life a birth record.
    puts_in_hour = {k: v * per_hour for k, v in puts.items() if k in {"events", "payload", "log", "access"}}
    puts_in_hour["digest"] = 3.0
    return {
        "exchanges": total,
        "seconds": took,
        "rate": total / took,
        "puts": puts,
        "per_1000_exchanges": 1000 * sum(puts_in_hour.values()) / (total * per_hour),
        "per_1000_exchanges_of_the_run": 1000 * sum(puts.values()) / total,
    }


async def _exchange(writer: Writer, number: int) -> None:
    for kind in ("intent", "outcome"):
        await writer.record(_entry(number, kind), datetime.now(UTC))


# Both --------------------------------------------------------------------------------------------------------------


def _default_limits() -> WalLimits:
    wal = WalSection()
    return WalLimits(wal.segment_bytes, wal.max_bytes, wal.emergency_bytes, wal.seal_seconds)


async def _writer(folder: Path, role: str, limits: WalLimits) -> Writer:
    now = datetime.now(UTC)
    keyring = KeyRing(b"k" * 32, b"p" * 32, SqlRegistry.from_url(sqlite_url(folder / f"registry-{role}.sqlite")))
    return await Writer.open(
        folder / "evidence",
        origin=f"bench.example/gw-0-{role}",
        epoch=f"{now:%Y%m%dT%H%M%S%f}-{ord(role[0]):08x}",
        keyring=keyring,
        opening={"role": role, "receipt_key": None, "config_sha256": "0" * 64},
        limits=limits,
        now=now,
        receipts=LocalSigner(b"r" * 32) if role != "shipper" else None,
    )


_TEXT: Final = os.urandom(BODY)
_FACTS: Final = {
    "request": {"connection": "demo", "method": "POST", "path": "/v1/chat/completions", "body_bytes": BODY},
    "policy": {"allow": True, "reasons": [], "bundle_digest": "0" * 64},
    "outcome": {"status": "completed", "http_status": 200, "code": None, "released_bytes": BODY},
    "intent_sequence": 0,
}
_RECORD_BYTES: Final = 2 * BODY + 2048
"""What one record comes to in the log: two payloads and a leaf."""


def _entry(number: int, kind: str = "outcome") -> Entry:
    roles = ("request.raw", "request.forwarded") if kind == "intent" else ("response.upstream", "response.released")
    payloads = tuple(Payload(role, _TEXT, "application/json") for role in roles)
    return Entry(f"inference.{kind}", ExchangeId(f"{number:032x}"), ADA, None, _FACTS, payloads)


def _show(found: dict[str, Any]) -> None:
    console = Console()
    table = Table("", "records/s", "p50 ms", "p99 ms")
    for load in ("busy", "paced"):
        for kind in ("gate", "plain", "floor"):
            row = found[f"{kind}_{load}"]
            numbers = (f"{row['records_per_second']:.0f}", f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}")
            table.add_row(f"{kind}, {load}", *numbers)
    console.print(table)
    for name, ratio in found["ratios"].items():
        console.print(f"{name.replace('_', ' ')}: {ratio:.2f}")
    console.print(f"group commit to plain, p50: {found['ratio']:.2f} (at most {RATIO_MAX})")
    puts = found["puts"]
    console.print(
        f"{puts['per_1000_exchanges']:.2f} PUTs per 1,000 exchanges at {puts['rate']:.0f} a second "
        f"(at most {PUTS_MAX:.0f}): {puts['puts']}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
