"""Webhooks out, in the form of Standard Webhooks: any 2xx is a delivery, 410 means never again."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.message import Event
from ext_proc.approval.channels.secret_files import BadSecret
from ext_proc.approval.channels.signature import sign_webhook

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ext_proc.approval.channels.message import Message, Told
    from ext_proc.approval.channels.outgoing import Outgoing

_GONE: Final = 410


class Webhook:
    """`channel.Channel` to one receiver.

    Args:
        name: of the channel.
        way: to the receiver.
        secrets: that sign; read anew for each message.
        clock: aware UTC.
    """

    kind = "webhook"
    digests = frozenset({Event.PENDING, Event.RESOLVED})
    updates = False

    def __init__(
        self, name: str, way: Outgoing, secrets: Callable[[], list[bytes]], clock: Callable[[], datetime]
    ) -> None:
        self.name = name
        self._way = way
        self._secrets = secrets
        self._clock = clock

    async def send(self, message: Message) -> None:
        """See `Channel.send`."""
        body = json.dumps(written(message), separators=(",", ":")).encode()
        try:
            headers = sign_webhook(self._secrets(), message.message_id, self._clock(), body)
        except BadSecret:
            raise Undelivered("secret_unreadable") from None
        headers |= {"content-type": "application/json", "user-agent": "affidavit"}
        answer = await self._way.post(body, headers, wants_body=False)
        if not 200 <= answer.status < 300:
            is_gone = answer.status == _GONE
            raise Undelivered(f"status_{answer.status}", is_final=is_gone, after_seconds=answer.after_seconds)


def written(message: Message) -> dict[str, Any]:
    """The body: type, time and data, as Standard Webhooks has them."""
    told = [_hold(one) for one in message.told]
    if message.is_digest:
        data: dict[str, Any] = {"event": message.event.value, "count": len(told), "holds": told}
    else:
        data = told[0] if told else {}
    kind = "hold.digest" if message.is_digest else message.event.value
    return {"type": kind, "timestamp": _instant(message.at), "data": data}


def _hold(told: Told) -> dict[str, Any]:
    said = {
        "hold_id": told.hold_id,
        "number": told.number,
        "state": told.state.value,
        "connection": told.connection,
        "model": told.model,
        "operation": told.operation,
        "findings": dict(told.findings),
        "reason": told.reason,
        "groups": list(told.groups),
        "needed": told.needed,
        "given": told.given,
        "asked_at": _instant(told.asked_at),
        "expires_at": _instant(told.expires_at),
        "url": told.url,
    }
    return said if told.masked is None else {**said, "masked": told.masked}


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
