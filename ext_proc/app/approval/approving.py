"""``affidavit approvals``: what waits for people, from a terminal. It speaks to the console's API, as anybody could.

So the rules are the console's, and the records too: with which token somebody came is who they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ext_proc.app.commands import said_by_demo
from ext_proc.config import load
from ext_proc.console.rendering import short_person
from ext_proc.errors import ConfigError, DependencyError
from ext_proc.evidence.visible import visible

if TYPE_CHECKING:
    from pathlib import Path

TOKEN_VARIABLE: Final = "AFFIDAVIT_TOKEN"  # noqa: S105 - its name
_SECONDS: Final = 30.0
_REFUSED: Final = 400


class ConsoleUnavailable(DependencyError):
    """The console's API does not answer, or not as it should."""

    code = "console_unavailable"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the API is, and who comes."""

    url: str
    token: str

    @classmethod
    def of(cls, url: str | None, config: Path | None, endpoints: Path | None, token: str | None) -> Desk:
        """From what the command line says.

        Raises:
            ConfigError: no address, or no token.
        """
        found = url or (_of_config(config) if config else None) or (_of_endpoints(endpoints) if endpoints else None)
        if not found:
            raise ConfigError("where is the console? --url https://…, --config FILE or (of a demo) --endpoints FILE")
        known = token or os.environ.get(TOKEN_VARIABLE)
        if not known:
            raise ConfigError(f"who is acting? --token TOKEN, or {TOKEN_VARIABLE} in the environment")
        return cls(found.rstrip("/"), known.strip())

    def ask(self, method: str, path: str, told: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """One question to the API: status and what was said.

        Raises:
            ConsoleUnavailable: no answer, or none of the API's.
        """
        return asyncio.run(self._ask(method, path, told))

    async def _ask(self, method: str, path: str, told: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        headers = {"authorization": f"Bearer {self.token}", "accept": "application/json"}
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.request(method, f"{self.url}{path}", json=told, allow_redirects=False) as answer,
            ):
                status, said = answer.status, _read(await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            raise ConsoleUnavailable(f"{self.url} does not answer: is `affidavit console` running?") from None
        if said is None:
            raise ConsoleUnavailable(f"{self.url} answered, but not as a console does (status {status})")
        return status, said


def _plain(text: object) -> Text:
    """What somebody wrote, as a terminal only shows it: no escapes, no marks that turn it round."""
    return Text(visible(str(text)))


def _read(body: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _of_config(path: Path) -> str:
    config, _ = load(path)
    if config.console is None:
        raise ConfigError(f"{path}: there is no console section")
    return config.console.public_url


def _of_endpoints(path: Path) -> str:
    return said_by_demo(path, "approvals").removesuffix(f"{API}/holds")


API: Final = "/api/v1"


def listed(desk: Desk, *, limit: int, as_json: bool) -> int:
    """``affidavit approvals list``."""
    status, said = desk.ask("GET", f"{API}/holds?limit={limit}")
    if status >= _REFUSED:
        return _refused(said, as_json=as_json)
    if as_json:
        print(json.dumps(said))
        return 0
    lines = said["lines"]
    if said["answered"]:
        print(f"you have agreed to {len(said['answered'])} that wait for others: {_ids(said['answered'])}")
    if not lines:
        print("nothing waits for you")
        return 0
    table = Table("id", "who", "model", "found", "said yes", "time left", "", box=None, pad_edge=False)
    for one in lines:
        found = ", ".join(f"{each['name']} {each['count']}" for each in one["findings"])
        note = one["objection"] or ""
        who = Text(visible(short_person(one["caller"])))
        agreed, left = f"{one['given']} of {one['needed']}", _left(one["expires_at"])
        table.add_row(one["hold_id"], who, one["model"] or "", found, agreed, left, note)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if said["next_after"]:
        print(f"and more: {said['pending_count']} wait")
    return 0


def _ids(lines: list[dict[str, Any]]) -> str:
    return ", ".join(one["hold_id"] for one in lines)


def shown(desk: Desk, hold_id: str, *, wants_clear: bool, as_json: bool) -> int:
    """``affidavit approvals show``."""
    if wants_clear:
        status, said = desk.ask("POST", f"{API}/holds/{hold_id}/clear", {"channel": "cli"})
    else:
        status, said = desk.ask("GET", f"{API}/holds/{hold_id}")
    if status >= _REFUSED:
        return _refused(said, as_json=as_json)
    print(json.dumps(said)) if as_json else _show(said)
    return 0


def resolve(desk: Desk, hold_id: str, answer: str, justification: str, *, as_json: bool) -> int:
    """``affidavit approvals approve`` and ``deny``."""
    told = {"answer": answer, "justification": justification, "channel": "cli"}
    status, said = desk.ask("POST", f"{API}/holds/{hold_id}/resolution", told)
    if status >= _REFUSED:
        return _refused(said, as_json=as_json)
    if as_json:
        print(json.dumps(said))
        return 0
    line, record = said["line"], said["resolutions"][-1]["record"]
    left = line["needed"] - line["given"]
    more = f"; {left} more must agree" if line["state"] == "pending" else ""
    print(f"{line['state']}: {line['given']} of {line['needed']} said yes{more}")
    print(f"on record as {record['sequence']} of {record['origin']}")
    return 0


def _refused(said: dict[str, Any], *, as_json: bool) -> int:
    error = said.get("error", {})
    if as_json:
        print(json.dumps(said))
    else:
        code, message = error.get("code", "refused"), error.get("message", "the console refused")
        if code == "not_found":  # the page's words are for who came by a link
            message = "no call of this id waits for somebody like you: `affidavit approvals list`"
        print(f"affidavit: {code}: {message}", file=sys.stderr)
    return 1


def _show(said: dict[str, Any]) -> None:
    line, asker, policy, terms = said["line"], said["asker"], said["policy"], said["terms"]
    console = Console()
    who = "you" if line["is_own"] else (asker["subject"] or short_person(asker["ref"]))
    console.print(Text(f"{line['hold_id']}  {line['state']}", style="bold"))
    for name, value in (
        ("who", f"{who} ({', '.join(asker['groups'])})"),
        ("what", f"{said['method']} {said['path']}, model {line['model']}, connection {line['connection']}"),
        ("found", ", ".join(f"{each['name']} {each['count']}" for each in line["findings"]) or "nothing"),
        ("why it waits", line["reason"]),
        ("who may agree", f"{terms['count']} of {', '.join(terms['groups'])}"),
        ("policy", f"{policy['revision']} ({policy['digest'][:12]})"),
        ("time left", _left(line["expires_at"])),
    ):
        console.print(_plain(f"  {name:<14} {value}"))
    for one in said["resolutions"]:
        who = "you" if one["is_you"] else short_person(one["person"] or "somebody")
        console.print(_plain(f"  {'yes' if one['is_yes'] else 'no':<14} {who}: {one['justification'] or ''}"))
    console.print(Text("as it came" if said["clear"] else "as the model would get it", style="bold"))
    for passage in said["clear"] or said["masked"]:
        text = "".join(segment["text"] for segment in passage["segments"])
        console.print(_plain(f"  {passage['label']}: {text}"))


def _left(until: str) -> str:
    """Minutes and seconds."""
    from ext_proc.app.process import clock

    seconds = max(0, int((datetime.fromisoformat(until) - clock()).total_seconds()))
    return f"{seconds // 60} min {seconds % 60} s"
