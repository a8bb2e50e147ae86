"""What the supervisor starts, not people: a parser of its own, so that no list of commands names it."""

from __future__ import annotations

import argparse
import socket

from ext_proc.cli.building import with_config

INNER = (["work"], ["ship"], ["fork-server"])
"""Commands of the supervisor, not of people."""


def inner_parser() -> argparse.ArgumentParser:
    """What the supervisor starts, not people: a parser of its own, so that no list of commands names it."""
    parser = argparse.ArgumentParser(prog="affidavit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    work = commands.add_parser("work")
    with_config(work)
    work.add_argument("--index", type=int, required=True)
    work.set_defaults(run=_work)
    ship = commands.add_parser("ship")
    with_config(ship)
    ship.add_argument("--listen", metavar="HOST:PORT")
    ship.set_defaults(run=_ship)
    forks = commands.add_parser("fork-server")
    forks.add_argument("--channel", type=int, required=True)
    forks.set_defaults(run=_fork_server)
    return parser


def _work(options: argparse.Namespace) -> int:
    from ext_proc.app.serving import worker

    return worker.run(options.config, options.index)


def _ship(options: argparse.Namespace) -> int:
    from ext_proc.app.serving import shipping

    return shipping.run(options.config, options.listen)


def _fork_server(options: argparse.Namespace) -> int:
    from ext_proc.app.serving import fork_server
    from ext_proc.cli import main

    with socket.socket(fileno=options.channel) as channel:
        arguments = fork_server.serve(channel)
    return 0 if arguments is None else main(arguments)  # a child goes on as the command that it was forked for
