"""Slack out: a message with what there is to know, a field for why, and buttons; changed when the hold is resolved.

Everything that others wrote is `plain_text`: Slack makes no link, no mention and no format of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.incoming import APPROVE, DENY, OPEN, WHY, WHY_BLOCK
from ext_proc.approval.channels.message import SHOWN_MAX, STATES, Event, line_of, lines_of, title_of
from ext_proc.approval.channels.secret_files import BadSecret
from ext_proc.approval.hold import JUSTIFICATION_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.approval.channels.message import Message, Told
    from ext_proc.approval.channels.outgoing import Outgoing

_TEXT_MAX: Final = 2900
_TOO_LONG: Final = "There are {} more characters, which do not fit here. Open it to read all of it, and to answer."
_LINE_MAX: Final = 140
_FIELD_MAX: Final = 1900
_OK: Final = 200
_MANY: Final = 429
_NEVER: Final = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
"""What Slack says of a message that cannot be changed any more."""
_SAID: Final = frozenset(
    {
        "account_inactive", "channel_not_found", "invalid_auth", "invalid_blocks", "is_archived", "missing_scope",
        "msg_too_long", "not_authed", "not_in_channel", "rate_limited", "ratelimited", "restricted_action",
        "token_expired", "token_revoked", "user_not_in_channel", *_NEVER,
    }
)  # fmt: skip
"""Words of Slack's that are passed on to our log; others are not."""


class Slack:
    """`channel.Channel` to one channel of Slack's.

    Args:
        name: of the channel, with us.
        way: to Slack's API.
        token: of the bot; read anew for each message.
        channel: its id at Slack.
        inbox_url: the console's page of all that waits.
    """

    kind = "slack"
    digests = frozenset({Event.PENDING})
    updates = True

    def __init__(self, name: str, way: Outgoing, token: Callable[[], str], channel: str, inbox_url: str) -> None:
        self.name = name
        self._way = way
        self._token = token
        self._channel = channel
        self._inbox_url = inbox_url

    async def send(self, message: Message) -> str | None:
        """See `Channel.send`."""
        body: dict[str, Any] = {"text": title_of(message), "blocks": blocks(message, self._inbox_url)}
        if message.event is Event.RESOLVED and message.reference:
            channel, _, stamp = message.reference.partition(":")
            await self._ask("chat.update", {**body, "channel": channel, "ts": stamp})
            return message.reference
        told = await self._ask("chat.postMessage", {**body, "channel": self._channel, "unfurl_links": False})
        where, when = told.get("channel"), told.get("ts")
        if not isinstance(where, str) or not isinstance(when, str):
            raise Undelivered("garbage")
        return None if message.is_digest else f"{where}:{when}"

    async def whisper(self, channel: str, user: str, text: str) -> None:
        """Tell one person something that the others do not see.

        Raises:
            Undelivered: they were not told.
        """
        await self._ask("chat.postEphemeral", {"channel": channel, "user": user, "text": text})

    async def _ask(self, method: str, told: dict[str, Any]) -> dict[str, Any]:
        try:
            token = self._token()
        except BadSecret:
            raise Undelivered("secret_unreadable") from None
        headers = {"content-type": "application/json; charset=utf-8", "authorization": f"Bearer {token}"}
        answer = await self._way.post(json.dumps(told).encode(), headers, path=f"/{method}")
        if answer.status != _OK:
            word = "ratelimited" if answer.status == _MANY else f"status_{answer.status}"
            raise Undelivered(word, after_seconds=answer.after_seconds)
        try:
            said = json.loads(answer.body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise Undelivered("garbage")
        if said.get("ok") is not True:
            why = str(said.get("error"))
            raise Undelivered(why if why in _SAID else "slack_said_no", is_final=why in _NEVER)
        return said


def blocks(message: Message, inbox_url: str) -> list[dict[str, Any]]:
    """The message, as Block Kit has it."""
    head = {"type": "header", "text": _plain(title_of(message))}
    if message.event is Event.TEST:
        return [head, _section("Calls that wait for people will be told here.")]
    if message.is_digest:
        lines = [line_of(one)[:_LINE_MAX] for one in message.told[:SHOWN_MAX]]
        if len(message.told) > SHOWN_MAX:
            lines.append(f"and {len(message.told) - SHOWN_MAX} more")
        return [head, _section("\n".join(lines)), {"type": "actions", "elements": [_open(inbox_url)]}]
    [told] = message.told
    fields = [_plain(f"{label}\n{value}"[:_FIELD_MAX]) for label, value in lines_of(told)]
    found: list[dict[str, Any]] = [head, {"type": "section", "fields": fields}]
    if message.event is Event.RESOLVED:
        said = f"{STATES[told.state]}; {told.given} of {told.needed} said yes"
        return [*found, _section(said), {"type": "actions", "elements": [_open(told.url)]}]
    if told.masked is not None:
        found.append(_section(told.masked[:_TEXT_MAX]))
    if told.masked is not None and len(told.masked) > _TEXT_MAX:  # nobody agrees to what they cannot read to its end
        found.append(_section(_TOO_LONG.format(len(told.masked) - _TEXT_MAX)))
        return [*found, {"type": "actions", "elements": [_open(told.url)]}]
    return [*found, _why(), {"type": "actions", "elements": [*_answers(told), _open(told.url)]}]


def _why() -> dict[str, Any]:
    field = {"type": "plain_text_input", "action_id": WHY, "multiline": True, "max_length": JUSTIFICATION_MAX}
    label = _plain("Why? It is kept with the record.")
    return {"type": "input", "block_id": WHY_BLOCK, "optional": True, "label": label, "element": field}


def _answers(told: Told) -> list[dict[str, Any]]:
    return [
        {"type": "button", "action_id": action, "text": _plain(label), "style": style, "value": told.hold_id}
        for action, label, style in ((APPROVE, "Approve", "primary"), (DENY, "Deny", "danger"))
    ]


def _open(url: str) -> dict[str, Any]:
    return {"type": "button", "action_id": OPEN, "text": _plain("Open"), "url": url}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _plain(text or "nothing")}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
