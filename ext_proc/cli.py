"""The command ``affidavit``: commands only, no logic."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc import __version__
from ext_proc.errors import ConfigError, GateError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT = """The auditable inference gateway.

Callers use their OpenAI or Anthropic client with another base URL. Envoy asks this program at every phase: who calls,
what is in it, may they; personal data is masked both ways, and what happened is on record before it happens."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 something was found or failed, 2 could not run."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    options = (_inner_parser() if typed[:1] in (["work"], ["ship"]) else build_parser()).parse_args(typed)
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
    _add_records(commands)
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


def _count(text: str) -> int:
    """A number of things, one at least."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("1 or more is wanted")
    return int(text)


def _with_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration (YAML)")


def _with_gateway(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="the configuration (YAML)")
    source.add_argument("--endpoints", type=Path, metavar="FILE", help="the endpoints file of a running demo")


_SERVE = """Envoy and OPA are yours to start: Envoy with --config-path RUN_DIR/envoy/bootstrap.yaml (docs/operating.md).
SIGTERM: exchanges in flight end, logs are closed, evidence is shipped. SIGHUP: as `affidavit reload`. The
log is JSON lines on standard error; /live, /ready and /metrics are at the configuration's `metrics`."""

_CHECK = """Starts nothing and changes nothing. Prints the file's SHA-256, with which every log begins. Exit status 2 if
it is not valid, naming each field. The files that it names (keys, bundle, certificates, credentials) are not
looked at: `affidavit serve` loads keys and bundle before it starts anything."""

_RENDER = """`affidavit serve` does this itself when it starts. Prints the path of the bootstrap."""

_RELOAD = """Asks the running `affidavit serve` and waits for what it says. Only the list of connections is taken over:
if anything else in the file differs, nothing is. Each log records the change. Exit status 1 if it was not
taken over."""

_RECORDS = """Reads the bucket, not the gateway: works while nothing runs, and shows what an auditor would find. A
record is there some seconds after its exchange (audit.wal.seal_seconds, and the way to the store)."""

_LIST = """Outcomes are explained in docs/record-format.md; "in flight" where there is an intent and no outcome yet.
`masked` counts values in both directions."""

_SHOW = """Exit status 1 if there is none. With --payloads the bodies are decrypted: needs the key files and the
registry of keys that the configuration names; a body that is not the one on record is an error."""

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
    render = _add(commands, "render", "write Envoy's files without starting anything", _RENDER)
    _with_gateway(render)
    render.set_defaults(run=_render)
    reload_ = _add(commands, "reload", "take over changed connections, without a restart", _RELOAD)
    _with_gateway(reload_)
    reload_.set_defaults(run=_reload)


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
    return parser


def _add_records(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    records = _add(commands, "records", "list and show what is in the bucket", _RECORDS)
    actions = records.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _add(actions, "list", "one line for each exchange, the newest last", _LIST)
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="the last N exchanges (default: 50)")
    showing = _add(actions, "show", "all records of one exchange, with the objects that hold them", _SHOW)
    showing.add_argument("exchange", help="the exchange's id: header x-affidavit-exchange of the answer")
    showing.add_argument("--payloads", action="store_true", help="also decrypt and show the bodies")
    for action in (listing, showing):
        source = action.add_mutually_exclusive_group(required=True)
        source.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration")
        source.add_argument("--endpoints", type=Path, metavar="FILE", help="the endpoints file of a running demo")
        action.add_argument("--json", action="store_true", help="for machines: one JSON object a line")
    listing.set_defaults(run=_list_records)
    showing.set_defaults(run=_show_record)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = _add(commands, "demo", "run everything on this machine and tell the story", _DEMO)
    demo.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C instead of telling the story")
    demo.add_argument("--endpoints", type=Path, metavar="FILE", help="where to write what is where (JSON)")
    demo.add_argument("--upstream", metavar="URL", help="another model server behind the connection")
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


def _check_config(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, edge_files
    from ext_proc.config import load

    path = commands.path_of(options.config, options.endpoints)
    config, digest = load(path)
    edge_files.check(config)
    names = ", ".join(connection.name for connection in config.connections)
    print(f"{path}: valid (SHA-256 {digest}); connections: {names}")
    return 0


def _render(options: argparse.Namespace) -> int:
    from ext_proc.app import commands, edge_files

    config = commands.config_of(options.config, options.endpoints)
    print(edge_files.write(config).bootstrap)
    return 0


def _reload(options: argparse.Namespace) -> int:
    from ext_proc.app import commands

    return commands.reload(commands.path_of(options.config, options.endpoints))


def _list_records(options: argparse.Namespace) -> int:
    from ext_proc.app import commands

    return commands.list_records(commands.config_of(options.config, options.endpoints), options.limit, options.json)


def _show_record(options: argparse.Namespace) -> int:
    from ext_proc.app import commands

    config = commands.config_of(options.config, options.endpoints)
    return commands.show_record(config, options.exchange, with_payloads=options.payloads, as_json=options.json)


def _demo(options: argparse.Namespace) -> int:
    from ext_proc.demo import run_demo

    return run_demo(keep=options.keep, endpoints=options.endpoints, upstream=options.upstream)


def _demo_token(options: argparse.Namespace) -> int:
    from ext_proc.demo import print_token

    return print_token(options.subject, options.groups, options.endpoints)
