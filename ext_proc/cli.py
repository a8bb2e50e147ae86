"""The command ``affidavit``: commands only, no logic."""

from __future__ import annotations

import argparse
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
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ConfigError as error:
        print(f"affidavit: configuration: {error.detail}", file=sys.stderr)
        return 2
    except GateError as error:
        print(f"affidavit: {error.code}: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
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


def _with_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration (YAML)")


def _add_serving(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve", help="run the gate: render Envoy's files, start workers and shipper, keep them running"
    )
    _with_config(serve)
    serve.set_defaults(run=_serve)
    check = commands.add_parser("check-config", help="read the configuration and say what is wrong with it")
    _with_config(check)
    check.set_defaults(run=_check_config)
    render = commands.add_parser("render", help="write Envoy's files without starting anything")
    _with_config(render)
    render.set_defaults(run=_render)
    reload_ = commands.add_parser("reload", help="take over changed connections, without a restart")
    _with_config(reload_)
    reload_.set_defaults(run=_reload)
    # Started by the supervisor, not by people: without help they stay out of the list.
    work = commands.add_parser("work")
    _with_config(work)
    work.add_argument("--index", type=int, required=True)
    work.set_defaults(run=_work)
    ship = commands.add_parser("ship")
    _with_config(ship)
    ship.set_defaults(run=_ship)


def _add_records(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    records = commands.add_parser("records", help="list and show what is in the bucket")
    actions = records.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="one line for each exchange, the newest last")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="the last N exchanges (default: 50)")
    showing = actions.add_parser("show", help="all records of one exchange, with the objects that hold them")
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
    demo = commands.add_parser("demo", help="run everything on this machine and tell the story")
    demo.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C instead of telling the story")
    demo.add_argument("--endpoints", type=Path, metavar="FILE", help="where to write what is where (JSON)")
    demo.add_argument("--upstream", metavar="URL", help="another model server behind the connection")
    demo.set_defaults(run=_demo)
    actions = demo.add_subparsers(title="actions", metavar="ACTION")
    token = actions.add_parser("token", help="print an access token of the demo's issuer")
    token.add_argument("--subject", required=True)
    token.add_argument("--groups", nargs="*", default=[])
    token.add_argument("--endpoints", type=Path, required=True, metavar="FILE")
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
    from ext_proc.config import load

    config, digest = load(options.config)
    names = ", ".join(connection.name for connection in config.connections)
    print(f"{options.config}: valid (SHA-256 {digest}); connections: {names}")
    return 0


def _render(options: argparse.Namespace) -> int:
    from ext_proc.app import registry
    from ext_proc.config import load
    from ext_proc.edge import write_edge

    config, _ = load(options.config)
    print(write_edge(registry.edge_settings(config), registry.edge_connections(config)).bootstrap)
    return 0


def _reload(options: argparse.Namespace) -> int:
    from ext_proc.app import commands

    return commands.reload(options.config)


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
