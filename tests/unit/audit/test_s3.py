"""What the store's answers are taken to mean: a scripted S3 server says each of them."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest

from ext_proc.audit.canary_s3 import run_canary
from ext_proc.audit.s3 import S3Store
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import ConfigError
from tests.fakes.s3_answers import PORTAL, Server, versions

BODY = b"body"
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(scope="module")
def running():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def server(running):
    running.answers, running.seen = {}, []
    running.http.RequestHandlerClass.protocol_version = "HTTP/1.1"
    return running


@pytest.fixture(scope="module")
def store(running, tmp_path_factory):
    credentials = tmp_path_factory.mktemp("s3") / "credentials"
    credentials.write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    return S3Store("evidence", "p/", "us-east-1", running.url, credentials)


def error(status, code):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return status, {"content-type": "application/xml"}, body


@pytest.mark.parametrize(
    ("status", "code"),
    [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")],
)
def test_there_already_is_no_error_of_put(server, store, status, code):
    server.answers["PUT"] = error(status, code)
    store.put("k", BODY, SHA256)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (404, "NoSuchBucket"),
        (400, "BadDigest"),
        (400, "InvalidRequest"),
        (400, "EntityTooLarge"),
        (405, "MethodNotAllowed"),
    ],
)
def test_a_no_for_good_is_a_refusal(server, store, status, code):
    server.answers["PUT"] = error(status, code)
    with pytest.raises(StoreRefused, match=code):
        store.put("k", BODY, SHA256)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (400, "RequestTimeout"),
        (400, "ExpiredToken"),
        (403, "RequestTimeTooSkewed"),
        (409, "OperationAborted"),
        (429, "TooManyRequests"),
    ],
)
def test_what_may_pass_is_unavailable_and_asked_once(server, store, status, code):
    server.answers["PUT"] = error(status, code)
    with pytest.raises(StoreUnavailable, match=code):
        store.put("k", BODY, SHA256)
    assert len(server.seen) == 1, "the shipper looks at what is there before it tries again"


@pytest.mark.parametrize(
    "answer",
    [
        (0, {}, b""),
        (200, {"content-type": "text/html"}, b"<html><body>Welcome to the airport</body>"),
        (502, {"content-type": "text/html"}, b"<html>bad gateway"),
    ],
)
@pytest.mark.parametrize("what", ["read_back", "fetch", "keys"])
def test_what_is_not_s3_is_no_answer(server, store, what, answer):
    server.answers = dict.fromkeys(("GET", "LIST", "HEAD"), answer)
    with pytest.raises(StoreUnavailable):
        list(store.keys("")) if what == "keys" else getattr(store, what)("k")


def test_a_redirect_is_no_answer(server, store):
    server.answers = dict.fromkeys(("PUT", "HEAD"), (302, {"location": "http://portal.invalid/"}, b""))
    with pytest.raises(StoreUnavailable):
        store.put("k", BODY, SHA256)


NOT_S3 = {
    "a portal's page": (200, {}, PORTAL),
    "a number that is none": (200, {}, versions(("p/k", "v", "2026-11-24T12:00:01Z"))[2].replace(b">4<", b">four<")),
    "a version without a name": (200, {}, versions(("p/k", "v", "2026-11-24T12:00:01Z"))[2].replace(b"Key>", b"Quay>")),
    "another length than listed": versions(("p/k", "v", "2026-11-24T12:00:01Z")),
    "a redirect": (307, {"location": "http://portal.invalid/"}, b""),
}


@pytest.mark.parametrize("answer", NOT_S3)
def test_what_only_looks_like_s3_is_no_answer(server, store, answer):
    server.answers = dict.fromkeys(("LIST", "HEAD"), NOT_S3[answer]) | {"GET": (200, {}, PORTAL)}
    for ask in (store.read_back, store.fetch, lambda key: list(store.keys(key))):
        with pytest.raises(StoreUnavailable):
            ask("k")


def test_a_listing_that_begins_again_ends(server, store):
    pages = [
        versions(more=f"<NextKeyMarker>{at}</NextKeyMarker><NextVersionIdMarker>{at}</NextVersionIdMarker>")
        for at in ("a", "b", "a")
    ]
    server.answers["LIST"] = iter([*pages, *pages, *pages])
    with pytest.raises(StoreUnavailable, match="begins again"):
        store.read_back("k")


@pytest.mark.parametrize("answer", ["a portal's page", "a redirect"])
def test_of_a_store_that_is_none_the_canary_says_nothing(server, store, answer):
    server.answers = dict.fromkeys(("LIST", "HEAD", "GET", "PUT", "POST", "DELETE"), NOT_S3[answer])
    with pytest.raises(StoreUnavailable):
        run_canary(store.client, "evidence", "p/", "epoch", lambda: datetime.now(UTC))


def test_the_oldest_version_is_the_one_that_is_read(server, store):
    server.answers = {
        "LIST": versions(
            ("p/k", "v3", "2026-11-24T12:00:02Z"),
            ("p/k", "v2", "2026-11-24T12:00:01Z"),
            ("p/k", "v1", "2026-11-24T12:00:01Z"),  # S3 counts in seconds: of equals the last listed is the oldest
            ("p/k-longer", "v0", "2026-11-24T11:00:00Z"),
        ),
        "GET": (200, {}, BODY),
        "HEAD": (200, {"x-amz-object-lock-mode": "COMPLIANCE"}, b""),
    }
    stored = store.read_back("k")
    assert (stored.version, stored.sha256, stored.lock_mode, stored.retain_until) == ("v1", SHA256, "COMPLIANCE", None)
    assert all("versionId=v1" in path for method, path, *_ in server.seen if "versions" not in path)
    assert store.fetch("k") == BODY


def test_bytes_cut_off_on_the_way_are_no_answer(server, store):
    server.answers = {
        "LIST": versions(("p/k", "v1", "2026-11-24T12:00:01Z")),
        "GET": (200, {"content-length": "99", "connection": "close"}, BODY),
    }
    server.http.RequestHandlerClass.protocol_version = "HTTP/1.0"
    for ask in (store.read_back, store.fetch):
        with pytest.raises(StoreUnavailable):
            ask("k")


def test_put_asks_for_creation_only_and_names_the_digest(server, store):
    server.answers["PUT"] = (200, {}, b"")
    store.put("a/b=c/k", BODY, SHA256)
    [(method, path, headers, body)] = server.seen
    headers = {name.lower(): value for name, value in headers.items()}
    assert (method, path) == ("PUT", "/evidence/p/a/b%3Dc/k")
    assert headers["if-none-match"] == "*"
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(bytes.fromhex(SHA256)).decode()
    assert not [name for name in headers if "object-lock" in name], "the bucket locks; we may not"
    assert body == BODY


@pytest.mark.parametrize("content", [None, "", "[other]\na=b\n", "[default]\naws_access_key_id=a\n", "nonsense"])
def test_bad_credentials_files_are_configuration_errors(tmp_path, content):
    path = tmp_path / "credentials"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="credentials"):
        S3Store("b", "", "us-east-1", None, path)


def test_a_bad_endpoint_is_a_configuration_error(tmp_path):
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    with pytest.raises(ConfigError, match="endpoint"):
        S3Store("b", "", "us-east-1", "not a url", path)


def test_who_rotates_credentials_writes_the_file_anew(server, tmp_path):
    """And the token of a session goes with its keys. A file that is half written changes nothing."""
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id=one\naws_secret_access_key=b\naws_session_token=first\n")
    rotated = S3Store("evidence", "", "us-east-1", server.url, path)
    server.answers["PUT"] = (200, {}, b"")

    def shown():
        rotated.put("k", BODY, SHA256)
        headers = {name.lower(): value for name, value in server.seen[-1][2].items()}
        return headers["authorization"].split("Credential=")[1].split("/")[0], headers.get("x-amz-security-token")

    assert shown() == ("one", "first")
    path.write_text("[default]\naws_access_key_id=two\naws_secret_access_key=b\naws_session_token=second\n")
    assert shown() == ("two", "second")
    path.write_text("[default]\naws_access_key_id=thr")
    assert shown() == ("two", "second")
    path.unlink()
    assert shown() == ("two", "second")
    path.write_text("[default]\naws_access_key_id=four\naws_secret_access_key=b\n")
    assert shown() == ("four", None)
