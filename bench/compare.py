"""Everything beside everything, interleaved in one run: Envoy alone, a no-op server, the gate room by room, and peers.

Requests and answers of 1 KB through the same service, at 1 and 16 connections. In each round every system has its turn
at both, in an order that turns with the rounds; figures are medians of the rounds, ratios medians of each round's
ratio. The systems:

- ``envoy``: Envoy alone; ``noop``: with a Python ext_proc server that does nothing (`bench.noop`);
- ``pass``, ``auth``, ``mask``: the gate's door and driver with more and more of its rooms (`bench.partial`);
- ``gate``: the gate as it is, with a durable, encrypted, shipped record; ``gate-2``: with two workers;
- ``litellm``: LiteLLM's proxy 1.104.0, content filter both ways and its S3 logger to the same store;
- ``presidio``: no gateway: Presidio analyses and masks the two texts of a call, in a loop.

Then one stream at a time, a token every 20 ms: when the first one is there, through the gate and through LiteLLM.

``python -m bench.compare`` prints the tables and writes ``bench/out/compare.json``. ``--check`` ends with status 1 if
a bound is not held. A bound that this machine cannot tell (two workers on two cores) is said to be that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import first_token, litellm, load, machine, peers
from ext_proc.demo.programs import Program, ProgramError, free_ports, start
from ext_proc.demo.stack import Stack, StackOptions

OUT: Final = Path(__file__).parent / "out" / "compare.json"
LEVELS: Final = (1, 16)
MASKING: Final = ("mask", "gate", "gate-2", "litellm")
CPU_RATIO_MAX: Final = 2.5
RPS_RATIO_MIN: Final = 5.0
ADDED_RATIO_MAX: Final = 0.2
FIRST_TOKEN_MS_MAX: Final = 5.0
TWO_WORKERS_MIN: Final = 1.7
CORES_FOR_TWO: Final = 8
"""Two workers busy, and beside them Envoy, OPA, the service and the load, each on a core of its own."""
STEADY_MAX: Final = 1.2
"""Envoy alone may be so much slower in one round than in another: beyond, milliseconds say nothing of the systems."""
_WORDS: Final = {True: "held", False: "NOT HELD", None: "cannot be told here"}


@dataclass(frozen=True, slots=True)
class System:
    """Where it listens, what it wants to see, and whose CPU counts: of the system itself, and of all that it needs."""

    port: int
    token: str
    own: tuple[int, ...]
    all: tuple[int, ...]


class Field:
    """Starts the systems, and stops them."""

    def __init__(self, folder: Path, *, with_peers: bool, with_two: bool) -> None:
        self._folder = folder
        self._with_peers = with_peers
        self._with_two = with_two
        self._programs: list[Program] = []
        self._stacks: list[Stack] = []
        self.systems: dict[str, System] = {}

    def start(self) -> None:
        """All of them; they stay, idle but for their turn."""
        service, url = machine.start_service(self._folder)
        self._programs.append(service)
        gate = self._stack("gate", url, 1)
        bare, port = machine.start_edge(self._folder / "envoy", url, has_gate=False)
        self._programs.append(bare)
        self.systems["envoy"] = System(port, "x", (bare.pid,), (bare.pid,))
        self._server("noop", url, "x", (), ("-m", "bench.noop"))
        token, opa = self.systems["gate"].token, gate.pids()["opa"]
        for mode, needs in (("pass", ()), ("auth", (opa,)), ("mask", (opa,))):
            self._server(mode, url, token, needs, ("-m", "bench.partial", str(gate.config)))
        if self._with_two:
            self._stack("gate-2", url, 2)
        if self._with_peers:
            program, port, key = peers.start_filter_with_log(self._folder, url, gate.s3)
            self._programs.append(program)
            self.systems["litellm"] = System(port, key, (program.pid,), (program.pid,))
        order = ("envoy", "noop", "pass", "auth", "mask", "gate", "gate-2", "litellm")
        self.systems = {name: self.systems[name] for name in order if name in self.systems}

    def _stack(self, name: str, url: str, workers: int) -> Stack:
        folder = self._folder / name
        folder.mkdir()
        stack = Stack(folder, StackOptions(upstream=url, workers=workers, seal_seconds=5.0))
        stack.start()
        self._stacks.append(stack)
        pids = stack.pids()
        own = tuple(pids[one] for one in pids if one in ("supervisor", "shipper") or one.startswith("worker-"))
        everything = (*own, pids["envoy"], pids["opa"])
        self.systems[name] = System(stack.ports["http"], stack.token("bench", ["analysts"]), own, everything)
        return stack

    def _server(self, name: str, url: str, token: str, needs: tuple[int, ...], command: tuple[str, ...]) -> None:
        folder = self._folder / name
        folder.mkdir()
        door = folder / "worker.sock"
        mode = (name,) if "bench.partial" in command else ()
        server = start(name, (sys.executable, *command, str(door), *mode), self._folder / "logs")
        self._programs.append(server)
        server.wait_until(door.exists)
        envoy, port = machine.start_edge(folder, url, has_gate=True)
        self._programs.append(envoy)
        self.systems[name] = System(port, token, (server.pid,), (server.pid, envoy.pid, *needs))

    def litellm_records(self) -> int | None:
        """What its logger has sent by now; None: it is not there."""
        return peers.records(self._stacks[0].s3) if self._with_peers else None

    def stop(self) -> None:
        """All of them."""
        for stack in reversed(self._stacks):
            stack.stop()
        for program in reversed(self._programs):
            program.stop()


def refuse_unmasked(systems: dict[str, System]) -> None:
    """What is said to mask must mask: a filter that is off is not measured.

    Raises:
        SystemExit: one lets the address of the service's answer pass.
    """
    for name in MASKING:
        if name not in systems:
            continue
        port, request = systems[name].port, load.request_bytes(systems[name].token)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
            plain.sendall(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
            said = b"".join(iter(lambda: plain.recv(65536), b""))
        if b" 200 " not in said[:20] or b"ada@example.com" in said:
            raise SystemExit(f"{name} does not mask: {said[-600:]!r}")


def measured(system: System, connections: int, seconds: float) -> dict[str, float]:
    """One turn of one system."""
    own, everything = machine.cpu_seconds(system.own), machine.cpu_seconds(system.all)
    told = machine.load(system.port, connections, seconds, system.token)
    count = told["count"]
    return {
        "cpu_ms": 1000 * (machine.cpu_seconds(system.own) - own) / count,
        "cpu_all_ms": 1000 * (machine.cpu_seconds(system.all) - everything) / count,
        "p50_ms": told["p50_ms"],
        "p99_ms": told["p99_ms"],
        "rps": count / told["seconds"],
    }


Taken = dict[str, list[dict[str, float]]]


def taken(systems: dict[str, System], rounds: int, seconds: float) -> dict[int, Taken]:
    """By connections, then by system: its rounds."""
    for name, system in systems.items():
        print(f"warming up {name}", flush=True)
        machine.load(system.port, 4, min(2.0, seconds), system.token)
    found: dict[int, Taken] = {level: {name: [] for name in systems} for level in LEVELS}
    names = list(systems)
    for round_ in range(rounds):
        for level in LEVELS:
            for name in names:
                print(f"round {round_ + 1} of {rounds}: {name}, {level} connections", flush=True)
                found[level][name].append(measured(systems[name], level, seconds))
        names = [*names[1:], names[0]][:: -1 if round_ % 2 else 1]
    return found


def summed_up(found: dict[int, Taken]) -> dict[str, Any]:
    """Medians by level and system, with what each adds to Envoy alone in the same round."""
    told: dict[str, Any] = {}
    for level, systems in found.items():
        for name, rounds in systems.items():
            row = {figure: median(one[figure] for one in rounds) for figure in rounds[0]}
            row["rps_least"], row["rps_most"] = min(one["rps"] for one in rounds), max(one["rps"] for one in rounds)
            for figure in ("p50_ms", "p99_ms"):
                row[f"added_{figure}"] = median(added(systems, name, figure))
            told.setdefault(f"c{level}", {})[name] = row
    return told


def added(systems: Taken, name: str, figure: str) -> list[float]:
    """What the system has more than Envoy alone, round by round."""
    rounds = zip(systems[name], systems["envoy"], strict=True)
    return [one[figure] - alone[figure] for one, alone in rounds]


def ratio(systems: Taken, one: str, other: str, figure: str) -> float | None:
    """The median of each round's ratio; None: one of them was not measured."""
    if one not in systems or other not in systems:
        return None
    rounds = zip(systems[one], systems[other], strict=True)
    return median(left[figure] / right[figure] for left, right in rounds if right[figure])


def added_ratio(systems: Taken, one: str, other: str) -> float | None:
    """Of what they add to the median latency."""
    if one not in systems or other not in systems:
        return None
    rounds = zip(added(systems, one, "p50_ms"), added(systems, other, "p50_ms"), strict=True)
    return median(left / right for left, right in rounds if right > 0)


def bounds(found: dict[int, Taken], stream: dict[str, float], cores: int) -> list[dict[str, Any]]:
    """Issue by issue: what, the limit, what was measured, held or not (None: it cannot be told here)."""

    def bound(what: str, sign: str, limit: float, value: float | None, *, can_tell: bool = True) -> dict[str, Any]:
        is_held = None if value is None or not can_tell else value <= limit if sign == "<=" else value >= limit
        return {"what": what, "sign": sign, "limit": limit, "measured": value, "is_held": is_held}

    one, sixteen = found[1], found[16]
    return [
        bound("CPU a request, gate to noop, 1 connection", "<=", CPU_RATIO_MAX, ratio(one, "gate", "noop", "cpu_ms")),
        bound("the same, 16 connections", "<=", CPU_RATIO_MAX, ratio(sixteen, "gate", "noop", "cpu_ms")),
        bound("requests/s, gate to LiteLLM, 16", ">=", RPS_RATIO_MIN, ratio(sixteen, "gate", "litellm", "rps")),
        bound("added p50, gate to LiteLLM, 1", "<=", ADDED_RATIO_MAX, added_ratio(one, "gate", "litellm")),
        bound("first token later, ms", "<=", FIRST_TOKEN_MS_MAX, stream.get("first_ms")),
        bound(
            "requests/s, two workers to one, 16",
            ">=",
            TWO_WORKERS_MIN,
            ratio(sixteen, "gate-2", "gate", "rps"),
            can_tell=cores >= CORES_FOR_TWO,
        ),
    ]


def streamed(folder: Path, rounds: int, count: int, *, with_peers: bool) -> dict[str, float]:
    """Streams through the gate (and LiteLLM), and when their first token is there."""
    [port] = free_ports(1)
    (folder / "stream").mkdir()
    stack = Stack(folder / "stream", StackOptions(upstream=f"http://127.0.0.1:{port}", workers=1, seal_seconds=5.0))
    program: Program | None = None
    try:
        stack.start()
        told = first_token.medians(asyncio.run(first_token.measure(stack, port, rounds, count)))
        if not with_peers:
            return told
        program, peer = litellm.start_litellm(folder / "stream", port)
        ports = {
            "directly": (port, "x"),
            "gate": (stack.ports["http"], stack.token("ada", ["analysts"])),
            "litellm": (peer, litellm.KEY),
        }
        heard = asyncio.run(litellm.measure(ports, port, rounds, count))
        direct = median(one.first for one in heard["directly"])
        for name in ("gate", "litellm"):
            told[f"{name}_first_text_later_ms"] = median(one.first for one in heard[name]) - direct
        return told
    finally:
        stack.stop()
        if program is not None:
            program.stop()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn (default: 5)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=60, help="of each stream")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--without-two", action="store_true", help="no second gate with two workers")
    parser.add_argument("--check", action="store_true", help="status 1 where a bound is not held")
    options = parser.parse_args()
    with_peers = not options.without_peers
    if with_peers and not (litellm.PROGRAM.exists() and peers.PRESIDIO.exists()):
        print("peers are not there: python3 scripts/setup.py litellm presidio, or --without-peers", file=sys.stderr)
        return 2
    before = os.getloadavg()
    try:
        found, stream = _everything(options, with_peers=with_peers)
    except ProgramError as error:
        print(error, file=sys.stderr)
        return 1
    told: dict[str, Any] = {"systems": summed_up(found), "stream": stream}
    if with_peers:
        told["presidio"] = peers.presidio_cpu_ms(5)
    told |= {
        "bounds": bounds(found, stream, os.cpu_count() or 1),
        "steady": steadiness(found),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "load_average": {"before": before, "after": os.getloadavg()},
        "not_done_by_peers": {"litellm": peers.LITELLM_LACKS, "presidio": peers.PRESIDIO_LACKS},
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    show(told)
    return int(options.check and any(one["is_held"] is False for one in told["bounds"]))


def _everything(options: argparse.Namespace, *, with_peers: bool) -> tuple[dict[int, Taken], dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as name:
        field = Field(Path(name), with_peers=with_peers, with_two=not options.without_two)
        try:
            field.start()
            refuse_unmasked(field.systems)
            found = taken(field.systems, options.rounds, options.seconds)
            records = field.litellm_records()
        finally:
            field.stop()
        if records == 0:
            raise SystemExit("LiteLLM's logger has sent nothing: it was not measured with one")
        return found, streamed(Path(name), options.rounds, options.events, with_peers=with_peers)


def steadiness(found: dict[int, Taken]) -> float:
    """Envoy alone, its slowest round to its fastest by the median latency of one connection."""
    medians = [one["p50_ms"] for one in found[1]["envoy"]]
    return max(medians) / min(medians)


def show(told: dict[str, Any]) -> None:
    """The tables."""
    console = Console(width=120)
    noop = {level: systems["noop"]["cpu_ms"] for level, systems in told["systems"].items()}
    table = Table(
        "", "connections", "CPU, ms", "to noop", "with Envoy, OPA", "added p50, ms", "added p99, ms", "requests/s"
    )
    for level, systems in told["systems"].items():
        for name, row in systems.items():
            figures = (row["cpu_all_ms"], row["added_p50_ms"], row["added_p99_ms"])
            numbers = [f"{row['cpu_ms']:.2f}", f"{row['cpu_ms'] / noop[level]:.2f}", *(f"{one:.2f}" for one in figures)]
            spread = f"{row['rps']:.0f} ({row['rps_least']:.0f}-{row['rps_most']:.0f})"
            table.add_row(name, level[1:], *numbers, spread)
    if "presidio" in told:
        table.add_row("presidio", "no gateway", f"{told['presidio']['cpu_ms_per_request']:.2f}", *[""] * 5)
    console.print(table)
    streams = Table("a stream of a token every 20 ms", "ms")
    for name, value in told["stream"].items():
        streams.add_row(name.removesuffix("_ms"), f"{value:.1f}")
    console.print(streams)
    if told["steady"] > STEADY_MAX:
        console.print(
            f"Envoy alone was {told['steady']:.1f} times slower in one round than in another: this machine has other "
            "work. Read CPU and its ratios, not milliseconds."
        )
    kept = Table("bound", "", "measured", "")
    for one in told["bounds"]:
        said = "-" if one["measured"] is None else f"{one['measured']:.2f}"
        kept.add_row(one["what"], f"{one['sign']} {one['limit']:g}", said, _WORDS[one["is_held"]])
    console.print(kept)


if __name__ == "__main__":
    sys.exit(main())
