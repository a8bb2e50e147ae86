"""The register of holds with many in it: an inbox, the steps of a held call, and how soon exchanges that wait hear.

Filled with 10,000 pending holds, each with 4 KB sealed, and 200,000 that are over (``--pending``, ``--old``). Then:

- ``inbox``: one page of 50 for somebody in three of the twenty groups, the page after it, the count, a caller's own;
- ``steps``: asking anew, resolving, claiming and passing, one after the other by one thread, and by eight at once;
- ``wake``: 1,000 exchanges wait (``--waiting``); another connection resolves one of their holds, from its commit until
  that exchange is awake; then what a second of waiting costs in CPU time, with nothing happening.

``python -m bench.holds`` prints a table and writes ``bench/out/holds.json``. ``--url`` measures a PostgreSQL of yours
(its tables of holds must be empty), otherwise it is SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from ext_proc.approval.bell import Bell
from ext_proc.approval.hold import Hold
from ext_proc.approval.register import Holder, Limits
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.approval.rows import as_text, contents, holds, inbox, inbox_rows, new_row, waiting
from ext_proc.approval.watch import open_watch
from ext_proc.database import open_engine, sqlite_url
from ext_proc.model import ApprovalTerms, ExchangeId, HoldEnding, HoldId, HoldState, Resolution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUT: Final = Path(__file__).parent / "out" / "holds.json"
INBOX_MAX_MS: Final = 100.0
"""Half of what the page may take. Both bounds are of medians: the worst depend on what else the machine does."""
WAKE_MAX_MS: Final = 200.0
GROUPS: Final = tuple(f"group-{number}" for number in range(20))
OVER: Final = (HoldState.USED, HoldState.DENIED, HoldState.EXPIRED)
HERE: Final = Holder("gw/worker-0/1", 1)
NOW: Final = datetime.now(UTC)
SEALED_BYTES: Final = 4096
AT_ONCE: Final = 8
_CHUNK: Final = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.holds", description=__doc__)
    parser.add_argument("--pending", type=int, default=10_000)
    parser.add_argument("--old", type=int, default=200_000)
    parser.add_argument("--waiting", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=400, help="held calls of each kind (default: 400)")
    parser.add_argument("--url", help="of a PostgreSQL (default: SQLite)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="affidavit-holds-") as name:
        url = options.url or sqlite_url(Path(name) / "registry.sqlite")
        register = SqlRegister.from_url(url, limits=Limits(1_000_000, 1_000_000))
        print(f"filling it with {options.old:,} old and {options.pending:,} pending holds", flush=True)
        _fill(register, options.old, options.pending)
        found: dict[str, Any] = {"database": url.partition(":")[0], "pending": options.pending, "old": options.old}
        found["inbox"] = _inbox(register)
        found["steps"] = _steps(register, options.steps)
        found["wake"] = asyncio.run(_wake(url, register, options.waiting))
        register.close()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    _show(found)
    is_kept = found["inbox"]["page"]["p50_ms"] <= INBOX_MAX_MS and found["wake"]["one_p50_ms"] <= WAKE_MAX_MS
    return 0 if is_kept else 1


def _hold(number: int, rng: random.Random, asked_at: datetime, state: HoldState = HoldState.PENDING) -> Hold:
    return Hold(
        hold_id=HoldId(f"{rng.getrandbits(128):032x}"),
        binding_sha256=f"{rng.getrandbits(256):064x}",
        caller_ref=f"hmac-sha256:{number % 500:064x}",
        tenant=None,
        terms=ApprovalTerms(tuple(rng.sample(GROUPS, 2)), 1, 300, 3600, "restricted_model"),
        facts={"model": "demo-restricted", "connection": "demo", "findings": {"EMAIL": 2, "PERSON": 1}},
        sealed=rng.randbytes(SEALED_BYTES if state is HoldState.PENDING else 64),  # nobody reads old ones here
        sealed_clear=None,
        asked_at=asked_at,
        expires_at=asked_at + timedelta(hours=1),
        state=state,
    )


def _fill(register: SqlRegister, old: int, pending: int) -> None:
    """Past the register, which would take its time; what it writes is the same."""
    register.count_pending(NOW)  # makes the tables
    rng = random.Random(1)
    days = timedelta(days=90) / max(1, old)
    past = (_hold(n, rng, NOW - timedelta(days=91) + n * days, OVER[n % 3]) for n in range(old))
    present = (_hold(n, rng, NOW - timedelta(minutes=30) + n * timedelta(milliseconds=100)) for n in range(pending))
    for some in (*_chunks(past), *_chunks(present)):
        with register._tables.writing() as connection:  # noqa: SLF001 (a bench may look inside)
            rows = [{**new_row(one), "is_current": one.state is HoldState.PENDING} for one in some]
            connection.execute(insert(holds), rows)
            sealed = [{"hold_id": one.hold_id, "sealed": one.sealed, "sealed_clear": None} for one in some]
            connection.execute(insert(contents), sealed)
            open_ = [one for one in some if one.state is HoldState.PENDING]
            if open_:
                connection.execute(insert(inbox), [row for one in open_ for row in inbox_rows(one)])
                told = {"origin": HERE.origin, "since": as_text(NOW)}
                connection.execute(
                    insert(waiting), [{"hold_id": one.hold_id, "exchange_id": one.hold_id, **told} for one in open_]
                )


def _chunks(found: Iterator[Hold]) -> Iterator[list[Hold]]:
    some: list[Hold] = []
    for hold in found:
        some.append(hold)
        if len(some) == _CHUNK:
            yield some
            some = []
    if some:
        yield some


def _inbox(register: SqlRegister) -> dict[str, dict[str, float]]:
    mine = GROUPS[:3]
    last = register.pending(None, mine, NOW, 50)[-1].hold_id
    asks: dict[str, Callable[[], object]] = {
        "page": lambda: register.pending(None, mine, NOW, 50),
        "next_page": lambda: register.pending(None, mine, NOW, 50, after=last),
        "all_groups": lambda: register.pending(None, GROUPS, NOW, 50),
        "count": lambda: register.count_pending(NOW),
        "callers_own": lambda: register.of_caller(f"hmac-sha256:{1:064x}", NOW, 50),
    }
    return {name: _times([_timed(ask) for _ in range(60)]) for name, ask in asks.items()}


def _steps(register: SqlRegister, count: int) -> dict[str, dict[str, float]]:
    rng = random.Random(2)
    return {
        f"{name}_{threads}": row
        for threads in (1, AT_ONCE)
        for name, row in _lives(register, [_hold(n, rng, NOW) for n in range(count)], threads).items()
    }


def _lives(register: SqlRegister, asked: list[Hold], threads: int) -> dict[str, dict[str, float]]:
    mine = {one.hold_id: ExchangeId(one.hold_id) for one in asked}
    yes = Resolution(is_yes=True, person_ref="hmac-sha256:bob", at=NOW, origin="gw/console/1", sequence=1)
    steps: dict[str, Callable[[Hold], object]] = {
        "ask": lambda one: register.ask(one, mine[one.hold_id], HERE, NOW),
        "resolve": lambda one: register.resolve(one.hold_id, yes, b"why", NOW),
        "claim": lambda one: register.claim(one.hold_id, mine[one.hold_id], HERE, NOW),
        "pass": lambda one: register.ended(one.hold_id, mine[one.hold_id], HoldEnding.PASSED, NOW),
    }
    found: dict[str, dict[str, float]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for name, step in steps.items():
            began, cpu = perf_counter(), process_time()
            taken = list(pool.map(lambda one, step=step: _timed(lambda: step(one)), asked))
            count = len(asked)
            rate = {"per_second": count / (perf_counter() - began), "cpu_ms": (process_time() - cpu) * 1e3 / count}
            found[name] = {**_times(taken), **rate}
    return found


async def _wake(url: str, register: SqlRegister, count: int) -> dict[str, float]:
    rng = random.Random(3)
    asked = [_hold(n, rng, NOW) for n in range(count)]
    for one in asked:
        register.ask(one, ExchangeId(one.hold_id), HERE, NOW)
    elsewhere = SqlRegister(open_engine(url))
    no = Resolution(is_yes=False, person_ref="hmac-sha256:bob", at=NOW, origin="gw/console/1", sequence=1)
    watch = open_watch(url)
    bell = Bell(watch, register, lambda: datetime.now(UTC))
    rss = _rss_mb()
    async with asyncio.TaskGroup() as tasks:
        ringing = tasks.create_task(bell.run_forever())
        until = NOW + timedelta(hours=2)
        waits = [tasks.create_task(bell.changed(one.hold_id, HoldState.PENDING, until)) for one in asked]
        await bell.any_change()
        await asyncio.sleep(1)
        grown = _rss_mb() - rss
        cpu = process_time()
        await asyncio.sleep(5)
        idle = (process_time() - cpu) / 5 * 1e3
        taken = []
        for one, wait in list(zip(asked, waits, strict=True))[:50]:
            await asyncio.to_thread(elsewhere.resolve, one.hold_id, no, b"", NOW)
            began = perf_counter()
            await wait
            taken.append((perf_counter() - began) * 1e3)
        for wait in waits:
            wait.cancel()
        ringing.cancel()
    await asyncio.to_thread(watch.close)
    elsewhere.close()
    times = _times(taken)
    return {
        "waiting": count,
        "one_p50_ms": times["p50_ms"],
        "one_p99_ms": times["p99_ms"],
        "idle_cpu_ms_a_second": idle,
        "waiting_mb": grown,
    }


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _timed(act: Callable[[], object]) -> float:
    began = perf_counter()
    act()
    return (perf_counter() - began) * 1e3


def _times(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]}


def _show(found: dict[str, Any]) -> None:
    table = Table(title=f"{found['database']}: {found['pending']:,} pending, {found['old']:,} old")
    for column in ("", "p50 ms", "p99 ms", "a second", "CPU ms"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in (*found["inbox"].items(), *found["steps"].items()):
        cells = [row["p50_ms"], row["p99_ms"], row.get("per_second"), row.get("cpu_ms")]
        table.add_row(name, *("" if cell is None else f"{cell:.2f}" for cell in cells))
    wake = found["wake"]
    table.add_row(f"wake, {wake['waiting']:,} waiting", f"{wake['one_p50_ms']:.2f}", f"{wake['one_p99_ms']:.2f}")
    Console().print(table)
    print(f"waiting: {wake['waiting_mb']:.1f} MB, {wake['idle_cpu_ms_a_second']:.1f} ms of CPU a second")


if __name__ == "__main__":
    raise SystemExit(main())
