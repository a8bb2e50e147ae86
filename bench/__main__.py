"""The gate beside Envoy alone and beside a no-op Python ext_proc server, in one run.

Requests and responses of about 1 KB, at 1 and 16 connections, one worker. CPU is read from ``/proc``: of Envoy in the
row ``envoy``; of the ext_proc server in ``noop``; of everything that ``affidavit serve`` started (supervisor, worker,
shipper) in ``gate``. ``cpu_ms_all`` adds Envoy and OPA. Added latency is over Envoy alone. Every figure is the median
of its rounds; a ratio is the median of the ratios of each round, whose two measurements stand next to each other.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import machine
from ext_proc.demo.programs import Program, start
from ext_proc.demo.stack import Stack, StackOptions

OUT: Final = Path(__file__).parent / "out" / "gate.json"
RATIO_MAX: Final = 2.5
"""Server CPU a request, gate to no-op: the bound that the gate is built to."""
RSS_MAX_MB: Final = 150.0
GROWTH_MAX: Final = 0.05
"""Memory is flat if it grew by no more than this from the second tenth of the requests to the last."""
_SEAL_SECONDS: Final = 5.0
"""The default of ``audit.wal.seal_seconds``; the demo seals every second for people who watch."""
_LEVELS: Final = ("c1", "c16")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="the order alternates; medians are told (default: 3)")
    parser.add_argument(
        "--soak", type=int, default=0, metavar="N", help="also: memory over N requests through the gate"
    )
    parser.add_argument("--check", action="store_true", help="end with status 1 if a bound is not kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as name:
        bench = _Bench(Path(name))
        try:
            bench.start()
            found = bench.measure(options.seconds, options.rounds)
            if options.soak:
                found["soak"] = bench.soak(options.soak)
        finally:
            bench.stop()
    found["bounds"] = _bounds(found)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    _show(found)
    return int(options.check and any(bound["is_kept"] is False for bound in found["bounds"]))


class _Bench:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs: list[Program] = []
        self._token = "x"
        self._rows: dict[str, dict[str, Any]] = {}
        self._stack: Stack | None = None

    def start(self) -> None:
        """An upstream, Envoy alone, Envoy with the no-op, and the whole gate."""
        logs = self._folder / "logs"
        service, url = machine.start_service(self._folder)
        bare_envoy, bare = machine.start_edge(self._folder / "bare", url, has_gate=False)
        noop_envoy, noop = machine.start_edge(self._folder / "noop", url, has_gate=True)
        self._programs += [service, bare_envoy, noop_envoy]
        socket = self._folder / "noop" / "worker.sock"
        server = start("noop", (sys.executable, "-m", "bench.noop", socket), logs)
        self._programs.append(server)
        server.wait_until(socket.exists)
        stack = Stack(self._folder / "gate", StackOptions(upstream=url, workers=1, seal_seconds=_SEAL_SECONDS))
        (self._folder / "gate").mkdir()
        stack.start()
        self._stack = stack
        self._token = stack.token("bench", ["analysts"])
        pids = stack.pids()
        gate_envoy, opa = pids["envoy"], pids["opa"]
        self._rows = {
            "envoy": {"port": bare, "server": [bare_envoy.pid], "all": [bare_envoy.pid]},
            "noop": {"port": noop, "server": [server.pid], "all": [server.pid, noop_envoy.pid]},
            "gate": {
                "port": stack.ports["http"],
                "server": [pids["supervisor"], pids["worker-0"], pids["shipper"]],
                "all": [pids["supervisor"], pids["worker-0"], pids["shipper"], gate_envoy, opa],
                "worker": pids["worker-0"],
            },
        }
        self._rows["noop"]["worker"] = server.pid
        self._rows["envoy"]["worker"] = bare_envoy.pid

    def measure(self, seconds: float, rounds: int) -> dict[str, Any]:
        """Every row at 1 and 16 connections, in alternating order; the median round of each."""
        taken: dict[tuple[str, int], list[dict[str, float]]] = {}
        for name in self._rows:
            self._load(name, 4, 2.0)  # warm up
        for round_ in range(rounds):
            names = list(self._rows) if round_ % 2 == 0 else list(reversed(self._rows))
            for connections in (1, 16):
                for name in names:
                    print(f"round {round_ + 1} of {rounds}: {name}, {connections} connections", flush=True)
                    taken.setdefault((name, connections), []).append(self._load(name, connections, seconds))
        found: dict[str, Any] = {}
        for name in self._rows:
            for connections in (1, 16):
                rows = taken[name, connections]
                found.setdefault(name, {})[f"c{connections}"] = {
                    key: median(row[key] for row in rows) for key in rows[0]
                }
        for name, row in found.items():
            for level, values in row.items():
                bare = found["envoy"][level]
                values["added_p50_ms"] = values["p50_ms"] - (bare["p50_ms"] if name != "envoy" else values["p50_ms"])
                values["added_p99_ms"] = values["p99_ms"] - (bare["p99_ms"] if name != "envoy" else values["p99_ms"])
        found["ratios"] = {
            level: {
                "server_cpu_gate_to_noop": _ratio(taken, connections, "cpu_ms_per_request"),
                "all_cpu_gate_to_noop": _ratio(taken, connections, "cpu_ms_all"),
            }
            for level, connections in zip(_LEVELS, (1, 16), strict=True)
        }
        return found

    def _load(self, name: str, connections: int, seconds: float, most: int = 10**9) -> dict[str, float]:
        row = self._rows[name]
        before_server, before_all = machine.cpu_seconds(row["server"]), machine.cpu_seconds(row["all"])
        told = machine.load(row["port"], connections, seconds, self._token, most)
        count = told["count"]
        return {
            "cpu_ms_per_request": 1000 * (machine.cpu_seconds(row["server"]) - before_server) / count,
            "cpu_ms_all": 1000 * (machine.cpu_seconds(row["all"]) - before_all) / count,
            "p50_ms": told["p50_ms"],
            "p99_ms": told["p99_ms"],
            "rps": count / told["seconds"],
            "rss_mb": machine.rss_mb(row["worker"]),
        }

    def soak(self, count: int) -> dict[str, Any]:
        """Resident memory of the worker after each tenth of ``count`` requests."""
        sizes = []
        for part in range(10):
            self._load("gate", 16, 3600.0, count // 10)
            sizes.append(round(machine.rss_mb(self._rows["gate"]["worker"]), 1))
            print(f"soak: {(part + 1) * count // 10} requests, {sizes[-1]} MB", flush=True)
        return {"requests": count, "rss_mb": sizes}

    def stop(self) -> None:
        """Stop everything."""
        if self._stack is not None:
            self._stack.stop()
        for program in reversed(self._programs):
            program.stop()


def _ratio(taken: dict[tuple[str, int], list[dict[str, float]]], connections: int, figure: str) -> float:
    rounds = zip(taken["gate", connections], taken["noop", connections], strict=True)
    return median(gate[figure] / noop[figure] for gate, noop in rounds)


def _bounds(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The three bounds: what, the limit, what was measured, kept or not (None: not measured)."""

    def bound(what: str, limit: float, measured: float | None) -> dict[str, Any]:
        return {
            "what": what,
            "limit": limit,
            "measured": measured,
            "is_kept": None if measured is None else measured <= limit,
        }

    told = [
        bound(
            f"CPU of the server, gate to no-op, {level}", RATIO_MAX, found["ratios"][level]["server_cpu_gate_to_noop"]
        )
        for level in _LEVELS
    ]
    told.append(bound("RSS of a worker, MB", RSS_MAX_MB, max(found["gate"][level]["rss_mb"] for level in _LEVELS)))
    sizes = found.get("soak", {}).get("rss_mb")
    told.append(bound("growth of a worker's RSS (--soak)", GROWTH_MAX, sizes[-1] / sizes[1] - 1 if sizes else None))
    return told


def _show(found: dict[str, Any]) -> None:
    table = Table(
        "",
        "connections",
        "CPU of the server, ms/request",
        "with Envoy and OPA, ms/request",
        "added p50, ms",
        "added p99, ms",
        "requests/s",
        "RSS, MB",
        title="1 KB requests and answers. envoy: alone; noop: Python ext_proc that does nothing; gate: everything on",
    )
    for name in ("envoy", "noop", "gate"):
        for level in _LEVELS:
            row = found[name][level]
            numbers = ("cpu_ms_per_request", "cpu_ms_all", "added_p50_ms", "added_p99_ms", "rps", "rss_mb")
            table.add_row(name, level[1:], *(f"{row[one]:.2f}" for one in numbers))
    console = Console(width=120)
    console.print(table)
    for level in _LEVELS:
        console.print(
            f"{level}: with Envoy and OPA, gate to no-op: {found['ratios'][level]['all_cpu_gate_to_noop']:.2f}"
        )
    bounds = Table("bound", "at most", "measured", "")
    for one in found["bounds"]:
        said = "-" if one["measured"] is None else f"{one['measured']:.2f}"
        words = {True: "kept", False: "NOT KEPT", None: "not measured"}
        bounds.add_row(one["what"], f"{one['limit']:g}", said, words[one["is_kept"]])
    console.print(bounds)
    if "soak" in found:
        console.print(f"soak of {found['soak']['requests']} requests, MB after each tenth: {found['soak']['rss_mb']}")


if __name__ == "__main__":
    raise SystemExit(main())
