"""The command ``affidavit``: commands only, no logic."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc import __version__
from ext_proc.cli_cluster import add_cluster
from ext_proc.cli_policy import add_policy
from ext_proc.cli_rerun import add_rerun
from ext_proc.errors import ConfigError, GateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ext_proc.app.approving import Desk
    from ext_proc.app.custody import Person
    from ext_proc.app.logs import Journal
    from ext_proc.audit.erasure import Order
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.versions import VersionedStore

_ABOUT = """The auditable inference gateway.

Callers use their OpenAI or Anthropic client with another base URL. Envoy asks this program at every phase: who calls,
what is in it, may they; personal data is masked both ways, and what happened is on record before it happens."""


_INNER = (["work"], ["ship"], ["fork-server"])
"""Commands of the supervisor, not of people."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 something was found or failed, 2 could not run."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    options = (_inner_parser() if typed[:1] in _INNER else build_parser()).parse_args(typed)
    try:
        status: int = options.run(options)
        sys.stdout.flush()  # here, where a reader that has left is no error of ours
    except ConfigError as error:
        print(f"affidavit: configuration: {error.detail}", file=sys.stderr)
        return 2
    except GateError as error:
        print(f"affidavit: {error.code}: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at its end
        return 141
    return status


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="affidavit", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"affidavit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serving(commands)
    add_cluster(commands)
    _add_records(commands)
    _add_approvals(commands)
    _add_auditing(commands)
    _add_completeness(commands)
    _add_custody(commands)
    _add_rules(commands)
    _add_fields(commands)
    add_rerun(add_policy(commands))
    _add_demo(commands)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, more: str = ""
) -> argparse.ArgumentParser:
    """A command whose own help begins with its summary and says more."""
    about = f"{summary[0].upper()}{summary[1:]}.\n\n{more}" if more else f"{summary[0].upper()}{summary[1:]}."
    return commands.add_parser(
        name, help=summary, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _hours(text: str) -> int:
    hours = int(text)
    if not 0 <= hours <= 24 * 366:
        raise argparse.ArgumentTypeError("a number of hours from 0 on, at most a year")
    return hours


def _count(text: str) -> int:
    """A number of things, one at least."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("1 or more is wanted")
    return int(text)


def _with_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration (YAML)")


def _with_gateway(command: argparse.ArgumentParser) -> None:
    _name_gateway(command.add_mutually_exclusive_group(required=True))


_SERVE = """Envoy and OPA are yours to start: Envoy with --config-path RUN_DIR/envoy/bootstrap.yaml (docs/operating.md).
SIGTERM: exchanges in flight end, logs are closed, evidence is shipped. SIGHUP: as `affidavit reload`. The
log is JSON lines on standard error; /live, /ready and /metrics are at the configuration's `metrics`."""

_CHECK = """Starts nothing and changes nothing. Prints the file's SHA-256, with which every log begins. Exit status 2 if
it is not valid, naming each field. The files that it names (keys, bundle, rule packs, certificates, credentials) are
not looked at: `affidavit serve` loads keys, bundle and packs before it starts anything, `affidavit rules test FILE`
tries a pack."""

_DOCTOR = """Envoy's settings as it runs with them (its admin's /config_dump), the policy that decides, the bucket's
lock, the newest canary, clocks, issuers, the disk, certificates. Changes nothing. A line for each check, ok, warn or
fail, with what to do. Exit status 0: nothing fails, 1: something does, 2: the configuration cannot be read."""

_RENDER = """`affidavit serve` does this itself when it starts. Prints the path of the bootstrap. With
policy.distribution OPA's configuration is written too: OPA may start before the gate."""

_RELOAD = """Asks the running `affidavit serve` and waits for what it says. Only the list of connections is taken over:
if anything else in the file differs, nothing is. Each log records the change. Exit status 1 if it was not
taken over."""

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

_DEMO = """Envoy, OPA, an S3 server that enforces locks, an OIDC issuer, a small real model and the gate, on loopback
and free ports. Without --keep each step of the story is checked; exit status 0 only if all were as told.

  affidavit demo --keep --endpoints /tmp/demo.json
  affidavit demo token --subject ada --groups analysts --endpoints /tmp/demo.json
  affidavit records list --endpoints /tmp/demo.json"""

_FOR_CALLERS = """Use it as the API key of an OpenAI or Anthropic client; it is good for an hour. The demo's policy
lets the group `analysts` call the model `demo`."""


def _add_serving(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = _add(
        commands, "serve", "run the gate: render Envoy's files, start workers and shipper, keep them running", _SERVE
    )
    _with_config(serve)
    serve.set_defaults(run=_serve)
    check = _add(commands, "check-config", "read the configuration and say what is wrong with it", _CHECK)
    _with_gateway(check)
    check.set_defaults(run=_check_config)
    doctor = _add(commands, "doctor", "examine the running installation, and say what to do", _DOCTOR)
    _with_gateway(doctor)
    doctor.add_argument("--policy", type=Path, metavar="FILE", help="auditors' file: is the signing key theirs?")
    doctor.add_argument("--json", action="store_true", help="for machines")
    doctor.set_defaults(run=_doctor)
    render = _add(commands, "render", "write Envoy's files without starting anything", _RENDER)
    _with_gateway(render)
    render.set_defaults(run=_render)
    reload_ = _add(commands, "reload", "take over changed connections, without a restart", _RELOAD)
    _with_gateway(reload_)
    reload_.set_defaults(run=_reload)
    console = _add(commands, "console", "serve the pages and the API for people who approve, audit, operate", _CONSOLE)
    _with_config(console)
    console.set_defaults(run=_console)


def _inner_parser() -> argparse.ArgumentParser:
    """What the supervisor starts, not people: a parser of its own, so that no list of commands names it."""
    parser = argparse.ArgumentParser(prog="affidavit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    work = commands.add_parser("work")
    _with_config(work)
    work.add_argument("--index", type=int, required=True)
    work.set_defaults(run=_work)
    ship = commands.add_parser("ship")
    _with_config(ship)
    ship.set_defaults(run=_ship)
    forks = commands.add_parser("fork-server")
    forks.add_argument("--channel", type=int, required=True)
    forks.set_defaults(run=_fork_server)
    return parser


_VERIFY = """SOURCE is s3://bucket/prefix (credentials, region and endpoint as the AWS tools find them: AWS_PROFILE,
AWS_ENDPOINT_URL ...), a directory that `affidavit export` wrote, or a proof file. Every byte is read again, every
version looked at, every tree rebuilt; nothing of the gateway is trusted or needed. With --endpoints instead, bucket,
policy and credentials are those of a running demo: to try it, for then the word of the demo is trusted.

Exit status: 0 clean, 1 findings, 2 could not run. Each finding has a code, explained in docs/record-format.md."""

_EXPORT = """Every version of every object, an inventory with locks and retention, and each log as a folder
`logs/<replica log>/<epoch>/` of checkpoint, tile/ and log.vkey, which C2SP tools read. `affidavit verify DIR`
accepts it."""

_SIEM = """Reads the bucket, not the gateway. One event for each exchange and for each thing that people or the gateway
did (docs/siem.md has the table); people are references, content is nowhere. Run again it goes on where it
stopped; what was being sent when it was stopped is sent again, with the same metadata.uid.

  affidavit export-siem --config gateway.yaml --to events.jsonl --state siem.json
  affidavit export-siem s3://evidence --to https://siem.example.com/in --headers-file key --state siem.json --follow 10

Exit status: 0 all was sent, 1 an object of the bucket is damaged (its log waits there), 2 could not run."""

_PROVE = """One JSON file: the records of an exchange, each with its inclusion proof and the signed checkpoint. Whoever
has it and the auditor's policy needs no bucket: affidavit verify FILE --policy POLICY"""

_POLICY = """The one file that an auditor needs beside the bucket: the gateway's name, its public keys and what
was promised. Give it to them by a way that they trust; it holds no secret."""


def _add_auditing(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verify = _add(commands, "verify", "prove that nothing was changed and nothing is missing", _VERIFY)
    what = verify.add_mutually_exclusive_group(required=True)
    what.add_argument("source", nargs="?", metavar="SOURCE")
    _of_demo(what)
    verify.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="the auditor's policy file (with --endpoints: the demo's, if left out)",
    )
    verify.add_argument("--receipts", type=Path, metavar="FILE", help="also redeem these receipts, one a line")
    verify.add_argument("--jobs", type=_count, default=2, metavar="N", help="processes (default: 2)")
    verify.add_argument("--without-payloads", action="store_true", help="do not read the encrypted bodies")
    verify.add_argument(
        "--json", action="store_true", help="{ok, leaves, epochs, findings: [{code, object, explanation}]}"
    )
    verify.set_defaults(run=_verify)
    export = _add(commands, "export", "copy a bucket into a directory, with each log as a C2SP tree", _EXPORT)
    bucket = export.add_mutually_exclusive_group(required=True)
    bucket.add_argument("source", nargs="?", metavar="s3://BUCKET/PREFIX")
    _of_demo(bucket)
    export.add_argument("directory", type=Path, metavar="DIR", help="a new directory; it appears when it is complete")
    export.add_argument("--json", action="store_true", help="for machines: one JSON object")
    export.set_defaults(run=_export)
    siem = _add(commands, "export-siem", "send events to a SIEM, in OCSF (API Activity)", _SIEM)
    bucket = siem.add_mutually_exclusive_group(required=True)
    bucket.add_argument("source", nargs="?", metavar="SOURCE", help="s3://BUCKET/PREFIX, or an export's directory")
    _name_gateway(bucket)
    siem.add_argument("--to", required=True, metavar="PLACE", help="a file, s3://BUCKET/PREFIX or https://...")
    siem.add_argument("--state", type=Path, required=True, metavar="FILE", help="remembers what was sent")
    siem.add_argument("--since", default="1d", metavar="TIME", help="the first run begins here (default: 1d ago)")
    siem.add_argument("--follow", type=_count, metavar="SECONDS", help="go on, with so long between rounds")
    siem.add_argument("--headers-file", type=Path, metavar="FILE", help="lines `name: value` for https (a key)")
    siem.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM authorities of its certificate")
    siem.add_argument("--s3-region", default="us-east-1", metavar="REGION", help="of s3://... (default: us-east-1)")
    siem.add_argument("--s3-endpoint", metavar="URL", help="of s3://..., where it is not AWS")
    siem.add_argument(
        "--s3-credentials", type=Path, metavar="FILE", help="of s3://..., where the usual chain is not meant"
    )
    siem.set_defaults(run=_export_siem)
    prove = _add(commands, "prove", "write a proof of one exchange that needs no bucket", _PROVE)
    what = prove.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "exchange", nargs="?", metavar="EXCHANGE", help="the id: header x-affidavit-exchange of the answer"
    )
    what.add_argument("--receipt", metavar="RECEIPT", help="instead: the header x-affidavit-receipt of the answer")
    prove.add_argument("--output", type=Path, metavar="FILE", help="where to (default: standard output)")
    _with_source(prove)
    _with_span(prove)
    prove.set_defaults(run=_prove, json=False)
    policy = _add(commands, "auditor-policy", "print the policy file for auditors", _POLICY)
    _with_gateway(policy)
    policy.set_defaults(run=_auditor_policy)


_RECONCILE = """Envoy writes a line for each request, the gate its records: both are read from the bucket and joined by
the request's id. What Envoy refused by itself gets a record; the result is signed, locked in the bucket and on record.
Without --day or --since: today so far.

Exit status: 0 if every request is accounted for, 1 if not (or the gate was passed by), 2 could not run."""

_ROLLUP = """Every log with a record of that day, at its newest signed size, in one signed note: whoever removes a log
later is found out. Without --day: yesterday. Once made it stays; run again, it is the same, or a new one that
names it."""


def _add_completeness(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reconcile = _add(commands, "reconcile", "account for every request that Envoy saw", _RECONCILE)
    _with_gateway(reconcile)
    reconcile.add_argument("--day", metavar="YYYY-MM-DD", help="requests that began on that day (UTC)")
    reconcile.add_argument("--since", metavar="TIME", help="requests that began then or later: 2026-11-25T10:30, or 2h")
    reconcile.add_argument("--until", metavar="TIME", help="and before that time (default: now)")
    rollup = _add(commands, "rollup", "sign the list of all logs of a day that is over", _ROLLUP)
    _with_gateway(rollup)
    rollup.add_argument("--day", metavar="YYYY-MM-DD", help="which day (UTC)")
    rollup.add_argument("--so-far", action="store_true", help="also of a day that is not over; nothing is stored")
    for command, run in ((reconcile, _reconcile), (rollup, _rollup)):
        command.add_argument("--json", action="store_true", help="for machines")
        command.set_defaults(run=run)


def _with_source(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--from", dest="source", metavar="SOURCE", help="s3://bucket/prefix, or the directory of an export"
    )
    _name_gateway(source)


def _name_gateway(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration")
    _of_demo(group)


def _of_demo(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument("--endpoints", type=Path, metavar="FILE", help="the endpoints file of a running demo")


def _with_keys(command: argparse.ArgumentParser) -> None:
    """For commands that read payloads: they need the gateway's keys."""
    _name_gateway(command.add_mutually_exclusive_group(required=True))
    command.set_defaults(source=None)


def _with_span(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--since",
        metavar="TIME",
        help="nothing older: 2026-11-25, 2026-11-25T10:30, 2h (ago), yesterday; in UTC",
    )
    command.add_argument("--until", metavar="TIME", help="nothing newer; a day means its end")


def _with_reader(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--by", default=_who(), metavar="WHO", help="who reads: stands in the log for ever (default: your login)"
    )


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _add_records(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    records = _add(commands, "records", "list and show what is in the bucket", _RECORDS)
    actions = records.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _add(actions, "list", "one line for each exchange, the newest last", _LIST)
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="the last N exchanges (default: 50)")
    listing.add_argument("--subject", metavar="REF", help="the caller's reference, as records have it (subject_ref)")
    listing.add_argument("--connection", metavar="NAME")
    listing.add_argument("--model", metavar="NAME", help="asked for, or served")
    listing.add_argument("--decision", choices=("allow", "deny", "none"), help="none: the policy was never asked")
    listing.add_argument("--entity", metavar="NAME", help="found or masked, for example EMAIL")
    listing.add_argument("--outcome", metavar="STATUS", help="completed, denied, refused, error, interrupted ...")
    listing.add_argument("--code", metavar="CODE", help="of the refusal")
    listing.add_argument("--json", action="store_true", help="for machines: one JSON object a line")
    _with_source(listing)
    _with_span(listing)
    listing.set_defaults(run=_list_records)
    for command in (
        _add(actions, "show", "all records of one exchange, with the objects that hold them", _SHOW),
        _add(commands, "show", "the same as `records show`", _SHOW),
    ):
        command.add_argument("exchange", help="the exchange's id: header x-affidavit-exchange of the answer")
        command.add_argument("--payloads", action="store_true", help="also decrypt and show the bodies")
        command.add_argument("--purpose", default="not stated", metavar="WHY", help="why the bodies are read")
        command.add_argument("--json", action="store_true", help="for machines: one JSON object a line")
        _with_reader(command)
        _with_source(command)
        _with_span(command)
        command.set_defaults(run=_show_record)
    replay = _add(commands, "replay", "send a recorded request once more and compare the answers", _REPLAY)
    replay.add_argument("exchange", help="the exchange's id")
    replay.add_argument("--upstream", required=True, metavar="URL", help="the server to ask")
    replay.add_argument("--credential", type=Path, metavar="FILE", help="holds the server's credential")
    replay.add_argument("--header", default="authorization", metavar="NAME", help="that carries it")
    replay.add_argument("--prefix", default="Bearer ", metavar="TEXT", help="before it in the header")
    replay.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for the whole answer")
    replay.add_argument("--json", action="store_true", help="for machines: one JSON object")
    _with_reader(replay)
    _with_keys(replay)
    _with_span(replay)
    replay.set_defaults(run=_replay)
    query = _add(commands, "query", "ask the records with SQL, on this machine (DuckDB)", _QUERY)
    query.add_argument("sql", metavar="SQL", help="one SELECT over the tables leaves and exchanges")
    query.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "affidavit", metavar="DIR", help="keeps what was fetched"
    )
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")
    query.add_argument("--memory", default="1GB", metavar="SIZE", help="that the engine may take (default: 1GB)")
    _with_source(query)
    _with_span(query)
    query.set_defaults(run=_query)


_ERASE = """Destroys the person's key: what was sealed with it stays where it is, proven and unreadable. Each step
is a record. A legal hold forbids it. Run again after a crash, it finishes what was begun.

Exit status: 0 no key of the person is left, 1 refused by a hold or never had one, 2 could not run."""

_HOLD = """While a hold is in force nobody can erase the person's content. A person has as many holds as there are
cases; placed again under its name, a hold gets the new end."""

_ROTATE = """COPY is the configuration with the new key under audit.signing, and nothing else changed. Writes a
manifest, signed by both keys, into the bucket (v1/keys/) and a record; changes no file here, and says what
to do next."""

_CANARY = """Lays a small bait in the bucket and tries, with the gateway's own credentials, to delete, shorten,
overwrite and unlock it. The gateway does so itself at start and daily (audit.canary_hours). What was found
is a record. Exit status 1 if the store let anything happen."""


def _add_custody(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    erase = _add(commands, "erase", "destroy a person's key, so that nobody can read their content", _ERASE)
    _with_person(erase)
    _with_order(erase)
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.add_argument("--json", action="store_true", help="for machines: one JSON object")
    _with_gateway(erase)
    erase.set_defaults(run=_erase)
    holds = _add(commands, "legal-hold", "forbid that a person's content is erased", _HOLD)
    actions = holds.add_subparsers(title="actions", metavar="ACTION", required=True)
    place = _add(actions, "place", "forbid it, for a case")
    release = _add(actions, "release", "the case is over")
    for action in (place, release):
        _with_person(action)
        action.add_argument("--name", required=True, metavar="CASE", help="the hold's name, for example case-2026-17")
        _with_order(action)
        _with_config(action)
    place.add_argument("--until", metavar="TIME", help="when it ends by itself (default: when it is released)")
    place.set_defaults(run=_place_hold)
    release.set_defaults(run=_release_hold)
    listing = _add(actions, "list", "the holds in force, of everybody or of one person")
    _with_person(listing, is_required=False)
    listing.add_argument("--json", action="store_true", help="for machines: one JSON object a line")
    _with_config(listing)
    listing.set_defaults(run=_list_holds)
    keys = _add(commands, "keys", "the keys that sign the log")
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = _add(actions, "create", "make a key file")
    create.add_argument("file", type=Path, metavar="FILE")
    create.set_defaults(run=_create_key)
    rotate = _add(actions, "rotate", "introduce the next key, by the one before it", _ROTATE)
    _with_config(rotate)
    rotate.add_argument("--new-config", type=Path, required=True, metavar="COPY", help="names the new key")
    rotate.add_argument(
        "--handover-hours",
        type=_hours,
        default=24,
        metavar="HOURS",
        help="how long the old key still counts, to restart every replica in (default: 24; 0: it was stolen)",
    )
    rotate.set_defaults(run=_rotate_keys)
    canary = _add(commands, "canary", "try whether the store keeps what it locks", _CANARY)
    canary.add_argument(
        "--config",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help="the configuration (YAML); given again, the stores are shown side by side",
    )
    canary.add_argument("--json", action="store_true", help="for machines: one JSON object")
    canary.set_defaults(run=_canary)


def _with_person(command: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    who = command.add_mutually_exclusive_group(required=is_required)
    who.add_argument("--subject", metavar="S", help="the person, as the token or certificate names them")
    who.add_argument("--reference", metavar="REF", help="or as records do: actor.subject_ref (hmac-sha256:...)")
    command.add_argument("--issuer", metavar="URL", help="of the token (default: the only one configured)")
    command.add_argument("--tenant", metavar="T", help="the token's tenant, if it has one")


def _with_order(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reason", required=True, metavar="TEXT", help="stands in the log for ever: a ticket, say")
    command.add_argument("--by", default=_who(), metavar="WHO", help="by whose order, likewise (default: your login)")


_APPROVALS = """What waits for people to agree, from a terminal. Who is acting is whom the token says (--token, or
AFFIDAVIT_TOKEN): the rules are those of the console, and everything is on record. Where the console is, --url says,
or its configuration (--config), or the endpoints file of a demo.

A whole round. Somebody calls a model for which the policy wants a second person, and waits (a call of your own you
cannot approve). As an approver:

  export AFFIDAVIT_TOKEN=$(affidavit demo token --subject bob --groups approvers --endpoints /tmp/demo.json)
  affidavit approvals list --endpoints /tmp/demo.json          # its first column is the ID
  affidavit approvals show ID --endpoints /tmp/demo.json       # who asks, why it waits, what the model would get
  affidavit approvals approve ID --justification "case 2026-17, spoken about with Ada" --endpoints /tmp/demo.json

and the caller has the answer. `deny` instead: the caller gets 403. Where two people must agree, the first one is told
so, and the call waits on.

Exit status: 0 done, 1 refused (it says why), 2 could not run: no token, no address, no answer."""


def _add_approvals(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    approvals = _add(commands, "approvals", "calls that wait for people: list, show, approve, deny", _APPROVALS)
    actions = approvals.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _add(actions, "list", "what waits for somebody like you, the oldest first")
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="at most N (default: 50)")
    show = _add(actions, "show", "one call: who, what, why it waits, and what the model would get")
    show.add_argument("--clear", action="store_true", help="as it came, if the policy lets you read that")
    approve = _add(actions, "approve", "agree: the call passes once, if enough people do")
    deny = _add(actions, "deny", "do not agree: the call is refused")
    channels = _add(actions, "channels", "where approvers hear of calls that wait")
    told = channels.add_subparsers(title="actions", metavar="ACTION", required=True)
    test = _add(told, "test", "send a test message on each channel, and say what came back", _CHANNELS)
    test.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration (YAML)")
    test.add_argument("--json", action="store_true", help="for machines")
    test.set_defaults(run=_test_channels)
    for answer, action in (("approve", approve), ("deny", deny)):
        action.add_argument(
            "--justification", required=True, metavar="TEXT", help="why: kept, encrypted, with the record"
        )
        action.set_defaults(answer=answer)
    for action, run in ((listing, _list_approvals), (show, _show_approval), (approve, _resolve), (deny, _resolve)):
        if action is not listing:
            action.add_argument("hold", metavar="ID")
        where = action.add_mutually_exclusive_group()
        where.add_argument("--url", metavar="URL", help="the console's address")
        _name_gateway(where)
        action.add_argument(
            "--token", metavar="TOKEN", help="who is acting (default: AFFIDAVIT_TOKEN in the environment)"
        )
        action.add_argument("--json", action="store_true", help="for machines: what the API says")
        action.set_defaults(run=run)


_CHANNELS = """A test message on each channel of the configuration (approvals.channels): `sent`, or why not in a word.
Exit status: 0 all were sent, 1 one was not, 2 could not run."""


def _test_channels(options: argparse.Namespace) -> int:
    from ext_proc.app import channels

    return channels.tested(options.config, as_json=options.json)


def _list_approvals(options: argparse.Namespace) -> int:
    from ext_proc.app import approving

    return approving.listed(_desk(options), limit=options.limit, as_json=options.json)


def _show_approval(options: argparse.Namespace) -> int:
    from ext_proc.app import approving

    return approving.shown(_desk(options), options.hold, wants_clear=options.clear, as_json=options.json)


def _resolve(options: argparse.Namespace) -> int:
    from ext_proc.app import approving

    desk = _desk(options)
    return approving.resolve(desk, options.hold, options.answer, options.justification, as_json=options.json)


def _desk(options: argparse.Namespace) -> Desk:
    from ext_proc.app.approving import Desk

    return Desk.of(options.url, options.config, options.endpoints, options.token)


_CONSOLE = """Pages and an API for the people who approve, audit and operate. Runs beside `affidavit serve`, with its
configuration; calls go on without it, only nobody can approve any. Listens at `console.listen`; TLS is ended before it.

  console:
    public_url: https://desk.example.com       # register https://desk.example.com/login/callback at your issuer
    client_id: affidavit-console
    roles: {approver: [approvers], auditor: [auditors], operator: [platform]}

  affidavit check-config --config gate.yaml
  affidavit console --config gate.yaml         # then open https://desk.example.com

The log is JSON lines on standard error; /health says that it answers (docs/console.md, docs/operating.md). It ends with
SIGTERM or SIGINT; people sign in again after a restart.

Exit status: 0 stopped, 2 could not start (it says which field, file or address)."""


def _console(options: argparse.Namespace) -> int:
    from ext_proc.app import console

    return console.run(options.config)


_RULES_TEST = """FILE is a pack of your own (docs/redaction.md, section `Your own rules`); without it, the built-in
packs are tried. Shows the samples that did not do as they say, how fast the rules are, and, with --stdin, what they
find in a text of yours. A pack with a rule that could be slow or hold a stream back for ever is refused: with the
reason, and with what to write instead. Of a hit that is not found it says whether the anchor, the pattern,
the validator or the distance between them is why.

  affidavit rules test my-rules.yaml
  echo 'my badge is XY-1234' | affidavit rules test my-rules.yaml --stdin

Exit status: 0 all samples as they say, 1 some are not, 2 the pack is refused or cannot be read."""


def _add_rules(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rules = _add(commands, "rules", "what is looked for in texts")
    actions = rules.add_subparsers(title="actions", metavar="ACTION", required=True)
    test = _add(actions, "test", "try a pack of rules on its samples and on a text", _RULES_TEST)
    test.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the pack (default: the built-in ones)")
    test.add_argument("--stdin", action="store_true", help="also show what is found in the text on standard input")
    test.add_argument("--json", action="store_true", help="for machines: one JSON object")
    test.set_defaults(run=_test_rules)


def _test_rules(options: argparse.Namespace) -> int:
    from ext_proc.app.rules import run

    return run(options.file, reads_stdin=options.stdin, as_json=options.json)


_FIELDS_TEST = """RULES is a YAML file with rules for fields (docs/redaction.md, section `Fields`): as under
`redaction.fields` of a connection, `request` and `response` with a list each, or one list. BODY is a body of your own
(`-`: standard input). Shows it before and after, with what was taken out and what was not scanned. What the scan finds
beside is masked, as if the policy said nothing of it.

  affidavit fields test rules.yaml request.json
  affidavit fields test rules.yaml answer.json --answer --protocol openai.chat
  affidavit fields test rules.yaml answer.sse --answer --protocol openai.chat

Exit status: 0 it passes, 1 a rule blocks it, 2 the rules or the body are refused or cannot be read."""


_PROTOCOLS = """openai.chat, openai.completions, openai.responses, openai.embeddings, anthropic.messages,
anthropic.count_tokens, or generic (default)"""


def _add_fields(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fields = _add(commands, "fields", "what is done with the fields of bodies")
    actions = fields.add_subparsers(title="actions", metavar="ACTION", required=True)
    test = _add(actions, "test", "try rules for fields on a body", _FIELDS_TEST)
    test.add_argument("rules", type=Path, metavar="RULES", help="the rules")
    test.add_argument("body", type=Path, metavar="BODY", help="a JSON body, or a stream of events (with --answer)")
    test.add_argument("--answer", action="store_true", help="the body is a model's answer (default: a request)")
    test.add_argument("--protocol", default="generic", metavar="NAME", help=_PROTOCOLS)
    test.add_argument("--json", action="store_true", help="for machines: one JSON object")
    test.set_defaults(run=_test_fields)


def _test_fields(options: argparse.Namespace) -> int:
    from ext_proc.app.field_trial import run

    return run(options.rules, options.body, options.protocol, is_answer=options.answer, as_json=options.json)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = _add(commands, "demo", "run everything on this machine and tell the story", _DEMO)
    demo.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C instead of telling the story")
    demo.add_argument("--endpoints", type=Path, metavar="FILE", help="where to write what is where (JSON)")
    demo.add_argument("--upstream", metavar="URL", help="another model server behind the connection")
    demo.add_argument("--policy", type=Path, metavar="DIR", help="another policy than opa/ (with --keep)")
    demo.set_defaults(run=_demo)
    actions = demo.add_subparsers(title="actions", metavar="ACTION")
    token = _add(actions, "token", "print an access token of the demo's issuer", _FOR_CALLERS)
    token.add_argument("--subject", required=True, help="who the token says you are")
    token.add_argument("--groups", nargs="*", default=[], metavar="GROUP", help="the groups that it puts you in")
    token.add_argument(
        "--endpoints", type=Path, required=True, metavar="FILE", help="the file that `demo --keep` wrote"
    )
    token.set_defaults(run=_demo_token)


# Each command imports what it needs: a worker must not pay for the demo's imports. ------------------------------------


def _serve(options: argparse.Namespace) -> int:
    from ext_proc.app import supervisor

    return supervisor.run(options.config)


def _work(options: argparse.Namespace) -> int:
    from ext_proc.app import worker

    return worker.run(options.config, options.index)


def _ship(options: argparse.Namespace) -> int:
    from ext_proc.app import shipping

    return shipping.run(options.config)


def _fork_server(options: argparse.Namespace) -> int:
    from ext_proc.app import fork_server

    with socket.socket(fileno=options.channel) as channel:
        arguments = fork_server.serve(channel)
    return 0 if arguments is None else main(arguments)  # a child goes on as the command that it was forked for


def _check_config(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, edge_files, two_names
    from ext_proc.config import files_missing, read

    path = commands.path_of(options.config, options.endpoints)
    config, digest = read(path)
    edge_files.check(config)
    for warning in (*files_missing(config), *two_names.warnings(config)):
        print(f"affidavit: warning: {warning}", file=sys.stderr)
    names = ", ".join(connection.name for connection in config.connections)
    print(f"{path}: valid (SHA-256 {digest}); connections: {names}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ext_proc.app import doctor
    from ext_proc.app.commands import path_of

    return doctor.run(path_of(options.config, options.endpoints), options.policy, as_json=options.json)


def _render(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, edge_files

    config, _ = commands.config_of(options.config, options.endpoints)
    if config.policy.distribution is not None:
        from ext_proc.app.distribution import write_opa_config

        write_opa_config(config, config.policy.distribution)
    print(edge_files.write(config).bootstrap)
    return 0


def _reload(options: argparse.Namespace) -> int:
    from ext_proc.app import commands

    return commands.reload(commands.path_of(options.config, options.endpoints))


def _store(options: argparse.Namespace) -> VersionedStore:
    from ext_proc.app import auditing, commands

    config = None if options.source else commands.config_of(options.config, options.endpoints)[0]
    return auditing.store_of_source(options.source, config)


@contextmanager
def _custody(options: argparse.Namespace) -> Iterator[tuple[KeyRing, Journal]]:
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
    from ext_proc.app import reading

    return reading.run_list(_store(options), options)


def _show_record(options: argparse.Namespace) -> int:
    from ext_proc.app import reading

    if not options.payloads:
        return reading.run_show(_store(options), options, None, None)
    with _custody(options) as (keyring, journal):
        return reading.run_show(_store(options), options, keyring, journal)


def _replay(options: argparse.Namespace) -> int:
    from ext_proc.app import reading

    with _custody(options) as (keyring, journal):
        return reading.run_replay(_store(options), options, keyring, journal)


def _query(options: argparse.Namespace) -> int:
    from ext_proc.app import reading

    return reading.run_query(_store(options), options)


def _verify(options: argparse.Namespace) -> int:
    from ext_proc.app import auditing

    source, policy = options.source, options.policy
    if options.endpoints is not None:
        source, policy = auditing.of_demo(options.endpoints, policy)
    elif policy is None:
        raise ConfigError("--policy FILE: the auditor's policy (`affidavit auditor-policy` prints it) is needed")
    return auditing.verify_source(
        source,
        policy,
        options.receipts,
        options.jobs,
        with_payloads=not options.without_payloads,
        as_json=options.json,
    )


def _export(options: argparse.Namespace) -> int:
    from ext_proc.app import auditing, reading

    source = options.source if options.endpoints is None else auditing.of_demo(options.endpoints, None)[0]
    return reading.run_export(auditing.store_of_source(source, None), options)


def _export_siem(options: argparse.Namespace) -> int:
    from ext_proc.app import registry, siem
    from ext_proc.app.process import clock
    from ext_proc.evidence.times import parse_time

    since = parse_time(options.since, clock())
    headers = registry.headers_of(options.headers_file) if options.headers_file else {}
    s3 = {
        "region": options.s3_region, "endpoint": options.s3_endpoint, "credentials_file": options.s3_credentials,
    }  # fmt: skip
    return siem.run(
        _store(options),
        lambda pause: siem.sink_of(options.to, headers, pause, options.ca_file, s3),
        options.state,
        since,
        options.follow,
    )


def _prove(options: argparse.Namespace) -> int:
    from ext_proc.app import reading

    return reading.run_prove(_store(options), options)


def _auditor_policy(options: argparse.Namespace) -> int:
    from ext_proc.app import auditing, commands

    return auditing.print_auditor_policy(commands.path_of(options.config, options.endpoints))


def _reconcile(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, completeness

    path = commands.path_of(options.config, options.endpoints)
    return completeness.reconcile_requests(path, options.day, options.since, options.until, as_json=options.json)


def _rollup(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, completeness

    path = commands.path_of(options.config, options.endpoints)
    return completeness.roll_up_day(path, options.day, so_far=options.so_far, as_json=options.json)


def _erase(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, custody

    order, path = _order(options), commands.path_of(options.config, options.endpoints)
    return custody.erase(path, _person(options), order, is_sure=options.yes, as_json=options.json)


def _place_hold(options: argparse.Namespace) -> int:
    from ext_proc.app import custody

    return custody.place_hold(options.config, _person(options), options.name, options.until, _order(options))


def _release_hold(options: argparse.Namespace) -> int:
    from ext_proc.app import custody

    return custody.release_hold(options.config, _person(options), options.name, _order(options))


def _list_holds(options: argparse.Namespace) -> int:
    from ext_proc.app import custody

    person = _person(options) if options.subject or options.reference else None
    return custody.list_holds(options.config, person, as_json=options.json)


def _create_key(options: argparse.Namespace) -> int:
    from ext_proc.app import custody

    return custody.create_key(options.file)


def _rotate_keys(options: argparse.Namespace) -> int:
    from ext_proc.app import custody

    return custody.rotate_keys(options.config, options.new_config, options.handover_hours)


def _canary(options: argparse.Namespace) -> int:
    from ext_proc.app import canary

    return canary.run(options.config, as_json=options.json)


def _person(options: argparse.Namespace) -> Person:
    from ext_proc.app.custody import Person

    return Person(options.reference, options.subject, options.issuer, options.tenant)


def _order(options: argparse.Namespace) -> Order:
    from ext_proc.audit.erasure import Order

    return Order(options.reason, options.by)


def _demo(options: argparse.Namespace) -> int:
    from ext_proc.demo import run_demo

    return run_demo(keep=options.keep, endpoints=options.endpoints, upstream=options.upstream, policy=options.policy)


def _demo_token(options: argparse.Namespace) -> int:
    from ext_proc.demo import print_token

    return print_token(options.subject, options.groups, options.endpoints)
