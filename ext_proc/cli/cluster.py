"""``affidavit drain`` and ``affidavit check-installation``: what whoever runs the gateway in a cluster starts."""

from __future__ import annotations

import argparse
from pathlib import Path

from ext_proc.cli.building import add, origin, with_config

_DRAIN = """Envoy says on every answer that callers should go elsewhere, closes its listeners, and whoever is in there
gets an answer. Then Envoy may be stopped, and `affidavit serve` after it. With --at-end it waits for SIGTERM first: as
the main container of a pod (helm/affidavit) it makes the pod leave in order.

  affidavit drain --config config.yaml && kill $ENVOY && kill $SERVE

Exit status: 0 nobody is in there any more, 1 some still are after the deadline, or Envoy ended under them, 2 could not
run (with --at-end, 0 where there is no Envoy: a pod that ends has nobody in there then)."""

_CHECK = """A call through the gateway, as a caller makes it; then the bucket is read: are its records there, do their
proofs hold, are they locked? What `helm test` runs. The token is one that the policy lets through: in a file, or from
the issuer (--token-endpoint, and a folder with the files client_id and client_secret).

  affidavit check-installation --config config.yaml --token-file token \\
    --url https://gateway.example.com

Exit status: 0 called, recorded, proved and locked, 1 one of these is not so, 2 could not run."""

_BODY = '{"model": "test", "max_tokens": 8, "messages": [{"role": "user", "content": "Does this installation work?"}]}'


def add_cluster(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands."""
    _add_drain(commands)
    _add_check(commands)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 604_800:
        raise argparse.ArgumentTypeError("seconds are wanted: 0 or more, a week at most")
    return seconds


def _add_drain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    drain = add(commands, "drain", "let Envoy take nobody new, and wait until nobody is in there", _DRAIN)
    with_config(drain)
    drain.add_argument(
        "--settle-seconds",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="how long callers may still come in (default: 5)",
    )
    drain.add_argument(
        "--deadline-seconds",
        type=_seconds,
        metavar="S",
        help="for all of it (default: the longest hold and five minutes)",
    )
    drain.add_argument("--at-end", action="store_true", help="wait for SIGTERM first")
    drain.add_argument("--listen", metavar="HOST:PORT", help="serve /live and /ready (does Envoy take requests?) there")
    drain.set_defaults(run=_drain)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = add(
        commands, "check-installation", "make one call, and look whether its record is locked in the store", _CHECK
    )
    with_config(check)
    check.add_argument("--url", type=origin, required=True, metavar="URL", help="the gateway, without a path")
    check.add_argument("--path", default="/v1/chat/completions", metavar="PATH", help="what is called")
    check.add_argument("--body", default=_BODY, metavar="JSON", help="what is sent")
    check.add_argument("--certificate", type=Path, metavar="FILE", help="the gateway's own certificate (PEM): pins it")
    who = check.add_mutually_exclusive_group(required=True)
    who.add_argument("--token-file", type=Path, metavar="FILE", help="an access token")
    who.add_argument("--token-endpoint", type=origin, metavar="URL", help="where to get one")
    check.add_argument("--client-dir", type=Path, metavar="DIR", help="with --token-endpoint: client_id, client_secret")
    check.add_argument(
        "--form", action="append", default=[], metavar="NAME=VALUE", help="with --token-endpoint: a field more"
    )
    check.add_argument(
        "--deadline-seconds",
        type=_seconds,
        default=120.0,
        metavar="S",
        help="for the record to be there (default: 120)",
    )
    check.set_defaults(run=_check)


def _drain(options: argparse.Namespace) -> int:
    from ext_proc.app.serving import draining

    return draining.run(
        options.config,
        options.settle_seconds,
        options.deadline_seconds,
        at_end=options.at_end,
        listen=options.listen,
    )


def _check(options: argparse.Namespace) -> int:
    from ext_proc.app.doctor.installation import Call, Caller, run

    caller = Caller(options.token_file, options.token_endpoint, options.client_dir, tuple(options.form))
    call = Call(f"{options.url.rstrip('/')}{options.path}", options.body, options.certificate)
    return run(options.config, caller, call, options.deadline_seconds)
