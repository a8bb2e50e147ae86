"""Every system call of the log's writer and of the shipper, struck by the kernel: EIO, ENOSPC, SIGKILL, one at a time.

Then a clean process takes over, and what was acknowledged is in the store, and the store verifies.

``AFFIDAVIT_STRACE=all`` strikes at each call there is, a number at so many of each kind; without it, at a few. A count is
per thread: the k-th call of each thread that makes so many is struck.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ext_proc.audit.record import leaf_hash
from ext_proc.audit.seal import read_events
from tests.fakes.auditor import findings
from tests.fakes.folder_store import FolderStore
from tests.fakes.log import a_dead_log, epoch
from tests.fakes.shipping import a_shipper, a_store, ship_all
from tests.needed import absent

if TYPE_CHECKING:
    from pathlib import Path

ASKED = os.environ.get("AFFIDAVIT_STRACE", "2")
SAMPLE = 1_000_000 if ASKED == "all" else int(ASKED)
DEADLINE_SECONDS = 60
CALLS = {
    "openat": "openat",
    "write": "write",
    "pwrite64": "pwrite64",
    "fdatasync": "fdatasync",
    "fsync": "fsync",
    "rename": "?rename,?renameat,?renameat2",
    "link": "?link,?linkat",
    "unlink": "?unlink,?unlinkat",
    "mkdir": "?mkdir,?mkdirat",
    "fallocate": "fallocate",
    "ftruncate": "ftruncate",
    "close": "close",
}
FAULTS = {"EIO": "error=EIO", "ENOSPC": "error=ENOSPC", "SIGKILL": "signal=SIGKILL"}
NOT_MADE = {
    ("record", "link"),
    ("record", "unlink"),
    ("ship", "pwrite64"),
    ("ship", "fdatasync"),
    ("ship", "fallocate"),
    ("ship", "ftruncate"),
}
"""Neither needs these; that they are not there is itself looked at."""


def now():
    return datetime.now(UTC)


@dataclass
class Struck:
    """Programs to strike, each in a folder of its own."""

    server: subprocess.Popen = field(repr=False)
    strace: str
    folder: Path
    runs: int = 0
    hits: Counter = field(default_factory=Counter)
    counted: dict[str, Counter] = field(default_factory=dict)

    def run(self, act: str, trace: str, inject: str = "") -> tuple[Path, str, list[str]]:
        """One life. Returns its folder, what strace saw, and what the program told."""
        self.runs += 1
        place = self.folder / f"{act}-{self.runs}"
        place.mkdir()
        name = epoch(self.runs, now())
        if act == "ship":
            for number in (1, 2):
                a_dead_log(place, [2, 3, 1], epoch(number, now()), times=[now()] * 3)
        out, go, log = place / "out", place / "go", place / "strace"
        out.touch()
        told = {"act": act, "folder": str(place), "epoch": name, "out": str(out), "go": str(go)}
        self.server.stdin.write(json.dumps(told) + "\n")
        self.server.stdin.flush()
        pid = int(self.server.stdout.readline())
        command = [self.strace, "-f", "-p", str(pid), "-o", str(log), "-e", f"trace={trace}"]
        if inject:
            command += ["-e", f"inject={inject}"]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            line = tracer.stderr.readline()
            assert "attached" in line, f"strace cannot attach: {line}{tracer.stderr.read()}"
            go.touch()
            tracer.wait(DEADLINE_SECONDS)
        finally:
            if tracer.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                tracer.wait(10)
            tracer.stderr.close()
        lines = [line for line in out.read_text().splitlines() if line.count(" ") == 3]
        return place, log.read_text(), lines

    def most(self, act: str, call: str) -> int:
        """The most calls of this kind that one thread makes when nothing goes wrong."""
        if act not in self.counted:
            self.counted[act] = Counter()
            place, seen, lines = self.run(act, ",".join(CALLS.values()))
            after(act, place, lines)
            by_thread = Counter(re.findall(r"^(\d+) +(\w+)\(", seen, re.MULTILINE))
            for name, spelt in CALLS.items():
                ways = set(spelt.replace("?", "").split(","))
                threads = Counter()
                for (thread, way), count in by_thread.items():
                    threads[thread] += count if way in ways else 0
                self.counted[act][name] = max(threads.values(), default=0)
            shutil.rmtree(place)
        return self.counted[act][call]


@pytest.fixture(scope="module")
def struck(tmp_path_factory):
    strace = shutil.which("strace")
    if strace is None:
        absent("these tests need strace (apt-get install strace), and the right to trace processes")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.struck"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline() == "ready\n"
        made = Struck(server, strace, tmp_path_factory.mktemp("struck"))
        yield made
        print(f"{made.runs} runs; struck: {dict(made.hits)}; calls: {made.counted}")
    finally:
        server.stdin.close()
        server.wait(20)
        server.stdout.close()


def after(act, place, lines):
    """A clean process takes over."""
    store = FolderStore(place / "store") if act == "ship" else a_store(now)
    shipping = a_shipper(place, store, now)
    report = ship_all(shipping)
    assert report.failures == []
    left = [path for path in (place / "evidence").rglob("*") if path.suffix in {".wal", ".sealed", ".quarantine"}]
    assert left == [], "nothing is left behind, and nothing had to be put aside"
    if not store.objects:
        assert not lines, "nothing was acknowledged"
        return
    leaves = [leaf for key in store.keys("v1/events/") for leaf in read_events(store.fetch(key))]
    told = {json.loads(leaf)["sequence"]: leaf for leaf in leaves} if act == "record" else {}
    for line in lines:
        sequence, kind, exchange, digest = line.split(" ")
        leaf = json.loads(told[int(sequence)])
        assert (leaf["kind"], leaf["exchange_id"]) == (kind, exchange)
        assert leaf_hash(told[int(sequence)]) == digest
    if act == "ship":
        assert len(leaves) == 12
    # A log that was closed in order on a full disk has intents whose outcomes were refused: the callers got a 503.
    assert set(findings(store)) <= ({"outcome_missing"} if act == "record" else set())


def points(most, seed):
    if most <= SAMPLE:
        return range(1, most + 1)
    return sorted(random.Random(seed).sample(range(1, most + 1), SAMPLE))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("act", ["record", "ship"])
def test_struck(struck, act, call, fault):
    most = struck.most(act, call)
    if (act, call) in NOT_MADE:
        assert most == 0
        return
    assert most > 0, "the program makes such calls"
    for at in points(most, f"{act} {call} {fault}"):
        spelt = CALLS[call]
        place, seen, lines = struck.run(act, spelt, f"{spelt}:{FAULTS[fault]}:when={at}")
        assert "+++ exited with" in seen or "+++ killed by SIGKILL" in seen, f"{call} {fault} {at}: it hangs"
        struck.hits[fault] += "INJECTED" in seen or "killed by SIGKILL" in seen
        after(act, place, lines)
        shutil.rmtree(place)
