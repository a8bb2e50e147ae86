"""What the commands for readers of evidence do: where the room `evidence` meets the terminal."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from ext_proc.app.commands import save
from ext_proc.app.process import clock
from ext_proc.evidence import query, rendering, show
from ext_proc.evidence.export import export
from ext_proc.evidence.prove import NotFound, prove, prove_receipt
from ext_proc.evidence.records import Filter, filtered
from ext_proc.evidence.replay import Upstream, replay
from ext_proc.evidence.times import parse_time
from ext_proc.evidence.visible import visible
from ext_proc.record_kinds import BODY_ROLES, PayloadRole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.export import ExportProgress
    from ext_proc.evidence.query import Answered
    from ext_proc.evidence.records import Row
    from ext_proc.evidence.versions import VersionedStore

_COLUMNS: Final = ("at", "exchange", "connection", "model", "decision", "outcome", "http_status", "code", "masked")
_FIRST_TO_GO: Final = ("http_status", "connection", "decision", "masked", "code", "model")
"""Columns of a list, as a terminal gets too narrow for them."""
_WIDTH_MAX: Final = 10_000


@contextmanager
def _status(words: str, *, is_quiet: bool) -> Iterator[Callable[[Any], None]]:
    """Progress on standard error, for people only."""
    console = Console(stderr=True)
    if is_quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(words) as status:
        yield lambda told: status.update(f"{words}: {told}")


def _span(options: argparse.Namespace) -> dict[str, datetime | None]:
    now = clock()
    return {
        "since": parse_time(options.since, now) if options.since else None,
        "until": parse_time(options.until, now, is_end=True) if options.until else None,
    }


def run_export(store: VersionedStore, options: argparse.Namespace) -> int:
    """``affidavit export``."""
    with _status("exporting", is_quiet=options.json) as tell:

        def progress(at: ExportProgress) -> None:
            tell(f"{at.versions} versions, {at.bytes >> 20} MiB, {at.leaves} leaves")

        report = export(store, options.directory, progress)
    if options.json:
        print(json.dumps(asdict(report), sort_keys=True))
    else:
        print(
            f"{options.directory}: {report.versions} versions, {report.bytes} bytes, {report.logs} logs, "
            f"{report.leaves} leaves; SHA-256 of inventory.jsonl {report.inventory_sha256}"
        )
        for problem in report.problems:
            print(f"not whole: {visible(problem)} (run `affidavit verify {options.directory}`)")
    return 1 if report.problems else 0


def run_prove(store: VersionedStore, options: argparse.Namespace) -> int:
    """``affidavit prove``."""
    try:
        with _status("reading", is_quiet=options.json) as tell:
            if options.receipt:
                proof = prove_receipt(store, options.receipt, lambda count: tell(f"{count} leaves"))
            else:
                proof = prove(store, options.exchange, lambda count: tell(f"{count} leaves"), **_span(options))
    except NotFound as error:
        print(error.detail, file=sys.stderr)
        return 1
    text = json.dumps(proof, indent=2, sort_keys=True) + "\n"
    if options.output is None:
        print(text, end="")
    else:
        save(options.output, text)
        print(f"{options.output}: {len(proof['proofs'])} records of {proof['exchange_id']}, each with its proof")
    return 0


def run_list(store: VersionedStore, options: argparse.Namespace) -> int:
    """``affidavit records list``."""
    wanted = Filter(
        **_span(options),
        subject_ref=options.subject,
        connection=options.connection,
        model=options.model,
        decision=options.decision,
        entity=options.entity,
        outcome=options.outcome,
        code=options.code,
    )
    with _status("reading the bucket", is_quiet=options.json):
        rows = nlargest(options.limit, filtered(store, wanted), key=lambda row: row.at)[::-1]
    if options.json:
        for row in rows:
            masked = sum(row.masked.values())
            told = row.to_json() | {"exchange": row.exchange_id, "masked": masked, "masked_by_entity": row.masked}
            print(json.dumps(told, sort_keys=True))
        return 0
    lines = [_line(row) for row in rows]
    console = Console()
    columns = _fitting(lines, console) if console.is_terminal else _COLUMNS
    _print_whole(_table(lines, columns))
    if left_out := [name for name in _COLUMNS if name not in columns]:
        print(f"too narrow for {', '.join(left_out)}: --json has all", file=sys.stderr)
    return 0


def _line(row: Row) -> dict[str, str]:
    removed = " ".join(f"{name}:{count}" for name, count in row.masked.items())
    code = ": ".join(filter(None, (row.code, ", ".join(row.reasons))))  # what the policy said of it
    told = row.to_json() | {"exchange": row.exchange_id, "masked": removed, "code": code}
    return {name: visible(str(told[name] if told[name] is not None else "")) for name in _COLUMNS}


def _table(lines: list[dict[str, str]], columns: tuple[str, ...]) -> Table:
    table = Table(*columns, box=None)
    for line in lines:
        table.add_row(*(line[name] for name in columns))
    return table


def _fitting(lines: list[dict[str, str]], console: Console) -> tuple[str, ...]:
    """The columns that a terminal has room for. The exchange and how it ended always stay, in whole."""
    columns: tuple[str, ...] = _COLUMNS
    for name in _FIRST_TO_GO:
        if _whole_width(_table(lines, columns), console) <= console.width:
            break
        columns = tuple(one for one in columns if one != name)
    return columns


def _print_whole(table: Table) -> None:
    """As wide as it is: an id that is cut off is of no use, nor one in a pipe of 80 columns."""
    console = Console()
    console.width = max(console.width, _whole_width(table, console))
    console.print(table)


def _whole_width(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update(max_width=_WIDTH_MAX)).maximum


def run_show(
    store: VersionedStore, options: argparse.Namespace, keyring: KeyRing | None, journal: Journal | None
) -> int:
    """``affidavit show`` and ``records show``; ``keyring`` and ``journal`` only with ``--payloads``."""
    with _status("reading the bucket", is_quiet=options.json) as tell:
        located = show.find(store, options.exchange, lambda count: tell(f"{count} leaves"), **_span(options))
    if not located:
        print(f"no record of {options.exchange} in the bucket (evidence of the last seconds may still be on its way)")
        return 1
    linked = show.links(store, located, **_span(options))
    opened: list[show.Opened] = []
    if keyring is not None and journal is not None:
        roles = (*BODY_ROLES, PayloadRole.POLICY_QUESTION)
        by, purpose = options.by, options.purpose
        opened = show.open_payloads(store, keyring, journal, located, by=by, purpose=purpose, roles=roles)
    if options.json:
        # A body that streamed is in several leaves: it is shown whole, with the last of them.
        whole_in = {payload["role"]: one for one in located for payload in one.leaf.get("payloads", ())}
        for one in located:
            mine = [payload for payload in opened if whole_in.get(payload.role) is one]
            print(json.dumps(_told(one, mine, is_opened=bool(opened)), sort_keys=True, ensure_ascii=False))
        for link in linked:
            print(json.dumps({"link": asdict(link)}, sort_keys=True))
    else:
        for one in located:
            print(f"{one.key}\n{json.dumps(one.leaf, indent=2, sort_keys=True)}\n")
        for link in linked:
            print(f"tool call {link.call_ref}: asked for in {link.called_in}, its result came with {link.brought_by}\n")
        for payload in opened:
            text, unplaced = rendering.shown(payload, located)
            print(f"--- {payload.role} ({payload.content_type or 'no content type'})\n{text}")
            if unplaced:
                print(f"({unplaced} recorded spans are not marked)")
    return 0 if all(payload.state == "read" for payload in opened) else 1


def _told(located: show.Located, mine: list[show.Opened], *, is_opened: bool) -> dict[str, Any]:
    """One record for machines, with those of its payloads that were asked for."""
    told: dict[str, Any] = {"object": located.key, "leaf": located.leaf}
    if is_opened:
        told["payloads"] = {p.role: p.body.decode(errors="replace") for p in mine if p.body is not None}
        told["unreadable"] = {p.role: {"state": p.state, "why": p.why} for p in mine if p.body is None}
    return told


def run_replay(store: VersionedStore, options: argparse.Namespace, keyring: KeyRing, journal: Journal) -> int:
    """``affidavit replay``."""
    upstream = Upstream(options.upstream, options.credential, options.header, options.prefix, options.timeout)
    with _status("reading the bucket", is_quiet=options.json):
        located = show.find(store, options.exchange, lambda _: None, **_span(options))
        if not located:
            print(f"no record of {options.exchange}", file=sys.stderr)
            return 1
        found = replay(store, keyring, journal, located, upstream, by=options.by)
    if options.json:
        print(json.dumps(found.to_json(), sort_keys=True))
    else:
        print(found.verdict)
        for field in found.fields:
            print(
                f"  {'same' if field.is_same else 'DIFFERENT'}  {field.name}: {field.recorded!r} -> {field.replayed!r}"
            )
        for line in found.text_diff:
            print(f"  {visible(line)}")
        print(found.determinism)
    return 1 if found.verdict == "different" else 0


def run_query(store: VersionedStore, options: argparse.Namespace) -> int:
    """``affidavit query``."""
    tables: list[Table] = []  # printed when the line that tells of the fetching is gone

    def take(answered: Answered) -> None:
        if options.format == "json":
            for row in answered.rows:
                print(query.json_line(answered, row))
        elif options.format == "csv":
            writer = csv.writer(sys.stdout)
            writer.writerow(answered.columns)
            writer.writerows(map(query.cell, row) for row in answered.rows)
        else:
            table = Table(*map(visible, answered.columns), box=None)
            for row in answered.rows:
                table.add_row(*(visible(query.cell(value)) for value in row))
            tables.append(table)

    with _status("fetching", is_quiet=options.format != "table") as tell:
        query.query(
            store,
            options.sql,
            options.cache,
            take,
            lambda count: tell(f"{count} objects"),
            **_span(options),
            memory_limit=options.memory,
        )
    for table in tables:
        _print_whole(table)
    return 0
