"""A thousand calls that wait in one worker: what they cost it, and how soon a yes releases one.

One real gateway with one worker. Other traffic is measured in turns without and with ``--holds`` calls that wait (16
connections, the same load as ``make bench``); then ``--releases`` of them are approved one by one, from a process of
its own: the time from the committed yes to the first byte of the answer. ``python -m bench.holding`` writes
``bench/out/holding.json``; ``--check`` ends with status 1 if a bound is missed. With ``--registry URL`` of a PostgreSQL
the yes reaches the worker as one that was said at another replica does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.machine import rss_mb, start_service
from ext_proc.app import registry
from ext_proc.app.approval.approvals import Approvals
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.config import load
from ext_proc.demo.stack import Stack, StackOptions
from ext_proc.model import Identity

OUT: Final = Path(__file__).parent / "out" / "holding.json"
MEGABYTES_MAX: Final = 300.0
P99_RATIO_MAX: Final = 1.2
RELEASE_MS_MAX: Final = 200.0
REPLICAS_RELEASE_MS_MAX: Final = 1000.0
_WAIT_SECONDS: Final = 120.0


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.holding", description=__doc__)
    parser.add_argument("--holds", type=int, default=1000)
    parser.add_argument("--releases", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--registry", metavar="URL", help="postgresql://...; left out: SQLite, as on one host")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as folder:
        told = _measure(Path(folder), options)
    told |= {"load_average": os.getloadavg(), "cores": os.cpu_count()}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    release_ms_max = REPLICAS_RELEASE_MS_MAX if options.registry else RELEASE_MS_MAX
    rows = [
        ("MB of the worker, with all of them", MEGABYTES_MAX, told["worker_mb"]),
        ("  and without", None, told["worker_mb_without"]),
        ("other traffic's p99, times that without", P99_RATIO_MAX, told["p99_ratio"]),
        ("  p50", None, told["p50_ratio"]),
        ("ms from the yes to the answer, median", release_ms_max, told["release_ms_median"]),
        ("  the longest", None, told["release_ms_max"]),
        ("calls held a second, while they come", None, told["held_per_second"]),
    ]
    table = Table(f"{options.holds} calls wait", "at most", "measured", "")
    missed = False
    for what, most, measured in rows:
        word = "" if most is None else "kept" if measured <= most else "NOT KEPT"
        missed = missed or word == "NOT KEPT"
        table.add_row(what, "" if most is None else f"{most:g}", f"{measured:.4g}", word)
    Console(width=100).print(table)
    return int(options.check and missed)


def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    model, upstream = start_service(folder)
    changes = {"approvals": {"pending_max": 20_000, "pending_max_per_caller": 20_000}}
    stack = _PatientStack(folder / "gate", StackOptions(upstream=upstream, workers=1, changes=changes))
    stack.registry_url = options.registry
    (folder / "gate").mkdir()
    try:
        stack.start()
        return asyncio.run(_holding(stack, options))
    finally:
        stack.stop()
        model.stop()


class _PatientStack(Stack):
    """Whose calls wait for as long as the measurement takes. ``registry_url``: None is its own SQLite file."""

    registry_url: str | None = None

    def _configuration(self, keys: Path, upstream: str) -> dict[str, Any]:
        told = super()._configuration(keys, upstream)
        told["listen"]["hold_seconds"] = 1800
        told["connections"][0]["hold_seconds"] = 1700
        if self.registry_url:
            told["audit"]["registry_url"] = self.registry_url
        return told


async def _holding(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    token = stack.token("bench", ["analysts"])
    worker = stack.pids()["worker-0"]
    port = stack.ports["http"]
    await asyncio.to_thread(_load, port, token, 2.0)
    mb_without = rss_mb(worker)
    without = [await asyncio.to_thread(_load, port, token, options.seconds) for _ in range(options.rounds)]
    config, digest = load(stack.config)
    keyring = registry.keyring(config)
    with Journal(config, digest, "command", keyring) as journal:
        desk = Approvals(keyring, registry.register_of_holds(config), journal, clock)
        bob = Identity(stack.issuer, "bob", "oidc", ("approvers",))
        began = time.perf_counter()
        calls = [asyncio.create_task(_call(port, token, number)) for number in range(options.holds)]
        while len(held := await asyncio.to_thread(desk.inbox, bob, options.holds + 1)) < options.holds:
            if time.perf_counter() - began > _WAIT_SECONDS:
                raise SystemExit(f"only {len(held)} are held")
            await asyncio.sleep(0.2)
        took = time.perf_counter() - began
        with_ = [await asyncio.to_thread(_load, port, token, options.seconds) for _ in range(options.rounds)]
        mb = rss_mb(worker)
        releases = [await _release(desk, bob, one.hold_id, calls) for one in held[: options.releases]]
        for call in calls:
            call.cancel()
    p99 = [median(one["p99_ms"] for one in rounds) for rounds in (without, with_)]
    p50 = [median(one["p50_ms"] for one in rounds) for rounds in (without, with_)]
    return {
        "holds": options.holds,
        "worker_mb": mb,
        "worker_mb_without": mb_without,
        "p99_ms": p99,
        "p99_ratio": p99[1] / p99[0],
        "p50_ms": p50,
        "p50_ratio": p50[1] / p50[0],
        "release_ms_median": median(releases),
        "release_ms_max": max(releases),
        "held_per_second": options.holds / took,
    }


async def _call(port: int, token: str, number: int) -> float:
    """One call that waits; when its answer began."""
    body = json.dumps(
        {"model": "demo-critical", "messages": [{"role": "user", "content": f"number {number}"}]}
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    said = await reader.readuntil(b"\r\n\r\n")
    at = time.perf_counter()
    writer.close()
    if not said.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"not 200: {said[:200]!r}")
    return at


async def _release(desk: Approvals, bob: Identity, hold_id: Any, calls: list[asyncio.Task[float]]) -> float:
    """Two people agree; milliseconds from the second yes to the first answer that begins after it."""
    for who in ("bob", "carol"):
        person = Identity(bob.issuer, who, "oidc", bob.groups)
        await asyncio.to_thread(desk.resolve, person, hold_id, "api", "for the bench", is_yes=True)
    said = time.perf_counter()
    done, _ = await asyncio.wait(calls, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        raise SystemExit("no call was released within 30 s")
    for one in done:
        calls.remove(one)
    return 1000 * (max(one.result() for one in done) - said)


def _load(port: int, token: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", port, 16, seconds, 10**9, token]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    told: dict[str, float] = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    sys.exit(main())
