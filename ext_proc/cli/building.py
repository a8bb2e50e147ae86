"""What the parsers of all commands have in common."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
import textwrap
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_USAGE_INDENT: Final = " " * len("usage: ")


class Prose(argparse.HelpFormatter):
    """Paragraphs are wrapped to the terminal; what is indented (a command to type, a file) stays as it is written."""

    def format_help(self) -> str:
        """Where a choice of options has no room behind a long name of the command, all of them move to the left."""
        first, blank, rest = super().format_help().partition("\n\n")
        if max(map(len, first.splitlines()), default=0) > self._width:
            name, *options = first.splitlines()
            first = "\n".join([name, *(f"{_USAGE_INDENT}{line.strip()}" for line in options)])
        return first + blank + rest

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        wrapping = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
        lines: list[str] = []
        for is_prose, some in groupby(text.strip().splitlines(), lambda line: bool(line) and not line[0].isspace()):
            block = list(some)
            lines += wrapping.wrap(" ".join(block)) if is_prose else block
        return textwrap.indent("\n".join(lines), indent)


class Parser(argparse.ArgumentParser):
    """Help that could not be written is an error, as any other output is; argparse takes no notice."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if file is sys.stdout and file is not None:
            file.write(message)
        else:
            super()._print_message(message, file)


def add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, more: str = ""
) -> argparse.ArgumentParser:
    """A command whose own help begins with its summary and says more."""
    about = f"{summary[0].upper()}{summary[1:]}{'' if summary.endswith('?') else '.'}"
    return commands.add_parser(
        name,
        help=summary,
        description=f"{about}\n\n{more}" if more else about,
        formatter_class=Prose,
    )


def hours(text: str) -> int:
    """A number of hours, of a year at most."""
    if not text.isdecimal() or int(text) > 24 * 366:
        raise argparse.ArgumentTypeError("a number of hours from 0 on, at most a year")
    return int(text)


def count(text: str) -> int:
    """A number of things, one at least."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("1 or more is wanted")
    return int(text)


def reference(text: str) -> str:
    """A person as records have them. A name would be found in none, and an empty table looks like an answer."""
    if text != "nobody" and not re.fullmatch(r"hmac-sha256:[0-9a-f]{64}", text):
        where = "`affidavit records show` of a call of theirs has it, as actor.subject_ref"
        raise argparse.ArgumentTypeError(f"hmac-sha256: and 64 hex digits are wanted, no name: {where}")
    return text


def origin(text: str) -> str:
    """An address of HTTP: scheme, host and port."""
    try:
        parts = urlsplit(text)
        is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_origin = False
    if not is_origin:
        raise argparse.ArgumentTypeError("https://HOST:PORT is wanted, for example https://gateway.example.com")
    return text


def with_config(command: argparse.ArgumentParser) -> None:
    """The configuration, of a command that needs all of it."""
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration (YAML)")


def with_gateway(command: argparse.ArgumentParser) -> None:
    """A gateway: its configuration, or a running demo."""
    name_gateway(command.add_mutually_exclusive_group(required=True))


def name_gateway(group: argparse._MutuallyExclusiveGroup) -> None:
    """As one of several ways to say where."""
    group.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration")
    of_demo(group)


def of_demo(group: argparse._MutuallyExclusiveGroup) -> None:
    """A running demo, as one of several ways to say where."""
    group.add_argument("--endpoints", type=Path, metavar="FILE", help="the endpoints file of a running demo")


def with_source(command: argparse.ArgumentParser) -> None:
    """Where evidence is read: a bucket or export, or that of a gateway."""
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--from", dest="source", metavar="SOURCE", help="s3://bucket/prefix, or the directory of an export"
    )
    name_gateway(source)


def with_keys(command: argparse.ArgumentParser) -> None:
    """For commands that read payloads: they need the gateway's keys."""
    name_gateway(command.add_mutually_exclusive_group(required=True))
    command.set_defaults(source=None)


def with_span(command: argparse.ArgumentParser) -> None:
    """From when to when."""
    command.add_argument(
        "--since",
        metavar="TIME",
        help="nothing older: 2026-11-25, 2026-11-25T10:30, 2h (ago), yesterday; in UTC",
    )
    command.add_argument("--until", metavar="TIME", help="nothing newer; a day means its end")


def with_reader(command: argparse.ArgumentParser) -> None:
    """Who reads, for what is put on record."""
    command.add_argument(
        "--by", default=who(), metavar="WHO", help="who reads: stands in the log for ever (default: your login)"
    )


def who() -> str:
    """Whom the operating system takes us for."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def with_opa(command: argparse.ArgumentParser) -> None:
    """Which OPA is asked."""
    command.add_argument(
        "--opa", type=Path, metavar="PROGRAM", help="the OPA program (default: .tools/bin/opa, or PATH)"
    )
