"""What a million exchanges cost: CPU by process, bytes written to the log, objects and bytes in the store.

One gateway with everything on, requests and answers of 1 KB; ``--exchanges`` of them, then everything
is shipped and counted, and told as if there had been a million. Objects do not grow with exchanges but with time and
with the number of logs: a segment is sealed when it is full or ``seal_seconds`` old, so what a log costs an hour is
told apart. ``python -m bench.cost`` prints a table and writes ``bench/out/cost.json``; `docs/scaling.md` is made of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from bench import machine
from ext_proc.demo.programs import ProgramError
from ext_proc.demo.stack import Stack, StackOptions

if TYPE_CHECKING:
    from ext_proc.demo.seaweed import Seaweed

OUT: Final = Path(__file__).parent / "out" / "cost.json"
MILLION: Final = 1_000_000
_SEAL_SECONDS: Final = 5.0
_ROLES: Final = ("envoy", "opa", "worker-0", "shipper", "supervisor")
_SHIP_SECONDS: Final = 120.0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=__doc__)
    parser.add_argument("--exchanges", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as name:
        folder = Path(name)
        service, url = machine.start_service(folder)
        (folder / "gate").mkdir()
        stack = Stack(folder / "gate", StackOptions(upstream=url, workers=1, seal_seconds=_SEAL_SECONDS))
        try:
            stack.start()
            told = measured(stack, options.exchanges, options.connections)
        except ProgramError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            stack.stop()
            service.stop()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    show(told)
    return 0


def measured(stack: Stack, exchanges: int, connections: int) -> dict[str, Any]:
    """Run them, ship them, count."""
    token, port = stack.token("bench", ["analysts"]), stack.ports["http"]
    machine.load(port, min(4, connections), 2.0, token)
    _shipped(stack)
    pids = {name: stack.pids()[name] for name in _ROLES}
    objects, cpu = stored(stack.s3), {name: machine.cpu_seconds([pid]) for name, pid in pids.items()}
    written = written_bytes(pids["worker-0"])
    lines = stack.access_log.stat().st_size
    load = machine.load(port, connections, 10**6, token, exchanges)
    took = _shipped(stack) + load["seconds"]
    now = stored(stack.s3)
    count = load["count"]
    return {
        "exchanges": count,
        "requests_per_second": count / load["seconds"],
        "cpu_hours": {
            name: _million(machine.cpu_seconds([pid]) - cpu[name], count) / 3600 for name, pid in pids.items()
        },
        "log_gb": _million(written_bytes(pids["worker-0"]) - written, count) / 1e9,
        "access_log_gb": _million(stack.access_log.stat().st_size - lines, count) / 1e9,
        "stored_gb": {
            kind: _million(now["bytes"][kind] - objects["bytes"][kind], count) / 1e9 for kind in sorted(now["bytes"])
        },
        "puts_an_hour": {
            kind: round(3600 * (now["objects"][kind] - objects["objects"][kind]) / took)
            for kind in sorted(now["bytes"])
        },
        "worker_mb": machine.rss_mb(pids["worker-0"]),
        "seal_seconds": _SEAL_SECONDS,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
    }


def _million(value: float, count: float) -> float:
    return value * MILLION / count


def written_bytes(pid: int) -> int:
    """What a process sent to the disk (``/proc/PID/io``), less what it took back."""
    told = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(told["write_bytes"]) - int(told["cancelled_write_bytes"])


def stored(s3: Seaweed) -> dict[str, Counter[str]]:
    """Objects and bytes by the kind that their keys begin with (``v1/events``, ``v1/payload`` ...)."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for page in s3.client(as_admin=True).get_paginator("list_objects_v2").paginate(Bucket=s3.bucket):
        for one in page.get("Contents", ()):
            kind = "/".join(one["Key"].split("/")[:2])
            sizes[kind] += one["Size"]
            counts[kind] += 1
    return {"bytes": sizes, "objects": counts}


def _shipped(stack: Stack) -> float:
    """Wait until the disk holds only what is not sealed yet, and was sealed twice over; how long it took.

    Raises:
        SystemExit: it does not get there.
    """
    began = time.monotonic()
    evidence = stack.folder / "state" / "evidence"
    time.sleep(2 * _SEAL_SECONDS)
    while list(evidence.glob("*/*.sealed")):
        if time.monotonic() - began > _SHIP_SECONDS:
            raise SystemExit("evidence is not shipped")
        time.sleep(0.5)
    return time.monotonic() - began


def show(told: dict[str, Any]) -> None:
    """The table."""
    table = Table("a million exchanges of 1 KB", "")
    for name, hours in told["cpu_hours"].items():
        table.add_row(f"CPU of {name}, core-hours", f"{hours:.2f}")
    table.add_row("CPU of all, core-hours", f"{sum(told['cpu_hours'].values()):.2f}")
    table.add_row("written to the worker's log, GB", f"{told['log_gb']:.2f}")
    table.add_row("Envoy's access log, GB", f"{told['access_log_gb']:.2f}")
    for kind, size in told["stored_gb"].items():
        table.add_row(f"in the store, {kind}, GB", f"{size:.3f}")
    for kind, count in told["puts_an_hour"].items():
        table.add_row(f"objects an hour of one worker under load, {kind}", f"{count}")
    table.add_row("memory of the worker, MB", f"{told['worker_mb']:.0f}")
    table.add_row("requests a second while measured", f"{told['requests_per_second']:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
