"""Recorded decisions a second that a candidate is asked again, with the default policy, on two processes of OPA.

Everything is in it: reading the events and packs (of a store in memory), opening each question, OPA, comparing. The
bound is of a machine with two cores to itself, so it is held against CPU time, of all processes: 1 ms a decision is
2,000 a second on two cores. By the clock it is told too.

``python -m bench.backtest`` prints a line and writes ``bench/out/backtest.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from ext_proc.app.authoring.backtest import backtest
from ext_proc.evidence.questions import recorded
from ext_proc.policy import bundle
from ext_proc.policy.again import Asker
from ext_proc.policy.trial.opa_program import find_opa

if TYPE_CHECKING:
    from ext_proc.model import PolicyVersion

OUT: Final = Path(__file__).parent / "out" / "backtest.json"
# The tests' own writer of records: it has no types, and is not to be checked with what has.
_asked: Final = import_module("tests.fakes.asked")
SOURCES: Final = Path(__file__).parent.parent / "opa"
CPU_MS_MAX: Final = 1.0


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.backtest", description=__doc__)
    parser.add_argument("--decisions", type=int, default=10_000, help="on record (default: 10,000)")
    parser.add_argument("--rounds", type=int, default=3, help="medians are told (default: 3)")
    options = parser.parse_args()
    opa = find_opa(None)
    with tempfile.TemporaryDirectory(prefix="affidavit-backtest-") as name:
        file = Path(name) / "bundle.tar.gz"
        version = bundle.build(opa, SOURCES, file)
        gateway = _asked.AskedGateway(Path(name))
        gateway.record(file, version, _asked.calls(options.decisions))
        rounds = [_round(gateway, opa, file, version) for _ in range(options.rounds)]
    cpu, rate = median(one[0] for one in rounds), median(one[1] for one in rounds)
    rates = {"per_second_two_cores": 2000 / cpu, "per_second_by_clock": rate}
    found = {"decisions": options.decisions, "cpu_ms": cpu, **rates}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    Console().print(
        f"{cpu:.2f} ms of CPU a decision (at most {CPU_MS_MAX}): {2000 / cpu:.0f} a second on two cores; "
        f"by the clock, with whatever else runs here, {rate:.0f}"
    )
    return 0 if cpu <= CPU_MS_MAX else 1


def _round(gateway: Any, opa: Path, file: Path, version: PolicyVersion) -> tuple[float, float]:
    with Asker(opa, file, "inference.decision") as candidate:
        cpu, began = _cpu_seconds(), perf_counter()
        report = backtest(recorded(gateway.store, gateway.recorded.keyring.opener()), candidate, version)
        spent, took = _cpu_seconds() - cpu, perf_counter() - began
    if report.changed_count or report.unread:
        raise SystemExit(f"the same policy must say the same: {report.to_json()}")
    return 1000 * spent / report.decisions, report.decisions / took


def _cpu_seconds() -> float:
    """Of this process and of its children that ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    raise SystemExit(main())
