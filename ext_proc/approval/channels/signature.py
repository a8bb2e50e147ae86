"""Signatures of messages that go out and come in. Pure.

Ours, and those of webhooks that come in, have the form of Standard Webhooks (specification 1.0.0, "Signature scheme"):
HMAC-SHA256 over ``id.timestamp.body``. Slack's have its own ("Verifying requests from Slack"): over
``v0:timestamp:body``. Of each secret there can be two, the newer and the older one, so that it can be changed while
messages are on their way: signed with both, accepted with either.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOLERANCE: Final = timedelta(minutes=5)
"""Between the time stamp of a message and our clock, either way."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")  # no dot: what is signed can be cut in one way only
_TIME: Final = re.compile(r"[0-9]{1,11}")
_WEBHOOK_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SLACK_HEADERS: Final = ("x-slack-request-timestamp", "x-slack-signature")


class BadSignature(Exception):
    """Nobody knows who sent it, or it is too old: ``code`` is `signature_missing`, `signature_wrong`, `out_of_time`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def sign_webhook(secrets: Sequence[bytes], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers that a message of ours goes out with."""
    stamp = str(int(at.timestamp()))
    signatures = (f"v1,{base64.b64encode(_of_webhook(secret, message_id, stamp, body)).decode()}" for secret in secrets)
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": " ".join(signatures)}


def verify_webhook(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The id of a message that came in, if one of these secrets signed it just now.

    Args:
        secrets: its sender's.
        headers: by name in lower case, each once.
        body: as it came.
        now: the time.

    Raises:
        BadSignature: it did not.
    """
    message_id, stamp, signatures = _needed(headers, _WEBHOOK_HEADERS)
    if not _ID.fullmatch(message_id):
        raise BadSignature("signature_wrong")
    shown = [one.removeprefix("v1,").encode() for one in signatures.split(" ") if one.startswith("v1,")]
    wanted = [base64.b64encode(_of_webhook(secret, message_id, stamp, body)) for secret in secrets]
    _check(wanted, shown)
    _check_time(stamp, now)
    return message_id


def verify_slack(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """An id of a message of Slack's, if one of these secrets signed it just now: no two messages have the same.

    Args:
        secrets: the app's.
        headers: by name in lower case, each once.
        body: as it came.
        now: the time.

    Raises:
        BadSignature: it did not.
    """
    stamp, signature = _needed(headers, _SLACK_HEADERS)
    told = b"v0:" + stamp.encode() + b":" + body
    wanted = [f"v0={hmac.new(secret, told, hashlib.sha256).hexdigest()}".encode() for secret in secrets]
    _check(wanted, [signature.encode()])
    _check_time(stamp, now)
    return hashlib.sha256(told).hexdigest()


def _of_webhook(secret: bytes, message_id: str, stamp: str, body: bytes) -> bytes:
    return hmac.new(secret, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()


def _needed(headers: Mapping[str, str], names: Sequence[str]) -> list[str]:
    found = [headers.get(name, "") for name in names]
    if not all(found):
        raise BadSignature("signature_missing")
    stamp = headers.get(names[-2], "")
    if not _TIME.fullmatch(stamp) or not all(one.isascii() for one in found):
        raise BadSignature("signature_wrong")
    return found


def _check(wanted: Sequence[bytes], shown: Sequence[bytes]) -> None:
    if not any([hmac.compare_digest(one, other) for one in wanted for other in shown]):  # noqa: C419 - each is compared
        raise BadSignature("signature_wrong")


def _check_time(stamp: str, now: datetime) -> None:
    if abs(now - datetime.fromtimestamp(int(stamp), UTC)) > TOLERANCE:
        raise BadSignature("out_of_time")
