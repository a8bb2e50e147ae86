"""``records``, ``show``, ``replay`` and ``query``: what is in the bucket."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli.building import add, count, reference, with_keys, with_reader, with_source, with_span
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ext_proc.app.logs import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.versions import VersionedStore

_RECORDS = """Reads the bucket, not the gateway: works while nothing runs, and shows what an auditor would find. A
record is there some seconds after its exchange (audit.wal.seal_seconds, and the way to the store)."""


_LIST = """Outcomes are explained in docs/record-format.md; "in flight" where there is an intent and no outcome yet.
`masked` counts values in both directions."""


_SHOW = """Exit status 1 if there is none. With --payloads the bodies are decrypted: needs the key files and the
registry of keys that the configuration names, and is itself a record first; a body that is not the one
on record is an error."""


_REPLAY = """The recorded path follows the URL unless that has one. That the recorded bodies are read is on record
first. A model that samples gives another answer each time: what was fixed (temperature, seed) is said.
Exit status 1 if the answers differ."""


_QUERY = """Tables and columns: docs/querying.md, where the same questions stand for Athena, Trino and Spark. Objects
are fetched once and kept; each row names the log and number with which it can be proved."""


def add_records(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that read records."""
    records = add(commands, "records", "list and show what is in the bucket", _RECORDS)
    actions = records.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = add(actions, "list", "one line for each exchange, the newest last", _LIST)
    listing.add_argument("--limit", type=count, default=50, metavar="N", help="the last N exchanges (default: 50)")
    listing.add_argument(
        "--subject", type=reference, metavar="REF", help="the caller's reference, as records have it (subject_ref)"
    )
    listing.add_argument("--connection", metavar="NAME")
    listing.add_argument("--model", metavar="NAME", help="asked for, or served")
    listing.add_argument("--decision", choices=("allow", "deny", "none"), help="none: the policy was never asked")
    listing.add_argument("--entity", metavar="NAME", help="found or masked, for example EMAIL")
    listing.add_argument("--outcome", metavar="STATUS", help="completed, denied, refused, error, interrupted ...")
    listing.add_argument("--code", metavar="CODE", help="of the refusal")
    listing.add_argument("--json", action="store_true", help="for machines: one JSON object a line")
    with_source(listing)
    with_span(listing)
    listing.set_defaults(run=_list_records)
    for command in (
        add(actions, "show", "all records of one exchange, with the objects that hold them", _SHOW),
        add(commands, "show", "the same as `records show`", _SHOW),
    ):
        command.add_argument("exchange", help="the exchange's id: header x-affidavit-exchange of the answer")
        command.add_argument("--payloads", action="store_true", help="also decrypt and show the bodies")
        command.add_argument("--purpose", default="not stated", metavar="WHY", help="why the bodies are read")
        command.add_argument("--json", action="store_true", help="for machines: one JSON object a line")
        with_reader(command)
        with_source(command)
        with_span(command)
        command.set_defaults(run=_show_record)
    replay = add(commands, "replay", "send a recorded request once more and compare the answers", _REPLAY)
    replay.add_argument("exchange", help="the exchange's id")
    replay.add_argument("--upstream", required=True, metavar="URL", help="the server to ask")
    replay.add_argument("--credential", type=Path, metavar="FILE", help="holds the server's credential")
    replay.add_argument("--header", default="authorization", metavar="NAME", help="that carries it")
    replay.add_argument("--prefix", default="Bearer ", metavar="TEXT", help="before it in the header")
    replay.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for the whole answer")
    replay.add_argument("--json", action="store_true", help="for machines: one JSON object")
    with_reader(replay)
    with_keys(replay)
    with_span(replay)
    replay.set_defaults(run=_replay)
    query = add(commands, "query", "ask the records with SQL, on this machine (DuckDB)", _QUERY)
    query.add_argument("sql", metavar="SQL", help="one SELECT over the tables leaves, exchanges and tool_calls")
    query.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "affidavit",
        metavar="DIR",
        help="keeps what was fetched (default: ~/.cache/affidavit)",
    )
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")
    query.add_argument("--memory", default="1GB", metavar="SIZE", help="that the engine may take (default: 1GB)")
    with_source(query)
    with_span(query)
    query.set_defaults(run=_query)


def store(options: argparse.Namespace) -> VersionedStore:
    """The bucket or export that is read: what was named, or that of the gateway."""
    from ext_proc.app import commands
    from ext_proc.app.evidence import auditing

    config = None if options.source else commands.config_of(options.config, options.endpoints)[0]
    return auditing.store_of_source(options.source, config)


@contextmanager
def custody(options: argparse.Namespace) -> Iterator[tuple[KeyRing, Journal]]:
    """The keys, and a log of this command's own: nobody reads payloads unrecorded."""
    from ext_proc.app import commands, registry
    from ext_proc.app.logs import Journal

    if options.source:
        raise ConfigError("bodies need the gateway's keys: name --config or --endpoints")
    config, digest = commands.config_of(options.config, options.endpoints)
    keyring = registry.keyring(config)
    with Journal(config, digest, "command", keyring) as journal:
        yield keyring, journal


def _list_records(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import reading

    return reading.run_list(store(options), options)


def _show_record(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import reading

    if not options.payloads:
        return reading.run_show(store(options), options, None, None)
    with custody(options) as (keyring, journal):
        return reading.run_show(store(options), options, keyring, journal)


def _replay(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import reading

    with custody(options) as (keyring, journal):
        return reading.run_replay(store(options), options, keyring, journal)


def _query(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import reading

    return reading.run_query(store(options), options)
