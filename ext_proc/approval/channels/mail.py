"""E-mail out: what there is to know, and a link to the console. A forwarded message gives nobody anything: the page
behind the link asks who comes.

Headers hold our own words and the configuration's addresses only, and are written by a library that refuses a line
break in any of them.
"""

from __future__ import annotations

import asyncio
import html
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final, Literal

import aiosmtplib

from ext_proc import telemetry
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.message import SHOWN_MAX, STATES, Event, line_of, lines_of, title_of
from ext_proc.approval.channels.secret_files import BadSecret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ext_proc.approval.channels.message import Message

DEADLINE_SECONDS: Final = 20.0
_TEXT_MAX: Final = 4000
_log = telemetry.logger()


@dataclass(frozen=True, slots=True)
class MailServer:
    """Who takes our messages. ``tls``: `tls` from the first byte, `starttls`, or `none` (loopback only)."""

    host: str
    port: int
    tls: Literal["tls", "starttls", "none"] = "starttls"
    username: str | None = None
    ca_file: Path | None = None


class Mail:
    """`channel.Channel` to people's mailboxes.

    Args:
        name: of the channel.
        server: who takes the messages.
        password: for it; read anew for each message.
        sender: whose address they have.
        to: whom they go to.
        inbox_url: the console's page of all that waits.
    """

    kind = "email"
    digests = frozenset({Event.PENDING, Event.RESOLVED})
    updates = False

    def __init__(
        self,
        name: str,
        server: MailServer,
        password: Callable[[], str] | None,
        sender: str,
        to: tuple[str, ...],
        inbox_url: str,
    ) -> None:
        self.name = name
        self._server = server
        self._password = password
        self._sender = sender
        self._to = to
        self._inbox_url = inbox_url

    async def send(self, message: Message) -> None:
        """See `Channel.send`."""
        letter = written(message, self._sender, self._to, self._inbox_url)
        server = self._server
        try:
            password = self._password() if self._password is not None else None
            async with asyncio.timeout(DEADLINE_SECONDS):
                refused, _ = await aiosmtplib.send(
                    letter,
                    sender=self._sender,
                    recipients=list(self._to),
                    hostname=server.host,
                    port=server.port,
                    username=server.username,
                    password=password,
                    local_hostname=self._sender.rpartition("@")[2],
                    timeout=DEADLINE_SECONDS,
                    use_tls=server.tls == "tls",
                    start_tls=server.tls == "starttls",
                    tls_context=None if server.tls == "none" else _tls(server.ca_file),
                )
        except BadSecret:
            raise Undelivered("secret_unreadable") from None
        except TimeoutError:
            raise Undelivered("too_slow") from None
        except aiosmtplib.SMTPResponseException as error:
            raise Undelivered(f"smtp_{error.code}") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Undelivered(type(error).__name__) from None
        if refused:  # some of them
            _log.warning("a mail server does not take our messages to somebody", channel=self.name, count=len(refused))


def written(message: Message, sender: str, to: tuple[str, ...], inbox_url: str) -> EmailMessage:
    """The letter: as text, and as HTML."""
    letter = EmailMessage(policy=SMTP)
    letter["From"] = sender
    letter["To"] = ", ".join(to)
    letter["Subject"] = title_of(message)
    letter["Date"] = format_datetime(message.at)
    letter["Message-ID"] = f"<{message.message_id}@{sender.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    lines, url = _lines(message), _url(message, inbox_url)
    text = "\n".join(f"{label}: {value}" if label else value for label, value in lines)
    letter.set_content(f"{title_of(message)}\n\n{text}\n\n{url}\n\n{_FOOT}\n")
    rows = "".join(f"<tr><th>{html.escape(label)}</th><td>{html.escape(value)}</td></tr>" for label, value in lines)
    letter.add_alternative(
        f"<!doctype html><html><body><h1>{html.escape(title_of(message))}</h1><table>{rows}</table>"
        f'<p><a href="{html.escape(url)}">Open it in the console</a></p><p>{html.escape(_FOOT)}</p></body></html>\n',
        subtype="html",
    )
    return letter


_FOOT: Final = "You can answer in the console only, signed in as yourself. Answers to this message are read by nobody."


def _url(message: Message, inbox_url: str) -> str:
    return message.told[0].url if len(message.told) == 1 else inbox_url


def _lines(message: Message) -> list[tuple[str, str]]:
    if message.event is Event.TEST:
        return [("", "Calls that wait for people will be told here.")]
    if message.is_digest:
        lines = [("", line_of(one)) for one in message.told[:SHOWN_MAX]]
        if len(message.told) > SHOWN_MAX:
            lines.append(("", f"and {len(message.told) - SHOWN_MAX} more"))
        return lines
    [told] = message.told
    lines = lines_of(told)
    if message.event is Event.RESOLVED:
        lines.append(("How it ended", STATES[told.state]))
    if told.masked is not None:
        lines.append(("What the model would get", told.masked[:_TEXT_MAX]))
    return lines


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)
