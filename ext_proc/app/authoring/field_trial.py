"""The command ``affidavit fields test``: tries rules for fields on a body, before a gateway runs with them."""

from __future__ import annotations

import json
import secrets
import sys
from typing import TYPE_CHECKING, Any, Final, get_args

from rich.console import Console
from rich.table import Table

from ext_proc import strict_yaml
from ext_proc.app.exchange.content import ContentGate
from ext_proc.config import ProtocolName
from ext_proc.errors import GateError
from ext_proc.model import Connection, Direction, Operation
from ext_proc.phases.facts import redaction_facts
from ext_proc.policy.field_rules import BadFieldRule, read_rules

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.model import FieldRule, Inspection, Redaction

PASSES, BLOCKED, REFUSED = 0, 1, 2
PROTOCOLS: Final = tuple(one for one in get_args(ProtocolName) if one not in ("opaque", "openai.models"))
"""Those with bodies that can be read."""
_LIMIT_BYTES: Final = 64 * 1024 * 1024
_JSON: Final = (("content-type", b"application/json"),)
_EVENTS: Final = (("content-type", b"text/event-stream"),)
_LINES: Final = (("content-type", b"application/x-ndjson"),)


class _RefusedError(Exception):
    """The rules or the body: the text says why."""


def run(rules: Path, body: Path, protocol: str, *, is_answer: bool, as_json: bool) -> int:
    """The command. Exit status: 0 it passes, 1 a rule blocks it, 2 refused."""
    try:
        direction = Direction.RESPONSE if is_answer else Direction.REQUEST
        read = _rules(rules, direction)
        before = _read(body)
        made, media = _tried(read, before, protocol, direction)
    except _RefusedError as refused:
        if as_json:
            print(json.dumps({"ok": False, "problem": str(refused)}, ensure_ascii=False))
        else:
            print(str(refused), file=sys.stderr)
        return REFUSED
    if as_json:
        after = None if made.blocked else made.body.decode()
        told = {"ok": not made.blocked, "before": before.decode(), "after": after, "media_count": media}
        told |= redaction_facts(made)
        print(json.dumps(told, ensure_ascii=False))
    else:
        _show(before, made, media)
    return BLOCKED if made.blocked else PASSES


def _read(path: Path) -> bytes:
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        data.decode("utf-8")
    except OSError as error:
        raise _RefusedError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _RefusedError(f"{path}: not UTF-8") from None
    return data


def _rules(path: Path, direction: Direction) -> tuple[FieldRule, ...]:
    try:
        written = strict_yaml.read(_read(path))
    except strict_yaml.BadYamlError as error:
        raise _RefusedError(f"{path}: {error}") from None
    except RecursionError:
        raise _RefusedError(f"{path}: nested too deeply") from None
    if isinstance(written, list):
        written = {direction.value: written}
    names = {one.value for one in Direction}
    is_right = isinstance(written, dict) and bool(written) and set(written) <= names
    if not is_right or not all(isinstance(one, list) for one in written.values()):
        raise _RefusedError(f"{path}: must be a list of rules, or `request` and `response` with a list each")
    read = {}
    for one in Direction:  # the other direction's rules are read too: a mistake in them is one
        try:
            read[one] = read_rules(written.get(one.value, []), one, "connection")
        except BadFieldRule as bad:
            raise _RefusedError(f"{path}: {one.value}: {bad}") from None
    if not read[direction]:
        raise _RefusedError(f"{path}: no rules for the {direction.value}")
    return read[direction]


def _tried(rules: tuple[FieldRule, ...], body: bytes, protocol: str, direction: Direction) -> tuple[Redaction, int]:
    """What becomes of it; of a request also how many parts the policy would be told cannot be scanned."""
    if protocol not in PROTOCOLS:
        raise _RefusedError(f"{protocol}: no protocol with bodies that can be read: {', '.join(PROTOCOLS)}")
    is_answer = direction is Direction.RESPONSE
    connection = Connection(
        name="trial",
        operations=(Operation("POST", "/", protocol),),
        credential=None,
        request_limit_bytes=_LIMIT_BYTES,
        response_limit_bytes=_LIMIT_BYTES,
        request_fields=() if is_answer else rules,
        response_fields=rules if is_answer else (),
    )
    gate = ContentGate(secrets.token_bytes(32))
    try:
        asked = gate.inspect(connection, "POST", "/", _JSON, b"{}" if is_answer else body)
        if not is_answer:
            return gate.redact_request(asked, ()), _media_of(asked)
        return gate.redact_response(asked, (), 200, _kind(body), body, _LIMIT_BYTES), 0
    except GateError as error:
        raise _RefusedError(f"the body cannot be read: {error.code} ({error.detail})") from None


def _media_of(asked: Inspection) -> int:
    count = asked.parameters.get("media_count")
    return count if isinstance(count, int) else 0


def _kind(body: bytes) -> tuple[tuple[str, bytes], ...]:
    """How an answer comes: by what it looks like."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return _EVENTS
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return _LINES if b"\n" in body.strip() else _JSON
    return _JSON


def _show(before: bytes, made: Redaction, media: int) -> None:
    console = Console(highlight=False)
    for title, body in (("before", before), ("after", b"(blocked)" if made.blocked else made.body)):
        console.print(f"{title}:", style="bold")
        console.print(_pretty(body), markup=False, soft_wrap=True)
    if made.removals:
        table = Table("where", "characters", "what", "action", "rule")
        for one in made.removals:
            table.add_row(one.channel, str(one.end - one.start), one.entity, one.action.value, one.rule)
        console.print(table)
    else:
        console.print("nothing was taken out")
    if made.blocked:
        console.print(f"blocked: {', '.join(made.blocked)}", markup=False)
    if media:
        console.print(
            f"{media} parts cannot be scanned, and the policy is told so (request.parameters.media_count): "
            "the one that ships denies such a request (media_not_inspectable) "
            "where the model is not registered to take them",
            soft_wrap=True,
        )
    coverage = made.coverage
    console.print(f"{coverage.scanned_bytes} bytes scanned, {coverage.excluded_bytes} kept from the scan by rules")


def _pretty(body: bytes) -> str:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")
    return json.dumps(value, indent=2, ensure_ascii=False)
