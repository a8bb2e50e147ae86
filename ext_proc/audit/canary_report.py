"""Canary reports side by side, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.audit.canary import CanaryReport, Check


def compare(reports: Sequence[CanaryReport]) -> Table:
    """One row a check, one column a store; the last row says how many checks each passed."""
    table = Table(title="Does the store hold what it locks?", show_lines=True)
    table.add_column("check", no_wrap=True)
    for report in reports:
        table.add_column(Text(f"{report.server}\n{report.store}".strip()), overflow="fold")
    by_name = [{check.name: check for check in report.checks} for report in reports]
    for name in dict.fromkeys(check.name for report in reports for check in report.checks):
        table.add_row(Text(name), *(_cell(checks.get(name)) for checks in by_name))
    table.add_row(Text("sum"), *(_sum(report) for report in reports), style="bold")
    return table


def _cell(check: Check | None) -> Text:
    if check is None:
        return Text("not made", "yellow")
    # A word as well as a colour: reports are piped, and read by people who see no red.
    return Text(check.found, "green") if check.ok else Text(f"HOLE: {check.found}\n(expected: {check.expected})", "red")


def _sum(report: CanaryReport) -> Text:
    passed = sum(check.ok for check in report.checks)
    text = f"{passed} of {len(report.checks)} hold"
    return Text(text, "green" if report.ok else "red")
