"""Signatures, held against a third party's implementation, and against who has no secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook as Other

from ext_proc.approval.channels.secret_files import BadSecret, one_secret, slack_secrets, webhook_secrets
from ext_proc.approval.channels.signature import (
    TOLERANCE,
    BadSignature,
    sign_webhook,
    verify_slack,
    verify_webhook,
)
from tests.fakes.receivers import OLDER, SECRET, written

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
BODY = '{"say":"yes", "täst":1}'.encode()
SECOND = timedelta(seconds=1)


def code(**changed) -> str:
    secrets = changed.pop("secrets", [SECRET])
    body, now = changed.pop("body", BODY), changed.pop("now", NOW)
    headers = {**sign_webhook([SECRET], "msg_1", NOW, BODY), **{k.replace("_", "-"): v for k, v in changed.items()}}
    with pytest.raises(BadSignature) as caught:
        verify_webhook(secrets, {k: v for k, v in headers.items() if v is not None}, body, now)
    return caught.value.code


def test_ours_is_what_others_verify():
    now = datetime.fromtimestamp(int(time.time()), UTC)  # the other one asks the clock
    headers = sign_webhook([SECRET, OLDER], "msg_1", now, BODY)
    for secret in (SECRET, OLDER):
        assert Other(secret).verify(BODY, headers) == {"say": "yes", "täst": 1}


def test_theirs_is_what_we_verify():
    signature = Other(written(OLDER)).sign("msg_2", NOW, BODY.decode())
    headers = {"webhook-id": "msg_2", "webhook-timestamp": str(int(NOW.timestamp())), "webhook-signature": signature}
    assert verify_webhook([SECRET, OLDER], headers, BODY, NOW) == "msg_2"
    headers["webhook-signature"] = f"v1a,AAAA v1,AAAA {signature}"
    assert verify_webhook([OLDER], headers, BODY, NOW) == "msg_2"


def test_nobody_else_can_say_it():
    right = sign_webhook([SECRET], "msg_1", NOW, BODY)["webhook-signature"]
    assert code(secrets=[OLDER]) == "signature_wrong"
    assert code(secrets=[]) == "signature_wrong"
    assert code(body=BODY + b" ") == "signature_wrong"
    assert code(webhook_id="msg_2") == "signature_wrong"
    assert code(webhook_id="msg.1") == "signature_wrong"
    assert code(webhook_timestamp=str(int(NOW.timestamp()) + 1)) == "signature_wrong"
    assert code(webhook_timestamp=f"{NOW.timestamp()}") == "signature_wrong"
    assert code(webhook_timestamp="-1") == "signature_wrong"
    assert code(webhook_timestamp="٣") == "signature_wrong"
    assert code(webhook_signature=right.removeprefix("v1,")) == "signature_wrong"
    assert code(webhook_signature=right.replace("v1,", "v2,")) == "signature_wrong"
    assert code(webhook_signature=right[:-4]) == "signature_wrong"
    assert code(webhook_signature="v1,") == "signature_wrong"
    assert code(webhook_signature="v1,ü") == "signature_wrong"
    for name in ("webhook_id", "webhook_timestamp", "webhook_signature"):
        assert code(**{name: None}) == "signature_missing"


def test_five_minutes_either_way():
    headers = sign_webhook([SECRET], "msg_1", NOW, BODY)
    for at in (NOW - TOLERANCE, NOW + TOLERANCE):
        assert verify_webhook([SECRET], headers, BODY, at) == "msg_1"
    for at in (NOW - TOLERANCE - SECOND, NOW + TOLERANCE + SECOND):
        assert code(now=at) == "out_of_time"


def of_slack(secret: bytes, stamp: str, body: bytes) -> dict[str, str]:
    """As Slack describes it."""
    mac = hmac.new(secret, f"v0:{stamp}:{body.decode()}".encode(), hashlib.sha256)
    return {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={mac.hexdigest()}"}


def test_slack():
    stamp = str(int(NOW.timestamp()))
    told = of_slack(b"slack-secret-0123456789", stamp, b"payload=1")
    known = [b"another-secret-01234567", b"slack-secret-0123456789"]
    first = verify_slack(known, told, b"payload=1", NOW)
    assert verify_slack(known, told, b"payload=1", NOW) == first
    second = of_slack(known[1], str(int(stamp) + 1), b"payload=1")
    assert verify_slack(known, second, b"payload=1", NOW) != first
    for headers, body, now, wanted in (
        (told, b"payload=2", NOW, "signature_wrong"),
        ({**told, "x-slack-signature": told["x-slack-signature"][3:]}, b"payload=1", NOW, "signature_wrong"),
        ({**told, "x-slack-request-timestamp": str(int(stamp) + 1)}, b"payload=1", NOW, "signature_wrong"),
        ({**told, "x-slack-request-timestamp": ""}, b"payload=1", NOW, "signature_missing"),
        ({}, b"payload=1", NOW, "signature_missing"),
        (told, b"payload=1", NOW + TOLERANCE + SECOND, "out_of_time"),
        (told, b"payload=1", NOW - TOLERANCE - SECOND, "out_of_time"),
    ):
        with pytest.raises(BadSignature) as caught:
            verify_slack(known, headers, body, now)
        assert caught.value.code == wanted


def test_files_of_secrets(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{written(SECRET)}\n\n{base64.b64encode(OLDER).decode()}\n")
    assert webhook_secrets(path) == [SECRET, OLDER]
    for text in (
        "",
        "whsec_",
        "whsec_AAAA",
        "whsec_ü",
        "whsec_%%%%",
        written(b"x" * 65),
        "\n".join([written(SECRET)] * 3),
    ):
        path.write_text(text)
        with pytest.raises(BadSecret) as caught:
            webhook_secrets(path)
        assert str(path) in str(caught.value) and "whsec_AAAA" not in str(caught.value)
    path.write_text("short")
    with pytest.raises(BadSecret):
        slack_secrets(path)
    path.write_text("one\ntwo")
    with pytest.raises(BadSecret):
        one_secret(path)
    with pytest.raises(BadSecret):
        one_secret(tmp_path / "absent")
