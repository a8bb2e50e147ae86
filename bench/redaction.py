"""The bar of redaction in one table: each row with its bound, and whether it is kept. ``make bench-redaction``.

Runs `bench.recall`, `bench.presidio`, `bench.stream` and `bench.first_token` one after the other, each in a process of
its own (memory and CPU time are of nothing else), and reads what they wrote. Writes ``bench/out/redaction.json``;
``--check`` ends with status 1 if a bound is not kept, ``--without-envoy`` leaves out what needs a whole gateway.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import first_token, presidio, recall, stream

ROOT: Final = Path(__file__).parent.parent
OUT: Final = Path(__file__).parent / "out" / "redaction.json"
PARTS: Final = {"recall": recall.OUT, "presidio": presidio.OUT, "stream": stream.OUT, "first_token": first_token.OUT}
RESEARCH_RECALL_MIN: Final = 0.95
"""Of presidio-research's texts; of our own `recall.RECALL_MIN`."""
SECRETS_RECALL_MIN: Final = 0.98


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the bar. ``is_kept``: None where nothing is asked."""

    part: str
    what: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_kept(self) -> bool | None:
        """Is it within its bound?"""
        if self.at_least is not None:
            return self.measured >= self.at_least
        return None if self.at_most is None else self.measured <= self.at_most


def main() -> int:
    """Run the parts, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.redaction", description=__doc__)
    parser.add_argument("--check", action="store_true", help="end with status 1 if a bound is not kept")
    parser.add_argument("--without-envoy", action="store_true", help="leave out bench.first_token")
    options = parser.parse_args()
    parts = [name for name in PARTS if not (options.without_envoy and name == "first_token")]
    found = {name: ran(name, PARTS[name]) for name in parts}
    rows = joined(found)
    kinds = {
        name: {"ours": one, "presidio": found["presidio"]["presidio"]["kinds"].get(name)}
        for name, one in found["presidio"]["ours"]["kinds"].items()
    }
    told = {
        "rows": [{**asdict(row), "is_kept": row.is_kept} for row in rows],
        "recall_by_kind": {"presidio_research": kinds, "own_texts": found["recall"]["kinds"]},
        "load_average": os.getloadavg(),
        "cores": os.cpu_count(),
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    _show(rows, kinds)
    return int(options.check and any(row.is_kept is False for row in rows))


def ran(name: str, out: Path) -> dict[str, Any]:
    """What a part wrote. It ends with 1 where a bound of its own is missed: the table tells that."""
    print(f"python -m bench.{name} ...", flush=True)
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"bench.{name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not out.exists():
        raise SystemExit(f"python -m bench.{name} wrote nothing:\n{(done.stdout + done.stderr)[-2000:]}")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def joined(found: dict[str, Any]) -> list[Row]:
    """The bar, of what the parts found."""
    own, research, speed = found["recall"], found["presidio"], found["presidio"]["speed"]
    prose, dense, memory = found["stream"]["prose"], found["stream"]["dense"], found["stream"]["memory"]
    secrets = [one for name, one in own["kinds"].items() if name.startswith("SECRET")]
    rows = [
        Row("recall", "recall, our own texts", own["recall"], at_least=recall.RECALL_MIN),
        Row("recall", "precision, our own texts", own["precision"], at_least=recall.PRECISION_MIN),
        Row("recall", "false alarms in 100,000 characters", own[_ALARMS], at_most=recall.ALARMS_MAX),
        Row("presidio", "recall, presidio-research's texts", research["ours"]["recall"], at_least=RESEARCH_RECALL_MIN),
        Row("presidio", "  the same, Presidio", research["presidio"]["recall"]),
        Row("presidio", "precision, there", research["ours"]["precision"], at_least=recall.PRECISION_MIN),
        Row("presidio", "  the same, Presidio", research["presidio"]["precision"]),
        Row("presidio", "1 KB sparse: times faster", speed["ratio_sparse_1kb"], at_least=presidio.RATIO_MIN),
        Row("presidio", "1 MB sparse: MB/s", speed["ours_mb_per_second_1mb"], at_least=presidio.MB_PER_SECOND_MIN),
        Row("presidio", "  the same, without numbers or code", speed["ours_mb_per_second_1mb_plain"]),
        Row("stream", "us a character, in tokens", prose["microseconds"], at_most=stream.MICROSECONDS_MAX),
        Row("stream", "  the same, text full of values", dense["microseconds"]),
        Row("stream", "held back, tokens, median", prose["held_median"], at_most=stream.HELD_TOKENS_MAX),
        Row("stream", "  the same, p99", prose["held_p99"]),
        Row("stream", "MB, 1,000 streams open", memory["megabytes"], at_most=stream.MEGABYTES_MAX),
    ]
    if secrets:
        share = sum(one["found"] for one in secrets) / sum(one["planted"] for one in secrets)
        rows.insert(2, Row("recall", "  of secrets", share, at_least=SECRETS_RECALL_MIN))
    if "first_token" in found:
        through, most = found["first_token"], first_token.LATER_MAX_MS
        rows += [
            Row("first_token", "first event later than the head, ms", through["first_ms"], at_most=most),
            Row("first_token", "a pause longer, ms, median", through["gap_median_ms"], at_most=most),
            Row("first_token", "  the same, p99", through["gap_p99_ms"]),
        ]
    return rows


_ALARMS: Final = "false_alarms_per_100k_characters"


def _show(rows: list[Row], kinds: dict[str, Any]) -> None:
    table = Table("what", "bound", "measured", "", "python -m")
    words = {True: "kept", False: "NOT KEPT", None: ""}
    for row in rows:
        bound = f">= {row.at_least:g}" if row.at_least is not None else ""
        bound = bound if row.at_most is None else f"<= {row.at_most:g}"
        table.add_row(row.what, bound, f"{row.measured:.4g}", words[row.is_kept], f"bench.{row.part}")
    console = Console(width=110)
    console.print(table)
    by_kind = Table("presidio-research's texts", "planted", "ours, masked whole", "Presidio")
    for name, both in kinds.items():
        theirs = both["presidio"]
        said = "-" if theirs is None else f"{theirs['recall']:.3f}"
        by_kind.add_row(name, str(both["ours"]["planted"]), f"{both['ours']['recall']:.3f}", said)
    console.print(by_kind)


if __name__ == "__main__":
    raise SystemExit(main())
