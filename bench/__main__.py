"""The gate beside Envoy alone and beside a no-op Python ext_proc server, in one run.

Requests and responses of about 1 KB, at 1 and 16 connections, one worker. CPU is read from ``/proc``: of Envoy in the
row ``envoy``; of the ext_proc server in ``noop``; of everything that ``affidavit serve`` started (supervisor, worker,
shipper) in ``gate``. ``cpu_ms_all`` adds Envoy and OPA. Added latency is over Envoy alone. Every figure is the median
of its rounds; a ratio is the median of the ratios of each round, whose two measurements stand next to each other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

import yaml
from rich.console import Console
from rich.table import Table

from ext_proc.demo.envoy import start_envoy
from ext_proc.demo.programs import Program, free_ports, start, tool
from ext_proc.demo.stack import Stack, StackOptions
from ext_proc.edge import EdgeConnection, EdgeSettings, write_edge

OUT: Final = Path(__file__).parent / "out" / "gate.json"
RATIO_MAX: Final = 3.0
"""Server CPU a request, gate to no-op: the bound that the gate is built to."""
RSS_MAX_MB: Final = 150.0
GROWTH_MAX: Final = 0.05
"""Memory is flat if it grew by no more than this from the second tenth of the requests to the last."""
_SEAL_SECONDS: Final = 5.0
"""The default of ``audit.wal.seal_seconds``; the demo seals every second for people who watch."""
_LEVELS: Final = ("c1", "c16")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ANSWER: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "demo",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": ("All work and no play makes a dull day for everybody around here. " * 12)[:780]
                    + " Write to ada@example.com.",
                },
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 200, "total_tokens": 220},
    }
)


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
        [upstream] = free_ports(1)
        answering = self._folder / "upstream.yaml"
        answering.write_text(yaml.safe_dump(_answering(upstream, free_ports(1)[0])))
        self._programs.append(
            start("upstream", (tool("envoy"), "-c", answering, "--disable-hot-restart", "--concurrency", "1"), logs)
        )
        url = f"http://127.0.0.1:{upstream}"
        bare, bare_envoy = self._envoy("bare", url, has_gate=False)
        noop, noop_envoy = self._envoy("noop", url, has_gate=True)
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
            "envoy": {"port": bare, "server": [bare_envoy], "all": [bare_envoy]},
            "noop": {"port": noop, "server": [server.pid], "all": [server.pid, noop_envoy]},
            "gate": {
                "port": stack.ports["http"],
                "server": [pids["supervisor"], pids["worker-0"], pids["shipper"]],
                "all": [pids["supervisor"], pids["worker-0"], pids["shipper"], gate_envoy, opa],
                "worker": pids["worker-0"],
            },
        }
        self._rows["noop"]["worker"] = server.pid
        self._rows["envoy"]["worker"] = bare_envoy

    def _envoy(self, name: str, url: str, *, has_gate: bool) -> tuple[int, int]:
        folder = self._folder / name
        http, admin = free_ports(2)
        settings = EdgeSettings(
            directory=folder / "envoy",
            http_host="127.0.0.1",
            http_port=http,
            admin_host="127.0.0.1",
            admin_port=admin,
            access_log=folder / "access.jsonl",
            worker_sockets=(folder / "worker.sock",),
            hold_seconds=60,
            buffer_bytes=4 * 1024 * 1024,
        )
        folder.mkdir()
        connection = EdgeConnection("demo", ("*",), "/v1/", url, None, 5, 4 << 20, 4 << 20)
        bootstrap = write_edge(settings, [connection]).bootstrap
        if not has_gate:
            told = yaml.safe_load(bootstrap.read_text())
            manager = told["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
            manager["http_filters"] = manager["http_filters"][-1:]
            bootstrap.write_text(yaml.safe_dump(told))
        program = start_envoy(bootstrap, f"http://127.0.0.1:{admin}", folder / "logs", concurrency=1)
        self._programs.append(program)
        return http, program.pid

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
        before_server, before_all = _cpu(row["server"]), _cpu(row["all"])
        command = [sys.executable, "-m", "bench.load", row["port"], connections, seconds, most, self._token]
        done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name}: {done.stderr}")
        told = json.loads(done.stdout)
        count = told["count"]
        return {
            "cpu_ms_per_request": 1000 * (_cpu(row["server"]) - before_server) / count,
            "cpu_ms_all": 1000 * (_cpu(row["all"]) - before_all) / count,
            "p50_ms": told["p50_ms"],
            "p99_ms": told["p99_ms"],
            "rps": count / told["seconds"],
            "rss_mb": _rss_mb(row["worker"]),
        }

    def soak(self, count: int) -> dict[str, Any]:
        """Resident memory of the worker after each tenth of ``count`` requests."""
        sizes = []
        for part in range(10):
            self._load("gate", 16, 3600.0, count // 10)
            sizes.append(round(_rss_mb(self._rows["gate"]["worker"]), 1))
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


def _cpu(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _answering(port: int, admin: int) -> dict[str, Any]:
    """An Envoy that answers everything with 1 KB of JSON: an upstream that costs next to nothing."""
    kind = "type.googleapis.com/envoy.extensions.filters"
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": _ANSWER}},
        "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"}}],
    }
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "upstream",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
        ],
    }

    def address(at: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": at}}

    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "upstream", "address": address(port), "filter_chains": [{"filters": filters}]}
    return {"admin": {"address": address(admin)}, "static_resources": {"listeners": [listener]}}


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
