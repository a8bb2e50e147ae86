"""``verify``, ``export``, ``export-siem``, ``prove``, ``auditor-policy``, ``reconcile``, ``rollup``: the auditor's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli.building import add, count, name_gateway, of_demo, with_gateway, with_source, with_span
from ext_proc.cli.records import store
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    import argparse

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

  affidavit export-siem --config config.yaml --state siem.json --to ocsf.jsonl
  affidavit export-siem s3://evidence --state siem.json --follow 10 \\
    --to https://siem.example.com/in --headers-file key

Exit status: 0 all was sent, 1 an object of the bucket is damaged (its log waits there), 2 could not run."""


_PROVE = """One JSON file: the records of an exchange, each with its inclusion proof and the signed checkpoint. Whoever
has it and the auditor's policy needs no bucket: affidavit verify FILE --policy POLICY"""


_POLICY = """The one file that an auditor needs beside the bucket: the gateway's name, its public keys and what
was promised. Give it to them by a way that they trust; it holds no secret."""


def add_auditing(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add what reads the bucket to prove something."""
    verify = add(commands, "verify", "prove that nothing was changed and nothing is missing", _VERIFY)
    what = verify.add_mutually_exclusive_group(required=True)
    what.add_argument("source", nargs="?", metavar="SOURCE")
    of_demo(what)
    verify.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="the auditor's policy file (with --endpoints: the demo's, if left out)",
    )
    verify.add_argument("--receipts", type=Path, metavar="FILE", help="also redeem these receipts, one a line")
    verify.add_argument("--jobs", type=count, default=2, metavar="N", help="processes (default: 2)")
    verify.add_argument("--without-payloads", action="store_true", help="do not read the encrypted bodies")
    verify.add_argument(
        "--json", action="store_true", help="{ok, leaves, epochs, findings: [{code, object, explanation}]}"
    )
    verify.set_defaults(run=_verify)
    export = add(commands, "export", "copy a bucket into a directory, with each log as a C2SP tree", _EXPORT)
    bucket = export.add_mutually_exclusive_group(required=True)
    bucket.add_argument("source", nargs="?", metavar="s3://BUCKET/PREFIX")
    of_demo(bucket)
    export.add_argument("directory", type=Path, metavar="DIR", help="a new directory; it appears when it is complete")
    export.add_argument("--json", action="store_true", help="for machines: one JSON object")
    export.set_defaults(run=_export)
    siem = add(commands, "export-siem", "send events to a SIEM, in OCSF (API Activity)", _SIEM)
    bucket = siem.add_mutually_exclusive_group(required=True)
    bucket.add_argument("source", nargs="?", metavar="SOURCE", help="s3://BUCKET/PREFIX, or an export's directory")
    name_gateway(bucket)
    siem.add_argument("--to", required=True, metavar="PLACE", help="a file, s3://BUCKET/PREFIX or https://...")
    siem.add_argument("--state", type=Path, required=True, metavar="FILE", help="remembers what was sent")
    siem.add_argument("--since", default="1d", metavar="TIME", help="the first run begins here (default: 1d ago)")
    siem.add_argument("--follow", type=count, metavar="SECONDS", help="go on, with so long between rounds")
    siem.add_argument("--headers-file", type=Path, metavar="FILE", help="lines `name: value` for https (a key)")
    siem.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM authorities of its certificate")
    siem.add_argument("--s3-region", default="us-east-1", metavar="REGION", help="of s3://... (default: us-east-1)")
    siem.add_argument("--s3-endpoint", metavar="URL", help="of s3://..., where it is not AWS")
    siem.add_argument(
        "--s3-credentials", type=Path, metavar="FILE", help="of s3://..., where the usual chain is not meant"
    )
    siem.set_defaults(run=_export_siem)
    prove = add(commands, "prove", "write a proof of one exchange that needs no bucket", _PROVE)
    what = prove.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "exchange", nargs="?", metavar="EXCHANGE", help="the id: header x-affidavit-exchange of the answer"
    )
    what.add_argument("--receipt", metavar="RECEIPT", help="instead: the header x-affidavit-receipt of the answer")
    prove.add_argument("--output", type=Path, metavar="FILE", help="where to (default: standard output)")
    with_source(prove)
    with_span(prove)
    prove.set_defaults(run=_prove, json=False)
    policy = add(commands, "auditor-policy", "print the policy file for auditors", _POLICY)
    with_gateway(policy)
    policy.set_defaults(run=_auditor_policy)


_RECONCILE = """Envoy writes a line for each request, the gate its records: both are read from the bucket and joined by
the request's id. What Envoy refused by itself gets a record; the result is signed, locked in the bucket and on record.
Without --day or --since: today so far.

Exit status: 0 if every request is accounted for, 1 if not (or the gate was passed by), 2 could not run."""


_ROLLUP = """Every log with a record of that day, at its newest signed size, in one signed note: whoever removes a log
later is found out. Without --day: yesterday. Once made it stays; run again, it is the same, or a new one that
names it."""


def add_completeness(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add what accounts for requests, and for logs."""
    reconcile = add(commands, "reconcile", "account for every request that Envoy saw", _RECONCILE)
    with_gateway(reconcile)
    reconcile.add_argument("--day", metavar="YYYY-MM-DD", help="requests that began on that day (UTC)")
    reconcile.add_argument("--since", metavar="TIME", help="requests that began then or later: 2026-11-25T10:30, or 2h")
    reconcile.add_argument("--until", metavar="TIME", help="and before that time (default: now)")
    rollup = add(commands, "rollup", "sign the list of all logs of a day that is over", _ROLLUP)
    with_gateway(rollup)
    rollup.add_argument("--day", metavar="YYYY-MM-DD", help="which day (UTC)")
    rollup.add_argument("--so-far", action="store_true", help="also of a day that is not over; nothing is stored")
    for command, run in ((reconcile, _reconcile), (rollup, _rollup)):
        command.add_argument("--json", action="store_true", help="for machines")
        command.set_defaults(run=run)


def _verify(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import auditing

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
    from ext_proc.app.evidence import auditing, reading

    source = options.source if options.endpoints is None else auditing.of_demo(options.endpoints, None)[0]
    return reading.run_export(auditing.store_of_source(source, None), options)


def _export_siem(options: argparse.Namespace) -> int:
    from ext_proc.app import registry
    from ext_proc.app.evidence import siem
    from ext_proc.app.process import clock
    from ext_proc.evidence.times import parse_time

    since = parse_time(options.since, clock())
    headers = registry.headers_of(options.headers_file) if options.headers_file else {}
    s3 = {
        "region": options.s3_region, "endpoint": options.s3_endpoint, "credentials_file": options.s3_credentials,
    }  # fmt: skip
    return siem.run(
        store(options),
        lambda pause: siem.sink_of(options.to, headers, pause, options.ca_file, s3),
        options.state,
        since,
        options.follow,
    )


def _prove(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import reading

    return reading.run_prove(store(options), options)


def _auditor_policy(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import auditing

    return auditing.print_auditor_policy(commands.path_of(options.config, options.endpoints))


def _reconcile(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import completeness

    path = commands.path_of(options.config, options.endpoints)
    return completeness.reconcile_requests(path, options.day, options.since, options.until, as_json=options.json)


def _rollup(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import completeness

    path = commands.path_of(options.config, options.endpoints)
    return completeness.roll_up_day(path, options.day, so_far=options.so_far, as_json=options.json)
