"""The command ``affidavit``: commands only, no logic. A module for each group of them, by who types them.

Each command imports what it needs when it runs: a worker must not pay for the demo's imports.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ext_proc import __version__
from ext_proc.cli import output
from ext_proc.cli.approvals import add_approvals
from ext_proc.cli.auditing import add_auditing, add_completeness
from ext_proc.cli.building import Parser, Prose
from ext_proc.cli.cluster import add_cluster
from ext_proc.cli.custody import add_custody
from ext_proc.cli.demo import add_demo
from ext_proc.cli.inner import INNER, inner_parser
from ext_proc.cli.policy import add_policy
from ext_proc.cli.recorded import add_recorded
from ext_proc.cli.records import add_records
from ext_proc.cli.rules import add_fields, add_rules
from ext_proc.cli.serving import add_serving
from ext_proc.errors import ConfigError, GateError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_ABOUT = """The auditable inference gateway.

Callers use their OpenAI or Anthropic client with another base URL. Envoy asks this program at every phase: who calls,
what is in it, may they; personal data is masked both ways, and what happened is on record before it happens."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 something was found or failed, 2 could not run."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if sys.stdout is None:  # and the next file that is opened would be it
        print("affidavit: standard output is closed: send it somewhere, or to /dev/null", file=sys.stderr)
        return 2
    output.make_safe()
    try:
        status = _run(typed)
        sys.stdout.flush()  # here, where a reader that has left is no error of ours
    except GateError as error:
        what = "configuration" if isinstance(error, ConfigError) else error.code
        print(f"affidavit: {what}: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        status = 130
    except (BrokenPipeError, SystemExit) as error:
        # rich ends with 1 then, and of `verify` that would say that something was found.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        output.give_up()
        return 141
    except OSError as error:
        if error.errno not in output.NO_ROOM:
            raise
        output.give_up()
        print(
            f"affidavit: output could not be written: {error.strerror}: make room, run it again",
            file=sys.stderr,
        )
        return 2
    if status == 130 and arguments is None:
        output.leave(status)
    return status


def _run(typed: list[str]) -> int:
    parser = inner_parser() if typed[:1] in INNER else build_parser()
    try:
        options = parser.parse_args(typed)
    except SystemExit as ended:  # help, or what is not to be read; the output is not flushed yet
        return int(ended.code or 0)
    status: int = options.run(options)
    return status


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser: argparse.ArgumentParser = Parser(prog="affidavit", description=_ABOUT, formatter_class=Prose)
    parser.add_argument("--version", action="version", version=f"affidavit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_serving(commands)
    add_cluster(commands)
    add_records(commands)
    add_approvals(commands)
    add_auditing(commands)
    add_completeness(commands)
    add_custody(commands)
    add_rules(commands)
    add_fields(commands)
    add_recorded(add_policy(commands))
    add_demo(commands)
    return parser
