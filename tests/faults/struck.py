"""The programs that `test_system_calls` strikes: one records, one ships. ``python -m tests.faults.struck``.

Everything is imported and used once before; then each line on standard input makes a child that waits until it is
traced. So the system calls that are struck are those of the log, not those of an interpreter that starts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from ext_proc.audit.keys import KeyRing
from ext_proc.errors import AuditUnavailable
from tests.fakes.folder_store import FolderStore
from tests.fakes.log import a_writer, intent, outcome
from tests.fakes.registry import FakeRegistry
from tests.fakes.shipping import a_shipper

CLIENTS = 4
TURNS = 4
KEYS = KeyRing(b"k" * 32, b"p" * 32, FakeRegistry())


def now():
    return datetime.now(UTC)


async def record(folder, name, tell):
    """Exchanges of some clients at once; every acknowledged record is told."""

    async def client(number):
        for turn in range(TURNS):
            exchange = number * 100 + turn
            for entry in (intent(exchange, b"x" * 1500), outcome(exchange, b"y" * 900)):
                try:
                    receipt = await writer.record(entry, now())
                except AuditUnavailable:
                    return
                tell(f"{receipt.sequence} {entry.kind} {entry.exchange_id} {receipt.leaf_hash}\n")

    try:
        writer = await a_writer(folder, name, keyring=KEYS, at=now(), segment_bytes=16 * 1024, seal_seconds=0.2)
    except AuditUnavailable:
        return
    await asyncio.gather(*(client(number) for number in range(CLIENTS)), return_exceptions=True)
    await writer.close(now())


def ship(folder):
    """Some rounds of one shipper."""
    shipping = a_shipper(folder, FolderStore(folder / "store"), now)
    for _ in range(3):
        shipping.run_once()


def act(told, tell):
    folder = Path(told["folder"])
    if told["act"] == "record":
        asyncio.run(record(folder, told["epoch"], tell))
    else:
        ship(folder)


def child(told):
    out = os.open(told["out"], os.O_WRONLY | os.O_APPEND)
    while not Path(told["go"]).exists():
        time.sleep(0.005)
    # One write call: a line is there whole or not at all.
    act(told, lambda line: os.write(out, line.encode()))


def main():
    with tempfile.TemporaryDirectory() as name:
        for what in ("record", "ship"):
            act({"act": what, "folder": name, "epoch": f"{now():%Y%m%dT%H%M%S%f}-00000001"}, lambda _: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                child(json.loads(line))
            finally:
                os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
