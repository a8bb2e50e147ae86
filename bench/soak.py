"""The whole gateway for half an hour at 70 % of what it can do, while things break around it.

What it can do is measured first (16 connections, closed loop), then its p99 at the rate without faults, then the rest
of the time faults are injected in turns: OPA is stopped and started again, the S3 server stands still, a worker is
killed with SIGKILL, slow callers come and go. At the end every request that Envoy saw is reconciled with the records.

Bounds: no orphan that nothing explains and no incident; p99 of the calls that were answered at most twice the quiet
one; the memory of what was never killed (worker 0, shipper, supervisor) grows by at most 5 % from the second tenth of
the time to the last; nobody was left without an answer.

``python -m bench.soak --minutes 30`` writes ``bench/out/soak.json``; ``--check`` ends with status 1 if a bound is not
held.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.callers import LATE_MAX_SECONDS
from ext_proc.demo.programs import ProgramError
from ext_proc.demo.stack import Stack, StackOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUT: Final = Path(__file__).parent / "out" / "soak.json"
SHARE: Final = 0.7
P99_RATIO_MAX: Final = 2.0
GROWTH_MAX: Final = 0.05
QUIET_SHARE: Final = 0.2
"""Of the time, before the faults begin."""
_CAPACITY_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 600.0
_SLOW_CALLERS: Final = 20
_NOT_YET: Final = {"record_not_shipped", "line_not_shipped", "still_connected"}
_WATCHED: Final = ("worker-0", "shipper", "supervisor")
_WORDS: Final = {True: "held", False: "NOT HELD"}


class BeatingStack(Stack):
    """Logs that say each second that they live, so that nobody waits a minute for what Envoy counted."""

    def _configuration(self, keys: Path, upstream: str) -> dict[str, Any]:
        told = super()._configuration(keys, upstream)
        told["audit"]["heartbeat_seconds"] = 1
        return told


@dataclass(slots=True)
class Faults:
    """What breaks, in turns, each for a third of its turn. All from the main thread: programs end with their thread."""

    stack: Stack
    token: str
    seconds: float
    told: dict[str, int] = field(default_factory=dict)
    _callers: list[subprocess.Popen[str]] = field(default_factory=list)

    def turns(self) -> Iterator[Callable[[], Callable[[], None]]]:
        """For ever. Each begins when called and returns what ends it."""
        while True:
            yield from (self.opa, self.store, self.worker, self.slow)

    def opa(self) -> Callable[[], None]:
        """Nobody decides: calls are refused."""
        self._count("opa")
        self.stack.programs["opa"].stop()
        return self.stack.start_opa

    def store(self) -> Callable[[], None]:
        """Nothing is taken, nothing refused: records wait on the disk."""
        self._count("store")
        pid = self.stack.programs["seaweedfs"].pid
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    def worker(self) -> Callable[[], None]:
        """It comes back by itself, under another process id."""
        pid = self.stack.pids().get("worker-1")
        with suppress(ProcessLookupError):  # on its way back from the last time
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                self._count("worker")
        return lambda: None

    def slow(self) -> Callable[[], None]:
        """They go by themselves."""
        self._count("slow")
        command = ("slow", self.stack.ports["http"], self.token, _SLOW_CALLERS, self.seconds / 3)
        self._callers.append(_callers(*command))
        return lambda: None

    def over(self) -> None:
        """Wait for what is left of them."""
        for one in self._callers:
            one.communicate(timeout=self.seconds + 120)

    def _count(self, name: str) -> None:
        self.told[name] = self.told.get(name, 0) + 1


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2, help="at least 2: worker 1 is killed (default: 2)")
    parser.add_argument("--rate", type=float, help="requests a second, instead of 70 %% of what it can do")
    parser.add_argument("--check", action="store_true", help="status 1 where a bound is not held")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="affidavit-soak-") as name:
        folder = Path(name)
        service, url = machine.start_service(folder)
        (folder / "gate").mkdir()
        stack = BeatingStack(
            folder / "gate", StackOptions(upstream=url, workers=max(2, options.workers), seal_seconds=5.0)
        )
        try:
            stack.start()
            told = soaked(stack, 60 * options.minutes, options.rate)
        except ProgramError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            stack.stop()
            service.stop()
    told |= {"minutes": options.minutes, "workers": max(2, options.workers), "cores": os.cpu_count()}
    told["bounds"] = bounds(told)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    show(told)
    return int(options.check and not all(one["is_held"] for one in told["bounds"]))


def soaked(stack: Stack, seconds: float, rate: float | None) -> dict[str, Any]:
    """All of it; what was found."""
    since = datetime.now(UTC).isoformat()
    token, port = stack.token("soak", ["analysts"]), stack.ports["http"]
    machine.load(port, 4, 3.0, token)
    if rate is None:
        capacity = machine.load(port, 16, _CAPACITY_SECONDS, token)
        rate = SHARE * capacity["count"] / capacity["seconds"]
    print(f"{rate:.0f} requests a second, {seconds * QUIET_SHARE:.0f} s without faults", flush=True)
    memory: dict[str, list[float]] = {name: [] for name in _WATCHED}
    quiet = _steady(stack, token, rate, seconds * QUIET_SHARE, memory, None)
    turn = max(12.0, seconds * (1 - QUIET_SHARE) / 24)
    faults = Faults(stack, token, turn)
    print(f"{seconds * (1 - QUIET_SHARE):.0f} s with them, another every {turn:.0f} s", flush=True)
    faulty = _steady(stack, token, rate, seconds * (1 - QUIET_SHARE), memory, faults)
    faults.over()
    print("reconciling", flush=True)
    return {
        "rate": rate,
        "quiet": quiet,
        "faulty": faulty,
        "faults": faults.told,
        "memory_mb": memory,
        "reconciled": settled(stack, token, since),
        "load_average": os.getloadavg(),
    }


def _steady(
    stack: Stack, token: str, rate: float, seconds: float, memory: dict[str, list[float]], faults: Faults | None
) -> dict[str, Any]:
    """Callers at the rate; meanwhile memory is looked at, and faults begin and end when it is their time."""
    calling = _callers("steady", stack.ports["http"], token, rate, seconds)
    turns = faults.turns() if faults else None
    pids = {name: stack.pids()[name] for name in _WATCHED}
    began = looked = turned = time.monotonic()
    ends: list[tuple[float, Callable[[], None]]] = []
    while time.monotonic() - began < seconds and calling.poll() is None:
        time.sleep(0.2)
        now = time.monotonic()
        if now - looked >= _LOOK_SECONDS:
            looked = now
            for name, pid in pids.items():
                memory[name].append(machine.rss_mb(pid))
        if faults is not None and turns is not None and now - turned >= faults.seconds and not ends:
            if seconds - (now - began) > faults.seconds:
                ends.append((now + faults.seconds / 3, next(turns)()))
            turned = now
        if ends and now >= ends[0][0]:
            ends.pop()[1]()
    for _, end in ends:
        end()
    said, _ = calling.communicate(timeout=300)
    told = json.loads(said)
    times = told.pop("times_ms")
    if not times:
        raise SystemExit(f"nothing was answered: {told}")
    return {**told, "p50_ms": times[len(times) // 2], "p99_ms": times[int(len(times) * 0.99)], "longest_ms": times[-1]}


def _callers(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.callers", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def settled(stack: Stack, token: str, since: str) -> dict[str, Any]:
    """Every request accounted for, once nothing is on its way to the store any more."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    command = [sys.executable, "-m", "ext_proc", "reconcile", "--config", str(stack.config), "--since", since, "--json"]
    while True:
        machine.load(stack.ports["http"], 1, 1.0, token, 1)  # so that time goes on in every log
        time.sleep(3)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(done.stderr)
        told: dict[str, Any] = json.loads(done.stdout)
        classes = {one["class"]: one["count"] for one in told["classes"]}
        # The last one, asked to make time go on, is always on its way.
        if sum(classes.get(name, 0) for name in _NOT_YET) <= 1 or time.monotonic() > deadline:
            figures = {name: told[name] for name in ("envoy", "audited", "orphans", "incidents", "ok")}
            return {**figures, "classes": classes, "gaps": told["gaps"][:20]}


def growth(sizes: list[float]) -> float:
    """From the second tenth to the last; of the medians, for a look may fall on a body or a collection."""
    tenth = max(1, len(sizes) // 10)
    return median(sizes[-tenth:]) / median(sizes[tenth : 2 * tenth] or sizes[:1]) - 1


def bounds(told: dict[str, Any]) -> list[dict[str, Any]]:
    """What, the limit, what was measured, held or not."""

    def bound(what: str, limit: float, measured: float) -> dict[str, Any]:
        return {"what": what, "limit": limit, "measured": measured, "is_held": measured <= limit}

    reconciled, faulty = told["reconciled"], told["faulty"]
    return [
        bound("orphans that nothing explains", 0, reconciled["orphans"]),
        bound("incidents", 0, reconciled["incidents"]),
        bound("requests that Envoy saw and no record tells of", 0, reconciled["envoy"] - reconciled["audited"]),
        bound("callers left without an answer", 0, faulty["ended"].get("never answered", 0)),
        bound("p99 with faults, to the quiet one", P99_RATIO_MAX, faulty["p99_ms"] / told["quiet"]["p99_ms"]),
        *(bound(f"growth of the memory of {name}", GROWTH_MAX, growth(told["memory_mb"][name])) for name in _WATCHED),
    ]


def show(told: dict[str, Any]) -> None:
    """The tables."""
    console = Console(width=120)
    table = Table(f"{told['rate']:.0f} requests/s", "ended", "p50, ms", "p99, ms", "longest, ms", "began late by, s")
    for name in ("quiet", "faulty"):
        row = told[name]
        ended = ", ".join(f"{count} {how}" for how, count in sorted(row["ended"].items()))
        numbers = (row["p50_ms"], row["p99_ms"], row["longest_ms"], row["late_seconds"])
        table.add_row(name, ended, *(f"{one:.1f}" for one in numbers))
        if row["late_seconds"] > LATE_MAX_SECONDS:
            console.print(f"{name}: the callers themselves were late, this machine is too busy: read no latency off it")
    console.print(table)
    console.print(f"faults: {told['faults']}; reconciled: {told['reconciled']}")
    kept = Table("bound", "at most", "measured", "")
    for one in told["bounds"]:
        kept.add_row(one["what"], f"{one['limit']:g}", f"{one['measured']:.3g}", _WORDS[one["is_held"]])
    console.print(kept)


if __name__ == "__main__":
    sys.exit(main())
