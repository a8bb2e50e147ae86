"""What the store's answers are taken to mean: a scripted S3 server says each of them."""

from __future__ import annotations

import base64
import hashlib
import http.server
import threading

import pytest

from ext_proc.audit.s3 import S3Store
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import ConfigError

BODY = b"body"
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server:
    """Answers by method: (status, headers, body). ``seen`` are the requests."""

    def __init__(self):
        self.answers, self.seen = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.seen.append((self.command, self.path, dict(self.headers), body))
                kind = "LIST" if self.command == "GET" and "versions" in self.path else self.command
                status, headers, content = outer.answers.get(kind, (500, {}, b""))
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in ({"content-length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = answer  # noqa: N815

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


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


def versions(*items):
    listed = "".join(
        f"<Version><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>false</IsLatest>"
        f"<LastModified>{at}</LastModified><ETag>&quot;x&quot;</ETag><Size>4</Size></Version>"
        for key, version, at in items
    )
    body = f"<?xml version='1.0'?><ListVersionsResult><IsTruncated>false</IsTruncated>{listed}</ListVersionsResult>"
    return 200, {"content-type": "application/xml"}, body.encode()


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
