"""Whoever drips is no store; whoever is slow is one. A scripted S3 server says either, to everybody of ours who asks."""

from __future__ import annotations

import hashlib
import socket
import threading
from datetime import UTC, datetime
from io import BytesIO
from queue import Queue

import pytest

from ext_proc.audit import s3
from ext_proc.audit.s3 import S3Store
from ext_proc.audit.store import StoreUnavailable
from ext_proc.evidence import s3 as evidence_s3
from ext_proc.evidence.s3 import S3Versions
from ext_proc.evidence.versions import EvidenceError, Version
from ext_proc.pace import LEAST_BYTES
from ext_proc.verify import bucket, source
from ext_proc.verify.bucket import BucketSource
from ext_proc.verify.findings import VerifyError
from tests.fakes.s3_answers import Server, slowly, versions

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
LARGE = bytes(range(256)) * 4096  # sixteen times what must come in one time-out
LISTED = versions(("k", "v", "2026-11-24T12:00:01Z"))
ONE = Version("k", "v", True, False, 4, AT)


@pytest.fixture
def server(monkeypatch):
    made = Server()
    told = {"AWS_ENDPOINT_URL": made.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for module in (s3, evidence_s3, bucket):
        monkeypatch.setattr(module, "READ_SECONDS", 0.8)
    monkeypatch.setattr(evidence_s3, "_TRIES", 1)
    for module in (evidence_s3, bucket):
        monkeypatch.setitem(module._RETRIES, "total_max_attempts", 1)
    yield made
    made.stop()


def verified(size):
    return BucketSource("evidence", "").open(source.Version("k", "v", True, False, size, AT, "v"))


def ours(server):
    return S3Store("evidence", "", "us-east-1", server.url)


def dripping(answer, fast=0):
    """It is whole in the end: whoever waits for it gets something."""
    return slowly(answer, piece=4, seconds=0.1, fast=fast)


@pytest.mark.parametrize("fast", [0, 60], ids=["from the start", "after the head"])
@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda server: list(ours(server).keys("")), StoreUnavailable),
        (lambda server: ours(server).put("k", b"body", hashlib.sha256(b"body").hexdigest()), StoreUnavailable),
        (lambda server: ours(server).changed("k", None, 100), StoreUnavailable),
        (lambda _: list(S3Versions("evidence", "").versions("")), EvidenceError),
        (lambda _: S3Versions("evidence", "").download(ONE, BytesIO()), EvidenceError),
        (lambda _: list(BucketSource("evidence", "").versions(None)), VerifyError),
        (lambda _: verified(240).read(4096), VerifyError),
    ],
    ids=["keys", "put", "changed", "versions", "download", "verify: versions", "verify: open"],
)
def test_an_answer_that_only_drips_is_none(server, ask, error, fast):
    listed = (200, {"x-filler": "x" * 80}, LISTED[2].replace(b"</ListV", b" " * 200 + b"</ListV"))
    server.answers = {"LIST": dripping(listed, fast), "GET": dripping((200, {}, b"body" * 60), fast)}
    server.answers["PUT"] = server.answers["GET"]
    with pytest.raises(error, match=r"(?i)read ?time"):
        ask(server)


def test_what_is_slow_is_waited_for(server):
    large = slowly((200, {}, LARGE), piece=LEAST_BYTES, seconds=0.1)  # twice as long as a time-out
    server.answers = {"GET": large, "LIST": versions(("k", "v", "2026-11-24T12:00:01Z"), size=len(LARGE))}
    assert ours(server).fetch("k") == LARGE
    into = BytesIO()
    S3Versions("evidence", "").download(Version("k", "v", True, False, len(LARGE), AT), into)
    assert into.getvalue() == LARGE
    opened = verified(len(LARGE))
    assert b"".join(iter(lambda: opened.read(100_000), b"")) == LARGE


def test_a_store_that_breaks_off_while_it_lets_a_body_come_is_no_answer(server):
    """botocore read the rest of that, which never came, without end and on a whole core."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def half_an_answer():
            with listening.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 100 Continue\r\n")

        threading.Thread(target=half_an_answer, daemon=True).start()
        store = S3Store("evidence", "", "us-east-1", f"http://127.0.0.1:{listening.getsockname()[1]}")
        ended = Queue()

        def put():
            with pytest.raises(StoreUnavailable):
                store.put("k", b"body", "00" * 32)
            ended.put(True)

        threading.Thread(target=put, daemon=True).start()
        assert ended.get(timeout=30)
