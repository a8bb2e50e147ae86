"""A real process that records, killed with SIGKILL at a random moment: what it was told is durable, is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ext_proc.audit import frames, segments
from tests.fakes.auditor import findings
from tests.fakes.log import epoch, in_store, told
from tests.fakes.shipping import a_shipper, a_store

ROUNDS = int(os.environ.get("AFFIDAVIT_KILL_POINTS", "40"))
PER_PROCESS_SECONDS = 0.25

RECORDER = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from tests.fakes.log import a_writer, intent, outcome

async def client(writer, number):
    for turn in range(10**6):
        exchange = number * 10**6 + turn
        for entry in (intent(exchange, os.urandom(200 * (turn % 7))), outcome(exchange, b"x" * 300)):
            receipt = await writer.record(entry, datetime.now(UTC))
            # One write call: a line is there whole or not at all.
            os.write(1, f"{receipt.sequence} {entry.kind} {exchange} {receipt.leaf_hash}\\n".encode())

async def main():
    writer = await a_writer(
        Path(sys.argv[1]), sys.argv[2], at=datetime.now(UTC), segment_bytes=32 * 1024, seal_seconds=0.05
    )
    os.write(1, b"ready\\n")
    await asyncio.gather(*(client(writer, number) for number in range(8)))

asyncio.run(main())
"""


def clock():
    return datetime.now(UTC)


def test_killed_at_random_moments_nothing_acknowledged_is_lost(tmp_path):
    """While a shipper runs, as in life."""
    chance = random.Random(7)
    store = a_store(clock)
    shipper = a_shipper(tmp_path, store, clock)
    acknowledged: dict[str, list[str]] = {}
    for round_ in range(ROUNDS):
        name = epoch(round_, clock())
        out = tmp_path / f"{name}.out"
        with out.open("wb") as file:
            child = subprocess.Popen([sys.executable, "-c", RECORDER, str(tmp_path), name], stdout=file, cwd=Path.cwd())
        while b"ready" not in out.read_bytes():
            assert child.poll() is None
            time.sleep(0.01)
        if round_ % 3 == 0:
            shipper.run_once()
        time.sleep(chance.random() * PER_PROCESS_SECONDS)
        child.kill()
        child.wait()
        acknowledged[name] = [line for line in out.read_text().splitlines()[1:] if line.count(" ") == 3]
    assert sum(map(len, acknowledged.values())) > 20 * ROUNDS, "there was something to lose"
    for _ in range(100):  # a round takes so many segments of each log, no more
        report = shipper.run_once()
        assert report.failures == []
        if not report.freed:
            break
    left = {path.suffix for path in (tmp_path / "evidence").glob("*/*") if path.name[0].isdigit()}
    assert left <= {".quarantine"}, "nothing is left behind but torn ends, which nobody was told of"

    leaves = in_store(store)
    for name, lines in acknowledged.items():
        mine = [leaf for leaf in leaves if leaf["origin"].endswith(f"/{name}")]
        assert [leaf["sequence"] for leaf in mine] == list(range(len(mine))), f"{name}: in order, once, no hole"
        assert sum(leaf["kind"] == "log.recovered" for leaf in mine) == 1
        assert "log.close" not in {leaf["kind"] for leaf in mine}
        for line in lines:
            sequence, kind, exchange, _ = line.split(" ")
            leaf = mine[int(sequence)]
            assert (leaf["kind"], leaf["exchange_id"]) == (kind, f"exchange-{exchange}")
        intents = [leaf["exchange_id"] for leaf in mine if leaf["kind"] == "inference.intent"]
        ends = [leaf["exchange_id"] for leaf in mine if leaf["kind"] == "inference.outcome"]
        assert sorted(intents) == sorted(ends), told(mine)[-20:]
    assert findings(store) == []


def test_recovery_killed_at_random_moments_ends_each_log_once(tmp_path):
    """The shipper's own process is killed too, again and again, until it comes to its end."""
    chance = random.Random(11)
    script = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from ext_proc.audit.recovery import recover\n"
        "print('ready', flush=True)\n"
        "for _ in range(50):\n"
        "    for folder in sorted(Path(sys.argv[1]).iterdir()): recover(folder, datetime.now(UTC))\n"
    )
    names: list[str] = []
    for round_ in range(6):
        names.append(epoch(round_, clock()))
        folder = tmp_path / "evidence" / names[-1]
        out = tmp_path / "out"
        with out.open("wb") as file:
            child = subprocess.Popen([sys.executable, "-c", RECORDER, str(tmp_path), folder.name], stdout=file)
        while out.read_bytes().count(b"\n") < 200:
            assert child.poll() is None
            time.sleep(0.01)
        child.kill()
        child.wait()
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "evidence")], stdout=subprocess.PIPE, text=True
        )
        child.stdout.readline()
        time.sleep(chance.random() * 0.01)
        child.kill()
        child.wait()
        child.stdout.close()
    store = a_store(clock)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.failures == []
    # A kill in the midst of a write leaves a piece of a record, of which nobody was told: it is put aside.
    torn = [*(tmp_path / "evidence").glob(f"*/*{segments.QUARANTINE}")]
    assert len(report.quarantined) == len(torn)
    assert [path.name for path in torn if frames.scan(path.read_bytes()).frames] == []
    leaves = in_store(store)
    assert findings(store) == []
    for name in names:
        mine = [leaf for leaf in leaves if leaf["origin"].endswith(f"/{name}")]
        assert [leaf["sequence"] for leaf in mine] == list(range(len(mine)))
        assert sum(leaf["kind"] == "log.recovered" for leaf in mine) == 1
